"""A run on disk: its identity, frames and history, and how it continues.

    out/<content>-<style>-<id>/
      run.json               settings, hashes, versions, machine, status
      history.csv            one row per iteration
      frames/000000.png ...  at 0, 1, 2, 5, 10, 20, 50, ..., every frame_every, and where the run was once complete
      checkpoint.pt          and, during the run, checkpoint.previous.pt, the one before it
      result.png             the picture at the last checkpoint, with its settings inside

The id identifies what shapes the picture, so a run stays the same run however far it has come.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import filelock
import pandas as pd
import torch
from tqdm import tqdm

from nstlab import own
from nstlab.errors import RequestError, RunError
from nstlab.images import iteration_inside, load_image, read_settings, save_image
from nstlab.interrupts import noted_interrupts
from nstlab.network import Network
from nstlab.optimise import Descent, Objective, Optimizer, Step, TiledObjective, make_optimizer, set_up, steps
from nstlab.runs.checkpoints import checkpoint_iteration, drop_all, drop_previous, read_checkpoint
from nstlab.runs.folder import RunFolder
from nstlab.runs.history import last_row, read_history
from nstlab.runs.writer import Writer, begin_branch, one_line_errors
from nstlab.settings import Settings
from nstlab.terminal import number, progress_stream

OnTile = Callable[[int, int], None]
PATIENCE = 10  # seconds: Ctrl-C does not wait for the end of an iteration in tiles that goes on for longer
SETTLED = ("complete", "stopped")
"""The states in which a finished process leaves a run; any other is repaired when the run resumes."""


def progress_bar(what: str, reached: int, iterations: int, shown: bool) -> tqdm:
    """The bar of a transfer, or of several."""
    shape = {"unit": "it", "desc": what, "file": progress_stream()}
    return tqdm(initial=reached, total=iterations, disable=not shown, **shape)


class Occupied(RequestError):
    """Another process, or another generator in this one, is computing this run."""


class Run(RunFolder):
    """One transfer and its folder. Creating a Run reads the pictures' bytes and writes nothing.

    It answers for its settings: `result`, `history` and `frames` cover the iterations 0 ... settings.iterations, even
    if more are stored; `stored` says how far they go.

    settings: as given, with the layers of a network of the user's own named; out: the folder of runs (None: the
    project's out/). `id` and `folder` follow from what shapes the picture: the settings except iterations, frame_every
    and device; the bytes of both pictures and of the weights; and `read_as`, the colour profile from which a picture is
    converted to sRGB, and the format of a weights file if its names suggest another. Raises RequestError for a picture
    or weights that cannot be found.

    >>> run = Run(Settings(size=48, iterations=3), out=tmp).advance(progress=False)
    >>> run.frames, len(run.history)
    ([0, 1, 2, 3], 4)
    """

    on_tile: OnTile | None = None
    """Gets how many tiles of an iteration are done, and how many there are."""

    def __init__(self, settings: Settings, out: str | Path | None = None) -> None:
        super().__init__(settings, out)
        self.resumed_from: int | None = None  # of the last advance(): the iteration stored before it

    @classmethod
    def open(cls, folder: str | Path, iterations: int | None = None) -> Run:
        """The run in a folder, for reading, even if its pictures are gone. Raises RequestError if it is damaged.

        iterations: those that it answers for (None: as many as were asked for last).
        """
        run = cls.__new__(cls)
        run.folder = Path(folder).absolute()
        run.settings = read_settings(run.folder)
        if iterations is not None:
            run.settings = run.settings.with_(iterations=iterations)
        manifest = run.manifest
        if not manifest:
            raise RequestError(f"{run.folder / 'run.json'} is damaged")
        run.id, run.sha256, run.read_as = manifest["id"], manifest["sha256"], manifest.get("read_as", {})
        run.resumed_from = None
        return run

    def __repr__(self) -> str:
        return f"Run({self.folder.name}, iteration {self.iteration} of {self.settings.iterations})"

    @property
    def iteration(self) -> int | None:
        """The iteration of `result`: settings.iterations, or as far as the run has come; None if not started."""
        stored = self.stored
        return None if stored is None else min(stored, self.settings.iterations)

    @property
    def history(self) -> pd.DataFrame:
        """One row per iteration: iteration, seconds, total, the terms, and the parts of the style term, by name.

        Readable during the run. Raises RequestError if nothing is stored or the file is damaged.
        """
        path = self.folder / "history.csv"
        if not path.is_file():
            raise RequestError(f"{self.folder.name} has no history yet: advance() computes it")
        return read_history(path).iloc[: self.settings.iterations + 1]

    @property
    def frames(self) -> list[int]:
        """The iterations whose pictures are stored."""
        kept = {iteration for iteration in self.stored_frames() if iteration <= self.settings.iterations}
        reached = self.iteration
        return sorted(kept | ({reached} if self.picture is not None else set()))

    @property
    def picture(self) -> Path | None:
        """The file of `result`; None if it is not stored."""
        reached = self.iteration
        candidates = [] if reached is None else [self.folder / "result.png", self.frame_path(reached)]
        return next((path for path in candidates if iteration_inside(path) == reached), None)

    def frame(self, iteration: int) -> torch.Tensor:
        """The stored picture at an iteration, (1, 3, H, W) in [0, 1].

        Raises RequestError, naming the nearest stored ones, if it is not stored.
        """
        if iteration == self.iteration:
            return self.result
        if iteration in self.frames:
            return load_image(self.frame_path(iteration), size=None)
        near = sorted(sorted(self.frames, key=lambda k: abs(k - iteration))[:2])
        raise RequestError(f"no frame at iteration {iteration}: nearest are {', '.join(map(str, near)) or 'none'}")

    @property
    def result(self) -> torch.Tensor:
        """The picture at `iteration`, (1, 3, H, W) in [0, 1]. Raises RequestError if there is none yet."""
        path = self.picture
        if path is None:
            raise RequestError(f"{self.folder.name} has no result yet: advance() computes it")
        return load_image(path, size=None)

    @property
    def complete(self) -> bool:
        """Whether settings.iterations are stored intact, including the picture of that iteration."""
        reached = self._whole_until()
        return reached is not None and reached >= self.settings.iterations and self.picture is not None

    def _whole_until(self) -> int | None:
        """The iteration on which manifest, picture, history and checkpoint agree; None if they disagree."""
        manifest = self.manifest
        stored = manifest.get("iteration")
        if stored is None or manifest["status"] not in SETTLED:
            return None
        agree = last_row(self.folder / "history.csv").get("iteration") == stored
        agree = agree and iteration_inside(self.folder / "result.png", whole=True) == stored
        return stored if agree and checkpoint_iteration(self.folder) in (stored, None) else None

    def advance(self, progress: bool = True) -> Run:
        """Continue from what is stored to settings.iterations; returns at once if that much is stored.

        If more is stored but not the picture of this iteration, the picture is computed again.
        Ctrl-C (or a kernel's interrupt) waits for the end of the iteration and stores it, then raises
        KeyboardInterrupt; a second one does not wait. Raises RequestError or RunError like `steps`.
        """
        bar, began = None, time.monotonic()
        with noted_interrupts() as presses, closing(self.steps()) as computed, ExitStack() as shown:

            def show(iteration: int) -> None:  # not before there is something: a refused run shows no bar
                nonlocal bar
                if bar is None:
                    bar = shown.enter_context(progress_bar("transfer", iteration, self.settings.iterations, progress))

            def on_tile(done: int, of: int) -> None:
                nonlocal began
                began = time.monotonic() if done == 1 else began
                show(self.stored or 0)
                bar.set_postfix_str(f"tile {done} of {of}")
                if presses and (time.monotonic() - began) / done * (of - done) > PATIENCE:
                    raise KeyboardInterrupt

            self.on_tile = on_tile
            for step in computed:
                show(step.iteration)
                bar.set_postfix_str(f"loss {number(step.losses['total'], 4)}", refresh=False)
                bar.update(step.iteration - bar.n)
                if presses:
                    break
        if presses:
            raise KeyboardInterrupt
        return self

    def change_k_S(self, k_S: float) -> Run:
        """The run that continues with another k_S from the iteration stored here; this run is unchanged.

        Up to there, its frames, history and checkpoint have the bytes that it would compute from the start.
        Raises RequestError and RunError like `steps`.
        """
        run = Run(self.settings.with_k_S_from(self.stored or 0, k_S), self.folder.parent)
        run._begin_where_it_branches()
        return run

    def _begin_where_it_branches(self) -> None:
        """If the run without the last change of k_S is stored as far as that change, go on from it."""
        if not self.settings.k_S_changes or self.stored is not None:
            return
        *earlier, (iteration, _) = self.settings.k_S_changes
        before = Run(self.settings.with_(k_S_changes=tuple(earlier)), self.folder.parent)
        snapshot = read_checkpoint(before.folder, before.id) if before.stored == iteration else None
        if snapshot is not None and snapshot.iteration == iteration:
            with self.locked(), one_line_errors(self.folder):
                begin_branch(self, before, snapshot)

    def steps(self, ready: tuple[Objective, torch.Tensor] | None = None) -> Iterator[Step]:
        """Like advance(), but yields each new step once it is recorded. Closing the generator stores a checkpoint.

        ready: the result of `set_up(self.settings)`, if you have it already; it stays as it is.
        Raises RequestError before anything is written (a bad picture, an out/ that cannot be written, another process
        on this run), and RunError later (a loss that is not finite, a full disk); what is stored stays.
        """
        if self.complete:
            return
        self._begin_where_it_branches()
        objective, x = ready or set_up(self.settings)
        if isinstance(objective, TiledObjective) and self.on_tile is not None:
            objective.on_tile = self.on_tile
        for name, reference in self.settings.code.items():
            if own.sha256(reference) != self.sha256[name]:
                raise RequestError(f"{own.parts(reference)[0]} has changed since this run was made: make it again")
        if self._goes_on():
            yield from self._go_on(objective, x.detach().clone().requires_grad_())
        if self.picture is None:
            yield from self._paint_again(objective, x.detach().clone().requires_grad_())

    def steps_in_batch(self, net: Network | None, batch: int) -> Generator[Descent, dict[str, float], None]:
        """Like `steps`, but the losses come from outside: yields what they are wanted for, and is sent them.

        See `nstlab.runs.together`. net: the batch's network (None: this run is its first); batch: how many runs it
        has. A picture that was not stored is left to `steps`.
        """
        self._begin_where_it_branches()
        objective, x = set_up(self.settings, net=net)
        if not self._goes_on():
            return
        with self._resumed(objective, x, batch) as (writer, optimizer, start):
            descent = Descent(objective, x, optimizer, self.settings, start)
            try:
                for _ in range(start, max(start, self.settings.iterations) + 1):
                    losses = yield descent
                    writer.record(descent.step(losses))
                    writer.store_if_due()
            except GeneratorExit:
                if writer.step is not None and writer.step.iteration == descent.iteration:  # or else x is ahead
                    writer.store("stopped")
                raise

    def _goes_on(self) -> bool:
        """Whether iterations are missing, and not only a picture, which is computed again."""
        whole = self._whole_until()
        return whole is None or whole < self.settings.iterations

    def _go_on(self, objective: Objective, x: torch.Tensor) -> Iterator[Step]:
        with self._resumed(objective, x) as (writer, optimizer, start):
            for step in steps(objective, x, optimizer, self.settings, start, max(start, self.settings.iterations)):
                if not writer.record(step):
                    continue  # the step that the checkpoint holds
                try:
                    yield step
                except GeneratorExit:
                    writer.store("stopped")
                    raise
                writer.store_if_due()

    @contextmanager
    def _resumed(
        self, objective: Objective, x: torch.Tensor, batch: int = 1
    ) -> Iterator[tuple[Writer, Optimizer, int]]:
        """The writer of this run, its optimiser and the iteration of both and of x, while the run is locked.

        At the end of the block the run is complete; an error leaves it as it is stored.
        """
        optimizer = make_optimizer(x, self.settings)
        writer = Writer(self, objective, x, optimizer, batch)
        with self.locked(), one_line_errors(self.folder), closing(writer):
            start = writer.resume()
            self.resumed_from = writer.stored
            try:
                yield writer, optimizer, start
                writer.store("complete")
                drop_previous(self.folder)
            except RunError as error:
                writer.describe(f"failed: {error}")
                raise RunError(f"{error}; what was stored before is kept in {self.folder}") from None

    def _paint_again(self, objective: Objective, x: torch.Tensor) -> Iterator[Step]:
        """Compute a picture that was not stored from the start, and store only that."""
        wanted, self.resumed_from = self.settings.iterations, self.stored
        with self.locked(), one_line_errors(self.folder):
            for step in steps(objective, x, make_optimizer(x, self.settings), self.settings):
                if step.iteration == wanted:
                    save_image(step.image, self.frame_path(wanted), self.settings.of_picture(wanted), self.code)
                yield step

    def drop_checkpoint(self) -> None:
        """Free the disk space that only more iterations would need, if the run is complete: they then start over.

        Raises Occupied while another process computes the run.
        """
        with self.locked():
            if self.complete:
                drop_all(self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock this run for this process. Raises Occupied, or RequestError if its folder cannot be written."""
        try:
            for path in (self.folder, self.folder / "frames", self.folder / "lock"):
                if path.is_symlink():
                    raise RequestError(f"{path} is a link, which nstlab does not write through: remove it")
            (self.folder / "frames").mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / "lock", timeout=0, thread_local=False)
            lock.acquire()
        except filelock.Timeout:
            raise Occupied(
                f"{self.folder} is being computed by another process or panel: wait, or stop it there"
            ) from None
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise RunError(f"the disk is full: nothing can be stored in {self.folder}") from None
            reason = error.strerror or error
            raise RequestError(
                f"{self.folder} cannot be written ({reason}): choose another folder with --out"
            ) from None
        try:
            yield
        finally:
            lock.release()
