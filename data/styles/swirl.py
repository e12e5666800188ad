"""A night sky of whorls over water, in thick paint."""

import numpy as np

from .colour import gradient, mix, palette, vary
from .fields import along_contours, grid, noise, pick, scattered_points, smoothstep, stream_lines, unit
from .paint import Canvas

NIGHT = palette("0b1440 132a6e 1b429a 2a63b8 4b8fcc 8fbfdb d3e3d6")
GLOW = palette("2a63b8 5fa3c4 bcd6b0 f0e29a f7cf45 f5b21e fff3c0")
WATER = palette("081238 0f2a66 17508f 2f83a8 78b6bb")
HILLS = palette("070c26 0d1f45 134063 1f6468 4f8f78 a8b878")

# centre (y, x), reach, strength and number of arms of each whorl, in parts of the picture's height
WHORLS = [(0.36, 0.50, 0.19, -0.52, -2), (0.47, 0.86, 0.12, 0.34, 1), (0.60, 0.24, 0.075, -0.17, -1)]
# centre (y, x) and radius of each star
STARS = [
    (0.17, 0.17, 0.125),
    (0.10, 0.66, 0.060),
    (0.19, 1.02, 0.100),
    (0.44, 0.13, 0.070),
    (0.06, 0.43, 0.045),
    (0.36, 1.13, 0.050),
    (0.24, 0.81, 0.045),
    (0.57, 0.58, 0.040),
]
WIDE_BANDS = 4.3
HORIZON = 0.74
SHORE = 0.82


def swirl(shape, rng):
    """A starry sky that turns in whorls over hills and still water.

    A stream function (a wavy ramp with a hump for each whorl and a cone for each star) gives the flow, and
    its bands give the colours, so that strokes of a kind line up along the flow. Three layers of strokes
    from broad to fine are painted with bristle relief and lit from the side.
    """
    work = (2 * shape[0], 2 * shape[1])
    flow, colour = _scene(work, rng)
    canvas = Canvas(work, NIGHT[1])
    for width, length, spacing, jitter in [(34, 150, 30, 0.03), (19, 120, 17, 0.06), (11, 80, 14, 0.09)]:
        _layer(canvas, flow, colour, width, length, spacing, jitter, rng)
    return canvas.lit(strength=0.55, gloss=0.20)


def _layer(canvas, flow, colour, width, length, spacing, jitter, rng):
    """Cover the canvas once with strokes of about one size that follow the flow."""
    starts = scattered_points(canvas.shape, spacing, rng, margin=20)
    lengths = length * rng.uniform(0.6, 1.3, len(starts))
    paths = stream_lines(flow, starts, lengths)
    looked_up = starts + rng.normal(0, 0.3 * width, starts.shape)
    tones = vary(pick(colour, looked_up), rng, hue=0.6 * jitter, value=jitter)
    for path, tone in zip(paths, tones, strict=True):
        canvas.stroke(path, width * rng.uniform(0.7, 1.25), tone, rng, load=width / 14, streak=0.05)


def _scene(work, rng):
    """The direction of the strokes and the colour to be painted at every pixel."""
    unit_y, unit_x = grid(work) / work[0]
    phase, flow = _sky_phase(unit_y, unit_x, noise(work, work[0] * 0.22, rng))
    sky = _sky_colour(phase, unit_y, unit_x, noise(work, work[0] * 0.12, rng), noise(work, work[0] * 0.018, rng))

    skyline, land, land_flow = _hills(work, unit_y, unit_x, rng)
    water, water_flow = _water(work, unit_y, unit_x, rng)
    is_land = (unit_y > skyline)[..., None]
    is_water = (unit_y > SHORE + 0.008 * np.sin(9 * unit_x))[..., None]
    colour = np.where(is_water, water, np.where(is_land, land, sky))
    flow = np.where(is_water, water_flow, np.where(is_land, land_flow, flow))
    return flow, colour


def _sky_phase(y, x, ripple):
    """The phase of the widest colour bands, in radians, and the flow along them.

    The turn of angle round a whorl is added to the phase, so that its bands are spiral arms, not rings.
    """
    stream = y + 0.050 * np.sin(5.5 * x + 2.2 * y) + 0.022 * ripple
    for cy, cx, reach, strength, _ in WHORLS:
        stream = stream + strength * np.exp(-((np.hypot(y - cy, x - cx) / reach) ** 2))
    phase = 2 * np.pi * WIDE_BANDS * stream
    rise_y, rise_x = (slope * y.shape[0] for slope in np.gradient(phase))
    for cy, cx, _, _, arms in WHORLS:
        phase = phase + arms * np.arctan2(y - cy, x - cx)
        nearness = arms / ((y - cy) ** 2 + (x - cx) ** 2 + 1e-5)
        rise_y, rise_x = rise_y + nearness * (x - cx), rise_x - nearness * (y - cy)
    flow = unit(np.stack([-rise_x, rise_y], axis=-1))
    for cy, cx, radius in STARS:
        distance = np.hypot(y - cy, x - cx)
        ring_flow = unit(np.stack([cx - x, y - cy], axis=-1))
        flow = mix(flow, ring_flow, 1 - smoothstep(1.0 * radius, 2.1 * radius, distance))
    return phase, unit(flow)


def _sky_colour(phase, y, x, mottle, flicker):
    """Bands of blue along the flow, paler low down and in the whorls, and warm rings at the stars."""
    light = 0.20 * smoothstep(0.40, 0.72, y) + 0.04 * mottle
    haze = np.zeros_like(y)
    for cy, cx, reach, _, _ in WHORLS:
        haze = haze + np.exp(-((np.hypot(y - cy, x - cx) / (0.8 * reach)) ** 2))
    arms = 0.5 + 0.5 * np.sin(phase)
    fine = np.sin(3 * phase + 0.8 * mottle)
    blue = gradient(NIGHT, 0.17 + 0.26 * arms + 0.15 * fine + light + 0.30 * haze * arms)
    blue = mix(blue, GLOW[3], 0.75 * np.clip(haze * arms**2 * (0.6 + 0.4 * fine), 0, 1))
    glow = np.zeros_like(y)
    for cy, cx, radius in STARS:
        distance = np.hypot(y - cy, x - cx) / radius
        rings = 0.13 * np.sin(2 * np.pi * 2.6 * distance) * smoothstep(0, 0.4, distance)
        broken = 0.13 * flicker * smoothstep(0.4, 0.9, distance)
        halo = np.exp(-((distance / 0.80) ** 1.4)) + (rings + broken) * (1 - smoothstep(1.3, 2.0, distance))
        glow = np.maximum(glow, halo)
    return mix(blue, gradient(GLOW, glow), smoothstep(0.06, 0.42, glow))


def _hills(work, y, x, rng):
    """The skyline, and the colours and stroke directions of three ranges of hills."""
    low = noise(work, work[0] * 0.3, rng)
    height = HORIZON - 0.05 * np.sin(3.1 * x + 0.4) - 0.025 * np.sin(8.3 * x + 1.7)
    depth = (y - height) / 0.10
    contour = depth + 0.15 * low
    colour = gradient(HILLS, 0.30 + 0.32 * np.sin(11 * contour) + 0.12 * low)
    return height, colour, along_contours(contour)


def _water(work, y, x, rng):
    """Dark ripples with a broken column of gold under each star."""
    low = noise(work, (work[0] * 0.03, work[0] * 0.2), rng)
    level = y + 0.006 * np.sin(14 * x + 30 * y) + 0.006 * low
    colour = gradient(WATER, 0.38 + 0.3 * np.sin(2 * np.pi * 22 * level) + 0.12 * low)
    sparkle = noise(work, (work[0] * 0.014, work[0] * 0.05), rng)
    for _, cx, radius in STARS:
        column = np.exp(-(((x - cx) / (0.45 * radius)) ** 2)) * smoothstep(-0.5, 0.6, sparkle)
        colour = mix(colour, gradient(GLOW, 0.55 + 0.2 * sparkle), 0.9 * column)
    return colour, along_contours(level)
