"""File <-> tensor; the sample pictures; provenance inside PNGs."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import struct
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, PngImagePlugin

from nstlab.settings import RequestError, Settings, unknown
from nstlab.storage import home, write_whole

SMALLEST_SIDE = 32  # below it, pool5 has no position left
MOST_PIXELS = 100_000_000
PROVENANCE = "nstlab"  # the keyword of the PNG text chunk that holds the settings
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")


def catalogue() -> list[dict[str, str]]:
    """The rows of data/catalogue.csv: name, kind, file, title, maker, licence, source, sha256."""
    with (home() / "data" / "catalogue.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sample_pictures(kind: str | None = None) -> dict[str, Path]:
    """Name -> file of the sample pictures: the catalogue's, and whatever else lies in data/content and data/style.

    `kind` is "content" or "style"; None gives both.
    """
    kinds = (kind,) if kind else ("content", "style")
    samples = {row["name"]: _catalogued(row["file"]) for row in catalogue() if row["kind"] in kinds}
    for folder in kinds:
        for path in sorted((home() / "data" / folder).glob("*")):
            if path.suffix.lower() in ENDINGS:
                samples.setdefault(path.stem, path)
    return samples


def _catalogued(file: str) -> Path:
    package, _, name = file.rpartition(":")
    if not package:
        return home() / "data" / file
    folder = importlib.util.find_spec(package).submodule_search_locations[0]  # without importing the package
    return Path(folder) / name


def find_picture(name: str | Path) -> Path:
    """The file of a sample's name or of a path. Raises RequestError if there is none."""
    path = Path(name)
    if path.suffix or path.is_absolute() or len(path.parts) > 1:
        if not path.is_file():
            raise RequestError(f"no picture at {path}")
        return path
    samples = sample_pictures()
    if str(name) not in samples:
        raise RequestError(f"{unknown('sample picture', str(name), samples)} (a file needs its ending or folder)")
    return samples[str(name)]


def load_image(picture: str | Path, size: int | None = 256) -> torch.Tensor:
    """A picture as (1, 3, H, W) float32 RGB in [0, 1], its longer side `size` pixels (None: as it is).

    `picture` is a sample's name or a path. EXIF orientation is respected; grey, palette, CMYK and 16-bit
    pictures become RGB, transparent ones are laid over white. Lanczos resampling, enlarging too.
    Raises RequestError for what is no picture, is truncated, claims more than 100 million pixels, or would
    have a side under 32 pixels.

    >>> load_image("astronaut", size=64).shape
    torch.Size([1, 3, 64, 64])
    """
    path = find_picture(picture)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MOST_PIXELS decides, below
            with Image.open(path) as file:
                width, height = _resized(path, *file.size, size)
                rgb = _to_rgb(file)
    except RequestError as error:
        raise RequestError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    except Image.UnidentifiedImageError:
        raise RequestError(f"{path} is not a picture that can be read") from None
    except Image.DecompressionBombError:
        raise RequestError(f"{path} claims more than {MOST_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise RequestError(f"{path} is damaged and cannot be read: {error}") from None
    if rgb.width < rgb.height:
        width, height = min(width, height), max(width, height)  # EXIF may have turned it
    else:
        width, height = max(width, height), min(width, height)
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(rgb))  # (H, W, 3)
    return (pixels.permute(2, 0, 1)[None].float() / 255).contiguous()  # (1, 3, H, W)


def _resized(path: Path, width: int, height: int, size: int | None) -> tuple[int, int]:
    """The width and height that the picture will have; refuses what is too large or too small."""
    if width * height > MOST_PIXELS:
        raise RequestError(f"{path} claims {width} x {height} pixels, more than {MOST_PIXELS:,}")
    if size is None:
        new = (width, height)
    else:
        scale = size / max(width, height)
        new = (max(1, round(width * scale)), max(1, round(height * scale)))
    if min(new) < SMALLEST_SIDE:
        raise RequestError(f"{path} would be {new[0]} x {new[1]} pixels; both sides must be at least {SMALLEST_SIDE}")
    return new


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any picture that Pillow reads as 8-bit RGB, upright, transparent parts over white."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16 bits a pixel, however they are stored
        picture = Image.fromarray((np.asarray(picture).clip(0, 65535) / 257).round().astype(np.uint8))
    if picture.mode == "F":
        raise RequestError("floating-point pictures are not read; save it as PNG or JPEG")
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def to_pixels(image: torch.Tensor) -> np.ndarray:
    """(1, 3, H, W) in [0, 1] units, clamped and rounded to (H, W, 3) bytes: what is shown and saved."""
    return (image[0].detach().cpu() * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def save_image(image: torch.Tensor, path: str | Path, settings: Settings | None = None) -> None:
    """Write (1, 3, H, W) in [0, 1] units as PNG; with `settings`, they ride inside the file.

    The same picture and settings give the same bytes. Raises OSError if it cannot be written.
    """
    text = PngImagePlugin.PngInfo()
    if settings is not None:
        text.add_text(PROVENANCE, json.dumps(settings.model_dump(mode="json")))
    buffer = io.BytesIO()
    Image.fromarray(to_pixels(image)).save(buffer, format="PNG", pnginfo=text)
    write_whole(Path(path).absolute(), buffer.getvalue())


def read_settings(path: str | Path) -> Settings:
    """The settings that ride inside a PNG, or that a run's folder or run.json holds.

    Raises RequestError if there are none.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "run.json"
    if not path.is_file():
        raise RequestError(f"nothing at {path}")
    try:
        if path.suffix == ".json":
            stored = json.loads(path.read_text(encoding="utf-8"))["settings"]
        else:
            with Image.open(path) as file:
                file.load()  # text chunks may stand behind the pixels
                stored = json.loads(file.info[PROVENANCE])
        return Settings(**stored)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from None
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, Image.DecompressionBombError):
        raise RequestError(f"{path} holds no settings of nstlab") from None
