"""panel(): choose settings and watch the picture form."""

from __future__ import annotations

import html
import statistics
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import ipywidgets as w

from nstlab.errors import RequestError, RunError
from nstlab.images import find_picture, load_image
from nstlab.network import needs_download
from nstlab.optimise import Step, first_rate, forecast, initial_value, measured_rate
from nstlab.runs import Run
from nstlab.settings import Settings
from nstlab.widgets.controls import CHANGE_WHILE_PAUSED, CHANGE_WHILE_RUNNING, add_picture, make_controls, read, write
from nstlab.widgets.display import Display
from nstlab.widgets.export import AXES, command_line, sweep
from nstlab.widgets.gallery import Gallery
from nstlab.widgets.pictures import initial_thumbnails, keep_upload, settings_inside
from nstlab.widgets.view import View
from nstlab.widgets.worker import Worker

STATUS_SECONDS = 0.25


class Panel(w.VBox):
    """The workbench. `controls[name]` is a setting's control, `settings` their values, `run` the run shown.

    start(), pause(), step() and stop() are the buttons' actions; `message` is the line that says what went wrong.
    A run has its own thread, so other cells can run meanwhile.
    """

    def __init__(self, out: str | Path | None = None) -> None:
        self.out = Path(out).absolute() if out else None
        self.controls = make_controls()
        self.worker = Worker(self._on_step, self._on_state)
        self.display = Display(self.worker.lock)
        self.gallery = Gallery(self.out)
        self._changes: tuple[float, tuple[tuple[int, float], ...]] | None = None  # k_S at first, and its changes
        self._writing = False  # the panel is setting controls, not the user
        self._rate: float | None = None
        self._recent: deque[float] = deque(maxlen=12)  # seconds of the last iterations
        self._told = self._stepped = 0.0
        self.view = View(self)
        super().__init__(self.view.children)
        self.add_class("nst")
        self._connect()
        self._on_settings({"name": "value", "owner": None})
        self._on_state("idle", "")

    @property
    def settings(self) -> Settings:
        """The controls' values, including the current run's changes of k_S. Raises RequestError."""
        settings = read(self.controls)
        if self._changes is not None:
            settings = settings.with_(k_S=self._changes[0], k_S_changes=self._changes[1])
        return settings

    @property
    def run(self) -> Run | None:
        """The run being computed, or else the one shown."""
        return self.display.run

    @property
    def state(self) -> str:
        """idle, starting, running, pausing, paused, stopping, stopped, finished or failed."""
        with self.worker.lock:  # so that the display agrees with it
            return self.worker.state

    def start(self, _: Any = None, steps: int | None = None) -> None:
        """Start or resume these settings' run, from what is stored."""
        try:
            settings = self.settings
            self.say("")
            run = None if needs_download(settings.weights) else Run(settings, self.out)
            if steps is None and run is not None and run.complete and run.frames:
                self.display.show_run(run)
                self.say(f"Iteration {run.iteration} is stored already: increase iterations to continue.")
        except (RequestError, RunError, OSError) as error:
            self.say(str(error), error=True)
            return
        self._recent.clear()
        self._stepped = time.perf_counter()
        self.worker.start(settings, self.out, steps)

    def pause(self, _: Any = None) -> None:
        """Stop after the current iteration and store it; start() resumes."""
        self.worker.pause()

    def step(self, _: Any = None) -> None:
        """Compute one more iteration."""
        self.start(steps=1)

    def stop(self, _: Any = None) -> None:
        """Stop after the current iteration and store it; then every control can be changed again."""
        self.worker.stop()

    def wait(self, seconds: float | None = None) -> Panel:
        """Wait until the run has stopped. For scripts and tests; a cell need not wait."""
        self.worker.wait(seconds)
        return self

    def load(self, settings: Settings, run: Run | None = None) -> None:
        """Set all controls to these settings and show their run, if it is stored.

        Raises RequestError if a picture is missing or a run is being computed.
        """
        if self.worker.busy:
            raise RequestError("a run is being computed: stop it first")
        self.worker.stop()
        self.say("")
        self._writing = True
        try:
            write(self.controls, settings)
        finally:
            self._writing = False
        changed = settings.k_S_changes
        self._changes = (settings.k_S, changed) if changed else None
        self._on_settings({"name": "value", "owner": None}, run)

    @property
    def message(self) -> str:
        """The line that the panel shows, without markup."""
        return self._message

    def say(self, text: str, error: bool = False) -> None:
        """Show one line in the panel; an empty one removes it."""
        with self.worker.lock:
            self._message = text
            kind = "nst-error" if error else "nst-note"
            self.view.message.value = f'<p class="{kind}" role="alert">{html.escape(text)}</p>' if text else ""

    def _connect(self) -> None:
        for control in self.controls.values():
            control.observe(self._on_settings, "value")
        for kind in ("content", "style"):
            self.controls[kind].on_file = lambda name, data, kind=kind: self._on_upload(kind, name, data)
            self.controls[kind].on_refusal = lambda text: self.say(text, error=True)
        self.display.viewer.on_file = self._on_dropped
        self.display.viewer.on_refusal = lambda text: self.say(text, error=True)
        self.gallery.choice.observe(self._on_gallery, "value")

    def _on_settings(self, change: dict[str, Any], run: Run | None = None) -> None:
        """A control has changed."""
        if self._writing:
            return
        with self.worker.lock:
            name = next((name for name, control in self.controls.items() if control is change["owner"]), None)
            if name == "k_S" and (self.worker.busy or self.worker.state == "paused"):
                self.worker.change_k_S(change["new"])
                return
            if name is not None:
                self.worker.forget()
                if not (name == "iterations" and self._changes):
                    self._changes = None
                self.say("")
            try:
                if name in ("content", "style") and change["new"] not in self.controls[name].options:
                    add_picture(self.controls[name], change["new"])
                settings = self.settings
                self._preview(name, settings, run)
            except (RequestError, RunError, OSError) as error:
                if name in ("content", "style") and change["new"] not in self.controls[name].options:
                    self._put_back(name, change["old"])
                self.say(str(error), error=True)
            self._tell()

    def _put_back(self, name: str, value: Any) -> None:
        self._writing = True
        try:
            self.controls[name].value = value
        finally:
            self._writing = False

    def _preview(self, name: str | None, settings: Settings, run: Run | None = None) -> None:
        """Before the start: the stored run of these settings, or the initial value."""
        if name in (None, "content", "style", "seed"):
            self.controls["init"].thumbnails = initial_thumbnails(settings)
        if name in (None, "content", "style", "size", "style_size"):
            self.display.show_pictures(settings)
        if run is None and needs_download(settings.weights):
            self.say(f"The weights {settings.weights} are not here yet: Start downloads them (550 MB).")
        else:
            run = run or Run(settings, self.out)
            self.view.show_identity(run)
        if run is not None and run.iteration is not None and run.frames:
            if self.display.run is None or self.display.run.id != run.id or name is None:
                self.display.show_run(run)
            return
        content = load_image(settings.content, settings.size)
        style = load_image(settings.style, settings.style_size or settings.size)
        image = initial_value(settings.init, content, style, settings.seed)
        self.display.show_still(image, f"initial: {settings.init.replace('_', ' ')}")

    def _on_step(self, run: Run, step: Step) -> None:
        now = time.perf_counter()
        self._recent.append(now - self._stepped)
        self._stepped = now
        self.display.step(run, step)
        if now - self._told > STATUS_SECONDS:
            self._tell(step)

    def _on_state(self, state: str, message: str) -> None:
        run = self.worker.run
        if state in ("paused", "stopped", "finished") and run is not None:
            self._take_changes(run)
            if self.display.run is None or self.display.run.id != run.id:
                self.display.show_run(run)
            self.display.settle()
        if len(self._recent) > 2 and run is not None:
            shape = self.display.viewer.shape
            self._rate = measured_rate(run.settings, shape[1], shape[0], statistics.median(list(self._recent)[1:]))
        if state == "failed":
            self.say(message, error=True)
        self._enable(state)
        self._tell()

    def _take_changes(self, run: Run) -> None:
        """Take over this run's k_S, which may have been changed during the run."""
        if run.settings.k_S_changes or self._changes:
            self._changes = (run.settings.k_S, run.settings.k_S_changes) if run.settings.k_S_changes else None
        self.view.show_identity(run)

    def _enable(self, state: str) -> None:
        busy, paused = self.worker.busy, state == "paused"
        buttons = self.view.buttons
        buttons["start"].description = "Resume" if paused else "Start"
        buttons["start"].disabled = buttons["step"].disabled = busy
        buttons["pause"].disabled = state not in ("starting", "running")
        buttons["stop"].disabled = state not in ("starting", "running", "pausing", "paused")
        free = CHANGE_WHILE_RUNNING if busy else CHANGE_WHILE_PAUSED if paused else tuple(self.controls)
        for name, control in self.controls.items():
            control.disabled = name not in free
        self.gallery.choice.disabled = busy

    def _tell(self, step: Step | None = None) -> None:
        """Update the status line: what is happening, or the forecast."""
        self._told = time.perf_counter()
        try:
            settings = self.worker.run.settings if self.worker.busy and self.worker.run else self.settings
            self.view.show_status(self.worker.state, settings, self._newest(), self._pace(), self._forecast(settings))
        except (RequestError, RunError, OSError):
            self.view.show_status(self.worker.state, None, None, None, "")

    def _newest(self) -> int | None:
        return self.display.rows[-1][0] if self.display.rows else None

    def _pace(self) -> float | None:
        return statistics.median(list(self._recent)[1:]) if len(self._recent) > 1 else None

    def _forecast(self, settings: Settings) -> str:
        if self.worker.busy:
            return ""
        if self._rate is None:
            self._rate = first_rate(settings.device)
        width, height = self.display.viewer.shape
        return str(forecast(settings, height, width, self._rate, (self._newest() or 0)))

    def _on_upload(self, kind: str, name: str, data: bytes) -> None:
        """A picture for content or style has arrived."""
        try:
            path = str(keep_upload(name, data, self.out))
            if path not in self.controls[kind].options:
                add_picture(self.controls[kind], path)
            self.controls[kind].value = path
        except (RequestError, RunError) as error:
            self.say(str(error), error=True)
        except OSError as error:
            self.say(f"{name} could not be stored: {error.strerror or error}", error=True)

    def _on_dropped(self, name: str, data: bytes) -> None:
        """A result has been dropped on the picture: load its settings, and its run if it is here."""
        try:
            settings = settings_inside(name, data)
            find_picture(settings.content), find_picture(settings.style)
            self.load(settings)
            self.say(f"Loaded the settings from {name}. {self.message}".strip())
        except (RequestError, RunError, OSError) as error:
            self.say(str(error), error=True)

    def _on_gallery(self, change: dict[str, Any]) -> None:
        if not change["new"]:
            return
        try:
            run = Run.open(change["new"])
            self.load(run.settings.with_(device="auto"), run)
        except (RequestError, RunError, OSError) as error:
            self.say(str(error), error=True)

    def refresh_gallery(self, change: dict[str, Any]) -> None:
        """The gallery has been opened."""
        if change["new"]:
            self.gallery.refresh()

    def refresh_exports(self, _: Any = None) -> None:
        """Write the command line and the sweep for the current settings; in a thread, as papermill is slow to load."""
        if self.view.folds["sweep"].value:
            threading.Thread(target=self._write_exports, daemon=True).start()

    def _write_exports(self) -> None:
        try:
            settings = self.settings
            axes = [name for name in AXES if self.view.axes[name].value]
            self.view.command.value, self.view.yaml.value = command_line(settings), sweep(settings, axes)
        except (RequestError, RunError, OSError) as error:
            self.say(str(error), error=True)


def panel(out: str | Path | None = None) -> Panel:
    """A workbench for one transfer: choose pictures, drag k_S, pick an initial value, watch the picture form.

    `panel().controls["k_S"]` is that setting's control. Runs are stored in `out` (None: the project's out/) as `Run`
    stores them, so the same settings are the same run. To show the panel, make it the last line of a cell.

    >>> bench = panel(out=tmp)
    >>> bench.controls["k_S"].value, bench.state
    (1000.0, 'idle')
    """
    return Panel(out)
