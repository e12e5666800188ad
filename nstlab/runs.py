"""A run on disk: its identity, frames, history, checkpoints, and how it goes on from them.

    out/<content>-<style>-<id>/
      run.json               settings, hashes, versions, machine, status
      history.csv            one row an iteration
      frames/000000.png ...  at 0, 1, 2, 5, 10, 20, 50, ... and every frame_every
      checkpoint.pt          and checkpoint.previous.pt, the one before it
      result.png             the picture at the last checkpoint; its settings ride inside

The id says what shapes the picture, so a run is the same run however far it has come.
"""

from __future__ import annotations

import errno
import logging
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch
from tqdm import tqdm

from nstlab.checkpoints import Snapshot, read_checkpoint, write_checkpoint
from nstlab.history import History, read_history
from nstlab.images import find_picture, load_image, read_settings, save_image
from nstlab.manifest import describe_network, differences, read_manifest, run_id, write_manifest
from nstlab.optimise import Objective, Step, make_optimizer, set_up, steps
from nstlab.settings import RequestError, RunError, Settings
from nstlab.storage import home, set_aside, sha256_of, write_whole
from nstlab.weights import weights_sha256

CHECKPOINT_SECONDS = 5.0  # at least so long between two checkpoints,
CHECKPOINT_SHARE = 0.05  # and so long that writing them takes no more than this share of the time


class Run:
    """One transfer and its folder. Making a Run reads the pictures' bytes and writes nothing.

    settings: as given; out: the folder of runs (None: the project's out/). `id` and `folder` follow from
    what shapes the picture: the settings but iterations, frame_every and device, the bytes of both pictures
    and of the weights. Raises RequestError for a picture or weights that cannot be found.

    >>> run = Run(Settings(size=48, iterations=3), out=tmp).advance(progress=False)
    >>> run.frames, len(run.history)
    ([0, 1, 2], 4)
    """

    def __init__(self, settings: Settings, out: str | Path | None = None) -> None:
        self.settings = settings
        content, style = find_picture(settings.content), find_picture(settings.style)
        self.sha256 = {
            "content": sha256_of(content),
            "style": sha256_of(style),
            "weights": weights_sha256(settings.weights),
        }
        self.id = run_id(settings, self.sha256)
        out = Path(out).absolute() if out else home() / "out"
        self.folder = out / f"{_slug(content.stem)}-{_slug(style.stem)}-{self.id}"

    @classmethod
    def stored(cls, folder: str | Path) -> Run:
        """The run in a folder, to look at, even where its pictures are gone. Raises RequestError if damaged."""
        run = cls.__new__(cls)
        run.folder = Path(folder).absolute()
        run.settings = read_settings(run.folder)
        manifest = run.manifest
        if not manifest:
            raise RequestError(f"{run.folder / 'run.json'} is damaged")
        run.id, run.sha256 = manifest["id"], manifest["sha256"]
        return run

    def __repr__(self) -> str:
        return f"Run({self.folder.name}, iteration {self.iteration} of {self.settings.iterations})"

    @property
    def manifest(self) -> dict[str, Any]:
        """run.json as a dict, empty where there is none or a damaged one."""
        return read_manifest(self.folder / "run.json")

    @property
    def iteration(self) -> int | None:
        """The iteration that is stored and can be gone on from; None before the first checkpoint."""
        return self.manifest.get("iteration")

    @property
    def history(self) -> pd.DataFrame:
        """One row an iteration: iteration, seconds, total, content, style, and one column a style layer.

        Readable while the run goes on. Raises RequestError if nothing is stored.
        """
        path = self.folder / "history.csv"
        if not path.is_file():
            raise RequestError(f"{self.folder.name} has no history yet: advance() computes it")
        return read_history(path)

    @property
    def frames(self) -> list[int]:
        """The iterations whose pictures are stored."""
        return sorted(int(path.stem) for path in (self.folder / "frames").glob("[0-9]*.png"))

    def frame(self, iteration: int) -> torch.Tensor:
        """The stored picture at an iteration, (1, 3, H, W) in [0, 1].

        Raises RequestError, naming the nearest stored ones, if that one is not stored.
        """
        if iteration in self.frames:
            return load_image(self.folder / "frames" / f"{iteration:06d}.png", size=None)
        if iteration == self.iteration:
            return self.result
        near = sorted(sorted(self.frames, key=lambda k: abs(k - iteration))[:2])
        raise RequestError(f"no frame at iteration {iteration}: nearest are {', '.join(map(str, near)) or 'none'}")

    @property
    def result(self) -> torch.Tensor:
        """The last picture stored, (1, 3, H, W) in [0, 1]. Raises RequestError if there is none yet."""
        path = self.folder / "result.png"
        if not path.is_file():
            raise RequestError(f"{self.folder.name} has no result yet: advance() computes it")
        return load_image(path, size=None)

    def advance(self, progress: bool = True) -> Run:
        """Go on from what is stored to settings.iterations; returns at once if that much is stored.

        Ctrl-C (or a kernel's interrupt) waits for the end of the iteration and stores it, then raises
        KeyboardInterrupt; a second one does not wait. Raises RequestError or RunError as `steps`.
        """
        bar = None
        with _patient_interrupt() as interrupted, closing(self.steps()) as computed, ExitStack() as shown:
            for step in computed:
                if bar is None:  # what is refused shows no bar
                    total = self.settings.iterations
                    bar = tqdm(initial=step.iteration, total=total, unit="it", desc="transfer", disable=not progress)
                    shown.enter_context(bar)
                bar.update(step.iteration - bar.n)
                bar.set_postfix_str(f"loss {step.losses['total']:.4g}")
                if interrupted():
                    break
        if interrupted():
            raise KeyboardInterrupt
        return self

    def change_k_S(self, k_S: float) -> Run:
        """The run that goes on with another k_S from the iteration stored here; this one stays as it is.

        Its frames, history and checkpoint up to there have the bytes that it would compute from the start.
        Raises RequestError and RunError as `steps`.
        """
        snapshot = read_checkpoint(self.folder, self.id) if self.folder.is_dir() else None
        iteration = snapshot.iteration if snapshot else 0
        earlier = tuple(change for change in self.settings.k_S_changes if change[0] < iteration)
        settings = (
            self.settings.with_(k_S_changes=earlier) if iteration else self.settings.with_(k_S_changes=(), k_S=k_S)
        )
        if settings.k_S_at(iteration) != k_S:
            settings = settings.with_(k_S_changes=(*earlier, (iteration, k_S)))
        run = Run(settings, self.folder.parent)
        if settings.k_S_changes[len(earlier) :] and run.iteration is None:
            run._take_over(self, snapshot)
        return run

    def _take_over(self, other: Run, snapshot: Snapshot) -> None:
        """Begin this run's folder with another's, which is the same up to the snapshot, where k_S changes."""
        k_S = self.settings.k_S_at(snapshot.iteration)
        rows = snapshot.history.clone()
        content, style = rows[-1, 3:5].float()
        rows[-1, 2] = content + k_S * style  # in float32, as Objective does: that step has the new k_S already
        optimizer = make_optimizer(snapshot.image.clone().requires_grad_(), self.settings)
        with self._locked(), _one_line_errors(self.folder):
            frames = [f"frames/{iteration:06d}.png" for iteration in other.frames if iteration <= snapshot.iteration]
            for name in (*frames, "result.png"):
                write_whole(self.folder / name, (other.folder / name).read_bytes())
            begun = Snapshot(snapshot.iteration, snapshot.image, optimizer.state_dict(), rows)
            write_checkpoint(self.folder, self.id, begun)
            write_manifest(self.folder / "run.json", self.id, self.settings, self.sha256, "stopped", snapshot.iteration)

    def steps(self, ready: tuple[Objective, torch.Tensor] | None = None) -> Iterator[Step]:
        """As advance(), yielding each new step once it is recorded. Closing the generator stores a checkpoint.

        ready: what `set_up(self.settings)` gives, where one has it already.
        Raises RequestError before anything is written (a picture, an out/ that cannot be written, another
        process on this run) and RunError on the way (a loss that is not finite, a full disk); what was
        stored before stays.
        """
        if self._is_complete():
            return
        objective, x = ready or set_up(self.settings)
        optimizer = make_optimizer(x, self.settings)
        with self._locked(), _one_line_errors(self.folder):
            writer = _Writer(self, x, optimizer, describe_network(objective.net, self.settings, *x.shape[2:]))
            start = writer.resume()
            try:
                for step in steps(objective, x, optimizer, max(start, self.settings.iterations), start):
                    if not writer.record(step):
                        continue  # the step that the checkpoint holds
                    try:
                        yield step
                    except GeneratorExit:
                        writer.store("stopped")
                        raise
                    writer.store_if_due()
                writer.store("complete")
            except RunError as error:
                writer.describe(f"failed: {error}")
                raise RunError(f"{error}; what was stored before is kept in {self.folder}") from None
            finally:
                writer.close()

    def _is_complete(self) -> bool:
        """Whether settings.iterations are stored, whole as far as can be told without the checkpoint."""
        stored = self.iteration
        if stored is None or stored < self.settings.iterations:
            return False
        try:
            rows = self.history["iteration"]
            return len(rows) == stored + 1 and rows.iloc[-1] == stored and self.result is not None
        except (RequestError, KeyError, ValueError, IndexError):
            return False

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """This run for this process alone."""
        try:
            (self.folder / "frames").mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.folder / "lock", timeout=0, thread_local=False)
            lock.acquire()
        except filelock.Timeout:
            raise RequestError(f"{self.folder} is being computed by another process") from None
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


class _Writer:
    """Writes one run's folder while it is computed; the only one that does."""

    def __init__(self, run: Run, x: torch.Tensor, optimizer: torch.optim.Optimizer, network: dict[str, Any]) -> None:
        self.run, self.x, self.optimizer, self.network = run, x, optimizer, network
        self.history = History(run.folder / "history.csv", run.settings.style_layers)
        self.step: Step | None = None
        self.stored: int | None = None  # the iteration of the newest checkpoint
        self.seconds = 0.0
        self.cost = 0.0  # seconds that the last checkpoint took
        self.stored_at = self.tick = time.perf_counter()

    def resume(self) -> int:
        """Bring x, the optimiser and the folder to the newest checkpoint; returns its iteration, or 0."""
        folder = self.run.folder
        self._check_manifest()
        snapshot = read_checkpoint(folder, self.run.id)
        if snapshot is not None:
            self.x.data = snapshot.image.to(self.x.device)  # with `scales`, not always of x's first size
            self.optimizer.load_state_dict(snapshot.optimizer)
            self.stored = snapshot.iteration
        self.history.resume(snapshot.history.tolist() if snapshot else [])
        if self.history.rows:
            self.seconds = self.history.rows[-1][1]
        self.first = 0 if self.stored is None else self.stored + 1  # the first iteration to be recorded
        for iteration in self.run.frames:
            if iteration >= self.first:
                (folder / "frames" / f"{iteration:06d}.png").unlink()
        self.describe("running")
        self.tick = self.stored_at = time.perf_counter()
        return self.stored or 0

    def record(self, step: Step) -> bool:
        """Append the step's row and store its frame; False for a step that is stored already."""
        now = time.perf_counter()
        self.seconds += now - self.tick
        self.step = step
        if step.iteration >= self.first:
            self.history.append((step.iteration, round(self.seconds, 3), *step.losses.values()))
            if is_frame(step.iteration, self.run.settings.frame_every):
                path = self.run.folder / "frames" / f"{step.iteration:06d}.png"
                save_image(step.image, path, self._settings_at(step.iteration))
        self.tick = time.perf_counter()
        return step.iteration >= self.first

    def store_if_due(self) -> None:
        self.tick = now = time.perf_counter()  # what happened while the step was looked at is not computing
        if now - self.stored_at >= max(CHECKPOINT_SECONDS, self.cost / CHECKPOINT_SHARE):
            self.store("running")

    def store(self, status: str) -> None:
        """A checkpoint of the present step, the picture as result.png, and the status."""
        began = time.perf_counter()
        self.history.sync()
        iteration = self.step.iteration
        snapshot = Snapshot(
            iteration,
            self.x.detach().cpu(),
            self.optimizer.state_dict(),
            torch.tensor(self.history.rows, dtype=torch.float64),
        )
        write_checkpoint(self.run.folder, self.run.id, snapshot)
        save_image(self.step.image, self.run.folder / "result.png", self._settings_at(iteration))
        self.stored = iteration
        self.describe(status)
        self.stored_at = self.tick = time.perf_counter()
        self.cost = self.stored_at - began

    def describe(self, status: str) -> None:
        """Write run.json."""
        run = self.run
        path = run.folder / "run.json"
        write_manifest(path, run.id, run.settings, run.sha256, status, self.stored, self.network)

    def close(self) -> None:
        self.history.close()

    def _settings_at(self, iteration: int) -> Settings:
        """What makes this very picture: the run's settings with its iteration, without what does not shape it."""
        settings = self.run.settings
        changes = tuple(change for change in settings.k_S_changes if change[0] < iteration)
        return settings.with_(iterations=iteration, k_S_changes=changes, frame_every=None, device="auto")

    def _check_manifest(self) -> None:
        """Name what differs from the machine that the run was begun on; set a damaged run.json aside."""
        log = logging.getLogger(__name__)
        path = self.run.folder / "run.json"
        if not path.exists():
            return
        manifest = self.run.manifest
        if not manifest:
            log.warning("%s cannot be used and is set aside as %s", path, set_aside(path).name)
            return
        for difference in differences(manifest, self.run.settings):
            log.warning("%s: %s; the last bits of the result may differ", self.run.folder.name, difference)


def is_frame(iteration: int, every: int | None = None) -> bool:
    """Whether a frame is stored at this iteration: 0, 1, 2, 5, 10, 20, 50, ... and every `every`."""
    return iteration == 0 or str(iteration).rstrip("0") in ("1", "2", "5") or bool(every and iteration % every == 0)


def stored_runs(out: str | Path | None = None) -> list[Path]:
    """The folders of runs in `out` (None: the project's out/), in the order of their names."""
    out = Path(out).absolute() if out else home() / "out"
    return sorted(path.parent for path in out.glob("*/run.json"))


def _slug(stem: str) -> str:
    """A picture's name as a part of a folder's name: nothing in it leads out of out/."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_")[:40] or "picture"


@contextmanager
def _patient_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C only sets a flag, which the function given says; a second one interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # signals reach the main thread alone
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _one_line_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else (error.strerror or error)
        raise RunError(
            f"{folder} could not be written: {reason}; what was stored before stays, and the run goes on from it"
        ) from None
