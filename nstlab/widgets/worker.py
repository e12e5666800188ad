"""The thread that computes a run, and how to control it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch

from nstlab.errors import RequestError, RunError
from nstlab.optimise import Objective, Step, is_out_of_memory, set_up
from nstlab.runs import PATIENCE, Run
from nstlab.settings import Settings, names_where

BUSY = ("starting", "running", "pausing", "stopping")


class _GivenUp(Exception):
    """An iteration that would have gone on for too long after Stop or Pause."""


class Worker:
    """Advances one run at a time in its own thread, and stops it between two iterations, or two tiles of a long one.

    `state` is idle, starting, running, pausing, paused, stopping, stopped, finished or failed. Stopping and pausing
    close the run's generator, which stores a checkpoint; a paused run keeps its network loaded.

    on_step(run, step): each step as it is computed, in the thread; on_tile(done, of): of an iteration in tiles, there
    too; on_branch(run): the run that goes on with another k_S; on_state(state, message): each change of `state`. The
    last two are called under `lock`, which guards all that the thread and the notebook share.
    """

    def __init__(
        self,
        on_step: Callable[[Run, Step], None],
        on_tile: Callable[[int, int], None],
        on_branch: Callable[[Run], None],
        on_state: Callable[[str, str], None],
    ) -> None:
        self.on_step, self.on_tile, self.on_branch, self.on_state = on_step, on_tile, on_branch, on_state
        self.lock = threading.RLock()
        self.state = "idle"
        self.run: Run | None = None
        self._thread: threading.Thread | None = None
        self._until = "finished"  # the state to enter when the loop ends
        self._k_S: float | None = None
        self._began = 0.0  # when the current iteration's first tile was done
        self._ready: tuple[Any, Objective, torch.Tensor] | None = None

    @property
    def busy(self) -> bool:
        return self.state in BUSY

    def start(self, settings: Settings, out: Path | None, steps: int | None = None) -> None:
        """Start or resume these settings' run, from what is stored; steps: pause after this many new ones."""
        with self.lock:
            if self.busy:
                return
            self._until, self._k_S = "finished", None
            self._enter("starting")
            self._thread = threading.Thread(target=self._work, args=(settings, out, steps), daemon=True)
            self._thread.start()

    def pause(self) -> None:
        self._leave("pausing", "paused")

    def stop(self) -> None:
        with self.lock:
            if self.state == "paused":
                self._ready = None
                self._enter("stopped")
        self._leave("stopping", "stopped")

    def change_k_S(self, k_S: float) -> None:
        """Go on with another k_S from the next iteration on."""
        with self.lock:
            if self.busy:
                self._k_S = k_S

    def forget(self) -> None:
        """Stop showing how the last run ended: other settings are being chosen."""
        if not self.busy and self.state != "paused":
            self.state = "idle"

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _leave(self, now: str, then: str) -> None:
        with self.lock:
            if self.state in ("starting", "running", "pausing"):
                self._until = then
                self._enter(now)

    def _enter(self, state: str, message: str = "") -> None:
        with self.lock:
            self.state = state
            self.on_state(state, message)

    def _work(self, settings: Settings, out: Path | None, steps: int | None) -> None:
        self._perform(lambda: self._advance(Run(settings, out), steps))

    def _perform(self, action: Callable[[], None]) -> None:
        """Do it; any error becomes the state `failed` with one line."""
        try:
            action()
        except (RequestError, RunError) as error:
            self._fail(str(error))
        except Exception as error:  # nobody would see it in a thread
            if is_out_of_memory(error):
                self._fail("there is not enough memory: choose a smaller size, Adam, or fewer layers")
            else:
                text = " ".join(str(error).split())
                self._fail(f"{type(error).__name__}: {text[:300]}; what was stored before is kept")

    def _fail(self, message: str) -> None:
        self._ready = None
        self._enter("failed", message)

    def _advance(self, run: Run, steps: int | None) -> None:
        self.run = run
        while True:
            run.on_tile = self._tile
            with suppress(_GivenUp), closing(run.steps(self._prepared(run))) as computed:
                for step in computed:
                    self._enter_running()
                    self.on_step(run, step)
                    if steps is not None and step.iteration > 0:  # 0 is the initial value: nothing is computed for it
                        steps -= 1
                    if steps == 0 and step.iteration < run.settings.iterations:
                        self._leave("pausing", "paused")
                    if self._until != "finished" or self._k_S is not None:
                        break
            with self.lock:
                k_S, self._k_S = self._k_S, None
                if k_S is None or self._until != "finished" or run.complete:
                    self._ready = self._ready if self._until == "paused" else None
                    self._enter(self._until)
                    return
            run = run.change_k_S(k_S)
            with self.lock:
                self.run = run
                self.on_branch(run)

    def _tile(self, done: int, of: int) -> None:
        """Tells of a tile; raises _GivenUp if the run should stop, and the rest of the iteration would take long."""
        self._began = time.monotonic() if done == 1 else self._began
        self.on_tile(done, of)
        if self._until != "finished" and (time.monotonic() - self._began) / done * (of - done) > PATIENCE:
            raise _GivenUp

    def _enter_running(self) -> None:
        with self.lock:
            if self.state == "starting":
                self._enter("running")

    def _prepared(self, run: Run) -> tuple[Objective, torch.Tensor] | None:
        """The objective and initial value, reused if only settings such as k_S have changed."""
        if run.complete:
            return None  # nothing will be computed
        same = {name: Settings.model_fields[name].default for name in names_where(rebuilds=False)}
        key = (run.settings.with_(**same), tuple(run.code.items()))
        if self._ready is None or self._ready[0] != key:
            self._ready = (key, *set_up(run.settings))
        return self._ready[1:]
