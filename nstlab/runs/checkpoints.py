"""checkpoint.pt and the one before it: everything that a run needs to resume as if nothing had happened."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from nstlab.errors import RunError
from nstlab.interrupts import uninterrupted
from nstlab.network import check_torch_file
from nstlab.optimise import is_out_of_memory
from nstlab.storage import Damaged, Newer, is_regular, open_regular, set_aside, sync_folder, whole_file

FORMAT = 1
DIGEST = hashlib.sha256().digest_size  # bytes at the end of the file
OLD_COLUMNS = ("iteration", "seconds", "total", "content", "style")
NEW, LATEST, PREVIOUS = "checkpoint.new.pt", "checkpoint.pt", "checkpoint.previous.pt"


@dataclass(frozen=True)
class Snapshot:
    """The state at one iteration. Nothing random happens after iteration 0, so it holds no random state.

    image: (1, 3, H, W) in grey levels, as optimised; optimizer: its state_dict; history: the rows of history.csv so
    far, float64 (iteration + 1, columns), to restore a damaged history; columns: their names (checkpoints from before
    2026-12 lack them and have those of a plain transfer).
    """

    iteration: int
    image: torch.Tensor
    optimizer: dict[str, Any]
    history: torch.Tensor
    columns: tuple[str, ...]


def write_checkpoint(folder: Path, run_id: str, snapshot: Snapshot) -> None:
    """Store the snapshot and keep the last one as the previous one; a kill at any moment leaves one of them whole.

    Ctrl-C waits until it is written: torch would report it as an error of its own.
    """
    fields = {field: getattr(snapshot, field) for field in Snapshot.__dataclass_fields__}
    with uninterrupted():
        with whole_file(folder / NEW) as file:
            hashing = _Hashing(file)
            try:
                torch.save({"format": FORMAT, "id": run_id, **fields}, hashing)
            except RuntimeError:  # torch turns any write error into this
                if hashing.error:
                    raise hashing.error from None
                raise
            file.write(hashing.sha256.digest())
        if (folder / LATEST).exists():
            os.replace(folder / LATEST, folder / PREVIOUS)
        os.replace(folder / NEW, folder / LATEST)
        sync_folder(folder)


def read_checkpoint(
    folder: Path, run_id: str, check: Callable[[Snapshot], None] = lambda snapshot: None
) -> Snapshot | None:
    """The newest intact snapshot, or None. A damaged one is reported and set aside.

    check: raises ValueError for a snapshot that this run cannot have stored. Raises OSError for a file that cannot be
    read, and RunError for one from a newer nstlab or too large for memory; these count as no damage and stay.
    """
    damaged: list[tuple[Path, str]] = []
    snapshot = None
    for path in (folder / LATEST, folder / PREVIOUS):
        try:
            snapshot = _read(path, run_id)
            check(snapshot)
            break
        except FileNotFoundError:
            continue
        except Newer as error:
            raise RunError(f"{path} was written by a newer nstlab ({error}): update this one") from None
        except ValueError as error:
            snapshot = None
            damaged.append((path, str(error)))
    then = f"using the one before it (iteration {snapshot.iteration})" if snapshot else "the run starts over"
    for path, reason in damaged:
        aside = set_aside(path)
        logging.getLogger(__name__).warning(
            "%s cannot be used (%s) and is set aside as %s; %s", path, reason[:160], aside.name, then
        )
    return snapshot


def checkpoint_iteration(folder: Path) -> int | None:
    """The iteration of the latest checkpoint, without reading its pictures; None if there is none or it is damaged.

    Raises OSError for one that cannot be read.
    """
    if not is_regular(folder / LATEST):
        return None
    try:
        with open_regular(folder / LATEST) as file:
            stored = check_torch_file(file)
    except Damaged:  # it is repaired when the run resumes
        return None
    iteration = stored.get("iteration") if isinstance(stored, dict) else None
    return iteration if type(iteration) is int else None


def drop_previous(folder: Path) -> None:
    """Remove the checkpoint before the latest: a complete run needs only the latest."""
    (folder / PREVIOUS).unlink(missing_ok=True)


def drop_all(folder: Path) -> None:
    """Remove the checkpoints of a complete run; more iterations then start over, and give the same bytes."""
    drop_previous(folder)
    (folder / LATEST).unlink(missing_ok=True)


class _Hashing:
    """A file that also computes the SHA-256 of what is written: torch.load does not notice a flipped bit."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _read(path: Path, run_id: str) -> Snapshot:
    with open_regular(path) as file:
        sha256, left = hashlib.sha256(), os.fstat(file.fileno()).st_size - DIGEST
        while left > 0 and (part := file.read(min(left, 1 << 24))):
            sha256.update(part)
            left -= len(part)
        if left or file.read() != sha256.digest():
            raise Damaged("it is not whole")
        check_torch_file(file)
        file.seek(0)
        try:
            stored = torch.load(file, map_location="cpu", weights_only=True)  # data only: none of it is executed
        except OSError:
            raise
        except Exception as error:  # torch, zipfile and pickle have different errors for a bad file
            if is_out_of_memory(error):
                raise RunError(f"there is not enough memory to read {path}") from None
            raise Damaged((str(error).strip() or type(error).__name__).splitlines()[0]) from None
    number = stored.get("format") if isinstance(stored, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise Newer(f"format {number}")
    if number != FORMAT:
        raise Damaged("it is not a checkpoint")
    if stored.get("id") != run_id:
        raise Damaged(f"it belongs to run {stored.get('id')}")
    return _checked(stored)


def _checked(stored: dict[str, Any]) -> Snapshot:
    """The snapshot in a file, if its parts agree. Raises Damaged otherwise."""
    iteration, image, history = (stored.get(name) for name in ("iteration", "image", "history"))
    columns = stored.get("columns", OLD_COLUMNS)
    optimizer = stored.get("optimizer")
    whole = (
        type(iteration) is int
        and iteration >= 0
        and _is_plain(image, torch.float32)
        and image.ndim == 4
        and image.shape[:2] == (1, 3)
        and _is_plain(history, torch.float64)
        and history.ndim == 2
        and history.shape[1] > 1
        and isinstance(columns, (tuple, list))
        and all(isinstance(name, str) for name in columns)
        and isinstance(optimizer, dict)
        and {"state", "param_groups"} <= set(optimizer)
    )
    if not whole:
        raise Damaged("it lacks parts of a checkpoint")
    agree = (
        len(history) == iteration + 1
        and torch.equal(history[:, 0], torch.arange(iteration + 1, dtype=torch.float64))
        and image.isfinite().all()
        and history.isfinite().all()
    )
    if not agree:
        raise Damaged("it contradicts itself")
    return Snapshot(iteration, image, optimizer, history, tuple(columns))


def _is_plain(value: object, dtype: torch.dtype) -> bool:
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and value.dtype == dtype
