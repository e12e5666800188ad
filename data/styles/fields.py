"""Scalar and vector fields over the picture plane: noise, ramps, flow directions and stream lines."""

import numpy as np
from scipy import ndimage


def smoothstep(low, high, x):
    """A soft step of x from 0 at low to 1 at high."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def grid(shape):
    """Row and column coordinates (y, x) of every pixel as float32 arrays."""
    return np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)


def noise(shape, scale, rng):
    """Smooth noise with features about `scale` pixels wide (a number, or one for rows and one for columns).

    The mean is 0 and the standard deviation 1.
    """
    scales = np.broadcast_to(np.asarray(scale, dtype=float), 2)
    steps = np.maximum(scales / 4, 1)
    coarse_shape = [int(np.ceil(n / s)) + 8 for n, s in zip(shape, steps, strict=True)]
    coarse = ndimage.gaussian_filter(rng.standard_normal(coarse_shape), scales / steps / 2, mode="wrap")
    if max(steps) > 1:
        rows = np.arange(shape[0]) / steps[0] + 3
        columns = np.arange(shape[1]) / steps[1] + 3
        coarse = _resample(coarse, rows, columns)
    field = coarse[: shape[0], : shape[1]]
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _resample(values, rows, columns):
    """Cubic spline interpolation of a small array at every crossing of the given rows and columns."""
    places = np.meshgrid(rows, columns, indexing="ij")
    return ndimage.map_coordinates(values, places, order=3, mode="nearest", output=np.float32)


def fractal_noise(shape, scale, rng, octaves=4, gain=0.5):
    """A sum of noises, each half the size and `gain` times the strength of the one before; deviation 1."""
    total = sum(gain**k * noise(shape, np.asarray(scale) / 2**k, rng) for k in range(octaves))
    return (total / total.std()).astype(np.float32)


def along_contours(height):
    """Unit vectors (dy, dx) along the level lines of a scalar field, with high ground on one side."""
    rise_y, rise_x = np.gradient(height)
    flow = np.stack([-rise_x, rise_y], axis=-1)
    return unit(flow)


def unit(vectors):
    """Vectors scaled to length 1."""
    return (vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9)).astype(np.float32)


def pick(field, points):
    """Values of a field at (y, x) points, nearest pixel, the border repeated outside."""
    rows = np.clip(np.rint(points[..., 0]).astype(int), 0, field.shape[0] - 1)
    columns = np.clip(np.rint(points[..., 1]).astype(int), 0, field.shape[1] - 1)
    return field[rows, columns]


def stream_lines(flow, starts, lengths, steps=14):
    """Curves of the given lengths through the starts, each following the flow; an (N, steps, 2) array."""
    stride = (np.broadcast_to(lengths, len(starts)) / (steps - 1))[:, None]
    half = steps // 2
    curve = np.empty((len(starts), steps, 2), dtype=np.float32)
    curve[:, half] = starts
    for k in range(half + 1, steps):
        curve[:, k] = curve[:, k - 1] + stride * _midpoint(flow, curve[:, k - 1], stride)
    for k in range(half - 1, -1, -1):
        curve[:, k] = curve[:, k + 1] - stride * _midpoint(flow, curve[:, k + 1], -stride)
    return curve


def _midpoint(flow, points, stride):
    """Flow half a stride ahead, which keeps curves on their circles better than the flow at the point."""
    return pick(flow, points + 0.5 * stride * pick(flow, points))


def scattered_points(shape, spacing, rng, margin=0.0):
    """Points spread evenly but irregularly, about `spacing` apart, in random order; (N, 2) as (y, x)."""
    low, step = -margin, spacing
    rows = np.arange(low, shape[0] + margin, step * 0.866)
    columns = np.arange(low, shape[1] + margin, step)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    x = x + (np.arange(len(rows)) % 2)[:, None] * step / 2
    points = np.stack([y.ravel(), x.ravel()], axis=-1)
    points += rng.uniform(-0.45, 0.45, points.shape) * spacing
    return rng.permutation(points).astype(np.float32)
