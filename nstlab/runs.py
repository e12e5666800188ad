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
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch
from tqdm import tqdm

from nstlab.checkpoints import (
    NEW,
    Snapshot,
    checkpoint_iteration,
    drop_previous,
    read_checkpoint,
    write_checkpoint,
)
from nstlab.decoding import profile_of
from nstlab.history import History, last_row, read_history
from nstlab.images import find_picture, load_image, read_settings, save_image
from nstlab.interrupts import noted_interrupts
from nstlab.manifest import describe_network, differences, read_manifest, run_id, write_manifest
from nstlab.optimise import Objective, Step, check_state, make_optimizer, set_up, steps
from nstlab.settings import RequestError, RunError, Settings
from nstlab.storage import Damaged, is_regular, out_folder, parts, read_regular, set_aside, sha256_of, write_whole
from nstlab.vgg19 import VGG19
from nstlab.weights import weights_read_as, weights_sha256

CHECKPOINT_SECONDS = 5.0  # at least so long between two checkpoints,
CHECKPOINT_SHARE = 0.05  # and so long that writing them takes no more than this share of the time


FRAME = re.compile(r"(\d{6}|[1-9]\d{6,8})\.png")
SETTLED = ("complete", "stopped")
"""The states in which a run that nobody computes has left its files; any other is mended when it goes on."""
OWN_FILES = (NEW, "result.png", "run.json", "history.csv")


class Occupied(RequestError):
    """Another process, or another generator of this one, computes this run."""


class Run:
    """One transfer and its folder. Making a Run reads the pictures' bytes and writes nothing.

    settings: as given; out: the folder of runs (None: the project's out/). `id` and `folder` follow from
    what shapes the picture: the settings but iterations, frame_every and device, the bytes of both pictures
    and of the weights, and `read_as`: from which colour profile a picture is converted to sRGB, and which format a
    weights file has other than its names suggest. Raises RequestError for a picture or weights that cannot be found.

    >>> run = Run(Settings(size=48, iterations=3), out=tmp).advance(progress=False)
    >>> run.frames, len(run.history)
    ([0, 1, 2], 4)
    """

    def __init__(self, settings: Settings, out: str | Path | None = None) -> None:
        self.settings = settings
        content, style = find_picture(settings.content), find_picture(settings.style)
        read_as = {
            "content": profile_of(content),
            "style": profile_of(style),
            "weights": weights_read_as(settings.weights, settings.weights_format),
        }
        self.read_as = {name: value for name, value in read_as.items() if value is not None}
        self.sha256 = {
            "content": sha256_of(content),
            "style": sha256_of(style),
            "weights": weights_sha256(settings.weights),
        }
        self.id = run_id(settings, self.sha256, self.read_as)
        self.went_on_from: int | None = None  # of the last advance(): the iteration stored before it
        self.folder = out_folder(out) / f"{_slug(content.stem)}-{_slug(style.stem)}-{self.id}"

    @classmethod
    def stored(cls, folder: str | Path) -> Run:
        """The run in a folder, to look at, even where its pictures are gone. Raises RequestError if damaged."""
        run = cls.__new__(cls)
        run.folder = Path(folder).absolute()
        run.settings = read_settings(run.folder)
        manifest = run.manifest
        if not manifest:
            raise RequestError(f"{run.folder / 'run.json'} is damaged")
        run.id, run.sha256, run.read_as = manifest["id"], manifest["sha256"], manifest.get("read_as", {})
        run.went_on_from = None
        return run

    def __repr__(self) -> str:
        return f"Run({self.folder.name}, iteration {self.iteration} of {self.settings.iterations})"

    @property
    def manifest(self) -> dict[str, Any]:
        """run.json as a dict, empty where there is none or a damaged one. See `read_manifest`."""
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
    def complete(self) -> bool:
        """Whether settings.iterations are stored and whole: manifest, picture, history and checkpoint agree."""
        manifest = self.manifest
        stored = manifest.get("iteration")
        if stored is None or stored < self.settings.iterations or manifest["status"] not in SETTLED:
            return False
        agree = last_row(self.folder / "history.csv").get("iteration") == stored == self._picture_iteration()
        return agree and checkpoint_iteration(self.folder) in (stored, None)

    def _picture_iteration(self) -> int | None:
        """The iteration that result.png says it is; None if there is none, or a damaged one."""
        path = self.folder / "result.png"
        try:
            return read_settings(path).iterations if is_regular(path) else None
        except RequestError:
            return None

    @property
    def frames(self) -> list[int]:
        """The iterations whose pictures are stored. Whatever else lies in frames/ is left alone."""
        named = [path for path in (self.folder / "frames").glob("*.png") if FRAME.fullmatch(path.name)]
        return sorted(int(path.stem) for path in named if is_regular(path))

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
        with noted_interrupts() as presses, closing(self.steps()) as computed, ExitStack() as shown:
            for step in computed:
                if bar is None:  # what is refused shows no bar
                    total = self.settings.iterations
                    bar = tqdm(initial=step.iteration, total=total, unit="it", desc="transfer", disable=not progress)
                    shown.enter_context(bar)
                bar.update(step.iteration - bar.n)
                bar.set_postfix_str(f"loss {step.losses['total']:.4g}")
                if presses:
                    break
        if presses:
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
                write_whole(self.folder / name, read_regular(other.folder / name))
            history = History(self.folder / "history.csv", self.settings.style_layers)
            history.resume(rows.tolist())
            history.close()
            begun = Snapshot(snapshot.iteration, snapshot.image, optimizer.state_dict(), rows)
            write_checkpoint(self.folder, self.id, begun)
            self._describe("stopped", snapshot.iteration)

    def _describe(self, status: str, iteration: int | None, network: dict[str, Any] | None = None) -> None:
        path, sha256 = self.folder / "run.json", self.sha256
        write_manifest(path, self.id, self.settings, sha256, self.read_as, status, iteration, network)

    def steps(self, ready: tuple[Objective, torch.Tensor] | None = None) -> Iterator[Step]:
        """As advance(), yielding each new step once it is recorded. Closing the generator stores a checkpoint.

        ready: what `set_up(self.settings)` gives, where one has it already.
        Raises RequestError before anything is written (a picture, an out/ that cannot be written, another
        process on this run) and RunError on the way (a loss that is not finite, a full disk); what was
        stored before stays.
        """
        if self.complete:
            return
        objective, x = ready or set_up(self.settings)
        optimizer = make_optimizer(x, self.settings)
        writer = _Writer(self, objective.net, x, optimizer)
        with self._locked(), _one_line_errors(self.folder), closing(writer):
            start = writer.resume()
            self.went_on_from = writer.stored
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
                drop_previous(self.folder)
            except RunError as error:
                writer.describe(f"failed: {error}")
                raise RunError(f"{error}; what was stored before is kept in {self.folder}") from None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """This run for this process alone."""
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


class _Writer:
    """Writes one run's folder while it is computed; the only one that does."""

    def __init__(self, run: Run, net: VGG19, x: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        self.run, self.net, self.x, self.optimizer = run, net, x, optimizer
        self.network = describe_network(net, run.settings, *x.shape[2:])
        self.history = History(run.folder / "history.csv", run.settings.style_layers)
        self.step: Step | None = None
        self.stored: int | None = None  # the iteration of the newest checkpoint
        self.seconds = 0.0
        self.cost = 0.0  # seconds that the last checkpoint took
        self.stored_at = self.tick = time.perf_counter()

    def resume(self) -> int:
        """Bring x, the optimiser and the folder to the newest checkpoint; returns its iteration, or 0.

        All is read before anything is changed, so that what cannot be read stops the run and costs nothing.
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
        self.first = 0 if self.stored is None else self.stored + 1  # the first iteration to be recorded
        self._tidy()
        if self.stored is not None and self.run._picture_iteration() != self.stored:  # killed before it was written
            self._save(self.net.restore(self.x.detach()), "result.png", self.stored)
        self.describe("running")
        self.tick = self.stored_at = time.perf_counter()
        return self.stored or 0

    def _check(self, snapshot: Snapshot) -> None:
        """Raises ValueError for a snapshot that this run cannot have stored."""
        settings, shape = self.run.settings, tuple(snapshot.image.shape[2:])
        expected = tuple(self.x.shape[2:]) if settings.scales == 1 else None
        if max(shape) != settings.size_at(snapshot.iteration) or shape != (expected or shape):
            raise Damaged(f"its picture has {shape[1]} x {shape[0]} pixels")
        if snapshot.history.shape[1] != len(self.history.columns):
            raise Damaged("its history has other columns")
        check_state(snapshot.optimizer, self.optimizer, snapshot.image)

    def _tidy(self) -> None:
        """Remove frames after the checkpoint, which are painted again, and parts that a kill has left."""
        folder = self.run.folder
        for iteration in self.run.frames:
            if iteration >= self.first:
                self._frame(iteration).unlink()
        left = [path for path in parts(folder) if path.name.startswith(tuple(f".{name}." for name in OWN_FILES))]
        for path in (*left, *parts(folder / "frames"), folder / NEW):
            path.unlink(missing_ok=True)

    def _frame(self, iteration: int) -> Path:
        return self.run.folder / "frames" / f"{iteration:06d}.png"

    def _save(self, image: torch.Tensor, name: str | Path, iteration: int) -> None:
        save_image(image, self.run.folder / name, self._settings_at(iteration))

    def record(self, step: Step) -> bool:
        """Append the step's row and store its frame; False for a step that is stored already."""
        now = time.perf_counter()
        self.seconds += now - self.tick
        self.step = step
        if step.iteration >= self.first:
            self.history.append((step.iteration, round(self.seconds, 3), *step.losses.values()))
            if is_frame(step.iteration, self.run.settings.frame_every):
                self._save(step.image, self._frame(step.iteration), step.iteration)
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
        self._save(self.step.image, "result.png", iteration)
        self.stored = iteration
        self.describe(status)
        self.stored_at = self.tick = time.perf_counter()
        self.cost = self.stored_at - began

    def describe(self, status: str) -> None:
        """Write run.json."""
        self.run._describe(status, self.stored, self.network)

    def close(self) -> None:
        self.history.close()

    def _settings_at(self, iteration: int) -> Settings:
        """What makes this very picture: the run's settings with its iteration, without what does not shape it."""
        settings = self.run.settings
        changes = tuple(change for change in settings.k_S_changes if change[0] < iteration)
        return settings.with_(iterations=iteration, k_S_changes=changes, frame_every=None, device="auto")

    def _name_differences(self, manifest: dict[str, Any]) -> None:
        """Name what differs from the machine that the run was begun on; set a damaged run.json aside."""
        log = logging.getLogger(__name__)
        path = self.run.folder / "run.json"
        if not path.exists():
            return
        if manifest.get("id") != self.run.id:
            log.warning("%s cannot be used and is set aside as %s", path, set_aside(path).name)
            return
        for difference in differences(manifest, self.run.settings):
            log.warning("%s: %s; the last bits of the result may differ", self.run.folder.name, difference)


def is_frame(iteration: int, every: int | None = None) -> bool:
    """Whether a frame is stored at this iteration: 0, 1, 2, 5, 10, 20, 50, ... and every `every`."""
    return iteration == 0 or str(iteration).rstrip("0") in ("1", "2", "5") or bool(every and iteration % every == 0)


def stored_runs(out: str | Path | None = None) -> list[Path]:
    """The folders of runs in `out` (None: the project's out/), in the order of their names."""
    return sorted(path.parent for path in out_folder(out).glob("*/run.json"))


def _slug(stem: str) -> str:
    """A picture's name as a part of a folder's name: nothing in it leads out of out/."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", stem).strip("_")[:40] or "picture"


@contextmanager
def _one_line_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else error.strerror or error
        raise RunError(
            f"{error.filename or folder}: {reason}; what was stored before stays, and the run goes on from it"
        ) from None
