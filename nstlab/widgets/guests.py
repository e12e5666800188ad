"""What a visitor of the app may ask of a panel. Everything else is refused before it is looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets as w

from nstlab.errors import RequestError
from nstlab.images import sample_pictures
from nstlab.settings import Settings, choices
from nstlab.storage import is_regular, out_folder

ALLOWED = ("content", "style", "style_weights", "init", "k_S", "size", "iterations", "colour")
"""The settings that a visitor can change: none of them names a file, code, or weights from elsewhere."""


@dataclass(frozen=True)
class Guest:
    """A visitor's limits: pixels of the longer side, iterations, megabytes stored."""

    size: int = 256
    iterations: int = 300
    megabytes: int = 300

    def check(self, name: str, value: Any, out: Path | None) -> None:
        """Raises RequestError for a setting, or a value of one, that is not offered; out: the visitor's runs."""
        if name not in ALLOWED:
            raise RequestError(f"{name} cannot be changed here")
        limit = {"size": self.size, "iterations": self.iterations}.get(name)
        if limit is not None and not value <= limit:
            raise RequestError(f"{name} is at most {limit} here")
        if name in ("content", "style", "init"):
            offered = _offered()
            for picture in (value,) if isinstance(value, str) else value:
                if picture not in offered and not _is_uploaded(picture, out):
                    raise RequestError("choose one of these pictures, or drop one of your own on them")

    def check_all(self, settings: Settings, out: Path | None) -> None:
        """Raises RequestError for settings that a visitor cannot have."""
        for name in settings.changed():
            if name != "k_S_changes":
                self.check(name, getattr(settings, name), out)

    def check_space(self, out: Path | None) -> None:
        """Raises RequestError if a visitor's folder is full."""
        stored = sum(path.lstat().st_size for path in out_folder(out).rglob("*")) / 1e6
        if stored > self.megabytes:
            raise RequestError(f"your {self.megabytes} MB are full: reload the page to begin anew")


def close(widgets: Iterable[w.Widget]) -> None:
    """Cut widgets off from the browser, with what is inside them; their values stay."""
    for widget in widgets:
        close(inside for inside in getattr(widget, "children", ()) if inside.comm is not None)
        widget.close()


def _offered() -> set[str]:
    return {*sample_pictures("content"), *sample_pictures("style"), *choices("init")}


def _is_uploaded(name: str, out: Path | None) -> bool:
    path = Path(name)
    return path.is_absolute() and path.parent == out_folder(out) / "uploads" and is_regular(path)
