"""A picture that is painted on demand, in a thread of its own, while one watches."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable, Iterable
from typing import Any

import ipywidgets as w

from nstlab import plots
from nstlab.optimise import Step
from nstlab.widgets.parts import Picture

PICTURE_SECONDS = 0.2  # between two pictures on the way
SIDE = 192  # of the picture on the screen, in CSS pixels


class PaintedOnDemand(w.VBox):
    """A button that paints what `show` was told of last.

    Something else to show, or the button pressed again, gives the painting up. What was finished is kept. Subclasses
    say what is painted (`steps`, up to `iterations`) and what is said of it (`said`, `said_at_the_end`).
    """

    def __init__(self, paint: str, tooltip: str, iterations: int) -> None:
        self.label, self.iterations = paint, iterations
        self.shown: Hashable | None = None
        self.button = w.Button(description=paint, tooltip=tooltip)
        self.button.on_click(self._pressed)
        self.picture = Picture(label=tooltip, layout=w.Layout(display="none"))
        self.progress, self.line = w.HTML(), w.HTML()
        self.progress.add_class("nst-progress")
        self._lock = threading.RLock()  # guards all that the thread and the kernel share
        self._turn = 0  # a painting goes on while its turn is the current one
        self._thread: threading.Thread | None = None
        self._finished: dict[Hashable, tuple[bytes, str]] = {}
        super().__init__([self.picture, self.progress, self.line, self.button])
        self.add_class("nst-on-demand")

    def steps(self, what: Any) -> Iterable[Step]:
        """The steps to the picture of `what`, 0 to `iterations`."""
        raise NotImplementedError

    def said(self, step: Step) -> str:
        """What a step's losses say."""
        raise NotImplementedError

    def said_at_the_end(self, step: Step) -> str:
        """The line under a finished picture."""
        raise NotImplementedError

    @property
    def painting(self) -> bool:
        """Whether a picture is being painted."""
        return self._thread is not None and self._thread.is_alive() and self.button.description != self.label

    def show(self, what: Hashable) -> None:
        """Take something up: its picture if that is finished, or else the button that paints it."""
        with self._lock:
            if self.shown == what:
                return
            self.stop()
            self.shown = what
            png, line = self._finished.get(what, (b"", ""))
            self._draw(png, line)
            self.button.layout.display = "none" if png else ""

    def paint(self) -> None:
        """Begin to paint."""
        with self._lock:
            self.stop()
            self.button.description = "Stop"
            self.line.value = "begins …"
            self._thread = threading.Thread(target=self._work, args=(self._turn, self.shown), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Give the painting up; what is painted stays in sight until something else is shown."""
        with self._lock:
            self._turn += 1
            self.button.description = self.label
            self.progress.value = ""

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended. For scripts and tests."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _pressed(self, _: Any) -> None:
        (self.paint if self.button.description == self.label else self.stop)()

    def _work(self, turn: int, what: Hashable) -> None:
        shown = 0.0
        try:
            for step in self.steps(what):
                with self._lock:
                    if turn != self._turn:
                        return
                    last = step.iteration == self.iterations
                    if last or time.monotonic() - shown > PICTURE_SECONDS:
                        shown = time.monotonic()
                        self._tell(step)
                    if last:
                        self._finish(what, step)
        except Exception as error:  # nobody would see it in a thread
            with self._lock:
                if turn == self._turn:
                    self.stop()
                    self._draw(b"", " ".join(str(error).split()))

    def _tell(self, step: Step) -> None:
        done = 100 * step.iteration / self.iterations
        self.progress.value = f'<i><i style="width:{done:.0f}%"></i></i>'
        line = f"iteration {step.iteration} of {self.iterations}: {self.said(step)}"
        self._draw(plots.overlay_png(step.image.clamp(0, 1), side=2 * SIDE), line)

    def _finish(self, what: Hashable, step: Step) -> None:
        self._finished[what] = self.picture.value, self.said_at_the_end(step)
        self.line.value = self._finished[what][1]
        self.button.layout.display = "none"
        self.stop()

    def _draw(self, png: bytes, line: str) -> None:
        self.picture.layout.display = "" if png else "none"
        self.picture.value = png
        self.line.value = line
