"""Marbled paper: drops of colour on size, combed and curled."""

import numpy as np
from scipy import ndimage

from .colour import mix, palette, rgb
from .fields import fractal_noise, grid, noise
from .paint import light_relief, paper_grain

COLOURS = palette("14254f 8f1d2c f1e4c6 1f6f78 d99a2b f1e4c6 2f4f9a c4502e 0f1a2e e9b9a0 3f8f7a f6ecd6")
VEIN = rgb("f3e6ca")


def marbling(shape, rng):
    """Each pixel is followed backwards through curls, combs and rakes to the drops it came from.

    A drop of area a pushes older paint outwards so that areas are kept; run backwards this is exact, and a
    pixel that ends inside a drop takes its colour. Rakes and combs carry paint along parallel tines, less
    the farther it lies from one.
    """
    work = (2 * shape[0], 2 * shape[1])
    y, x = grid(work) / work[0]
    y, x = y + 0.004 * noise(work, 0.10 * work[0], rng), x + 0.004 * noise(work, 0.10 * work[0], rng)
    for cy, cx, radius, turn in [
        (0.27, 0.30, 0.15, 3.4),
        (0.70, 0.72, 0.17, -3.8),
        (0.80, 0.20, 0.10, -3.0),
        (0.22, 0.80, 0.11, 3.0),
        (0.50, 0.52, 0.08, -2.6),
    ]:
        y, x = _curl(y, x, cy, cx, radius, turn)
    x = x - 0.030 * np.sin(2 * np.pi * y * 2.5)
    y, x = _comb(y, x, 0.052, 0.072, 0.25)
    x, y = _comb(x, y, 0.115, -0.26, 0.35)
    x, y = _comb(x, y, 0.115, 0.24, 0.35, shift=0.0575)
    colour, depth = _drops(y, x, rng)
    return _on_paper(colour, depth, rng)


def _curl(y, x, cy, cx, radius, turn):
    """Undo a stir that turned the paint about a centre, strongest there."""
    dy, dx = y - cy, x - cx
    angle = -turn * np.exp(-(dy**2 + dx**2) / radius**2)
    return cy + dy * np.cos(angle) + dx * np.sin(angle), cx + dx * np.cos(angle) - dy * np.sin(angle)


def _comb(across, along, spacing, pull, softness, shift=0.0):
    """Undo the pull of tines `spacing` apart; softness is how far paint between them is carried along."""
    away = np.abs((across + shift + spacing / 2) % spacing - spacing / 2) / spacing
    return across, along - pull * (np.exp(-np.sqrt(away**2 + 4e-4) / (0.4 * softness)) - 0.25)


def _drops(y, x, rng):
    """The colour of the drop each place comes from, and how deep inside the drop it is (0 at its rim)."""
    shape = y.shape
    y, x = y.ravel().astype(np.float32), x.ravel().astype(np.float32)
    colour = np.empty((y.size, 3), dtype=np.float32)
    colour[:] = COLOURS[0]
    depth = np.ones(y.size, dtype=np.float32)
    waiting = np.arange(y.size)
    drops = [(rng.uniform(-0.15, 1.15), rng.uniform(-0.15, 1.15), rng.uniform(0.035, 0.105), k) for k in range(150)]
    for cy, cx, radius, k in reversed(drops):
        dy, dx = y[waiting] - cy, x[waiting] - cx
        squared = dy**2 + dx**2 + 1e-9
        hit = squared < radius**2
        found = waiting[hit]
        colour[found] = COLOURS[k % len(COLOURS)]
        depth[found] = 1 - np.sqrt(squared[hit]) / radius
        waiting, dy, dx, squared = waiting[~hit], dy[~hit], dx[~hit], squared[~hit]
        shrink = np.sqrt(1 - radius**2 / squared)
        y[waiting], x[waiting] = cy + dy * shrink, cx + dx * shrink
    return colour.reshape(*shape, 3), depth.reshape(shape)


def _on_paper(colour, depth, rng):
    """The print: pale veins at rims, thin and thick paint, tiny holes and the grain of the paper."""
    shape = depth.shape
    film = 1 + 0.06 * fractal_noise(shape, 60, rng) - 0.16 * np.exp(-depth / 0.25)
    picture = np.clip(colour * film[..., None], 0, 1)
    holes = ndimage.gaussian_filter((noise(shape, 5, rng) > 2.9).astype(np.float32), 0.8)
    picture = mix(picture, VEIN, np.clip(holes, 0, 1) * 0.8)
    grain = paper_grain(shape, rng, 3)
    picture = mix(picture, VEIN, 0.05 + 0.02 * np.clip(grain, -1.5, 3))
    return light_relief(np.clip(picture, 0, 1), 0.04 * grain, 0.2, 0.0)
