"""Paint the style sample pictures into data/style/.

    python data/make_styles.py             paints all of them
    python data/make_styles.py swirl ink   paints the named ones

Each picture has its own seed: the same library versions give the same bytes.
"""

import argparse
import io
import time
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile
from styles.dots import dots
from styles.gilt import gilt
from styles.glass import glass
from styles.ink import ink
from styles.marbling import marbling
from styles.mosaic import mosaic
from styles.paint import resized
from styles.planes import planes
from styles.swirl import swirl
from styles.waves import waves
from styles.woodcut import woodcut

FOLDER = Path(__file__).resolve().parent / "style"
LARGEST_FILE = 300_000
ImageFile.MAXBLOCK = 2**23  # an optimised JPEG is written from a buffer that must hold all of it

# picture: its function and its size as (height, width)
PICTURES = {
    "swirl": (swirl, (640, 768)),
    "waves": (waves, (640, 768)),
    "glass": (glass, (704, 704)),
    "planes": (planes, (704, 704)),
    "dots": (dots, (560, 672)),
    "ink": (ink, (736, 608)),
    "marbling": (marbling, (640, 640)),
    "mosaic": (mosaic, (704, 704)),
    "woodcut": (woodcut, (704, 704)),
    "gilt": (gilt, (672, 672)),
}


def encode(picture):
    """The picture as JPEG bytes small enough for its file, and how it was compressed.

    Full colour resolution comes first, down to quality 85, then half of it.
    """
    image = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
    for subsampling, lowest in (("4:4:4", 85), ("4:2:0", 75)):
        for quality in range(92, lowest - 1, -1):
            stream = io.BytesIO()
            image.save(stream, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
            if stream.tell() <= LARGEST_FILE:
                return stream.getvalue(), f"quality {quality}, {subsampling}"
    raise ValueError("the picture does not fit its file size")


def make(name):
    """Paint one picture, write it and say what came of it."""
    began = time.perf_counter()
    paint, shape = PICTURES[name]
    picture = paint(shape, np.random.default_rng(zlib.crc32(name.encode())))
    data, manner = encode(resized(picture, shape))
    path = FOLDER / f"{name}.jpg"
    path.write_bytes(data)
    seconds = time.perf_counter() - began
    print(f"{path.name:14} {shape[1]}x{shape[0]}  {len(data) / 1000:.0f} kB  {manner}  {seconds:.1f} s")


def main(arguments=None):
    """Read the names from the command line and make those pictures."""
    parser = argparse.ArgumentParser(description="Paint the style sample pictures into data/style/.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="one of: " + " ".join(PICTURES))
    names = parser.parse_args(arguments).names or list(PICTURES)
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        parser.error("no such picture: " + " ".join(unknown))
    FOLDER.mkdir(exist_ok=True)
    for name in names:
        make(name)


if __name__ == "__main__":
    main()
