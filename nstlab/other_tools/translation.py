"""What the translations of all tools share: what a tool is, and what its translation consists of.

Each tool's module says, from its own source, what it minimises: F, P are activations of the picture and of the
content, N x M matrices; G' its Grams; Δ differences of neighbouring pixels. C, S_l and T are nstlab's
(`nstlab.optimise`): C = mean (F - P)², S_l = mean ((G - A)/N)² with G = F Fᵀ/M, T the total variation.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nstlab.errors import RequestError
from nstlab.other_tools.command_line import Option, number
from nstlab.other_tools.units import Shape, shape, tidy

GATYS_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""The style layers of every one of these tools, by default."""


@dataclass
class Translation:
    """A tool's command line in the words of `Settings`, and lines about what differs."""

    settings: dict[str, Any]
    notes: list[str]


@dataclass(frozen=True)
class Tool:
    """Another tool: its name, the scripts by which a command line calls it, its options, and its translation.

    translate takes the options' values, and the folder of the script; smallest: words that are a valid command line;
    prepare: makes words for the parser out of those that were typed; title: what it is called, if not by its name.
    """

    name: str
    scripts: tuple[str, ...]
    options: tuple[Option, ...]
    translate: Callable[[Namespace, Path], Translation]
    smallest: tuple[str, ...] = ()
    prepare: Callable[[Sequence[str]], list[str]] = list
    title: str = ""


def shape_or_note(picture: str, notes: list[str]) -> Shape | None:
    """Width and height of a picture; None, and a note, if it cannot be read."""
    found = shape(picture)
    note = f"{picture} cannot be read: what depends on its shape (size, k_TV) is for a square one"
    if found is None and note not in notes:
        notes.append(note)
    return found


def picture_in(folder: Path, name: str) -> str:
    """The path of a picture in a tool's own folder; or the name as it is, if nstlab finds it and the tool would not."""
    inside = folder / name
    return name if not inside.is_file() and shape(name) else str(inside)


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers written as a,b,c. Raises RequestError for anything else."""
    try:
        return tuple(number(part) for part in text.split(","))
    except ValueError:
        raise RequestError(f"{option} {text}: write numbers, as 1,2") from None


def optimiser(name: str, learning_rate: float, history_size: int) -> dict[str, Any]:
    """Adam has the rate; L-BFGS, whose rate is 1, the number of steps that it remembers."""
    if name == "adam":
        return {"optimizer": "adam", "learning_rate": tidy(learning_rate)}
    return {"optimizer": "lbfgs", "history_size": history_size}
