"""The controls for one style or two, and for the proportion between them; more than two are text."""

from __future__ import annotations

from typing import Any

import ipywidgets as w
import traitlets as t

from nstlab.values import as_text, split_names
from nstlab.widgets.parts import PictureChoice, Proportion

FEW = 2  # styles that are shown as thumbnails


class StyleChoice(w.VBox):
    """One style or two, each one of the same pictures as thumbnails; more than two as text.

    `value` is a name or a path, or a tuple of them; `options` the names offered. A button adds the second style and
    takes it away again.
    """

    value = t.Union([t.Unicode(), t.Tuple()])
    disabled = t.Bool(False)

    def __init__(self, label: str, help: str, **offered: Any) -> None:
        self.label, self.help = label, help
        self.first = PictureChoice(label=label, help=help, accepts_files=True, **offered)
        self.second = PictureChoice(label=f"Second {label.lower()}", help=help, accepts_files=True, **offered)
        self.more = w.Button()
        self.more.add_class("nst-more")
        self.text = w.Text(description=f"{label}s", tooltip=help, continuous_update=False)
        self.text.add_class("nst-wide")
        self.fields = w.Box([self.text]).add_class("nst-fields")
        self._arranging = False
        super().__init__()
        for choice in self.choices:
            choice.observe(self._on_choice, "value")
        self.text.observe(self._on_text, "value")
        self.more.on_click(self._on_more)
        self.observe(self._arrange, ["value", "disabled"])
        self._arrange()

    @property
    def names(self) -> tuple[str, ...]:
        """The styles, one or several."""
        return (self.value,) if isinstance(self.value, str) else self.value

    @property
    def choices(self) -> tuple[PictureChoice, PictureChoice]:
        """The thumbnails of the first style and of the second."""
        return self.first, self.second

    @property
    def options(self) -> list[str]:
        return self.first.options

    @property
    def thumbnails(self) -> dict[str, str]:
        return self.first.thumbnails

    @property
    def captions(self) -> dict[str, str]:
        return self.first.captions

    def _arrange(self, _: Any = None) -> None:
        """Show the value."""
        self._arranging = True
        try:
            for choice, name in zip(self.choices, self.names, strict=False):
                choice.value = name
            self.text.value = as_text(self.value)
            for part in (*self.choices, self.text, self.more):
                part.disabled = self.disabled
        finally:
            self._arranging = False
        count = len(self.names)
        self.more.description = "Add a second style" if count == 1 else "Only the first style"
        self.more.tooltip = "blend two styles" if count == 1 else "go back to one style"
        self.children = [*(self.choices[:count] if count <= FEW else [self.fields]), self.more]

    def _on_choice(self, _: Any) -> None:
        if not self._arranging and len(self.names) <= FEW:
            names = tuple(choice.value for choice in self.choices[: len(self.names)])
            self.value = names[0] if len(names) == 1 else names

    def _on_text(self, change: Any) -> None:
        if not self._arranging and change["new"].strip():
            self.value = split_names(change["new"].strip())

    def _on_more(self, _: Any) -> None:
        if len(self.names) > 1:
            self.value = self.names[0]
        else:
            others = [name for name in self.options if name != self.value]
            self.value = (self.value, (others or [self.value])[0])


class Proportions(w.VBox):
    """How much each style counts: nothing to choose for one, a slider for two, text for more.

    `value` is a weight a style, or None: equally, which is also the middle of the slider.
    """

    value = t.Tuple(allow_none=True, default_value=None)
    styles = t.Tuple(default_value=())
    disabled = t.Bool(False)

    def __init__(self, label: str, help: str) -> None:
        self.label, self.help = label, help
        self.slider = Proportion(label=label, help=help)
        self.text = w.Text(description=label, tooltip=help, placeholder="equally", continuous_update=False)
        self.text.add_class("nst-wide")
        self.fields = w.Box([self.text]).add_class("nst-fields")
        self._arranging = False
        super().__init__()
        self.slider.observe(self._on_slider, "share")
        self.text.observe(self._on_text, "value")
        self.observe(self._arrange, ["value", "styles", "disabled"])
        self._arrange()

    def follow(self, styles: tuple[str, ...]) -> None:
        """Other styles were chosen: as many as before keep their weights."""
        if len(styles) != len(self.styles):
            self.value = None
        self.styles = styles

    def _arrange(self, _: Any = None) -> None:
        self._arranging = True
        try:
            self.slider.share = self._share()
            self.slider.names = [name.replace("\\", "/").rpartition("/")[2] for name in self.styles[:FEW]]
            self.text.value = "" if self.value is None else as_text(self.value)
            self.slider.disabled = self.text.disabled = self.disabled
        finally:
            self._arranging = False
        self.children = [] if len(self.styles) < FEW else [self.slider if len(self.styles) == FEW else self.fields]
        self.layout.display = "" if self.children else "none"

    def _share(self) -> float:
        """The first of two styles' part of the whole."""
        try:
            first, second = map(float, self.value or (1, 1))
            return first / (first + second)
        except (ValueError, ZeroDivisionError):
            return 0.5

    def _on_slider(self, change: Any) -> None:
        if not self._arranging:
            share = round(change["new"], 2)
            self.value = None if share == 0.5 else (share, round(1 - share, 2))

    def _on_text(self, change: Any) -> None:
        """Text that is no list of numbers becomes one text, which Settings refuses in words."""
        if not self._arranging:
            parts = [part.strip() for part in change["new"].split(",") if part.strip()]
            self.value = tuple(parts) or None
