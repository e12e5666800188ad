"""Colours: reading hex codes, gradients, mixing and small random changes of hue."""

import numpy as np


def rgb(code):
    """The colour written as six hex digits, such as "1f4fa3", as three floats in [0, 1]."""
    return np.array([int(code[i : i + 2], 16) for i in (0, 2, 4)], dtype=np.float32) / 255


def palette(codes):
    """An (N, 3) array from a string of hex codes separated by blanks."""
    return np.stack([rgb(code) for code in codes.split()])


def gradient(colours, position):
    """Colours read off an evenly spaced ramp at each position in [0, 1]; any shape of position."""
    position = np.clip(position, 0, 1)
    stops = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(position, stops, colours[:, c]) for c in range(3)], axis=-1).astype(np.float32)


def mix(first, second, amount):
    """Linear mixture of two colours or pictures; amount 0 gives the first, 1 the second."""
    amount = np.asarray(amount, dtype=np.float32)
    if amount.ndim:
        amount = amount[..., None]
    return first + (second - first) * amount


def vary(colours, rng, hue=0.03, value=0.06):
    """Colours with a random shift of each channel (hue) and of all channels together (value)."""
    colours = np.asarray(colours, dtype=np.float32)
    own = rng.normal(0, hue, colours.shape)
    common = rng.normal(0, value, colours.shape[:-1] + (1,))
    return np.clip(colours + own + common, 0, 1).astype(np.float32)


def in_bytes(colour):
    """A colour as three whole numbers from 0 to 255, as Pillow's drawing functions take it."""
    return tuple(round(255 * float(c)) for c in np.clip(colour, 0, 1))
