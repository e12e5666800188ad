"""Pictures to and from the browser."""

from __future__ import annotations

import hashlib
import html
import io
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch.nn.functional import interpolate

from nstlab import images
from nstlab.decoding import FORMATS, format_of
from nstlab.errors import RequestError
from nstlab.images import Pictures, find_picture, load_image, read_settings, to_pixels
from nstlab.optimise import INITIAL_VALUES, cover, initial_value, to_paint_from, to_show
from nstlab.settings import Settings, choices
from nstlab.storage import out_folder, write_whole
from nstlab.widgets.parts import FRONT, Viewer, data_url

THUMBNAIL = 96
SCREEN = 2048  # pixels of the longer side that are sent at most


def for_screen(image: torch.Tensor) -> torch.Tensor:
    """A picture (1, 3, H, W), made smaller by averaging areas if it has more pixels than a screen shows."""
    scale = SCREEN / max(image.shape[2:])
    if scale >= 1:
        return image
    return interpolate(image, [max(1, round(scale * side)) for side in image.shape[2:]], mode="area")


def jpeg(image: torch.Tensor, quality: int = 88) -> bytes:
    """(1, 3, H, W) in [0, 1] units, clamped, as a JPEG for the screen."""
    buffer = io.BytesIO()
    Image.fromarray(to_pixels(for_screen(image))).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def thumbnail(picture: str | Path) -> str:
    """A picture as the data URL of a small JPEG. Raises RequestError if it cannot be read."""
    path = find_picture(picture)
    return _thumbnail(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _thumbnail(path: str, _: int) -> str:
    buffer = io.BytesIO()
    images.thumbnail(path, THUMBNAIL).save(buffer, format="JPEG", quality=82)  # a tile shows a square of it
    return data_url(buffer.getvalue())


def initial_thumbnails(settings: Settings) -> dict[str, str]:
    """Thumbnails of all initial values for these two pictures."""
    content, style = (load_image(name, THUMBNAIL, smallest=1) for name in (settings.content, settings.styles[0]))
    names = [*INITIAL_VALUES, *(reference for name, reference in settings.code.items() if name == "init")]
    return {name: data_url(jpeg(initial_value(name, content, style, settings.seed), 82)) for name in names}


def colour_thumbnails(settings: Settings) -> dict[str, str]:
    """What each way to treat colour does to these pictures: to the mean of content and styles, for a painting.

    The mean is made of what the loss would see, and shown as a result is.
    """
    content = load_image(settings.content, THUMBNAIL, smallest=1)
    styles = tuple(cover(load_image(name, THUMBNAIL, smallest=1), *content.shape[2:]) for name in settings.styles)
    found = {}
    for colour in choices("colour"):
        seen = to_paint_from(Pictures(content, styles), colour)
        style = sum(v * style for v, style in zip(settings.proportions, seen.styles, strict=True))
        found[colour] = data_url(jpeg(to_show((seen.content + style) / 2, content, colour), 85))
    return found


def keep_upload(name: str, data: bytes, out: Path | None, size: int) -> Path:
    """Store an uploaded picture in out/uploads and return its path; its ending is that of what it is.

    size: the run's. Raises RequestError for what is not a picture, or cannot be read at that size.
    """
    endings = FORMATS[format_at(name, data, size)]
    stem, ending = Path(name).stem, Path(name).suffix.lower()
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_")[:40] or "picture"
    name = f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}{ending if ending in endings else endings[0]}"
    path = out_folder(out) / "uploads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    return path


def format_at(name: str, data: bytes, size: int) -> str:
    """An upload's format. Raises RequestError, with its name, unless it can be read at this size, however narrow."""
    with _as_file(name, data) as path:
        load_image(path, size, smallest=1)
        return format_of(path)


def settings_inside(name: str, data: bytes) -> Settings:
    """The settings inside a result PNG. Raises RequestError if there are none."""
    with _as_file(name, data) as path:
        return read_settings(path)


@contextmanager
def _as_file(name: str, data: bytes) -> Iterator[Path]:
    """An upload as a temporary file; errors about it give the upload's name."""
    with tempfile.TemporaryDirectory(prefix="nstlab-") as folder:
        path = Path(folder) / f"upload{Path(name).suffix}"
        path.write_bytes(data)
        try:
            yield path
        except RequestError as error:
            raise RequestError(str(error).replace(str(path), name)) from None


def still(viewer: Viewer) -> str:
    """What a viewer shows, as HTML. It shows only where the panel is missing, in place of the line that says so."""
    style = (FRONT / "still.css").read_text(encoding="utf-8")
    caption = f"{html.escape(viewer.caption)}. Run this cell for the panel."
    picture = data_url(bytes(viewer.result_picture))
    alt = f"the panel's picture, {html.escape(viewer.caption)}"
    figure = f'<figure><img src="{picture}" alt="{alt}"><figcaption>{caption}</figcaption></figure>'
    return f'<div class="nst-still"><style>{style}</style>{figure}</div>'
