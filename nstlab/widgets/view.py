"""The panel's layout and its texts."""

from __future__ import annotations

import html
from typing import Any, Protocol

import ipywidgets as w

from nstlab.runs import Run
from nstlab.settings import Settings, names_where
from nstlab.terminal import duration
from nstlab.widgets.display import Display
from nstlab.widgets.export import AXES
from nstlab.widgets.gallery import Gallery
from nstlab.widgets.parts import FRONT, LayerChoice, PictureChoice, TextToTake

BUTTONS = {
    "start": ("Start", "continue from what is stored to the iteration requested"),
    "pause": ("Pause", "stop after the current iteration and store it"),
    "step": ("Step", "compute one more iteration"),
    "stop": ("Stop", "stop and store; then every setting can be changed again"),
}
STATES = {
    "idle": "Ready",
    "starting": "Loading the network",
    "running": "Painting",
    "pausing": "Pausing after this iteration",
    "paused": "Paused",
    "stopping": "Stopping after this iteration",
    "stopped": "Stopped",
    "finished": "Finished",
    "failed": "Stopped by an error",
}

FOLDS = {
    "control": "Control: colours, masks, smoothness",
    "optimiser": "Optimiser",
    "layers": "Layers",
    "network": "Network, losses and device",
    "reduction": "A smaller network",
}
"""Families of settings that are folded away -> their titles."""
IN_SIGHT = ("content", "style", "style_weights", "init", "k_S")
"""Settings that are not folded away, above those of numbers."""


class Bench(Protocol):
    """What a View needs from its panel."""

    controls: dict[str, Any]
    guest: object | None
    display: Display
    gallery: Gallery

    def trust(self, _: Any = None) -> None: ...
    def refresh_gallery(self, change: dict[str, Any]) -> None: ...
    def refresh_exports(self, change: Any = None) -> None: ...


class View:
    """The panel's parts, laid out; `children` are its rows."""

    def __init__(self, panel: Bench) -> None:
        self.buttons = {}
        for name, (text, about) in BUTTONS.items():
            self.buttons[name] = w.Button(description=text, tooltip=about)
            self.buttons[name].add_class(f"nst-{name}")
            self.buttons[name].on_click(getattr(panel, name))
        self.buttons["start"].add_class("nst-main")
        self.status = _with(w.HTML(), "nst-status")
        self.progress = _with(w.HTML(), "nst-progress")
        self.message = _with(w.HTML(), "nst-message")
        self.identity = w.HTML()
        self.others = _with(w.VBox(), "nst-others")
        self.trust = _with(w.VBox(), "nst-others")
        self._trusts = panel.trust
        self.folds: dict[str, w.ToggleButton] = {}
        bar = _with(w.Box([*self.buttons.values(), self.status]), "nst-bar")
        masks = self._masks(panel.controls["content_masks"])
        settings, gallery, exports = self._settings(panel), self._gallery(panel), self._exports(panel)
        self.beyond_guests += [*masks, *exports]
        if panel.guest:
            masks, exports = [], []
        middle = _with(w.VBox([panel.display.viewer, panel.display.scrubber, *masks]), "nst-middle")
        side = _with(w.VBox([panel.display.curves, self.identity]), "nst-side")
        body = _with(w.Box([settings, middle, side]), "nst-body")
        below = _with(w.VBox([*gallery, *exports]), "nst-below")
        style = _with(w.HTML(f"<style>{(FRONT / 'panel.css').read_text(encoding='utf-8')}</style>"), "nst-style")
        self.children = [style, bar, self.progress, self.message, self.trust, self.others, body, below]

    def _settings(self, panel: Bench) -> w.Widget:
        controls = panel.controls
        folds: list[w.Widget] = []
        for family, title in FOLDS.items():
            in_sight = (*IN_SIGHT, "colour") if panel.guest else IN_SIGHT
            names = [name for name in names_where(family=family) if name not in (*in_sight, "content_masks")]
            rows = [controls[name] for name in names if isinstance(controls[name], (LayerChoice, PictureChoice))]
            rows.append(_fields(controls, *(name for name in names if controls[name] not in rows)))
            folds += self._fold(family, title, w.VBox(rows))
        pictures = [controls[name] for name in IN_SIGHT]
        fields = _fields(controls, "size", "iterations")
        self.beyond_guests = folds
        more = controls["colour"] if panel.guest else _with(w.VBox(folds), "nst-folds")
        return _with(w.VBox([*pictures, fields, more]), "nst-settings")

    def _masks(self, control: Any) -> list[w.Widget]:
        """The masks, as large as the picture; their heading says whether there are any."""
        title = "Masks: where a style is painted"
        rows = self._fold("masks", title, control)

        def tell(change: dict[str, Any]) -> None:
            self.folds["masks"].description = f"{title} · in use" if change["new"] else title

        control.observe(tell, "value")
        return rows

    def _gallery(self, panel: Bench) -> list[w.Widget]:
        rows = self._fold("gallery", "Stored runs", panel.gallery)
        self.folds["gallery"].observe(panel.refresh_gallery, "value")
        return rows

    def _exports(self, panel: Bench) -> list[w.Widget]:
        self.exports = {
            "papermill": TextToTake(label="papermill", help="copy the papermill command that gives this picture"),
            "command": TextToTake(label="command", help="copy the nstlab command that gives this picture"),
            "settings": TextToTake(label="settings", help="copy the settings of this picture, for a cell"),
            "sweep": TextToTake(label="sweep", help="copy the sweep as YAML, for nstlab sweep", file="sweep.yaml"),
        }
        self.axes = {
            name: w.Checkbox(
                value=name in ("k_S", "init"), description=name, indent=False, tooltip=f"vary {name} in the sweep"
            )
            for name in AXES
        }
        chosen = _with(w.Box(list(self.axes.values())), "nst-axes")
        titles = {"papermill": "This picture with papermill", "command": "On the command line"}
        titles |= {"settings": "In Python"}
        lines = [w.VBox([w.HTML(f"<h4>{title}</h4>"), self.exports[name]]) for name, title in titles.items()]
        command = w.VBox(lines)
        grid = w.VBox([w.HTML("<h4>A sweep around it, varying</h4>"), chosen, self.exports["sweep"]])
        rows = self._fold("sweep", "From play to sweep", _with(w.Box([command, grid]), "nst-exports"))
        for part in (self.folds["sweep"], *self.axes.values(), *panel.controls.values()):
            part.observe(panel.refresh_exports, "value")
        return rows

    def _fold(self, name: str, title: str, content: w.Widget) -> list[w.Widget]:
        """A heading that shows and hides the content under it."""
        button = _with(w.ToggleButton(description=title, tooltip=f"show or hide: {title.lower()}"), "nst-fold")
        button.add_class(f"nst-fold-{name}")
        box = _with(w.VBox([content], layout=w.Layout(display="none")), "nst-folded")

        def unfold(change: dict[str, Any]) -> None:
            box.layout.display = "" if change["new"] else "none"

        button.observe(unfold, "value")
        self.folds[name] = button
        return [button, box]

    def show_status(
        self, state: str, settings: Settings | None, newest: int | None, pace: float | None, more: str
    ) -> None:
        """Show the line next to the buttons, and the progress bar below it. more: a forecast, or which tile it is."""
        parts = [f"<b>{STATES[state]}</b>"]
        if newest is not None and settings is not None:
            parts.append(f"iteration {newest} of {max(settings.iterations, newest)}")
        if pace is not None and settings is not None and newest is not None and state in ("running", "pausing"):
            parts.append(f"{duration(pace)} an iteration")
            if settings.iterations > newest:
                parts.append(f"{duration(pace * (settings.iterations - newest))} left")
        if more and not (settings and newest is not None and newest >= settings.iterations):
            parts.append(html.escape(more))
        self.status.value = " · ".join(parts)
        done = newest / max(settings.iterations, 1) if settings and newest is not None else 0
        self.progress.value = f'<i><i style="width:{100 * min(done, 1):.1f}%"></i></i>'

    def show_trust(self, code: dict[str, str] | None) -> None:
        """Code that loaded settings name, and a button that says yes to it; None: there is none to ask about."""
        rows = []
        if code:
            named = html.escape(", ".join(code.values()))
            button = w.Button(description="Trust it", tooltip=f"run {named}, which these settings name")
            button.on_click(self._trusts)
            text = w.HTML(f"These settings name code to run, {named}: read it before you trust it.")
            rows.append(_with(w.HBox([text, button]), "nst-other"))
        self.trust.children = rows

    def show_others(self, benches: list[Any]) -> None:
        """The other panels of this kernel that compute, each with a button that stops it."""
        rows = []
        for bench in benches:
            name = html.escape(bench.run.folder.name) if bench.run is not None else "a run"
            stop = w.Button(description="Stop", tooltip=f"stop {name}, and store it")
            stop.on_click(bench.stop)
            rows.append(_with(w.HBox([w.HTML(f"Another panel of this kernel computes {name}"), stop]), "nst-other"))
        self.others.children = rows

    def show_identity(self, run: Run) -> None:
        """Show which run this is, and how its k_S was changed."""
        settings = run.settings
        rows = {"run": run.folder.name}
        if settings.k_S_changes:
            changes = ", ".join(f"{k_S:g} from {iteration}" for iteration, k_S in settings.k_S_changes)
            rows["k_S"] = f"{settings.k_S:g} at first, {changes}"
        text = "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in rows.items())
        self.identity.value = f"<dl>{text}</dl>"


def _with(widget: w.Widget, name: str) -> Any:
    widget.add_class(name)
    return widget


def _fields(controls: dict[str, Any], *names: str) -> w.Widget:
    """Controls with their labels above them, two per row."""
    box = _with(w.Box([controls[name] for name in names]), "nst-fields")
    for name in names:
        if name in ("style_layer_weights", "style_masks", "weights"):
            controls[name].add_class("nst-wide")
    return box
