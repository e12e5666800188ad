"""out/sweeps/<name>/: writing and reading what a sweep leaves.

sweep.yaml         as run: what was asked for, with which versions and threads it was made
table.csv          one row per point: parameters, last losses, seconds, state, run id, path
failures.csv       the points that failed, with their errors and notebooks
contact_sheet.png  the pictures, the first axis across, the second down; other axes turn the page
"""

from __future__ import annotations

import io
import platform
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from nstlab import own
from nstlab.errors import RequestError, unknown
from nstlab.evaluation import METRICS, Judge, Metric, unreduced
from nstlab.images import load_image
from nstlab.metrics import similarity
from nstlab.runs import FIRST_COLUMNS, Run, read_history
from nstlab.settings import Settings, names_where
from nstlab.storage import out_folder, read_regular, sha256_of, write_whole
from nstlab.sweeps.file import MOST_YAML, judges
from nstlab.sweeps.notebook import read_mark
from nstlab.sweeps.plan import Plan, Point
from nstlab.sweeps.statistics import PAIR, Study

LOSSES = ("total", "content", "style")  # in every table
NOT_SETTINGS = ("state", "iteration", "ssim_content", "seconds", "notebook_seconds", "run", "path", "picture")


@dataclass(frozen=True)
class Outcome:
    """A sweep that has run.

    table: one row per point, as in table.csv; axes: parameter -> its values in order, for those that vary on purpose;
    folder: out/sweeps/<name>; store_at: the iterations that --store keeps (empty: each run's last); replicates: as
    axes, for what `replicate:` varies.
    """

    name: str
    table: pd.DataFrame
    axes: dict[str, list[Any]]
    folder: Path
    store_at: tuple[int, ...] = ()
    replicates: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The folder of runs."""
        return self.folder.parents[1]

    def run(self, row: pd.Series) -> Run:
        """The run of a row of the table, up to the row's iteration. Raises RequestError if it is no longer stored."""
        iteration = row["iteration"]
        return Run.open(self.out / row["path"], None if pd.isna(iteration) else int(iteration))

    def picture(self, row: pd.Series) -> torch.Tensor | None:
        """A row's picture, (1, 3, H, W) in [0, 1]; None if there is none."""
        path = self.out / str(row["picture"])
        return load_image(path, size=None) if row["picture"] and path.is_file() else None

    def pictures(self) -> list[torch.Tensor | None]:
        """Every row's picture, in the table's order."""
        return [self.picture(row) for _, row in self.table.iterrows()]

    def one_replicate(self) -> Outcome:
        """The same sweep with the runs of its first replicate alone: one pair of pictures, one seed."""
        if not self.replicates:
            return self
        first = self.table[list(self.replicates)].eq(self.table[list(self.replicates)].iloc[0]).all(axis=1)
        return replace(self, table=self.table[first].reset_index(drop=True), replicates={})

    def elsewhere(self, row: pd.Series) -> pd.DataFrame:
        """The rows of the other replicates that agree with a row in all that varies on purpose."""
        knobs = list(self.axes)
        same = self.table[knobs].eq(row[knobs]) | (self.table[knobs].isna() & row[knobs].isna())
        return self.table[same.all(axis=1) & (self.table["run"] != row["run"])] if self.replicates else self.table[:0]

    def study(self, value: str, log: bool = False) -> Study:
        """What the runs that are done say of one column of the table, over this sweep's factors and replicates.

        Raises RequestError; see `Study`.
        """
        pair = [name for name in PAIR if name not in self.axes]
        seed = "" if "seed" in self.axes else "seed"
        return Study(self.table[self.table["state"] == "done"], list(self.axes), value, pair, seed, log)

    def example(self) -> Settings:
        """The settings of the first finished point, `iterations` its picture's. Raises RequestError without any."""
        done = self.table[self.table["state"] == "done"]
        if done.empty:
            raise RequestError(f"no point of {self.name} is done")
        return self.run(done.iloc[0]).settings.with_(iterations=int(done.iloc[0]["iteration"]))


def load(name: str | Path, out: str | Path | None = None) -> Outcome:
    """A sweep that has run, by its name or its folder's path; out: the folder of runs (None: out/).

    Raises RequestError if there is none.
    """
    folder = Path(name).absolute()
    if not (folder / "table.csv").is_file():
        sweeps = out_folder(out) / "sweeps"
        folder = sweeps / Path(name).name
        if not (folder / "table.csv").is_file():
            known = sorted(path.parent.name for path in sweeps.glob("*/table.csv"))
            hint = unknown("sweep", str(name), known) if known else f"no sweep {str(name)!r} has run"
            raise RequestError(f"{hint}; `nstlab sweep {Path(name).name}` runs it")
    try:
        axes, store_at, replicates = _read_axes(folder)
        return Outcome(folder.name, _read_table(folder / "table.csv"), axes, folder, store_at, replicates)
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RequestError(f"{folder} is damaged ({reason}): `nstlab sweep` restores it") from None
    except OSError as error:
        raise RequestError(f"{folder} cannot be read: {error.strerror or error}") from None


def _read_table(path: Path) -> pd.DataFrame:
    """table.csv. Raises ValueError if it is not what `make_table` writes, or names files outside its runs."""
    texts = dict.fromkeys(("picture", "path", "run", "state"), object)
    table = pd.read_csv(io.BytesIO(read_regular(path)), keep_default_na=False, na_values=[""], dtype=texts)
    missing = {*texts, "iteration", "seconds", "ssim_content", *(f"loss_{name}" for name in LOSSES)} - set(table)
    if missing:
        raise ValueError(f"table.csv has no column {sorted(missing)[0]}")
    table = table.assign(**{column: table[column].fillna("") for column in texts})
    if not set(table["state"]) <= {"done", "failed", "missing"}:
        raise ValueError("table.csv has unknown states")
    for column in ("iteration", "seconds", "ssim_content", *(f"loss_{name}" for name in LOSSES)):
        table[column] = pd.to_numeric(table[column])
    for name in (*table["path"], *table["picture"]):
        if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
            raise ValueError(f"{name!r} is outside the folder of runs")
    return table


def _read_axes(folder: Path) -> tuple[dict[str, list[Any]], tuple[int, ...], dict[str, list[Any]]]:
    """What varies, the iterations to store, and what is replicated, from sweep.yaml."""
    content = yaml.safe_load(read_regular(folder / "sweep.yaml", MOST_YAML))
    made_with = content["made_with"]
    axes, replicates = (
        {str(name): [cell(value) for value in values] for name, values in table.items()}
        for table in (made_with["axes"], made_with.get("replicates", {}))
    )
    return axes, tuple(map(int, content.get("store_at", ()))), replicates


def cell(value: Any) -> Any:
    """A parameter's value as a cell of the table: lists as a,b,c; None stays empty.

    >>> cell(["relu1_1", "relu2_1"]), cell(1000.0), cell([[40, 300.0]])
    ('relu1_1,relu2_1', 1000.0, '40:300.0')
    """
    if isinstance(value, (list, tuple)):
        return ",".join(":".join(map(str, part)) if isinstance(part, (list, tuple)) else str(part) for part in value)
    return value


def make_table(plan: Plan, failures: dict[str, str]) -> pd.DataFrame:
    """One tidy row per point: every parameter, the losses at `iterations`, and where it is stored.

    Losses are named `loss_total`, `loss_content`, `loss_style`, `loss_relu1_1`, ...; `ssim_content` compares the
    structure of picture and content (SSIM, 1 if they are equal); `seconds` is computing time, `notebook_seconds`
    includes the kernel's start; `state` is done, failed or missing; `iteration` is the picture's; `path` and
    `picture` are relative to the folder of runs.
    """
    rows = []
    for point in plan.points:
        parameters = {
            name: cell(value) for name, value in (point.settings.model_dump(mode="json") | point.others).items()
        }
        done = point.is_done(plan.notebook.name)
        state = "done" if done else "failed" if point.run.id in failures else "missing"
        rows.append(parameters | {"state": state} | (_measured(point, plan.out) if done else _nothing(point)))
    table = pd.DataFrame(rows)
    losses = [name for name in table.columns if name.startswith("loss_")]
    parameters = [name for name in table.columns if name not in losses and name not in NOT_SETTINGS]
    return table[parameters + ["state", "iteration"] + losses + list(NOT_SETTINGS[2:])]


def _nothing(point: Point) -> dict[str, Any]:
    names = ("iteration", *(f"loss_{name}" for name in LOSSES), "ssim_content", "seconds", "notebook_seconds")
    empty = dict.fromkeys(names)
    return empty | {"run": point.run.id, "path": point.run.folder.name, "picture": None}


def _measured(point: Point, out: Path) -> dict[str, Any]:
    run, mark = point.run, read_mark(point.run.folder)
    row = history_row(run.folder / "history.csv", run.iteration)
    known = mark.get("ssim_content") if mark.get("iterations") == run.iteration else None  # reading pictures takes long
    return {
        "iteration": run.iteration,
        **{f"loss_{name}": value for name, value in row.items() if name not in FIRST_COLUMNS},
        "ssim_content": content_similarity(run) if known is None else known,
        "seconds": row["seconds"],
        "notebook_seconds": mark.get("seconds"),
        "run": run.id,
        "path": run.folder.name,
        "picture": str(run.picture.relative_to(out)),
    }


def content_similarity(run: Run) -> float:
    """SSIM of a run's picture to its content picture, to four digits."""
    return round(similarity(run.result, load_image(run.settings.content, run.settings.size)), 4)


def with_evaluation(plan: Plan, table: pd.DataFrame, metrics: dict[str, Metric] = METRICS) -> pd.DataFrame:
    """The table with `nstlab.evaluation`'s metrics, or these, as `eval_style_error` and so on, and each
    network's cost.

    It takes a second or two per point. It is done here, not in the points' notebooks, to load the judge once per pair
    of pictures. Distances to the unreduced result are empty if that is not a point of the sweep.
    """
    loaded: dict[str, Judge] = {}
    pictures = {
        row["run"]: load_image(plan.out / row["picture"], size=None)
        for _, row in table.iterrows()
        if isinstance(row["picture"], str)  # None, or NaN in a table that has some
    }
    rows = []
    for point in plan.points:
        if point.run.id not in pictures:
            rows.append({})
            continue
        settings = unreduced(point.settings)
        ours = {name: getattr(settings, name) for name in names_where(judged=True)}
        if repr(ours) not in loaded:
            loaded[repr(ours)] = Judge(settings)
        judge = loaded[repr(ours)]
        judge.settings = settings  # which may differ in k_S
        whole = [other.run.id for other in plan.points if other.settings == settings and other.run.id in pictures]
        found = judge.judge(pictures[point.run.id], pictures[whole[0]] if whole else None, metrics)
        network = point.run.manifest.get("network", {})
        costs = {f"network_{name}": network.get(name) for name in ("parameters", "multiply_adds", "coded_bytes")}
        rows.append({f"eval_{name}": value for name, value in found.items()} | costs)
    return table.join(pd.DataFrame(rows, index=table.index))


def history_row(path: Path, iteration: int) -> dict[str, float]:
    """One row of a history.csv. Raises RequestError if it is missing or the file is damaged."""
    try:
        table = read_history(path)
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from None
    if iteration >= len(table):
        raise RequestError(f"{path} has no row of iteration {iteration}; remove the run's folder to compute it again")
    return table.iloc[iteration].to_dict()


def write_outcome(plan: Plan, failures: dict[str, str]) -> pd.DataFrame:
    """Write table.csv and failures.csv; returns the table. failures: run id -> error."""
    table = make_table(plan, failures)
    if asked := judges(plan.content):
        table = with_evaluation(plan, table, asked)
    _write_csv(table, plan.folder / "table.csv")
    failed = [
        {
            **{name: cell(value) for name, value in point.values.items()},
            "error": failures[point.run.id],
            "notebook": str((point.run.folder / "notebook.ipynb").relative_to(plan.out)),
            "run": point.run.id,
        }
        for point in plan.points
        if point.run.id in failures
    ]
    columns = [*plan.axes, "error", "notebook", "run"]
    _write_csv(pd.DataFrame(failed, columns=None if failed else columns), plan.folder / "failures.csv")
    return table


def write_as_run(plan: Plan, resources: dict[str, Any]) -> None:
    """Write sweep.yaml: the sweep's file with the values in force, and what it was made with.

    resources: workers and threads; the threads affect the last bits of every result, so the next command on this
    sweep uses the same number.
    """
    settings = plan.points[0].settings.model_dump(mode="json")
    fixed = {name: settings.get(name, value) for name, value in plan.content["fixed"].items()}
    asked = ("evaluate", "store_at", "checkpoints", "grid", "points", "replicate")
    kept = {key: plan.content[key] for key in asked if key in plan.content}
    made_with = {
        **{package: version(package) for package in ("nstlab", "torch", "papermill", "dask")},
        "python": platform.python_version(),
        **resources,
        "notebook_sha256": sha256_of(plan.notebook),
        "axes": plan.axes,
        "replicates": plan.replicates,
    }
    named = [name for name in _listed(plan.content.get("evaluate")) if own.is_own(name)]
    named += [reference for point in plan.points for reference in point.settings.code.values()]
    if named:
        made_with["code_sha256"] = {reference: own.sha256(reference) for reference in dict.fromkeys(named)}
    content = {"name": plan.name, "notebook": plan.content["notebook"], "fixed": fixed, **kept, "made_with": made_with}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_whole(plan.folder / "sweep.yaml", text.encode())


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def made_with(folder: Path) -> dict[str, Any]:
    """What a sweep was made with, from its folder; an empty dict if that says nothing readable."""
    try:
        stored = yaml.safe_load(read_regular(folder / "sweep.yaml", MOST_YAML))["made_with"]
        return stored if isinstance(stored, dict) else {}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return {}


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    text = io.StringIO()
    table.to_csv(text, index=False)
    write_whole(path, text.getvalue().encode())


def sensitivity(table: pd.DataFrame, axes: dict[str, list[Any]], between: np.ndarray) -> pd.DataFrame:
    """How much each knob does: one row per axis, over all pairs of points that differ in that knob alone.

    between: the pictures' distances, in the table's order. Columns: `knob`; `pairs`, their number; `distance`, the
    mean distance of their pictures in grey levels; `style_factor` and `content_factor`, the geometric mean of the
    larger over the smaller loss.
    """
    rows = []
    for knob in axes:
        others = [name for name in axes if name != knob]
        pairs = [
            (i, j)
            for _, group in (table.groupby(others, sort=False, dropna=False) if others else [((), table)])
            for n, i in enumerate(group.index)
            for j in group.index[n + 1 :]
        ]
        first, second = (np.array(side, dtype=int) for side in zip(*pairs, strict=True)) if pairs else ([], [])
        known = between[first, second] if pairs else np.array([])
        known = known[np.isfinite(known)]  # pictures of other proportions have no distance
        rows.append({"knob": knob, "pairs": len(pairs), "distance": known.mean() if len(known) else np.nan})
        for part in ("style", "content"):
            losses = table[f"loss_{part}"].to_numpy(float)
            with np.errstate(divide="ignore", invalid="ignore"):
                factors = np.abs(np.log(losses[first] / losses[second])) if pairs else np.array([])
            factors = factors[np.isfinite(factors)]  # a loss of zero (at iteration 0, say) has no factor
            rows[-1][f"{part}_factor"] = float(np.exp(factors.mean())) if len(factors) else np.nan
    return pd.DataFrame(rows).sort_values("distance", ascending=False, ignore_index=True)
