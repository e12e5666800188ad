"""Paint on a canvas: brush strokes with bristles and thickness, light on relief, paper grain, resizing."""

import numpy as np
from PIL import Image
from scipy import ndimage

from .fields import noise


class Canvas:
    """A picture being painted: its colour and, for every pixel, the thickness of the paint."""

    def __init__(self, shape, ground):
        self.colour = np.empty((*shape, 3), dtype=np.float32)
        self.colour[:] = ground
        self.thickness = np.zeros(shape, dtype=np.float32)

    @property
    def shape(self):
        return self.thickness.shape

    def stroke(self, path, width, colour, rng, opacity=1.0, load=1.0, ragged=0.25, streak=0.05, taper=0.6):
        """Pull a loaded brush along a path of (y, x) points.

        The brush is a row of bristles: each has its own height of paint, its own shade (`streak` is how
        strongly they differ) and leaves the canvas at its own place (`ragged` is the part of the stroke over
        which they do). `load` scales the thickness and `taper` how far the ends are rounded.
        """
        along, across, place = ribbon(path, width, rng, taper)
        bristle = 1.6 * ndimage.gaussian_filter1d(rng.standard_normal(len(across)), 1.4).astype(np.float32)
        waver = ndimage.gaussian_filter1d(rng.standard_normal(len(along)), 6).astype(np.float32)
        start = 0.06 + 0.04 * bristle
        end = 1 - ragged * np.abs(ndimage.gaussian_filter1d(rng.standard_normal(len(across)), 1.0))
        inside = (along[:, None] > start) & (along[:, None] < end) & within(place, self.shape)
        rows, columns = place[0][inside], place[1][inside]

        ridge = 0.45 * np.abs(across) ** 3 + 0.35 * bristle + 0.55
        profile = load * (ridge[None, :] * (0.8 + 0.5 * along[:, None] ** 2))
        shade = streak * (bristle[None, :] + 0.4 * waver[:, None])
        fresh = np.clip(colour + shade[inside][:, None], 0, 1)
        self.colour[rows, columns] += opacity * (fresh - self.colour[rows, columns])
        self.thickness[rows, columns] = 0.45 * self.thickness[rows, columns] + profile[inside]

    def lit(self, strength=0.5, gloss=0.12, weave=0.0, rng=None):
        """The colour as seen with light from the upper left raking over the paint."""
        thickness = ndimage.gaussian_filter(self.thickness, 0.9)
        if weave:
            thickness = thickness + weave * canvas_weave(self.shape, rng)
        return light_relief(self.colour, thickness, strength, gloss)


def ribbon(path, width, rng, taper=0.6):
    """A band of places along a path: the part run (0 to 1), the offset across (-1 to 1), and (rows, columns).

    The rows and columns are whole pixels, close enough together to leave no gaps. The width wavers, and
    `taper` is how far it shrinks towards the ends.
    """
    along, position, normal = _resampled(path)
    across = np.linspace(-1, 1, max(int(width * 1.5), 4), dtype=np.float32)
    waver = ndimage.gaussian_filter1d(rng.standard_normal(len(along)), 6).astype(np.float32)
    ends = np.minimum(along / 0.12, (1 - along) / 0.18).clip(0, 1)
    half = (1 - taper + taper * np.sqrt(ends)) * (1 + 0.25 * waver) * width / 2
    offset = across * half[:, None]
    rows = np.rint(position[:, :1] + normal[:, :1] * offset).astype(int)
    columns = np.rint(position[:, 1:] + normal[:, 1:] * offset).astype(int)
    return along, across, (rows, columns)


def within(place, shape):
    """Which of the (rows, columns) lie on a picture of the given shape."""
    rows, columns = place
    return (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])


def _resampled(path, step=0.65):
    """A path at even steps: the part run (0 to 1), the places and the unit normals."""
    path = np.asarray(path, dtype=np.float32)
    run = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    along = np.linspace(0, 1, max(int(run[-1] / step), 6), dtype=np.float32)
    position = np.stack([np.interp(along * run[-1], run, path[:, k]) for k in (0, 1)], axis=-1)
    tangent = np.gradient(ndimage.gaussian_filter1d(position, 4, axis=0, mode="nearest"), axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    return along, position, np.stack([-tangent[:, 1], tangent[:, 0]], axis=-1)


def light_relief(colour, height, strength=0.5, gloss=0.1):
    """Shade a picture as a relief lit from the upper left, with a soft highlight on slopes facing it."""
    slope_y, slope_x = np.gradient(height)
    facing = (-slope_y - slope_x) * -0.7071 * -1
    facing = np.tanh(2.5 * facing)
    lit = colour * (1 + strength * facing)[..., None]
    return np.clip(lit + gloss * np.clip(facing, 0, 1)[..., None] ** 2, 0, 1)


def canvas_weave(shape, rng, pitch=5.0):
    """The crossing threads of a woven cloth as a height field around 0."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    y = y + 1.2 * noise(shape, 60, rng)
    x = x + 1.2 * noise(shape, 60, rng)
    threads = np.sin(2 * np.pi * x / pitch) * np.sin(2 * np.pi * y / pitch)
    return threads * (0.5 + 0.2 * noise(shape, 20, rng))


def paper_grain(shape, rng, scale=3.0):
    """The tooth of rough paper as a height field of deviation 1."""
    return 0.7 * noise(shape, scale, rng) + 0.5 * noise(shape, 2.5 * scale, rng) + 0.4 * noise(shape, 1, rng)


def resized(picture, shape):
    """A picture reduced to (height, width) with the Lanczos filter, each channel in full precision."""
    channels = [np.ascontiguousarray(picture[..., c], dtype=np.float32) for c in range(3)]
    size = (shape[1], shape[0])
    small = [np.asarray(Image.fromarray(c).resize(size, Image.Resampling.LANCZOS)) for c in channels]
    return np.clip(np.stack(small, axis=-1), 0, 1)
