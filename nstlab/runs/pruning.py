"""Freeing disk space: the files in runs' folders that no run needs any more."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

import filelock

from nstlab.errors import RequestError, RunError
from nstlab.runs.checkpoints import LATEST, NEW, PREVIOUS
from nstlab.runs.folder import stored_runs
from nstlab.runs.run import Run
from nstlab.storage import is_regular, parts

OLD_PART = 3600.0  # seconds after which nobody is writing a part any more


@dataclass(frozen=True)
class Prunable:
    """A file that can be removed: where it is, what it is, its size in bytes, and the folder of its run."""

    path: Path
    what: str
    size: int
    folder: Path


def prunable(out: str | Path | None = None, checkpoints: bool = False, frames: bool = False) -> list[Prunable]:
    """What can be removed from the runs in `out` (None: the project's out/) without losing a result.

    These are earlier checkpoints of complete runs, files set aside as damaged, and temporary files that a killed
    process left at least an hour ago. checkpoints: also the last checkpoints of complete runs, needed only for more
    iterations. frames: also the pictures of complete runs on the way, which only painting them again brings back. A run
    in progress is left alone.
    """
    found: list[Prunable] = []
    for folder in stored_runs(out):
        if folder.is_symlink() or is_held(folder):
            continue
        try:
            run = Run.open(folder)
            complete = run.complete
        except (RequestError, RunError, OSError):
            complete = False
        spare = {"earlier checkpoint": [folder / PREVIOUS]} if complete else {}
        if complete and checkpoints:
            spare["last checkpoint"] = [folder / LATEST]
        if complete and frames:
            spare["frame on the way"] = [run.frame_path(k) for k in run.stored_frames() if k != run.iteration]
        left = [path for path in (*parts(folder), *parts(folder / "frames"), folder / NEW) if _is_old(path)]
        spare["part left by a kill"] = left
        aside = [path for path in folder.iterdir() if re.search(r"\.damaged-\d+$", path.name)]
        spare["damaged file set aside"] = aside
        for what, paths in spare.items():
            found += [Prunable(path, what, path.stat().st_size, folder) for path in sorted(paths) if is_regular(path)]
    return found


def remove(found: list[Prunable]) -> int:
    """Remove these files; returns the bytes freed. Raises OSError if one cannot be removed."""
    freed = 0
    for item in found:
        if not is_held(item.folder):
            item.path.unlink(missing_ok=True)
            freed += item.size
    return freed


def is_held(folder: Path) -> bool:
    """Whether a process is computing the run in this folder."""
    if not is_regular(folder / "lock"):
        return False
    try:
        with filelock.FileLock(folder / "lock", timeout=0):
            return False
    except (filelock.Timeout, OSError):
        return True


def _is_old(path: Path) -> bool:
    return is_regular(path) and time.time() - path.stat().st_mtime > OLD_PART
