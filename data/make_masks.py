"""Make the sample masks in data/mask/ from the sample photographs.

    python data/make_masks.py

Each is a random walker's answer (Grady 2006, scikit-image) to a few strokes by hand: which pixels are more easily
reached from the strokes inside than from those outside. A mask and its complement are two files.
"""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage import data, draw, segmentation, transform

FOLDER = Path(__file__).resolve().parent / "mask"
SIDE = 256  # of the longer side: a mask is smooth
SOFT = 1.0  # pixels over which its edge fades
BETA = 120.0  # how strongly a change of colour stops the walker

# photograph: names of the two masks, strokes inside and outside as polygons of (x, y) in fractions of the sides
MASKS = {
    "astronaut": (
        ("astronaut-figure", "astronaut-ground"),
        [
            [(0.36, 0.10), (0.46, 0.06), (0.52, 0.12), (0.52, 0.36), (0.40, 0.38), (0.36, 0.25)],
            [(0.20, 0.62), (0.45, 0.45), (0.70, 0.62), (0.72, 0.96), (0.10, 0.97)],
            [(0.10, 0.80), (0.30, 0.55), (0.32, 0.95)],
        ],
        [
            [(0.01, 0.01), (0.26, 0.01), (0.24, 0.38), (0.01, 0.55)],
            [(0.60, 0.01), (0.99, 0.01), (0.99, 0.50), (0.76, 0.48), (0.66, 0.40), (0.60, 0.34)],
            [(0.34, 0.01), (0.60, 0.01), (0.60, 0.03), (0.46, 0.02), (0.38, 0.04), (0.33, 0.09), (0.28, 0.18)],
            [(0.69, 0.50), (0.75, 0.55), (0.74, 0.65), (0.71, 0.60)],
            [(0.00, 0.65), (0.03, 0.68), (0.03, 0.99), (0.00, 0.99)],
        ],
    ),
    "rocket": (
        ("rocket-sky", "rocket-ground"),
        [[(0.01, 0.01), (0.99, 0.01), (0.99, 0.55), (0.62, 0.55), (0.38, 0.55), (0.01, 0.55)]],
        [[(0.01, 0.93), (0.99, 0.93), (0.99, 0.99), (0.01, 0.99)]],
    ),
    "chelsea": (
        ("chelsea-cat", "chelsea-ground"),
        [
            [(0.35, 0.25), (0.55, 0.25), (0.62, 0.75), (0.45, 0.95), (0.30, 0.80)],
            [(0.62, 0.40), (0.76, 0.36), (0.77, 0.50), (0.74, 0.62), (0.62, 0.90)],
        ],
        [
            [(0.01, 0.02), (0.18, 0.02), (0.12, 0.40), (0.01, 0.50)],
            [(0.80, 0.02), (0.99, 0.02), (0.99, 0.30), (0.90, 0.20)],
            [(0.90, 0.55), (0.99, 0.55), (0.99, 0.99), (0.86, 0.99)],
        ],
    ),
}


def mask(photograph, inside, outside):
    """How surely each pixel is inside, (h, w) in [0, 1]."""
    scale = SIDE / max(photograph.shape[:2])
    shape = tuple(round(side * scale) for side in photograph.shape[:2])
    picture = transform.resize(photograph, shape, anti_aliasing=True)
    strokes = np.zeros(shape, dtype=int)
    for label, polygons in ((1, inside), (2, outside)):
        for polygon in polygons:
            x, y = np.array(polygon).T
            strokes[draw.polygon(y * shape[0], x * shape[1], shape)] = label
    sure = segmentation.random_walker(picture, strokes, beta=BETA, mode="cg_j", channel_axis=2, return_full_prob=True)
    return gaussian_filter((sure[0] > 0.5).astype(float), SOFT)


def main():
    """Make all masks."""
    FOLDER.mkdir(exist_ok=True)
    for name, (pair, inside, outside) in MASKS.items():
        found = mask(getattr(data, name)(), inside, outside)
        for file, t in zip(pair, (found, 1 - found), strict=True):
            pixels = np.rint(255 * t).astype(np.uint8)
            Image.fromarray(pixels).save(FOLDER / f"{file}.png", optimize=True)
            print(f"{file}.png  {pixels.shape[1]}x{pixels.shape[0]}  {t.mean():.0%} white")


if __name__ == "__main__":
    main()
