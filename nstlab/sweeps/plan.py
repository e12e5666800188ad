"""A sweep's file -> its points. Everything that can be wrong with the file is found here, before anything runs."""

from __future__ import annotations

import copy
import glob
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nstlab import own
from nstlab.decoding import ENDINGS
from nstlab.errors import Contradiction, RequestError, unknown
from nstlab.evaluation import METRICS, Metric, metric_of
from nstlab.images import load_pictures
from nstlab.layers import layer_names
from nstlab.optimise import check_code, with_own_layers
from nstlab.rules import OF_NETWORK
from nstlab.runs import Run, run_id
from nstlab.settings import Settings
from nstlab.storage import home, out_folder, read_regular
from nstlab.sweeps.notebook import notebook_parameters, read_mark

MOST_POINTS = 10_000  # without --yes
MOST_YAML = 1 << 20  # bytes of a sweep's file
MOST_VALUES = 200_000  # in it, counting each use of an alias
DEEPEST = 12  # nested lists and tables
KEYS = ("name", "notebook", "fixed", "grid", "points", "replicate", "evaluate", "store_at", "checkpoints", "made_with")
REPLICATES = {"pairs": ("content", "style"), "seed": ("seed",)}
"""What `replicate:` can list -> the settings that it varies."""
ONCE = "explore"
"""A notebook's parameter that says whether it also computes runs other than its own.

These need not be repeated at every point (and would collide with points that run at the same time), so a sweep sets
it to False unless its file says otherwise.
"""


class Faults(RequestError):
    """Everything that is wrong with a sweep, one line each, in `lines`."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


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
    path = _find(file)
    content = _read(path)
    content = _from_folder(content, path.parent)
    faults = _expand(content) + _shape_faults(content)
    if faults:
        raise Faults(faults)
    notebook = _notebook(content["notebook"], path)
    try:
        parameters = notebook_parameters(notebook)
    except RequestError as error:
        raise Faults([f"{path}: {error}"]) from None
    content["fixed"], faults = _override(content, given or {})
    faults += _name_faults(content, parameters, notebook.name) or _value_faults(content)
    if out is not None and "out" not in parameters:
        faults.append(f"{notebook.name} has no parameter `out`: its runs can only go to the project's out/")
    count = math.prod(map(len, content["grid"].values())) if "grid" in content else len(content["points"])
    count *= len(_replicates(content))
    if count > MOST_POINTS and not yes:
        faults.append(f"{count:,} runs are more than {MOST_POINTS:,}: add --yes if you mean it")
    if faults:
        raise Faults(faults)
    folder = out_folder(out)
    if ONCE in parameters:
        parameters[ONCE] = False
    points = _points(content, parameters, folder)
    again = list(_replicates(content)[0])
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


def _find(file: str | Path) -> Path:
    """The file of a path, or of the name of a sweep that comes with nstlab."""
    path = Path(file).expanduser()
    if path.is_file():
        return path.absolute()
    shipped = {found.stem: found for found in sorted((home() / "notebooks" / "sweeps").glob("*.yaml"))}
    if str(file) in shipped:
        return shipped[str(file)]
    if path.suffix or len(path.parts) > 1:
        raise Faults([f"no sweep file at {path}"])
    raise Faults([str(unknown("sweep", str(file), shipped))])


class _Loader(yaml.SafeLoader):
    """YAML as plain data, in which a repeated name is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.YAMLError(f"{name} appears twice")
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(read_regular(path, MOST_YAML), Loader=_Loader)  # a SafeLoader: plain values only
        _check_extent(content)
    except OSError as error:
        raise Faults([f"{path} cannot be read: {error.strerror or error}"]) from None
    except RecursionError:
        raise Faults([f"{path} cannot be read as YAML: it is nested too deeply"]) from None
    except Exception as error:  # YAML's own errors, and others that it lets through: dates, numbers, binary data
        raise Faults([f"{path} cannot be read as YAML: {' '.join(str(error).split())[:300]}"]) from None
    if not isinstance(content, dict):
        raise Faults([f"{path} is not a sweep: it needs `notebook:` and `grid:` or `points:`"])
    return {"fixed": {}, **{key: value for key, value in content.items() if value is not None or key != "fixed"}}


def _check_extent(content: Any) -> None:
    """Raises ValueError for YAML whose aliases multiply it too much, or that contains itself."""
    left, count = [(content, 0)], 0
    while left:
        value, depth = left.pop()
        count += 1
        if depth > DEEPEST:
            raise ValueError("it is nested too deeply")
        if count > MOST_VALUES:
            raise ValueError(f"it has more than {MOST_VALUES:,} values")
        if isinstance(value, (dict, list)):
            left += [(part, depth + 1) for part in (value.values() if isinstance(value, dict) else value)]


def _expand(content: dict[str, Any]) -> list[str]:
    """Replace patterns in the grid (`content: pictures/*.jpg`) by pictures; returns what is wrong."""
    faults, grid = [], content.get("grid")
    for name in ("content", "style"):
        values = grid.get(name) if isinstance(grid, dict) else None
        found = []
        for value in [values] if isinstance(values, str) else values if isinstance(values, list) else []:
            if not isinstance(value, str) or not set("*?[") & set(value):
                found.append(value)
                continue
            paths = [path for path in glob.glob(str(Path(value).expanduser())) if path.lower().endswith(ENDINGS)]
            found += sorted(paths)
            faults += [] if paths else [f"grid: {name}: no picture matches {value[:80]}"]
        if found:
            grid[name] = found
    return faults


def _from_folder(value: Any, folder: Path) -> Any:
    """The content of a sweep's file, with all references to code of one's own made absolute from its folder."""
    if isinstance(value, dict):
        return {key: _from_folder(part, folder) for key, part in value.items()}
    if isinstance(value, list):
        return [_from_folder(part, folder) for part in value]
    return own.absolute(value, folder) if own.is_own(value) else value


def _notebook(name: str, file: Path) -> Path:
    """A sweep's notebook: one in notebooks/, or a path; a relative one starts from the sweep's file."""
    ours = home() / "notebooks" / name
    return ours if ours.is_file() or Path(name).name == name else (file.parent / Path(name).expanduser())


def _shape_faults(content: dict[str, Any]) -> list[str]:
    """What is wrong with the file's structure, before its names and values are checked."""
    faults = [str(unknown("key", key, KEYS)) for key in content if key not in KEYS]
    if not isinstance(content.get("notebook"), str):
        faults.append("`notebook:` is missing: the file name of a notebook in notebooks/")
    name = content.get("name", "sweep")
    if not isinstance(name, str) or not name or Path(name).name != name or name.startswith("."):
        faults.append(f"name: {str(name)[:80]!r} cannot be a folder's name")
    try:
        judges(content)
    except RequestError as error:
        faults.append(f"evaluate: {error}")
    at = content.get("store_at", [0])
    if not isinstance(at, list) or not at or not all(type(k) is int and k >= 0 for k in at):
        faults.append("`store_at:` must be a list of iterations: --store keeps their losses and pictures")
    elif "store_at" in content and content.get("evaluate"):
        faults.append("`store_at:` and `evaluate:` exclude each other: only last pictures are evaluated")
    if not isinstance(content["fixed"], dict):
        faults.append("`fixed:` must be NAME: VALUE pairs")
    if not isinstance(content.get("checkpoints", True), bool):
        faults.append("`checkpoints:` must be true, or false to keep none of complete runs")
    faults += _replicate_faults(content)
    if ("grid" in content) == ("points" in content):
        faults.append("a sweep has either `grid:` or `points:`")
    elif "grid" in content:
        grid = content["grid"]
        if not isinstance(grid, dict) or not grid:
            faults.append("`grid:` is empty: at least one NAME: [VALUES] is needed")
        else:
            wrong = [name for name, values in grid.items() if not isinstance(values, list) or not values]
            faults += [f"grid: {name} needs a list of at least one value" for name in wrong]
            twice = [name for name in grid if isinstance(content["fixed"], dict) and name in content["fixed"]]
            faults += [f"{name} is in both `fixed:` and `grid:`" for name in twice]
    else:
        points = content["points"]
        if not isinstance(points, list) or not points or not all(isinstance(point, dict) for point in points):
            faults.append("`points:` must be a list of at least one {NAME: VALUE, ...}")
    return faults


def _replicate_faults(content: dict[str, Any]) -> list[str]:
    """What is wrong with `replicate:`, which lists pairs of pictures, seeds, or both."""
    if "replicate" not in content:
        return []
    given, faults = content["replicate"], []
    if not isinstance(given, dict) or not given:
        return ["`replicate:` needs `pairs: [[CONTENT, STYLE], ...]`, `seed: [0, 1, ...]`, or both"]
    faults += [f"replicate: {unknown('key', name, REPLICATES)}" for name in given if name not in REPLICATES]
    for name in (name for name in REPLICATES if name in given):
        if not isinstance(given[name], list) or not given[name]:
            faults.append(f"replicate: {name} needs a list of at least one value")
        elif name == "pairs" and not all(isinstance(pair, list) and len(pair) == 2 for pair in given[name]):
            faults.append("replicate: each of `pairs:` is [CONTENT, STYLE]")
    varied = {name for key in given if key in REPLICATES for name in REPLICATES[key]}
    for key in ("fixed", "grid"):
        held = content.get(key)
        faults += [f"{name} is in both `replicate:` and `{key}:`" for name in held or () if name in varied]
    points = content.get("points") if isinstance(content.get("points"), list) else []
    if varied & {name for point in points if isinstance(point, dict) for name in point}:
        faults.append("`points:` set what `replicate:` varies")
    return faults


def _replicates(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings of each replicate; of a sweep without any, one that sets nothing."""
    given = content.get("replicate", {})
    pairs = [{"content": content, "style": style} for content, style in given.get("pairs", ())] or [{}]
    seeds = [{"seed": seed} for seed in given.get("seed", ())] or [{}]
    return [pair | seed for pair in pairs for seed in seeds]


def judges(content: dict[str, Any]) -> dict[str, Metric]:
    """The metrics that a sweep's table has, by name: all (`evaluate: true`), none, or those that its file lists.

    Raises RequestError for an unknown name or, of one's own, one that cannot be read.
    """
    asked = content.get("evaluate", False)
    if isinstance(asked, bool):
        return METRICS if asked else {}
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise RequestError("true, false, or a list of metrics and of path/to/mine.py:name")
    for name in asked:
        own.trust(name)
    return dict(metric_of(name) for name in asked)


def _override(content: dict[str, Any], given: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """`fixed:` with the values that the command line replaces, and what is wrong with those."""
    fixed, faults = dict(content["fixed"]), []
    networks = [*given.get("network", "").split(), *_networks(content)]
    varied = set(content.get("grid", ())) | {name for point in content.get("points", ()) for name in point}
    varied |= set(_replicates(content)[0])
    for name, text in given.items():
        if name in varied:
            faults.append(f"--set {name}: the sweep varies {name}; to change that, edit its file")
        elif name in Settings.model_fields:
            try:
                settings = _alone(name, None if text.lower() == "none" else text, networks)
                fixed[name] = settings.model_dump(mode="json")[name]
            except Contradiction:
                fixed[name] = _as_yaml(text)  # checking the points shows whether it goes with the rest
            except RequestError as error:
                faults.append(f"--set {error}")
        else:
            fixed[name] = _as_yaml(text)
    return fixed, faults


def _as_yaml(text: str) -> Any:
    """A value from the command line: parsed as YAML, or the text itself."""
    try:
        value = yaml.safe_load(text)
        _check_extent(value)
        return value
    except Exception:  # whatever YAML raises for bad YAML
        return text


def _pairs(content: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(where, name, value) of every value in the file."""
    for name, value in content["fixed"].items():
        yield "fixed", name, value
    for name, values in content.get("grid", {}).items():
        for value in values:
            yield "grid", name, value
    for number, point in enumerate(content.get("points", ()), start=1):
        for name, value in point.items():
            yield f"point {number}", name, value
    for replicate in _replicates(content):
        for name, value in replicate.items():
            yield "replicate", name, value


def _name_faults(content: dict[str, Any], parameters: dict[str, Any], notebook: str) -> list[str]:
    """Unknown names, about which papermill would only warn."""
    faults = []
    for where, name, _ in _pairs(content):
        if name == "out":
            fault = f"{where}: a sweep cannot set out; use --out"
        elif name not in parameters:
            fault = f"{where}: {unknown(f'parameter of {notebook}', name, parameters)}"
        else:
            continue
        if fault not in faults:
            faults.append(fault)
    return faults


def _value_faults(content: dict[str, Any]) -> list[str]:
    faults = []
    networks = _networks(content)
    for where, name, value in _pairs(content):
        try:
            if name in Settings.model_fields:
                with suppress(Contradiction):  # it may be invalid alone; whole points are checked later
                    _alone(name, value, networks)
            elif not _is_plain(value):
                shown = repr(value)[:80]
                raise RequestError(f"{name} = {shown}: only numbers, text, true, false, null and lists of them")
        except RequestError as error:
            if f"{where}: {error}" not in faults:
                faults.append(f"{where}: {error}")
    return faults


def _networks(content: dict[str, Any]) -> list[Any]:
    return [value for _, name, value in _pairs(content) if name == "network"]


def _alone(name: str, value: Any, networks: Sequence[Any] = ()) -> Settings:
    """Settings with only this value; whether it agrees with other parameters is checked for whole points.

    networks: those of the sweep; one of them must have this layer, or weights of this name.
    """
    others = {}
    for network in networks if name in OF_NETWORK else ():
        with suppress(RequestError):
            return Settings(**{"network": network, name: value})
    if name == "style_layer_weights" and value != "balanced":
        parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else ()
        others = {"style_layers": layer_names()[: max(len(parts), 1)]}
    return Settings(**{name: value}, **others)


def _is_plain(value: Any) -> bool:
    """Whether papermill can write it into a notebook that JupyterLab can still open."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, str))


def _points(content: dict[str, Any], parameters: dict[str, Any], out: Path) -> list[Point]:
    """Every point with its run. Raises Faults for invalid ones, and for two that are the same run.

    `replicate: seed:` repeats only what draws something from it: another seed of the others would be the same picture.
    """
    make, faults, points = _RunMaker(out), {}, []
    first_seed = _replicates(content)[0].get("seed")
    numbers: dict[str, int] = {}
    for number, varied in enumerate(_combinations(content), start=1):
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


def _combinations(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What distinguishes each point: all of one replicate, then all of the next."""
    grid = content.get("grid", {})
    varied = content.get("points") or [dict(zip(grid, each, strict=True)) for each in itertools.product(*grid.values())]
    for replicate in _replicates(content):
        for values in varied:
            yield values | replicate


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
