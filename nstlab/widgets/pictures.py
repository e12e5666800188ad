"""Pictures on their way to and from the browser."""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from nstlab import images
from nstlab.decoding import ENDINGS
from nstlab.errors import RequestError
from nstlab.images import find_picture, load_image, read_settings, to_pixels
from nstlab.optimise import INITIAL_VALUES, initial_value
from nstlab.settings import Settings
from nstlab.storage import home, write_whole
from nstlab.widgets.parts import data_url

THUMBNAIL = 96


def jpeg(image: torch.Tensor, quality: int = 88) -> bytes:
    """(1, 3, H, W) in [0, 1] units, clamped, as a JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(to_pixels(image)).save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def thumbnail(picture: str | Path) -> str:
    """A picture as the address of a small JPEG. Raises RequestError if it cannot be read."""
    path = find_picture(picture)
    return _thumbnail(str(path), path.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _thumbnail(path: str, _: int) -> str:
    buffer = io.BytesIO()
    images.thumbnail(path, THUMBNAIL).save(buffer, format="JPEG", quality=82)  # a tile shows a square of it
    return data_url(buffer.getvalue())


def initial_thumbnails(settings: Settings) -> dict[str, str]:
    """The seven initial values for these two pictures, small."""
    content, style = (load_image(name, THUMBNAIL, smallest=1) for name in (settings.content, settings.style))
    return {name: data_url(jpeg(initial_value(name, content, style, settings.seed), 82)) for name in INITIAL_VALUES}


def keep_upload(name: str, data: bytes, out: Path | None) -> Path:
    """Store an uploaded picture under out/uploads and give its path. Raises RequestError if it is no picture."""
    stem, ending = Path(name).stem, Path(name).suffix.lower()
    if ending not in ENDINGS:
        raise RequestError(f"{name} is no picture that can be read: {', '.join(ENDINGS)} are")
    check(name, data)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_")[:40] or "picture"
    path = (out or home() / "out") / "uploads" / f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    return path


def check(name: str, data: bytes) -> None:
    """Raise RequestError, naming the upload, unless load_image can read it."""
    with _as_file(name, data) as path:
        try:
            load_image(path, size=64, smallest=1)
        except RequestError as error:
            raise RequestError(str(error).replace(str(path), name)) from None


def settings_inside(name: str, data: bytes) -> Settings:
    """The settings that ride inside a result PNG. Raises RequestError if there are none."""
    with _as_file(name, data) as path:
        try:
            return read_settings(path)
        except RequestError as error:
            raise RequestError(str(error).replace(str(path), name)) from None


class _as_file:
    """Bytes as a file for as long as the block lasts."""

    def __init__(self, name: str, data: bytes) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="nstlab-")
        self.path = Path(self.folder.name) / f"upload{Path(name).suffix}"
        self.path.write_bytes(data)

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()
