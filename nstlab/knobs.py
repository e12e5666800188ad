"""What a setting's declaration says, and where to find the functions that its values name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import Field

FAMILIES = ("picture", "control", "optimiser", "layers", "network", "reduction")
"""Groups of settings, in the order in which they are shown."""

NAMED = {
    "init": ("nstlab.optimise.initial", "INITIAL_VALUES"),
    "style_loss": ("nstlab.optimise.losses", "STYLE_LOSSES"),
    "content_loss": ("nstlab.optimise.losses", "CONTENT_LOSSES"),
    "weights": ("nstlab.network.weights", "SOURCES"),
    "reduction": ("nstlab.reduction.techniques", "TECHNIQUES"),
}
"""Setting -> the module and the dictionary of its possible values: a name added there is known everywhere."""


OWN = ("init", "style_loss", "content_loss")
"""Settings whose value may also name code of the user's own: `path/to/mine.py:name` (see `nstlab.own`)."""


@dataclass(frozen=True)
class Knob:
    """What a setting's declaration says besides its type, default and meaning.

    unit; slider: the range of a slider, for the one setting that has one; family: one of FAMILIES; shapes: whether
    it is part of a run's identity; rebuilds: whether network, targets or initial value depend on it; judged: whether
    judging a result needs it; term: the name of the loss term that it weighs; limits: as pydantic names them.
    """

    unit: str = ""
    slider: tuple[float, float] | None = None
    family: str = "picture"
    shapes: bool = True
    rebuilds: bool = True
    judged: bool = False
    term: str = ""
    limits: Mapping[str, float] = field(default_factory=dict)


def setting(default: Any, meaning: str, unit: str = "", **more: Any) -> Any:
    """A field of Settings; `more`: other parts of its Knob, and limits as pydantic's Field takes them."""
    parts = {part.name for part in fields(Knob)}
    limits = {name: value for name, value in more.items() if name not in parts}
    declared = Knob(unit, **{name: value for name, value in more.items() if name in parts}, limits=limits)
    return Field(default, description=meaning, json_schema_extra={"knob": declared}, **limits)


def named(name: str) -> Mapping[str, Any]:
    """The dictionary of a setting in NAMED: value -> what it names. Imports its module, and with it torch."""
    module, dictionary = NAMED[name]
    return getattr(importlib.import_module(module), dictionary)
