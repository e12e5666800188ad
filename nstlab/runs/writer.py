"""Writing a run's folder during the run, so that a kill at any moment costs nothing."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nstlab.errors import RunError
from nstlab.images import iteration_inside, save_image
from nstlab.optimise import TERMS, Objective, Optimizer, Step, check_state, make_optimizer, weighted_sum
from nstlab.runs.checkpoints import NEW, Snapshot, read_checkpoint, write_checkpoint
from nstlab.runs.folder import RunFolder
from nstlab.runs.history import FIRST_COLUMNS, History
from nstlab.runs.manifest import describe_network, differences
from nstlab.storage import Damaged, parts, read_regular, set_aside, write_whole

LARGE = 4_000_000  # pixels; of larger pictures fewer frames are kept
CHECKPOINT_SECONDS = 5.0  # at least this long between two checkpoints,
CHECKPOINT_FRACTION = 0.05  # and long enough that writing them takes no more than this fraction of the time
OWN_FILES = (NEW, "result.png", "run.json", "history.csv")


class Writer:
    """The only writer of a run's folder during the run.

    batch: how many runs are computed together; of their time each has its share.
    """

    def __init__(
        self, run: RunFolder, objective: Objective, x: torch.Tensor, optimizer: Optimizer, batch: int = 1
    ) -> None:
        self.run, self.x, self.optimizer, self.batch = run, x, optimizer, batch
        self.objective = objective
        self.network = describe_network(objective.net, run.settings, *x.shape[2:])
        self.history = History(run.folder / "history.csv", objective.columns)
        self.step: Step | None = None
        self.stored: int | None = None  # the iteration of the newest checkpoint
        self.seconds = 0.0
        self.cost = 0.0  # seconds that the last checkpoint took
        self.stored_at = self.tick = time.perf_counter()

    def resume(self) -> int:
        """Set x, the optimiser and the folder to the newest checkpoint; returns its iteration, or 0.

        Everything is read before anything is changed, so an unreadable file stops the run without loss.
        """
        folder = self.run.folder
        manifest = self.run.manifest
        for name in ("run.json", "history.csv"):
            if (folder / name).is_file():
                read_regular(folder / name)
        snapshot = read_checkpoint(folder, self.run.id, self._check)
        self._name_differences(manifest)
        if snapshot is not None:
            self.x.data = snapshot.image.to(self.x.device)  # with `scales`, not always of x's first size
            self.optimizer.load_state_dict(snapshot.optimizer)
            self.stored = snapshot.iteration
        self.history.resume(snapshot.history.tolist() if snapshot else [])
        if self.history.rows:
            self.seconds = self.history.rows[-1][1]
        self.first = 0 if self.stored is None else self.stored + 1  # the first iteration to record
        self._tidy()
        if self.stored is not None:
            self._keep_picture(manifest)
        self.describe("running")
        self.tick = self.stored_at = time.perf_counter()
        return self.stored or 0

    def _check(self, snapshot: Snapshot) -> None:
        """Raises ValueError for a snapshot that this run cannot have stored."""
        shape = tuple(snapshot.image.shape[2:])
        if shape != self.objective.shape_at(snapshot.iteration):
            raise Damaged(f"its picture has {shape[1]} x {shape[0]} pixels")
        if snapshot.history.shape[1] != len(self.history.columns):
            raise Damaged("its history has other columns")
        check_state(snapshot.optimizer, self.optimizer, snapshot.image)

    def _tidy(self) -> None:
        """Remove frames after the checkpoint, which will be computed again, and temporary files left by a kill."""
        folder = self.run.folder
        for iteration in self.run.stored_frames():
            if iteration >= self.first:
                self.run.frame_path(iteration).unlink()
        left = [path for path in parts(folder) if path.name.startswith(tuple(f".{name}." for name in OWN_FILES))]
        for path in (*left, *parts(folder / "frames"), folder / NEW):
            path.unlink(missing_ok=True)

    def _keep_picture(self, manifest: dict[str, Any]) -> None:
        """Bring result.png to the checkpoint; if the run was complete there, keep its picture among the frames."""
        result, frame = self.run.folder / "result.png", self.run.frame_path(self.stored)
        if iteration_inside(result, whole=True) != self.stored:  # killed before it was written
            self._save(self.objective.shown(self.x), result, self.stored)
        if manifest.get("status") == "complete" and self.run.settings.iterations > self.stored and not frame.is_file():
            write_whole(frame, read_regular(result))

    def _save(self, image: torch.Tensor, path: Path, iteration: int) -> None:
        save_image(image, path, self.run.settings.of_picture(iteration), self.run.code)

    def record(self, step: Step) -> bool:
        """Append the step's row and store its frame; returns False for a step that is stored already."""
        now = time.perf_counter()
        self.seconds += (now - self.tick) / self.batch
        self.step = step
        if step.iteration >= self.first:
            self.history.append((step.iteration, round(self.seconds, 3), *step.losses.values()))
            large = step.image[0, 0].numel() > LARGE
            if is_frame(step.iteration, self.run.settings.frame_every, large):
                self._save(step.image, self.run.frame_path(step.iteration), step.iteration)
        self.tick = time.perf_counter()
        return step.iteration >= self.first

    def store_if_due(self) -> None:
        self.tick = now = time.perf_counter()  # the time that the caller spent on the step does not count
        if now - self.stored_at >= max(CHECKPOINT_SECONDS, self.cost / CHECKPOINT_FRACTION):
            self.store("running")

    def store(self, status: str) -> None:
        """Store a checkpoint of the current step, its picture as result.png, and the status."""
        began = time.perf_counter()
        self.history.sync()
        iteration = self.step.iteration
        rows = torch.tensor(self.history.rows, dtype=torch.float64)
        snapshot = Snapshot(iteration, self.x.detach().cpu(), self.optimizer.state_dict(), rows, self.history.columns)
        write_checkpoint(self.run.folder, self.run.id, snapshot)
        self._save(self.step.image, self.run.folder / "result.png", iteration)
        self.stored = iteration
        self.describe(status)
        self.stored_at = self.tick = time.perf_counter()
        self.cost = self.stored_at - began

    def describe(self, status: str) -> None:
        """Write run.json."""
        self.run.describe(status, self.stored, self.network, self.batch)

    def close(self) -> None:
        self.history.close()

    def _name_differences(self, manifest: dict[str, Any]) -> None:
        """Report what differs from the machine that started the run; set a damaged run.json aside."""
        log = logging.getLogger(__name__)
        path = self.run.folder / "run.json"
        if not path.exists():
            return
        if manifest.get("id") != self.run.id:
            log.warning("%s cannot be used and is set aside as %s", path, set_aside(path).name)
            return
        for difference in differences(manifest, self.run.settings, self.batch):
            log.warning("%s: %s; the last bits of the result may differ", self.run.folder.name, difference)


def begin_branch(run: RunFolder, other: RunFolder, snapshot: Snapshot) -> None:
    """Start a run's folder as a copy of another's up to the snapshot, where k_S changes."""
    rows = snapshot.history.clone()
    columns = [*snapshot.columns, *run.settings.style_layers][: rows.shape[1]]  # old checkpoints lack the layers' names
    weights = run.settings.term_weights(snapshot.iteration)
    terms = {name: rows[-1, columns.index(name)].float() for name in columns if name in TERMS}
    rows[-1, columns.index("total")] = weighted_sum(terms, weights)  # with the new k_S, as in Objective
    optimizer = make_optimizer(snapshot.image.clone().requires_grad_(), run.settings)
    for iteration in other.stored_frames():
        if iteration <= snapshot.iteration:
            write_whole(run.frame_path(iteration), read_regular(other.frame_path(iteration)))
    write_whole(run.folder / "result.png", read_regular(other.folder / "result.png"))
    history = History(run.folder / "history.csv", columns[len(FIRST_COLUMNS) :])
    history.resume(rows.tolist())
    history.close()
    begun = Snapshot(snapshot.iteration, snapshot.image, optimizer.state_dict(), rows, history.columns)
    write_checkpoint(run.folder, run.id, begun)
    run.describe("stopped", snapshot.iteration)


def is_frame(iteration: int, every: int | None = None, large: bool = False) -> bool:
    """Whether a frame is stored at this iteration: 0, 1, 2, 5, 10, 20, 50, ... and every `every`.

    Of a large picture, whose frame takes ten megabytes and more, 0, 10, 100, ... and every `every`.
    """
    if iteration == 0 or (every and iteration % every == 0):
        return True
    return str(iteration).rstrip("0") in (("1",) if large else ("1", "2", "5")) and not (large and iteration == 1)


@contextmanager
def one_line_errors(folder: Path) -> Iterator[None]:
    """Turns any disk error into a RunError that says what is kept."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or error
        raise RunError(
            f"{error.filename or folder}: {reason}; what was stored before stays, and the run resumes from it"
        ) from None
