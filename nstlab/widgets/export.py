"""From play to sweep: the current settings as a command line and as a sweep."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from nstlab.settings import Settings, as_text, choices
from nstlab.storage import home

NOTEBOOK = "04_vanilla_transfer.ipynb"
AXES = ("k_S", "init", "seed", "optimizer", "pooling")


def differing(settings: Settings) -> dict[str, Any]:
    """The settings that differ from the notebook's parameters cell, as plain values."""
    from nstlab.sweeps import notebook_parameters  # imported here: papermill and Dask take seconds to load

    parameters = notebook_parameters(home() / "notebooks" / NOTEBOOK)
    plain = settings.model_dump(mode="json")
    standard = Settings(**{name: value for name, value in parameters.items() if name in plain}).model_dump(mode="json")
    return {name: value for name, value in plain.items() if value != standard[name]}


def command_line(settings: Settings, out: Path | None = None) -> str:
    """The papermill command that computes these settings' run through the notebook, from whatever folder.

    Lists are written as text that `Settings` reads, since papermill's -p leaves them strings.
    """
    given = []
    for name, value in (differing(settings) | ({"out": str(out)} if out else {})).items():
        given += ["-p", name, "None" if value is None else as_text(value)]
    return shlex.join(["papermill", str(home() / "notebooks" / NOTEBOOK), "OUT.ipynb", *given])


def shell_line(settings: Settings, out: Path | None = None) -> str:
    """The `nstlab run` command of these settings."""
    return settings.command + (f" --out {shlex.quote(str(out))}" if out else "")


def python_line(settings: Settings) -> str:
    """These settings as Python writes them, after `import nstlab as lab`.

    >>> python_line(Settings(k_S=10))
    "lab.Settings(content='astronaut', style='swirl', k_S=10.0)"
    """
    given = {"content": settings.content, "style": settings.style} | settings.changed()
    return f"lab.Settings({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def sweep(settings: Settings, axes: Iterable[str]) -> str:
    """The YAML of a sweep around these settings, with these knobs as its grid's axes.

    >>> print(sweep(Settings(k_S=10, iterations=50, size=256), ["pooling"]))  # doctest: +ELLIPSIS
    notebook: 04_vanilla_transfer.ipynb
    fixed: {...}
    grid:
      pooling: [max, average]
    <BLANKLINE>
    """
    grid = {name: axis(settings, name) for name in axes}
    if "k_S" in grid:
        settings = settings.with_(k_S_changes=())
    fixed = {name: value for name, value in differing(settings).items() if name not in grid}
    fixed = {"content": settings.content, "style": settings.style, **fixed}
    text = f"notebook: {NOTEBOOK}\nfixed: {_flow(fixed)}\n"
    if not grid:
        return text + "points:\n  - {}\n"
    return text + "grid:\n" + "".join(f"  {name}: {_flow(values)}\n" for name, values in grid.items())


def axis(settings: Settings, name: str) -> list[Any]:
    """The values of one axis: five decades of k_S around the current one, five seeds, or all choices."""
    if name == "k_S":
        middle = settings.k_S_at(settings.iterations) or 1000.0
        return [float(f"{middle * 10.0**power:.6g}") for power in (-2, -1, 0, 1, 2)]
    if name == "seed":
        return [settings.seed + i for i in range(5)]
    return list(choices(name))


def _flow(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()
