"""Pictures of every format that is read, damaged; and what is no picture, under a picture's name."""

from __future__ import annotations

import io
import os
import random
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms

import nstlab as lab
from nstlab.decoding import profile_of, shape_of

from .harness import Fault, Kind, mutated

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(mark) (w) file closefile\nshowpage\n"


def prepare(folder: Path) -> list[bytes]:
    """Whole pictures, small ones: what is damaged afterwards."""
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([4 * columns, 5 * rows, (rows * columns) % 256], -1).astype(np.uint8)
    picture = Image.fromarray(pixels)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    exif = Image.Exif()
    exif[274], exif[282], exif[36867] = 6, 72, "2026:01:01 00:00:00"
    found = [POSTSCRIPT]

    def save(image: Image.Image, name: str, **options: object) -> None:
        buffer = io.BytesIO()
        image.save(buffer, name, **options)
        found.append(buffer.getvalue())

    for name, options in (
        ("JPEG", {"exif": exif}),
        ("JPEG", {"icc_profile": profile, "progressive": True}),
        ("PNG", {"exif": exif, "icc_profile": profile}),
        ("WEBP", {"exif": exif}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate", "icc_profile": profile}),
        ("TIFF", {"compression": "jpeg"}),
        ("TIFF", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("AVIF", {}),
    ):
        save(picture, name, **options)
    save(picture.convert("CMYK"), "JPEG")
    save(picture.convert("L"), "JPEG", icc_profile=profile)
    save(picture.quantize(16), "PNG", transparency=3)
    save(picture.convert("RGBA"), "PNG")
    save(picture.convert("1"), "TIFF", compression="group4")
    for compression in (None, "zlib"):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels.astype(np.uint16) * 257, photometric="rgb", compression=compression)
        found.append(buffer.getvalue())
    save(Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), "PNG")
    buffer = io.BytesIO()
    lab.save_image(torch.rand(1, 3, 48, 64), folder / "ours.png", lab.Settings())
    found.append((folder / "ours.png").read_bytes())
    return found


def attempt(wholes: list[bytes], chance: random.Random, number: int, folder: Path) -> None:
    path = folder / f"picture{chance.choice(('.png', '.jpg', '.tif', '.gif', '.webp', '.heic', ''))}"
    if number % 100 == 0:
        _no_file(folder, number // 100)
        return
    whole = chance.choice(wholes)
    path.write_bytes(mutated(whole, chance) if whole is not POSTSCRIPT else whole)
    size = chance.choice((None, 40, 64))
    image = lab.load_image(path, size)
    if image.dtype != torch.float32 or image.shape[:2] != (1, 3) or not 0 <= image.min() <= image.max() <= 1:
        raise Fault(f"it gives {tuple(image.shape)}, {image.dtype}")
    if whole is POSTSCRIPT:
        raise Fault("PostScript was read")
    shape_of(path), profile_of(path), lab.Run(lab.Settings(content=str(path), size=40), folder)


def _no_file(folder: Path, number: int) -> None:
    """A pipe, devices, a folder, a link to nothing: refused at once, none read."""
    path = folder / "picture.png"
    number %= 5
    if number == 0:
        os.mkfifo(path)
    elif number < 3:
        path = Path(("/dev/zero", "/proc/kmsg")[number - 1])
    elif number == 3:
        path.mkdir()
    else:
        path.symlink_to(folder / "nothing")
    for read in (lab.load_image, lab.read_settings, lambda path: lab.Run(lab.Settings(content=str(path)), folder)):
        try:
            read(path)
        except lab.RequestError as error:
            if "\n" in str(error):
                raise
            continue
        raise Fault(f"{path} was read as a picture")


KIND = Kind("pictures", prepare, attempt)
