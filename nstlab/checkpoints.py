"""checkpoint.pt and the one before it: everything that a run needs to go on as if nothing had happened."""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from nstlab.storage import set_aside, sync_folder, whole_file

FORMAT = 1
DIGEST = hashlib.sha256().digest_size  # bytes at the end of the file
LATEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


@dataclass(frozen=True)
class Snapshot:
    """The state at one iteration.

    image: (1, 3, H, W) in grey levels, as it is optimised; optimizer: its state_dict; history: the rows of
    history.csv so far, float64 (iteration + 1, columns), so that a damaged history can be written again.
    Nothing random happens after iteration 0, so no random state belongs to it.
    """

    iteration: int
    image: torch.Tensor
    optimizer: dict[str, Any]
    history: torch.Tensor


def write_checkpoint(folder: Path, run_id: str, snapshot: Snapshot) -> None:
    """Store the snapshot; the last one stays as the previous one. A kill at any moment leaves one whole."""
    new = folder / "checkpoint.new.pt"
    fields = {field: getattr(snapshot, field) for field in Snapshot.__dataclass_fields__}
    with whole_file(new) as file:
        hashing = _Hashing(file)
        try:
            torch.save({"format": FORMAT, "id": run_id, **fields}, hashing)
        except RuntimeError:  # what torch makes of any error in writing
            if hashing.error:
                raise hashing.error from None
            raise
        file.write(hashing.sha256.digest())
    if (folder / LATEST).exists():
        os.replace(folder / LATEST, folder / PREVIOUS)
    os.replace(new, folder / LATEST)
    sync_folder(folder)


def read_checkpoint(folder: Path, run_id: str) -> Snapshot | None:
    """The newest snapshot that is whole, or None. A damaged one is named and set aside."""
    damaged = []
    snapshot = None
    for path in (folder / LATEST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            snapshot = _read(path, run_id)
            break
        except Exception as error:  # torch, zipfile and pickle each have their own for a damaged file
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            damaged.append((path, reason))
    then = f"the one before it serves (iteration {snapshot.iteration})" if snapshot else "the run starts again"
    for path, reason in damaged:
        aside = set_aside(path)
        logging.getLogger(__name__).warning(
            "%s cannot be used (%s) and is set aside as %s; %s", path, reason[:160], aside.name, then
        )
    return snapshot


class _Hashing:
    """A file that also takes the SHA-256 of what is written: torch.load does not notice a flipped bit."""

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
    with path.open("rb") as file:
        sha256, left = hashlib.sha256(), path.stat().st_size - DIGEST
        while left > 0:
            part = file.read(min(left, 1 << 24))
            sha256.update(part)
            left -= len(part)
        if left < 0 or file.read() != sha256.digest():
            raise ValueError("it is not whole")
    stored = torch.load(path, map_location="cpu", weights_only=True)  # data only: nothing in it is run
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise ValueError("of another format than this version of nstlab writes")
    if stored["id"] != run_id:
        raise ValueError(f"it belongs to run {stored['id']}")
    snapshot = Snapshot(**{field: stored[field] for field in Snapshot.__dataclass_fields__})
    if len(snapshot.history) != snapshot.iteration + 1 or not snapshot.image.isfinite().all():
        raise ValueError("it contradicts itself")
    return snapshot
