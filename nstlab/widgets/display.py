"""What the panel shows during a run: the picture, the frames, the curves. Throttled."""

from __future__ import annotations

import threading
import time
from typing import Any

import ipywidgets as w

from nstlab.errors import RequestError
from nstlab.images import load_image, load_styles, side_by_side
from nstlab.optimise import Step
from nstlab.runs import Run
from nstlab.settings import Settings
from nstlab.widgets.curves import loss_curves
from nstlab.widgets.parts import Scrubber, Viewer
from nstlab.widgets.pictures import jpeg

PICTURE_SECONDS = 0.2  # at least this long between two pictures,
BYTES_A_SECOND = 700_000  # and long enough to stay below this rate
CURVE_SECONDS = 0.7


class Display:
    """The viewer, the scrubber and the curves of one run. `lock` guards it: both thread and notebook call it."""

    def __init__(self, lock: threading.RLock) -> None:
        self.lock = lock
        self.viewer = Viewer()
        self.scrubber = Scrubber()
        self.curves = w.HTML(value=loss_curves([], Settings()))
        self.run: Run | None = None
        self.iteration: int | None = None  # of the picture on the screen; None: it is of no run
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.sent = 0  # bytes of pictures sent so far
        self._newest: Step | None = None
        self._picture_due = self._curves_due = 0.0
        self.scrubber.observe(self._scrub, "index")
        self.viewer.on_pin = self.pin

    def show_pictures(self, settings: Settings) -> None:
        """Load content and style, to compare with. Raises RequestError if one cannot be read."""
        content = load_image(settings.content, settings.size)
        style = side_by_side(load_styles(settings))
        with self.lock:
            self.viewer.content_picture, self.viewer.style_picture = jpeg(content, 90), jpeg(style, 90)

    def pin(self, wanted: bool = True) -> None:
        """Keep the picture on the screen, to compare others with it; or compare with the content again."""
        with self.lock, self.viewer.hold_sync():
            whose = f"{self.run.folder.name}, " if self.run and self.iteration is not None else ""
            self.viewer.pinned_caption = f"{whose}{self.viewer.caption}" if wanted else ""
            self.viewer.pinned_picture = self.viewer.result_picture if wanted else b""

    def show_still(self, image: Any, caption: str) -> None:
        """Show a picture that belongs to no run: the initial value, before the start."""
        with self.lock:
            self.run, self.rows, self._newest = None, [], None
            self.scrubber.frames, self.scrubber.index = [], -1
            self._show(image, None, caption, final=True)
            self.curves.value = loss_curves([], Settings())

    def show_run(self, run: Run) -> None:
        """Show a stored run: its newest picture, frames and history."""
        with self.lock:
            self.run, self._newest = run, None
            self.rows = stored_rows(run)
            self.scrubber.index = -1
            self.scrubber.frames = self._frames()
            self.curves.value = loss_curves(self.rows, self.run.settings)
            if run.picture is not None:
                self._show(run.result, run.iteration, final=True)

    def step(self, run: Run, step: Step) -> None:
        """Take one computed step, and show it if a picture or the curves are due."""
        with self.lock:
            if self.run is None or self.run.id != run.id:
                self.rows = stored_rows(run)
            self.run = run
            if self.rows and self.rows[-1][0] >= step.iteration:  # a picture that was not kept is painted again
                self.rows = [row for row in self.rows if row[0] < step.iteration]
            self.rows.append((step.iteration, step.losses))
            self._newest = step
            now = time.monotonic()
            if now >= self._picture_due and self.scrubber.index < 0:
                self._show(step.image, step.iteration)
            if now >= self._curves_due:
                self._draw()

    def go_on_as(self, settings: Settings, run: Run | None = None) -> None:
        """k_S has changed at the newest iteration: the curves go on, with a mark there. run: that of the new k_S."""
        with self.lock:
            self.run = run or self.run
            if self.rows:
                iteration, losses = self.rows[-1]
                weights = settings.term_weights(iteration)
                terms = [weights.get(term, 1.0) * losses[term] for term in settings.terms_in(losses)]
                self.rows[-1] = (iteration, losses | {"total": sum(terms)})
            self.curves.value = loss_curves(self.rows, settings)

    def settle(self) -> None:
        """Show the newest of everything, once the run has stopped."""
        with self.lock:
            if self._newest is not None and self.scrubber.index < 0:
                self._show(self._newest.image, self._newest.iteration, final=True)
            self._draw()

    def _frames(self) -> list[int]:
        """The stored frames up to the newest iteration, which is the last one: what the scrubber stops at."""
        newest = self.rows[-1][0] if self.rows else None
        stored = [k for k in self.run.frames if newest is None or k < newest] if self.run else []
        return stored if newest is None else [*stored, newest]

    def _draw(self) -> None:
        began = time.monotonic()
        self.curves.value = loss_curves(self.rows, self.run.settings if self.run else Settings())
        frames = self._frames()
        if frames != self.scrubber.frames:
            self.scrubber.frames = frames
        ended = time.monotonic()
        self._curves_due = ended + max(CURVE_SECONDS, 20 * (ended - began))

    def _show(self, image: Any, iteration: int | None, caption: str = "", final: bool = False) -> None:
        self.iteration = iteration
        data = jpeg(image, 95 if final else 85)
        height, width = image.shape[2:]
        with self.viewer.hold_sync():
            self.viewer.shape, self.viewer.result_picture = [width, height], data
            self.viewer.caption = caption or f"iteration {iteration}"
        self.sent += len(data)
        self._picture_due = time.monotonic() + max(PICTURE_SECONDS, len(data) / BYTES_A_SECOND)

    def _scrub(self, change: Any) -> None:
        with self.lock:
            frames, index = self.scrubber.frames, change["new"]
            if self.run is None:
                return
            try:
                if 0 <= index < len(frames):
                    self._show(self.run.frame(frames[index]), frames[index])
                elif self._newest is not None:
                    self._show(self._newest.image, self._newest.iteration, final=True)
                else:
                    self._show(self.run.result, self.run.iteration, final=True)
            except (RequestError, OSError) as error:
                self.viewer.caption = str(error)


def stored_rows(run: Run) -> list[tuple[int, dict[str, float]]]:
    """A run's stored history as (iteration, losses); empty if it is missing or damaged."""
    try:
        history = run.history
        losses = history.drop(columns=["iteration", "seconds"]).to_dict("records")
        return list(zip(history["iteration"].tolist(), losses, strict=True))
    except (RequestError, KeyError, ValueError, OSError):
        return []
