"""A sweep's file -> its points, each checked as a whole before anything runs."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nstlab.errors import RequestError
from nstlab.images import load_pictures
from nstlab.optimise import check_code, with_own_layers
from nstlab.runs import Run, run_id
from nstlab.settings import Settings
from nstlab.storage import home, out_folder
from nstlab.sweeps.file import Faults, combinations, name_faults, override, read_file, replicates_of, value_faults
from nstlab.sweeps.notebook import notebook_parameters, read_mark

MOST_POINTS = 10_000  # without --yes
ONCE = "explore"
"""A notebook's parameter that says whether it also computes runs other than its own.

These need not be repeated at every point (and would collide with points that run at the same time), so a sweep sets
it to False unless its file says otherwise.
"""


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    values: what distinguishes it from the other points, name -> plain value; settings and run: as everywhere;
    others: the notebook's parameters that are not settings.
    """

    values: dict[str, Any]
    settings: Settings
    others: dict[str, Any]
    run: Run

    @property
    def label(self) -> str:
        """`k_S=10 init=white`"""
        return " ".join(f"{name}={shown(value)}" for name, value in self.values.items())

    def is_done(self, notebook: str) -> bool:
        """Whether the run is stored as far as requested, and the notebook ran to its end at that time."""
        if not self.run.complete:
            return False
        mark = read_mark(self.run.folder)
        far = mark.get("iterations", -1) >= self.settings.iterations
        return far and mark["notebook"] == notebook and mark["parameters"] == self.others


@dataclass(frozen=True)
class Plan:
    """A sweep that can be run: its name, notebook, points, and the file's content with the values in force.

    axes: parameter -> its values in order, for all that differ between points on purpose; replicates: the same for
    what `replicate:` varies, over which findings are to hold; parameters: the names that the notebook takes; out: the
    folder of runs.
    """

    name: str
    notebook: Path
    axes: dict[str, list[Any]]
    replicates: dict[str, list[Any]]
    points: list[Point]
    parameters: frozenset[str]
    content: dict[str, Any]
    out: Path

    @property
    def folder(self) -> Path:
        """out/sweeps/<name>"""
        return self.out / "sweeps" / self.name

    def given(self, point: Point) -> dict[str, Any]:
        """What papermill writes into the notebook for a point, as plain JSON values."""
        values = point.settings.model_dump(mode="json") | point.others | {"out": str(self.out)}
        return {name: value for name, value in values.items() if name in self.parameters}

    def pending(self) -> list[Point]:
        """The points that are not done."""
        return [point for point in self.points if not point.is_done(self.notebook.name)]


def make_plan(
    file: str | Path, given: dict[str, str] | None = None, out: str | Path | None = None, yes: bool = False
) -> Plan:
    """The plan of a sweep.

    file: a path, or the name of one in notebooks/sweeps/; given: name -> text that replaces a fixed parameter, as on
    the command line; out: the folder of runs (None: the project's out/); yes: allow more than 10 000 points.
    Raises Faults, with one line for each thing that is wrong.
    """
    path, content = read_file(file)
    notebook = _notebook(content["notebook"], path)
    try:
        parameters = notebook_parameters(notebook)
    except RequestError as error:
        raise Faults([f"{path}: {error}"]) from None
    content["fixed"], faults = override(content, given or {})
    faults += name_faults(content, parameters, notebook.name) or value_faults(content)
    if out is not None and "out" not in parameters:
        faults.append(f"{notebook.name} has no parameter `out`: its runs can only go to the project's out/")
    count = math.prod(map(len, content["grid"].values())) if "grid" in content else len(content["points"])
    count *= len(replicates_of(content))
    if count > MOST_POINTS and not yes:
        faults.append(f"{count:,} runs are more than {MOST_POINTS:,}: add --yes if you mean it")
    if faults:
        raise Faults(faults)
    folder = out_folder(out)
    if ONCE in parameters:
        parameters[ONCE] = False
    points = _points(content, parameters, folder)
    again = list(replicates_of(content)[0])
    axes = _axes(points, [name for name in _names(points) if name not in again])
    replicates = _axes(points, again)
    name = content.get("name", path.stem)
    return Plan(name, notebook, axes, replicates, points, frozenset(parameters), content, folder)


def shown(value: Any) -> str:
    """A value as a label: 0.001, relu1_1+relu2_1, none; for a path the file's name.

    >>> shown(1000.0), shown(["relu1_1", "relu2_1"]), shown(None)
    ('1000', 'relu1_1+relu2_1', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return "+".join(map(shown, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return Path(value).stem if isinstance(value, str) and Path(value).is_absolute() else str(value)


def as_code(text: Any) -> str:
    """A name from a file as Markdown code, in which nothing is markup.

    >>> as_code("<b>`x`</b>")
    "`<b>'x'</b>`"
    """
    return f"`{' '.join(str(text).replace('`', chr(39)).split()) or ' '}`"


def _notebook(name: str, file: Path) -> Path:
    """A sweep's notebook: one in notebooks/, or a path; a relative one starts from the sweep's file."""
    ours = home() / "notebooks" / name
    return ours if ours.is_file() or Path(name).name == name else (file.parent / Path(name).expanduser())


def _points(content: dict[str, Any], parameters: dict[str, Any], out: Path) -> list[Point]:
    """Every point with its run. Raises Faults for invalid ones, and for two that are the same run.

    `replicate: seed:` repeats only what draws something from it: another seed of the others would be the same picture.
    """
    make, faults, points = _RunMaker(out), {}, []
    first_seed = replicates_of(content)[0].get("seed")
    numbers: dict[str, int] = {}
    for number, varied in enumerate(combinations(content), start=1):
        merged = parameters | content["fixed"] | varied
        known = _settings_in(merged)
        others = {name: value for name, value in merged.items() if name not in known and name != "out"}
        try:
            settings = Settings.over(*(_settings_in(part) for part in (parameters, content["fixed"] | varied)))
            if first_seed is not None and settings.seed != first_seed and not settings.draws:
                continue
            run = make.run(settings)
            settings = run.settings
        except RequestError as error:
            faults.setdefault(str(error), f"point {number}: {error}")
            continue
        plain = settings.model_dump(mode="json") | others
        points.append(Point({name: plain[name] for name in varied}, settings, others, run))
        first = numbers.setdefault(run.id, number)
        if first != number:
            other = points[[point.run.id for point in points].index(run.id)].settings
            twins = [name for name in ("content", "style") if getattr(other, name) != getattr(settings, name)]
            why = "iterations, frame_every, device and parameters that are not settings do not shape a picture"
            if twins:
                why = f"{getattr(other, twins[0])} and {getattr(settings, twins[0])} are the same picture"
            said = f"points {first} and {number} are the same run, {run.id} ({points[-1].label}): {why}"
            faults.setdefault(run.id, said)
    if not faults and first_seed is not None and not any(point.settings.draws for point in points):
        faults["seed"] = (
            "replicate: seed: none of these runs draws anything from a seed; if the notebook itself does, `grid:` "
            "can list seed"
        )
    if faults:
        raise Faults(list(faults.values()))
    return points


def _settings_in(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in Settings.model_fields}


class _RunMaker:
    """Makes runs for many settings; reads, hashes and checks each picture and network only once."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.first: dict[tuple[Any, ...], Run] = {}
        self.loaded: set[tuple[str, int]] = set()

    def run(self, settings: Settings) -> Run:
        network = settings.network, settings.weights, settings.weights_format
        files = (*settings.files.items(), *settings.code.items(), *network)
        if (files, settings.size, settings.style_size) not in self.loaded:
            load_pictures(settings.with_(scales=1))  # refuses a damaged or too narrow one
            check_code(settings)
            self.loaded.add((files, settings.size, settings.style_size))
        settings = with_own_layers(settings)
        if files not in self.first:
            self.first[files] = Run(settings, self.out)
        first = self.first[files]
        run = copy.copy(first)
        run.settings, run.id = settings, run_id(settings, first.sha256, first.read_as)
        run.folder = first.folder.with_name(first.folder.name.removesuffix(first.id) + run.id)
        return run


def _names(points: list[Point]) -> list[str]:
    """What the points set, in order of appearance."""
    return list(dict.fromkeys(name for point in points for name in point.values))


def _axes(points: list[Point], names: list[str]) -> dict[str, list[Any]]:
    """What differs between the points, of these names -> its values, in order of appearance."""
    axes: dict[str, list[Any]] = {}
    for name in names:
        values = []
        for point in points:
            value = point.settings.model_dump(mode="json", include={name}).get(name, point.others.get(name))
            if value not in values:
                values.append(value)
        axes[name] = values
    return {name: values for name, values in axes.items() if len(values) > 1} or axes
