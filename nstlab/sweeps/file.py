"""A sweep's file: read, and everything that can be wrong with its structure, its names and its values."""

from __future__ import annotations

import glob
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from nstlab import own
from nstlab.decoding import ENDINGS
from nstlab.errors import Contradiction, RequestError, unknown
from nstlab.evaluation import METRICS, Metric, metric_of
from nstlab.layers import layer_names
from nstlab.rules import OF_NETWORK
from nstlab.settings import Settings
from nstlab.storage import home, read_regular

MOST_YAML = 1 << 20  # bytes of a sweep's file
MOST_VALUES = 200_000  # in it, counting each use of an alias
DEEPEST = 12  # nested lists and tables
KEYS = ("name", "notebook", "fixed", "grid", "points", "replicate", "evaluate", "store_at", "checkpoints", "made_with")
REPLICATES = {"pairs": ("content", "style"), "seed": ("seed",)}
"""What `replicate:` can list -> the settings that it varies."""


class Faults(RequestError):
    """Everything that is wrong with a sweep, one line each, in `lines`."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__("; ".join(lines))
        self.lines = lines


def read_file(file: str | Path) -> tuple[Path, dict[str, Any]]:
    """The path and the content of a sweep's file, whose structure is right. Raises Faults.

    file: a path, or the name of one in notebooks/sweeps/.
    """
    path = _find(file)
    content = _from_folder(_read(path), path.parent)
    if faults := _expand(content) + _shape_faults(content):
        raise Faults(faults)
    return path, content


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


def replicates_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings of each replicate; of a sweep without any, one that sets nothing."""
    given = content.get("replicate", {})
    pairs = [{"content": content, "style": style} for content, style in given.get("pairs", ())] or [{}]
    seeds = [{"seed": seed} for seed in given.get("seed", ())] or [{}]
    return [pair | seed for pair in pairs for seed in seeds]


def combinations(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What distinguishes each point: all of one replicate, then all of the next."""
    grid = content.get("grid", {})
    varied = content.get("points") or [dict(zip(grid, each, strict=True)) for each in itertools.product(*grid.values())]
    for replicate in replicates_of(content):
        for values in varied:
            yield values | replicate


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


def override(content: dict[str, Any], given: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """`fixed:` with the values that the command line replaces, and what is wrong with those."""
    fixed, faults = dict(content["fixed"]), []
    networks = [*given.get("network", "").split(), *_networks(content)]
    varied = set(content.get("grid", ())) | {name for point in content.get("points", ()) for name in point}
    varied |= set(replicates_of(content)[0])
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
    for replicate in replicates_of(content):
        for name, value in replicate.items():
            yield "replicate", name, value


def name_faults(content: dict[str, Any], parameters: dict[str, Any], notebook: str) -> list[str]:
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


def value_faults(content: dict[str, Any]) -> list[str]:
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
