"""`nstlab sweep`: its steps, its messages and its exit code."""

from __future__ import annotations

import itertools
import logging
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heapreplace
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch

from nstlab.errors import RequestError, RunError
from nstlab.images import smaller
from nstlab.optimise import transfer
from nstlab.runs import is_held, last_row, read_manifest
from nstlab.sweeps.batches import advance_in_batches
from nstlab.sweeps.execution import Resources, resources, run_points
from nstlab.sweeps.outcome import load, made_with, write_as_run, write_outcome
from nstlab.sweeps.plan import Plan, Point, make_plan
from nstlab.sweeps.progress import doing
from nstlab.sweeps.results import store_results
from nstlab.terminal import duration, say

WORKERS_SECONDS = 5.0  # until they have started
START_SECONDS = 9.0  # per point, besides its iterations: kernel, imports, loading the network, figures
STATES, ALWAYS = ("done", "running", "failed", "started", "new"), ("done", "started", "new")
MOST_FAILURES = 10  # that are told with their errors
PROBE_SIZE = 96  # pixels; small enough to be quick, large enough to be informative


def sweep(
    file: str,
    given: dict[str, str],
    out: Path | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    dry_run: bool = False,
    yes: bool = False,
    report: bool = False,
    store: bool = False,
    status: bool = False,
    only: str | None = None,
    together: int = 1,
) -> int:
    """Plan a sweep, say what it will take, run what is missing, write the results. Returns the exit code.

    status: only say how far it is; only: "failed" runs nothing but the points that failed last time; together: how
    many runs at most are computed in one batch, before their notebooks.

    Raises Faults, RequestError or RunError; see `make_plan` and `run_points`.
    """
    if scheduler and together > 1:
        raise RequestError("--together computes on this machine, --scheduler on others: choose one of them")
    plan = make_plan(file, given, out, yes)
    pending = plan.pending()
    done, failed = len(plan.points) - len(pending), failures_of(plan, pending)
    use = _resources(plan, scheduler, workers, threads)
    if only == "failed":
        pending = [point for point in pending if point.run.id in failed]
        if not pending:
            say(f"sweep     {plan.name}: no point has failed")
            return 0
    _announce(plan, pending, use, done, failed if status or only else {})
    if status:
        return 0
    if dry_run:
        for point in pending[:10]:
            say(f"          {point.label}  {point.run.folder.name}")
        if len(pending) > 10:
            say(f"          and {len(pending) - 10} more")
        return 0
    began = time.perf_counter()
    with _alone(plan):
        with _written(plan):
            write_as_run(plan, {"workers": use.workers, "threads": use.threads})
        failures, interrupted = {}, False
        try:
            interrupted = together > 1 and advance_in_batches(pending, together)
            if pending and not interrupted:
                failures, interrupted = run_points(plan, pending, use, scheduler)
        finally:  # also if the scheduler is lost
            with _written(plan), doing("writing   the table"):
                table = write_outcome(plan, failures)
        done = int((table["state"] == "done").sum())
        if done and not interrupted:
            _leave(plan, report)
    say(f"table     {plan.folder / 'table.csv'}")
    if store and done == len(plan.points):
        for path in store_results(load(plan.folder)):
            say(f"stored    {path}")
    if failures:
        say(f"failures  {plan.folder / 'failures.csv'}")
    if pending:
        say(f"took      {duration(time.perf_counter() - began)}, {done} of {len(plan.points)} points are done")
    if interrupted:
        say(f"nstlab: stopped with {done} of {len(plan.points)} points done; the same command resumes", err=True)
        return 130
    if failures:
        first = next(iter(failures.values()))
        say(f"nstlab: {len(failures)} of {len(plan.points)} points failed, the first with: {first}", err=True)
    return 1 if failures else 0


def _resources(plan: Plan, scheduler: str | None, workers: int | None, threads: int | None) -> Resources:
    """The workers and threads asked for; by default this sweep's last threads, which affect a result's last bits."""
    before = made_with(plan.folder).get("threads")
    if threads is None and isinstance(before, int) and before > 0:
        threads = before
    if scheduler:  # each of its workers' slots is a core to Dask, but can be given more threads
        return Resources(workers or 0, threads or 1)
    return resources(plan, workers, threads)


def failures_of(plan: Plan, pending: list[Point]) -> dict[str, str]:
    """Run id -> error of those of the points that failed when the sweep last ran."""
    try:
        stored = pd.read_csv(plan.folder / "failures.csv", dtype=str, keep_default_na=False)
        found = dict(zip(stored["run"], stored["error"], strict=True))
    except (OSError, ValueError, KeyError):
        return {}  # it has not run, or nothing readable is left of it
    return {point.run.id: found[point.run.id] for point in pending if point.run.id in found}


def _state(point: Point, failed: dict[str, str]) -> str:
    """Of a point that is not done."""
    if is_held(point.run.folder):
        return "running"
    if point.run.id in failed:
        return "failed"
    return "new" if point.run.stored is None else "started"


def _announce(plan: Plan, pending: list[Point], use: Resources, done: int, failed: dict[str, str]) -> None:
    over = _sizes(plan.axes)
    if again := plan.content.get("replicate"):
        over += f", replicated over {_sizes(again)}"
        if len(again.get("seed", ())) > 1 and not all(point.settings.draws for point in plan.points):
            over += " where something is drawn"
    say(f"sweep     {plan.name}: {len(plan.points)} points of {plan.notebook.name}, over {over}")
    if not pending:
        say("          all of them are done; nothing to run")
        return
    states = Counter(_state(point, failed) for point in pending)
    states["done"] = done
    say("          " + ", ".join(f"{states[state]} {state}" for state in STATES if states[state] or state in ALWAYS))
    say(f"          about {duration(_seconds(plan, pending, use))} for the rest")
    labels = {point.run.id: point.label for point in pending}
    for run, error in list(failed.items())[:MOST_FAILURES]:
        say(f"          failed: {labels.get(run, run)}: {error}")


def _sizes(axes: dict[str, list[Any]]) -> str:
    """`k_S (6), init (7)`"""
    return ", ".join(f"{name} ({len(values)})" for name, values in axes.items())


def _seconds(plan: Plan, pending: list[Point], use: Resources) -> float:
    """How long the rest will take, judging by stored points or by three small iterations here."""
    cost = _seconds_per_pixel(plan, use.threads)
    free_at = [WORKERS_SECONDS] * max(use.workers, 1)  # a heap: the worker that is free first takes the next point
    for point in pending:
        missing = max(point.settings.iterations - (point.run.stored or 0), 0)
        heapreplace(free_at, free_at[0] + START_SECONDS + missing * cost * point.settings.size**2)
    return max(free_at)


def _seconds_per_pixel(plan: Plan, threads: int) -> float:
    known = []
    for point in plan.points[:200]:
        manifest = read_manifest(point.run.folder / "run.json")
        if manifest.get("machine", {}).get("threads") == threads and (point.run.stored or 0) >= 5:
            last = last_row(point.run.folder / "history.csv")
            if last.get("iteration", 0) >= 5:
                known.append(last["seconds"] / last["iteration"] / point.settings.size**2)
    if known:
        return statistics.median(known)
    first, before = plan.points[0].settings, torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        times = [time.perf_counter()]
        probe = smaller(first, PROBE_SIZE).with_(iterations=3, k_S_changes=())
        for _ in transfer(probe):
            times.append(time.perf_counter())
    finally:
        torch.set_num_threads(before)
    return min(later - earlier for earlier, later in itertools.pairwise(times[1:])) / probe.size**2


def _leave(plan: Plan, report: bool) -> None:
    from nstlab.sweeps.report import write_contact_sheets, write_report  # which imports matplotlib

    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    outcome = load(plan.folder)
    try:
        with doing("drawing   the contact sheet"):
            sheets = write_contact_sheets(outcome)
        for path in sheets:
            say(f"pictures  {path}")
    except Exception as error:  # the points are computed: failing to draw a sheet must not fail the sweep
        reason = " ".join((str(error) or type(error).__name__).split())
        say(f"nstlab: the contact sheet could not be made: {reason}", err=True)
    if report:
        with doing("writing   the report: notebook 10 is run on this sweep"):
            page = write_report(outcome)
        say(f"report    {page}")


@contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """One command at a time on one sweep; two would overwrite each other's table."""
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(plan.folder / "lock", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise RequestError(f"{plan.folder} is being computed by another `nstlab sweep`") from None
    except OSError as error:
        raise RequestError(
            f"{plan.folder} cannot be written ({error.strerror or error}): choose another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _written(plan: Plan) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{error.filename or plan.folder} could not be written: {error.strerror or error}; what the points have "
            "computed is stored, and the same command resumes from there"
        ) from None
