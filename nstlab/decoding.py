"""Any picture file -> upright 8-bit sRGB pixels, whatever its format, layout, colours and orientation."""

from __future__ import annotations

import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, ImageCms, JpegImagePlugin

from nstlab.errors import RequestError
from nstlab.storage import open_regular

FORMATS = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "AVIF": (".avif",),
}
"""The only Pillow formats that are read, recognised by content, not by ending: some others start programs."""
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)

MOST_PIXELS = 100_000_000
LARGE = 20_000_000  # pixels; a larger picture is shrunk while it is read
LONGEST_PROFILE = 4 << 20  # bytes
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What EXIF's tag 274 asks for; 1 is upright."""
OTHER_FILES = (
    (lambda head: head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "HEIC,"),
    (lambda head: head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")), "JPEG XL,"),
    (lambda head: head.startswith(b"<svg") or b"<svg" in head[:512], "SVG,"),
    (lambda head: head.startswith((b"%!PS", b"\xc5\xd0\xd3\xc6")), "PostScript,"),
    (lambda head: head.startswith(b"%PDF"), "PDF,"),
    (lambda head: head.startswith(b"8BPS"), "Photoshop's PSD,"),
    (lambda head: head.startswith((b"II*\0", b"MM\0*")), "a kind of TIFF (floating-point, say)"),
)
"""(whether a file's first bytes match, what it is): files that people may expect to be readable."""
RAW_ENDINGS = (".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")


def decode(path: Path, size: int | None = None, behind: str = "white") -> Image.Image:
    """The picture in a file as 8-bit RGB: upright, in sRGB, transparent parts over the colour `behind`.

    Any colour profile is applied, also grey, CMYK and Lab ones. Grey, palette and 16-bit pictures become RGB.
    size: the longer side that is wanted, in pixels; a picture of more than 20 megapixels is then shrunk while it is
    read, but not below that size. Raises RequestError for a file that is not a picture, is damaged, cannot be read
    or has more than 100 million pixels.
    """
    with _one_line(path), open_regular(path) as file, _quiet(file):
        picture = _opened(file, path)
        _check_pixels(picture, size)
        return _to_rgb(picture, file, size, behind)


def profile_of(path: Path) -> str | None:
    """The name of the colour profile that `decode` converts from; None if the pixels are sRGB already.

    Raises RequestError like `decode`.
    """
    with _one_line(path), open_regular(path) as file, _quiet(file):
        picture = _opened(file, path)
        profile = _profile(picture)
        return None if profile is None else ImageCms.getProfileDescription(profile).strip() or "an unnamed profile"


def format_of(path: Path) -> str:
    """Which of FORMATS a picture has, by its content. Raises RequestError like `decode`."""
    with _one_line(path), open_regular(path) as file, _quiet(file):
        return str(_opened(file, path).format)


def shape_of(path: Path) -> tuple[int, int]:
    """Width and height of a picture once upright, without decoding it. Raises RequestError like `decode`."""
    with _one_line(path), open_regular(path) as file, _quiet(file):
        picture = _opened(file, path)
        return picture.size[::-1] if _orientation(picture) >= 5 else picture.size


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turns the different errors of the picture readers into one line about this file."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"{path} {error}") from None
    except Image.DecompressionBombError:
        raise RequestError(f"{path} claims more than {MOST_PIXELS:,} pixels") from None
    except MemoryError:
        raise RequestError(f"{path} does not fit into memory: save it with fewer pixels") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # Pillow's own errors have none
            raise RequestError(f"{path} cannot be read: {error.strerror}") from None
        reason = " ".join((str(error) or type(error).__name__).split())
        raise RequestError(f"{path} is damaged and cannot be read: {reason[:200]}") from None


_reading = threading.RLock()  # all threads share the warning filters and stderr


@contextmanager
def _quiet(file: BinaryIO) -> Iterator[None]:
    """Silences Pillow's warnings, and those that libtiff writes to stderr by itself."""
    tiff = file.read(2) in (b"II", b"MM")
    file.seek(0)
    with _reading, warnings.catch_warnings(), _stderr_closed() if tiff else nullcontext():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _stderr_closed() -> Iterator[None]:
    try:
        stderr = os.dup(2)
    except OSError:  # this process has no stderr
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def _opened(file: BinaryIO, path: Path) -> Image.Image:
    try:
        return Image.open(file, formats=tuple(FORMATS))
    except Image.DecompressionBombError:
        file.seek(0)
        if file.read(3) != b"\xff\xd8\xff":
            raise
        file.seek(0)
        return JpegImagePlugin.JpegImageFile(file)  # of any size: it can be shrunk while it is read
    except Image.UnidentifiedImageError:
        file.seek(0)
        raise RequestError(_what_else(file.read(1024), path)) from None


def _what_else(head: bytes, path: Path) -> str:
    """What a file unknown to Pillow is, and what to do about it."""
    if not head:
        return "is empty"
    if head[:64].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "is a web page, not a picture"
    names = [name for matches, name in OTHER_FILES if matches(head)]
    if path.suffix.lower() in RAW_ENDINGS:
        names = ["a camera's raw file,"]
    if names:
        return f"is {names[0]} which is not read: save it as JPEG or PNG"
    return f"is not a readable picture (readable: {', '.join(FORMATS)})"


def _check_pixels(picture: Image.Image, size: int | None) -> None:
    """Shrinks a large JPEG (to an eighth at most); refuses a picture that still has too many pixels."""
    width, height = picture.size
    if isinstance(picture, JpegImagePlugin.JpegImageFile) and size is not None and width * height > LARGE:
        for factor in (2, 1):  # twice the size resamples better
            scale = factor * size / max(width, height)
            picture.draft(None, (max(1, int(width * scale)), max(1, int(height * scale))))
            if picture.width * picture.height <= MOST_PIXELS:
                return
    if picture.width * picture.height > MOST_PIXELS:
        raise RequestError(f"claims {width} x {height} pixels, more than {MOST_PIXELS:,}")


def _to_rgb(picture: Image.Image, file: BinaryIO, size: int | None, behind: str) -> Image.Image:
    profile, orientation = _profile(picture), _orientation(picture)
    if picture.format == "TIFF" and _bits(picture) > 8:
        picture = _deep_tiff(file)
    elif picture.mode.startswith("I"):  # 16 bits a pixel, however they are stored
        picture = _to_8_bits(np.asarray(picture).clip(0, 65535).astype(np.uint16))
    elif picture.mode == "F":
        raise RequestError("has floating-point pixels of unknown range: save it as PNG or JPEG")
    if size is not None and picture.width * picture.height > LARGE and picture.mode not in ("P", "1"):
        picture = picture.reduce(max(1, max(picture.size) // (2 * size)))
    if orientation != 1:
        picture = picture.transpose(ORIENTATIONS[orientation])
    alpha = None
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("LA" if picture.mode in ("LA", "La") and profile is not None else "RGBA")
        alpha = picture.getchannel("A")
        picture = picture.convert(picture.mode[:-1])
    picture = _to_srgb(picture, profile)
    if alpha is not None:
        picture.putalpha(alpha)
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, behind), picture).convert("RGB")
    return picture


def _to_srgb(picture: Image.Image, profile: ImageCms.ImageCmsProfile | None) -> Image.Image:
    """The picture converted to sRGB by its profile, if it has one."""
    if picture.mode == "LAB" and profile is None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    if profile is None:
        return picture.convert("RGB")
    if picture.mode not in ("RGB", "L", "CMYK", "LAB"):
        picture = picture.convert("RGB")
    space = profile.profile.xcolor_space.strip()
    if {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}[picture.mode] != space:
        return picture.convert("RGB")  # the profile is for another colour space than the pixels'
    try:
        return ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError:  # a broken profile does not make the picture unreadable
        return picture.convert("RGB")


def _profile(picture: Image.Image) -> ImageCms.ImageCmsProfile | None:
    """The picture's colour profile; None if there is none, it is sRGB, or it cannot be read."""
    data = picture.info.get("icc_profile")
    if not isinstance(data, bytes) or not data or len(data) > LONGEST_PROFILE:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        return None if "srgb" in ImageCms.getProfileDescription(profile).lower() else profile
    except (OSError, ImageCms.PyCMSError, UnicodeError):
        return None


def _orientation(picture: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; 1 if it is missing or broken."""
    try:
        value = int(picture.getexif().get(274, 1))
    except Exception:  # Pillow raises many errors for broken tags; the pixels may still be fine
        return 1
    return value if value in ORIENTATIONS else 1


def _bits(picture: Any) -> int:
    """The most bits per sample of a TIFF."""
    bits = picture.tag_v2.get(258, (1,))
    return max(bits) if isinstance(bits, tuple) else int(bits)


def _deep_tiff(file: BinaryIO) -> Image.Image:
    """A TIFF of 16 or 32 bits per sample, read by tifffile: Pillow gets some of their layouts wrong."""
    file.seek(0)
    page = tifffile.TiffFile(file).pages[0]
    if page.dtype is None or page.dtype.kind != "u":
        raise RequestError(f"has pixels of type {page.dtype}, whose range is unknown: save it as PNG or JPEG")
    if page.imagelength * page.imagewidth > MOST_PIXELS:
        raise RequestError(f"claims {page.imagewidth} x {page.imagelength} pixels, more than {MOST_PIXELS:,}")
    try:
        pixels = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise RequestError("has more than 8 bits and an unsupported compression: save it as PNG") from None
    if page.axes.startswith("S"):  # stored one colour after the other
        pixels = np.moveaxis(pixels, 0, -1)
    if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels
    elif page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
        raise RequestError("has more than 8 bits and is neither grey nor RGB: save it as PNG")
    return _to_8_bits(pixels)


def _to_8_bits(pixels: np.ndarray) -> Image.Image:
    """Unsigned integers of any depth, (H, W) or (H, W, samples), as a picture with 8 bits per sample."""
    pixels = np.round(pixels / (np.iinfo(pixels.dtype).max / 255)).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] > 4:
        pixels = pixels[..., :4]
    return Image.fromarray(pixels.squeeze(-1) if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
