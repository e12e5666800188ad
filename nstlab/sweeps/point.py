"""One point of a sweep, as a Dask worker computes it: what is stored stays, what is missing is computed."""

from __future__ import annotations

import itertools
import os
import threading
import time
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

PATIENCE = 30.0  # seconds that a run may be locked by somebody who computes nothing,
FIRST_PATIENCE = 600.0  # seconds, before its first iterations say how long one takes,
PACES = 5.0  # or as many times as long as the slowest of its last iterations
TURNS = 20  # how often somebody else may take up a point's run between its turn and its kernel's
KERNEL_LIVES = 3  # how often a kernel may die under one point
LONGEST_SOCKET_FOLDER = 60  # characters; a socket's whole path has room for 107 on Linux


@dataclass(frozen=True)
class Task:
    """What a worker needs to compute a point; plain values, so that it travels to any worker.

    sweep: one command's token, to stop its points and no others; version: nstlab's where it was begun; given: what
    papermill writes into the notebook; others: those of them that are no settings; gpus: what CUDA_VISIBLE_DEVICES
    may name (empty: it stays as the worker has it).
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


_running: dict[int, tuple[str, Kernel]] = {}  # the kernels that this worker's process has, by thread
_stopped: set[str] = set()  # the sweeps that this worker has been told to stop


def compute_point(task: Task) -> dict[str, Any]:
    """Bring a point to its end. Returns {"state": "done" | "stopped" | "failed", "error": one line, ...}.

    Done twice, it does nothing the second time. What a notebook raises comes back as an error; an exception
    is something that is wrong with the worker.
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
            except Occupied:  # taken up by another sweep since
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
    """On a worker: begin no point of a sweep any more, and stop those that run. Returns how many run."""
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


def _wait_for_its_turn(run: Run, kernel: Kernel) -> None:
    """Wait while somebody else computes this very run: a kernel that is dying, or one of another sweep."""
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
            if len(seconds) != rows:  # as long as its history grows, it is worth waiting for
                grown, rows = time.monotonic(), len(seconds)
            if time.monotonic() - grown > patience(seconds):
                raise RunError(f"{run.folder} is held by another process, which computes nothing") from None
        except OSError:
            return  # a folder that cannot be written: the run says so better


def _seconds_of_rows(run: Run) -> list[float]:
    try:
        return run.history["seconds"].tolist()
    except (RequestError, OSError):
        return []


def patience(seconds: list[float]) -> float:
    """How many seconds a locked run may take for its next iteration; seconds: of computing, at each of its rows.

    >>> patience([0.0, 1.0, 2.5]), patience([0.0, 40.0, 80.0]), patience([0.0])
    (30.0, 200.0, 600.0)
    """
    last = [later - earlier for earlier, later in itertools.pairwise(seconds[-6:])]
    return max(PATIENCE, PACES * max(last)) if last else FIRST_PATIENCE


def environment(threads: int, gpus: tuple[str, ...], worker: str) -> dict[str, str]:
    """What a kernel's environment must have: its number of threads, and one GPU of several.

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
    """The worker's own folder, which goes when it goes, if its path leaves room for a socket's name."""
    from distributed import get_worker

    folder = get_worker().local_directory
    return Path(folder) if len(folder) <= LONGEST_SOCKET_FOLDER else None


def _tell(event: dict[str, Any]) -> None:
    """Say to whoever follows the sweep that a point begins here."""
    from distributed import get_worker

    get_worker().log_event("nstlab", event)
