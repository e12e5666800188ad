"""The stored runs, to choose one from."""

from __future__ import annotations

from pathlib import Path

import ipywidgets as w

from nstlab.errors import RequestError
from nstlab.images import read_settings
from nstlab.runs import Run, stored_runs
from nstlab.settings import Settings
from nstlab.values import as_text
from nstlab.widgets.parts import PictureChoice
from nstlab.widgets.pictures import thumbnail

MOST = 120


class Gallery(w.VBox):
    """Thumbnails of the runs in `out`, the newest first; `choice.value` is the chosen run's folder."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.choice = PictureChoice(label="Stored runs", help="load a run with all its settings", captioned=True)
        self.choice.add_class("nst-gallery")
        self.empty = w.HTML("<p class='nst-empty'>Nothing is stored yet.</p>")
        super().__init__([self.choice])

    def refresh(self) -> None:
        """Look again for stored runs."""
        folders = [folder for folder in stored_runs(self.out) if (folder / "result.png").is_file()]
        folders.sort(key=lambda folder: (folder / "result.png").stat().st_mtime, reverse=True)
        thumbnails, captions = {}, {}
        for folder in folders[:MOST]:
            try:
                thumbnails[str(folder)] = thumbnail(folder / "result.png")
                captions[str(folder)] = caption(read_settings(folder), Run.open(folder).iteration)
            except (RequestError, OSError):
                continue  # damaged, or being removed
        with self.choice.hold_sync():
            self.choice.value = ""
            self.choice.thumbnails, self.choice.captions = thumbnails, captions
            self.choice.options = [name for name in thumbnails if name in captions]
        self.children = [self.choice] if self.choice.options else [self.empty]


def caption(settings: Settings, iteration: int | None) -> str:
    """A run in a few words: what differs from the defaults, and its iteration."""
    pictures = " × ".join(Path(name).stem for name in (settings.content, *settings.styles))
    changed = {name: value for name, value in settings.changed().items() if name not in ("content", "style")}
    for name in ("iterations", "frame_every", "device", "k_S", "k_S_changes"):
        changed.pop(name, None)
    k_S = " → ".join(f"{value:g}" for value in (settings.k_S, *(k_S for _, k_S in settings.k_S_changes)))
    rest = [_short(value) if name == "init" else f"{name} {_short(value)}" for name, value in changed.items()]
    return ", ".join([pictures, f"k_S {k_S}", *rest, f"iteration {iteration}"]).replace("_noise", " noise")


def _short(value: object) -> str:
    """A value in few words: of a path, the file's name."""
    if isinstance(value, list):
        return " ".join(map(_short, value))
    return Path(value).stem if isinstance(value, str) and Path(value).is_absolute() else as_text(value)
