"""The picture that a feature likes best, painted on demand while one watches."""

from __future__ import annotations

import threading
import time
from typing import Any

import ipywidgets as w

from nstlab import plots
from nstlab.dissect import favourite_steps
from nstlab.network import Network
from nstlab.optimise import Step

PICTURE_SECONDS = 0.2  # between two pictures on the way
SIDE = 192  # of the picture on the screen, in CSS pixels
PAINT = "Paint its favourite picture"


class FavouritePicture(w.VBox):
    """A button that paints the favourite of the feature that `show` was told of last, in a thread of its own.

    Another feature, or the button pressed again, gives the painting up. What was finished is kept.
    """

    def __init__(self, net: Network, size: int = 64, iterations: int = 60) -> None:
        self.net, self.size, self.iterations = net, size, iterations
        self.feature: tuple[str, int] | None = None
        self.button = w.Button(description=PAINT, tooltip="the picture that excites the feature most")
        self.button.on_click(self._pressed)
        self.picture = w.Image(format="png", layout=w.Layout(display="none"))
        self.progress, self.line = w.HTML(), w.HTML()
        self.progress.add_class("nst-progress")
        self._lock = threading.RLock()  # guards all that the thread and the kernel share
        self._turn = 0  # a painting goes on while its turn is the current one
        self._thread: threading.Thread | None = None
        self._finished: dict[tuple[str, int], tuple[bytes, str]] = {}
        super().__init__([self.picture, self.progress, self.line, self.button])
        self.add_class("nst-explorer-likes")

    @property
    def painting(self) -> bool:
        """Whether a picture is being painted."""
        return self._thread is not None and self._thread.is_alive() and self.button.description != PAINT

    def show(self, layer: str, feature: int) -> None:
        """Take up a feature: its picture if that is finished, or else the button that paints it."""
        with self._lock:
            if self.feature == (layer, feature):
                return
            self.stop()
            self.feature = layer, feature
            png, line = self._finished.get(self.feature, (b"", ""))
            self._draw(png, line)
            self.button.layout.display = "none" if png else ""

    def paint(self) -> None:
        """Begin to paint."""
        with self._lock:
            self.stop()
            self.button.description = "Stop"
            self.line.value = "begins …"
            self._thread = threading.Thread(target=self._work, args=(self._turn, *self.feature), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Give the painting up; what is painted stays in sight until another feature is shown."""
        with self._lock:
            self._turn += 1
            self.button.description = PAINT
            self.progress.value = ""

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the thread has ended. For scripts and tests."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _pressed(self, _: Any) -> None:
        (self.paint if self.button.description == PAINT else self.stop)()

    def _work(self, turn: int, layer: str, feature: int) -> None:
        shown = 0.0
        try:
            for step in favourite_steps(self.net, layer, feature, self.size, self.iterations):
                with self._lock:
                    if turn != self._turn:
                        return
                    last = step.iteration == self.iterations
                    if last or time.monotonic() - shown > PICTURE_SECONDS:
                        shown = time.monotonic()
                        self._tell(step)
                    if last:
                        self._finish(layer, feature)
        except Exception as error:  # nobody would see it in a thread
            with self._lock:
                if turn == self._turn:
                    self.stop()
                    self._draw(b"", " ".join(str(error).split()))

    def _tell(self, step: Step) -> None:
        done = 100 * step.iteration / self.iterations
        self.progress.value = f'<i><i style="width:{done:.0f}%"></i></i>'
        activation = f"{step.losses['activation']:,.0f}".replace(",", " ")
        line = f"iteration {step.iteration} of {self.iterations}: {activation} grey levels on average"
        self._draw(plots.overlay_png(step.image, side=2 * SIDE), line)

    def _finish(self, layer: str, feature: int) -> None:
        self._finished[layer, feature] = self.picture.value, f"Its favourite picture. {self.line.value}"
        self.line.value = self._finished[layer, feature][1]
        self.button.layout.display = "none"
        self.stop()

    def _draw(self, png: bytes, line: str) -> None:
        self.picture.layout.display = "" if png else "none"
        self.picture.value = png
        self.line.value = line
