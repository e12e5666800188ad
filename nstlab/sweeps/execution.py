"""All points of a sweep on Dask: numbers of workers and threads, Ctrl-C, workers that die."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from nstlab.errors import RequestError, RunError
from nstlab.interrupts import noted_interrupts
from nstlab.network import choose_device
from nstlab.sweeps.plan import Plan, Point
from nstlab.sweeps.point import Task, compute_point, stop_points
from nstlab.sweeps.progress import Progress, doing

if TYPE_CHECKING:
    from distributed import Client

IGNORE_INTERRUPTS = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
if hasattr(signal, "pthread_sigmask"):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # for the kernels, which inherit it
"""
"""A terminal's Ctrl-C reaches all its processes; the sweep decides what it means for the workers."""
ASKING = 3.0  # seconds between two looks for workers while nothing runs
CLOSING = 30.0  # seconds that the cluster may take to close; what is left then dies with this process


@dataclass(frozen=True)
class Resources:
    """How a sweep uses a machine: the number of workers, and the threads (or one of the gpus) of each."""

    workers: int
    threads: int
    gpus: tuple[str, ...] = ()


def resources(plan: Plan, workers: int | None = None, threads: int | None = None) -> Resources:
    """Workers and threads, such that each core has exactly one thing to do.

    One thread per worker is fastest if there are enough points; with few points on many cores each gets several.
    GPUs get one worker each. The number of threads affects the last bits of a result, so it depends on the whole
    sweep, never on what is left of it.
    """
    kinds = {choose_device(device).type for device in {point.settings.device for point in plan.points}}
    if "cuda" in kinds:
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = tuple(named.split(",")) if named else tuple(map(str, range(torch.cuda.device_count())))
        return Resources(workers or len(gpus), threads or 1, gpus)
    if "mps" in kinds:
        return Resources(workers or 1, threads or 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads is None:
        threads = max(1, cores // (workers or min(cores, len(plan.points))))
    return Resources(workers or max(1, min(cores // threads, len(plan.points))), threads)


def run_points(
    plan: Plan, points: list[Point], resources: Resources, scheduler: str | None = None
) -> tuple[dict[str, str], bool]:
    """Compute the points, continuing past those that fail.

    scheduler: the address of a running one (None: a LocalCluster). Returns run id -> error of those that failed, and
    whether it was interrupted. Raises RequestError if the scheduler cannot be reached, RunError if it is lost later.
    """
    token = secrets.token_hex(4)
    failures: dict[str, str] = {}
    with (
        noted_interrupts(patience=2) as presses,
        _connected(resources, scheduler) as client,
        Progress(points) as progress,
    ):
        progress.line(_where(client, resources, scheduler))
        client.subscribe_topic("nstlab", lambda event: progress.began(event[1]) if _is(event, token) else None)
        futures: dict[Any, Point] = {}
        lives: dict[str, list[int]] = {point.run.id: [] for point in points}  # the iterations where its lives began

        def submit(number: int, point: Point) -> None:
            began = lives[point.run.id]
            began.append(_reached(point))
            task, key = _task(plan, point, token, resources), f"{point.run.id}-{token}-{len(began)}"
            futures[client.submit(compute_point, task, key=key, pure=False, priority=-number)] = point  # in order

        for number, point in enumerate(points):
            submit(number, point)
        told, workers = 0, _Waiting(client, progress)
        while futures:
            _check(client, scheduler)
            workers.look()
            for future in [future for future in futures if future.done()]:
                point = futures.pop(future)
                outcome = _outcome(future)
                _check(client, scheduler)  # a lost scheduler cancels every future
                if outcome["state"] == "died" and _reached(point) > lives[point.run.id][-1] and not presses:
                    progress.line(f"          its workers died: {point.label} resumes at iteration {_reached(point)}")
                    submit(points.index(point), point)
                    continue
                if outcome["state"] == "died":
                    outcome["state"] = "failed"
                progress.ended(point, outcome)
                if outcome["state"] == "failed":
                    failures[point.run.id] = outcome["error"]
            if len(presses) > told:
                told = len(presses)
                running = _stop(client, token, now=told > 1, progress=progress)
                if told > 1 or not running:
                    break
            progress.show()
            time.sleep(0.2)
    return failures, bool(presses)


class _Waiting:
    """Reports when the scheduler has no workers, and when some arrive."""

    def __init__(self, client: Client, progress: Progress) -> None:
        self.client, self.progress = client, progress
        self.waiting, self.asked = False, 0.0

    def look(self) -> None:
        if self.progress.running or time.monotonic() - self.asked < ASKING:
            return
        self.asked = time.monotonic()
        try:
            workers = len(self.client.nthreads())
        except (OSError, RuntimeError):  # the scheduler is lost: the sweep says so
            return
        if not workers and not self.waiting:
            self.progress.line("waiting   the scheduler has no workers: the points start as soon as one arrives")
        elif workers and self.waiting:
            self.progress.line(f"workers   {_count(workers, 'worker')} arrived")
        self.waiting = not workers


def _reached(point: Point) -> int:
    """The iteration from which a point can resume; -1 before the first checkpoint."""
    iteration = point.run.stored
    return -1 if iteration is None else iteration


def _task(plan: Plan, point: Point, token: str, resources: Resources) -> Task:
    return Task(
        sweep=token,
        version=version("nstlab"),
        label=point.label,
        notebook=str(plan.notebook),
        settings=point.settings.model_dump(mode="json"),
        given=plan.given(point),
        others=point.others,
        out=str(plan.out),
        threads=resources.threads,
        gpus=resources.gpus,
        checkpoints=plan.content.get("checkpoints", True),
    )


def _is(event: tuple[float, Any], token: str) -> bool:
    return isinstance(event[1], dict) and event[1].get("sweep") == token


def _outcome(future: Any) -> dict[str, Any]:
    """What compute_point returned, or else what Dask says about a worker."""
    import distributed

    if future.status == "finished":
        return future.result()
    error = future.exception() if future.status == "error" else None
    if isinstance(error, getattr(distributed, "KilledWorker", ())):
        # after several deaths in a row; see README for jobs with a time limit
        said = "its worker died again and again without a new iteration; the run is kept at its checkpoint"
        return {"state": "died", "error": said}
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == "nstlab":
        return {"state": "failed", "error": "a worker has no nstlab: start it in this environment (README, Sweeps)"}
    reason = (str(error) or type(error).__name__).splitlines()[0] if error else "cancelled"
    return {"state": "failed", "error": f"the worker could not compute it: {reason}"}


def _stop(client: Client, token: str, now: bool, progress: Progress) -> int:
    """Tell the workers to stop; returns how many points are running."""
    if now:
        progress.line("stopping now; the same command resumes from the checkpoints")
    else:
        progress.line("stopping: each running point stores its checkpoint (Ctrl-C again: stop now)")
    with suppress(OSError, TimeoutError, RuntimeError):  # a worker that is gone need not be told
        running = client.run(stop_points, token, now, wait=not now, on_error="ignore")
        if now:
            time.sleep(0.5)  # so that the message leaves before the connection closes
        return sum((running or {}).values())
    return len(progress.running)


def _check(client: Client, scheduler: str | None) -> None:
    if client.status != "running":
        raise RunError(
            f"the scheduler{f' at {scheduler}' if scheduler else ''} is lost; what is stored stays, and the same "
            "command resumes from there"
        )


@contextmanager
def _connected(resources: Resources, scheduler: str | None) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    for name in list(logging.root.manager.loggerDict):  # distributed.client and others have their own levels
        if name.partition(".")[0] in ("distributed", "asyncio", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # the sweep reports in its own words
    if scheduler:
        try:
            client = Client(scheduler, timeout=10, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise RequestError(f"no Dask scheduler answers at {scheduler}: {reason}") from None
        with client:
            yield client
        return
    with tempfile.TemporaryDirectory(prefix="nstlab-", ignore_cleanup_errors=True) as folder:
        try:
            with _deaf_children():
                cluster = LocalCluster(
                    n_workers=resources.workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",
                    memory_limit=0,  # the kernels use the memory, not the workers
                    local_directory=folder,
                    silence_logs=logging.CRITICAL,
                    preload=[IGNORE_INTERRUPTS],
                )
        except (RuntimeError, OSError) as error:
            raise RunError(f"Dask's workers could not be started on this machine: {error}") from None
        client = Client(cluster, set_as_default=False)
        try:
            yield client
        finally:  # all is computed or stopped by now: an error while closing is not the sweep's
            with doing("closing   the workers"):
                for ending in (client, cluster):
                    with suppress(OSError, RuntimeError):  # a TimeoutError is an OSError
                        ending.close(timeout=CLOSING)


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started inside the block ignore Ctrl-C; this one receives it after the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # starting it later would unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _where(client: Client, resources: Resources, scheduler: str | None) -> str:
    place = f"scheduler {scheduler}" if scheduler else f"{_count(resources.workers, 'worker')} on this machine"
    each = f"{_count(len(resources.gpus), 'GPU')}" if resources.gpus else f"{_count(resources.threads, 'thread')} each"
    link = _dashboard(client)
    return f"dask      {place}, {each}" + (f"; dashboard {link}" if link else "")


def _dashboard(client: Client) -> str | None:
    """The address of Dask's pages; None if it cannot be built: its template may name unset variables."""
    try:
        link = client.dashboard_link
    except Exception:  # no sweep stops for want of a link
        return None
    if link and importlib.util.find_spec("bokeh") is None:
        link = link.replace("/status", "/info/main/workers.html")  # the plain pages; the live ones need bokeh
    return link


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
