"""One point of a sweep, as a Dask worker computes it: only what is not stored yet."""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock

from nstlab.errors import RequestError, RunError
from nstlab.runs import Occupied, Run
from nstlab.settings import Settings
from nstlab.sweeps.notebook import Kernel, KernelDied, Stopped, execute, require_result, write_mark
from nstlab.sweeps.outcome import content_similarity
from nstlab.sweeps.plan import Point

PATIENCE = 30.0  # seconds that a run may be locked without progress,
FIRST_PATIENCE = 600.0  # or before its first iterations show how long one takes,
PACES = 5.0  # or this many times its slowest recent iteration, if that is longer
TURNS = 20  # how often another process may take a point's run between our turn and our kernel's start
KERNEL_LIVES = 3  # how many kernels one point may use up
LONGEST_SOCKET_FOLDER = 60  # characters; a socket's whole path may have 107 on Linux


@dataclass(frozen=True)
class Task:
    """What a worker needs to compute a point, as plain values that can travel to any worker.

    sweep: one command's token, to stop its points and no others; version: of the nstlab that started it; given: what
    papermill writes into the notebook; others: those of them that are not settings; gpus: the values for
    CUDA_VISIBLE_DEVICES (empty: the worker's own); checkpoints: whether a complete run keeps one.
    """

    sweep: str
    version: str
    label: str
    notebook: str
    settings: dict[str, Any]
    given: dict[str, Any]
    others: dict[str, Any]
    out: str
    threads: int
    gpus: tuple[str, ...] = ()
    checkpoints: bool = True


_running: dict[int, tuple[str, Kernel]] = {}  # this worker process's kernels, by thread
_stopped: set[str] = set()  # the sweeps that this worker has been told to stop


def compute_point(task: Task) -> dict[str, Any]:
    """Complete a point. Returns {"state": "done" | "stopped" | "failed", "error": one line}.

    A second call does nothing. A notebook's error is returned; an exception means that something is wrong with the
    worker.
    """
    if task.sweep in _stopped:
        return {"state": "stopped"}
    here = version("nstlab")
    if here != task.version:
        error = f"a worker has nstlab {here}, the sweep {task.version}: start it in this environment (README, Sweeps)"
        return {"state": "failed", "error": error}
    settings = Settings(**task.settings)
    run = Run(settings, task.out)
    point = Point({}, settings, task.others, run)
    kernel = Kernel()
    _running[threading.get_ident()] = (task.sweep, kernel)
    _tell({"sweep": task.sweep, "run": run.id, "label": task.label, "iteration": run.stored})
    try:
        for turn in range(TURNS):
            _wait_for_its_turn(run, kernel)
            if point.is_done(Path(task.notebook).name):
                break
            try:
                _execute(task, run, kernel)
                break
            except Occupied:  # another sweep has taken it since
                if turn == TURNS - 1:
                    raise
        return {"state": "done"}
    except Stopped:
        return {"state": "stopped"}
    except (RunError, RequestError) as error:
        return {"state": "failed", "error": " ".join(str(error).split())}
    finally:
        del _running[threading.get_ident()]


def stop_points(sweep: str, now: bool = False) -> int:
    """On a worker: start no more points of a sweep, and stop those that are running. Returns their number."""
    _stopped.add(sweep)
    kernels = [kernel for owner, kernel in list(_running.values()) if owner == sweep]
    for kernel in kernels:
        kernel.stop(now)
    return len(kernels)


def _execute(task: Task, run: Run, kernel: Kernel) -> None:
    os.environ.update(environment(task.threads, task.gpus, _worker_name()))  # kernels inherit it
    notebook = Path(task.notebook)
    began = time.perf_counter()
    for life in range(1, KERNEL_LIVES + 1):
        try:
            execute(notebook, run.folder, task.given, kernel, _socket_folder())
            break
        except KernelDied:
            if life == KERNEL_LIVES:
                raise
    require_result(run, notebook)
    seconds = round(time.perf_counter() - began, 3)
    alike = content_similarity(run)
    write_mark(run.folder, notebook.name, task.others, run.settings.iterations, seconds=seconds, ssim_content=alike)
    if not task.checkpoints:
        with suppress(Occupied):  # another sweep goes on from it
            run.drop_checkpoint()


def _wait_for_its_turn(run: Run, kernel: Kernel) -> None:
    """Wait while another kernel computes this run: one that is dying, or another sweep's."""
    if not run.folder.is_dir():
        return
    grown, rows = time.monotonic(), None
    while True:
        try:
            with filelock.FileLock(run.folder / "lock", timeout=1):
                return
        except filelock.Timeout:
            if kernel.stopped:
                raise Stopped from None
            seconds = _seconds_of_rows(run)
            if len(seconds) != rows:  # worth waiting as long as its history grows
                grown, rows = time.monotonic(), len(seconds)
            if time.monotonic() - grown > patience(seconds):
                raise RunError(f"{run.folder} is held by another process, which makes no progress") from None
        except OSError:
            return  # the folder cannot be written: the run reports this better


def _seconds_of_rows(run: Run) -> list[float]:
    try:
        return run.history["seconds"].tolist()
    except (RequestError, OSError):
        return []


def patience(seconds: list[float]) -> float:
    """How many seconds a locked run may take for its next iteration; seconds: computing time at each of its rows.

    >>> patience([0.0, 1.0, 2.5]), patience([0.0, 40.0, 80.0]), patience([0.0])
    (30.0, 200.0, 600.0)
    """
    last = [later - earlier for earlier, later in itertools.pairwise(seconds[-6:])]
    return max(PATIENCE, PACES * max(last)) if last else FIRST_PATIENCE


def environment(threads: int, gpus: tuple[str, ...], worker: str) -> dict[str, str]:
    """Variables for a kernel's environment: its number of threads, and its GPU.

    >>> environment(1, ("0", "1"), "3")["CUDA_VISIBLE_DEVICES"]
    '1'
    """
    count = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    chosen = dict.fromkeys(count, str(threads))
    if gpus:
        chosen["CUDA_VISIBLE_DEVICES"] = gpus[int(worker) % len(gpus)] if worker.isdigit() else gpus[0]
    return chosen


def _worker_name() -> str:
    from distributed import get_worker

    return str(get_worker().name)


def _socket_folder() -> Path | None:
    """The worker's own folder, removed with the worker, if its path leaves room for a socket's name."""
    from distributed import get_worker

    folder = get_worker().local_directory
    return Path(folder) if len(folder) <= LONGEST_SOCKET_FOLDER else None


def _tell(event: dict[str, Any]) -> None:
    """Tell the sweep that a point starts here."""
    from distributed import get_worker

    get_worker().log_event("nstlab", event)
