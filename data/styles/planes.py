"""A cubist still life of overlapping shaded planes."""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .colour import gradient, mix, palette, rgb, vary
from .fields import fractal_noise, noise, pick, scattered_points, smoothstep, stream_lines, unit
from .paint import Canvas

OCHRE = palette("1d1208 5a3a16 a06c28 cfa257 f2dfae")
GREY = palette("141414 46484a 85867c b9b7a2 ece6d0")
OLIVE = palette("181809 434220 75713a aca567 e6deb4")
BLUE = palette("0c131d 22384c 4a677c 8a9fa4 d3d8cd")
SIENNA = palette("240e08 622c18 9a5a32 cf9762 f0d6ae")
RAMPS = [OCHRE, OCHRE, OCHRE, OCHRE, GREY, GREY, GREY, OLIVE, OLIVE, BLUE, BLUE, SIENNA]
INK = rgb("17130f")
# the directions that edges favour, in radians from the horizontal
DIRECTIONS = np.radians([84, 97, 62, -58, 10, -7, 42, -38])


def planes(shape, rng):
    """Facets from large to small, crowded to the middle, with parts of a guitar and a bottle among them.

    Each facet is shaded from a dark edge to a light one and left open on one side, so that it melts into
    its neighbour. The plan is then painted over in short strokes that follow each facet's own direction,
    and the main edges are drawn again in dark paint.
    """
    work = (2 * shape[0], 2 * shape[1])
    plan = Plan(work, rng)
    _facets(plan, 90, (0.25, 0.55), 0.42, rng)
    _table(plan, rng)
    _facets(plan, 90, (0.12, 0.30), 0.34, rng)
    _bottle(plan, rng)
    _facets(plan, 60, (0.08, 0.20), 0.26, rng)
    _guitar(plan, rng)
    _facets(plan, 70, (0.06, 0.15), 0.36, rng)
    _facets(plan, 60, (0.04, 0.09), 0.28, rng)
    _strings(plan, rng)
    return _painted(plan, rng)


class Plan:
    """The design before painting: colour, stroke direction and drawn lines; places are (y, x) in heights."""

    def __init__(self, work, rng):
        self.shape = work
        self.scale = work[0]
        self.rng = rng
        tone = 0.45 + 0.12 * noise(work, 0.3 * work[0], rng)
        self.colour = gradient(OLIVE, tone)
        self.angle = np.zeros(work, dtype=np.float32)
        self.line = np.zeros(work, dtype=np.float32)

    def facet(self, corners, ramp, heading, tone, contrast, inside=None):
        """Shade a polygon along a heading from dark to light; `inside` is a further test of (y, x)."""
        window, y, x, mask = self._polygon(np.asarray(corners) * self.scale)
        if inside is not None:
            mask = mask & inside(y / self.scale, x / self.scale)
        if not mask.any():
            return
        run = y * np.sin(heading) + x * np.cos(heading)
        low, high = run[mask].min(), run[mask].max()
        run = (run - low) / max(high - low, 1)
        shade = gradient(ramp, tone + contrast * (run - 0.5))
        cover = mask * (0.30 + 0.68 * (1 - smoothstep(0.45, 1.0, run)))
        self.colour[window] = mix(self.colour[window], shade, cover)
        self.angle[window] = np.where(mask, heading + np.pi / 2, self.angle[window])
        depth = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
        drawn = mask * (1 - smoothstep(1.8, 4.4, depth)) * (1 - smoothstep(0.15, 0.75, run))
        self.line[window] = np.maximum(self.line[window] * (1 - 0.75 * cover), drawn)
        glow = mask * np.exp(-(((depth - 7) / 4) ** 2)) * smoothstep(0.55, 0.9, run)
        self.colour[window] = mix(self.colour[window], ramp[-1], 0.45 * glow)

    def _polygon(self, corners):
        """The window round a polygon, the coordinates in it, and the mask of the polygon."""
        top, left = np.clip(np.floor(corners.min(axis=0)).astype(int) - 2, 0, np.array(self.shape) - 4)
        bottom, right = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 3, (top + 4, left + 4), self.shape)
        picture = Image.new("1", (int(right - left), int(bottom - top)))
        ImageDraw.Draw(picture).polygon([(x - left, y - top) for y, x in corners], fill=1)
        y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
        return np.s_[top:bottom, left:right], y, x, np.array(picture)


def _facets(plan, count, size, spread, rng):
    """Four-sided facets of the given sizes, thicker towards the middle of the picture."""
    wide = plan.shape[1] / plan.shape[0]
    for _ in range(count):
        centre = np.array([0.5 + 1.25 * spread * rng.normal(), wide / 2 + wide * spread * rng.normal()])
        centre = np.clip(centre, 0.0, (1.0, wide))
        first, second = rng.choice(DIRECTIONS, 2, replace=False) + rng.normal(0, 0.06, 2)
        if abs(np.sin(first - second)) < 0.35:
            continue
        a = np.array([np.sin(first), np.cos(first)]) * rng.uniform(*size)
        b = np.array([np.sin(second), np.cos(second)]) * rng.uniform(*size) * 0.7
        corners = [
            centre + (-a - b) / 2,
            centre + (a - b) / 2 * rng.uniform(0.8, 1.1),
            centre + (a + b) / 2,
            centre + (b - a) / 2 * rng.uniform(0.8, 1.1),
        ]
        heading = second + rng.choice([0, np.pi]) + rng.normal(0, 0.1)
        plan.facet(corners, _ramp(rng), heading, _tone(plan, centre, rng), rng.uniform(0.65, 1.15))


def _tone(plan, centre, rng):
    """Lightness of a facet: highest in the middle, darker towards the corners."""
    away = np.hypot(centre[0] - 0.48, centre[1] - 0.5 * plan.shape[1] / plan.shape[0])
    return 0.66 - 0.42 * away + rng.normal(0, 0.09)


def _ramp(rng):
    """One of the ramps of colour, the common ones more often."""
    return RAMPS[rng.integers(len(RAMPS))]


def _around(centre, radius):
    """A square round a disc."""
    cy, cx = centre
    return [
        (cy - radius, cx - radius),
        (cy - radius, cx + radius),
        (cy + radius, cx + radius),
        (cy + radius, cx - radius),
    ]


def _disc(plan, centre, radius, ramp, heading, tone, contrast, hole=0.0, sides=None):
    """A disc or ring, or the part of it on one side of a line through its middle with the given angle."""

    def inside(y, x):
        dy, dx = y - centre[0], x - centre[1]
        distance = np.hypot(dy, dx)
        mask = (distance < radius) & (distance >= hole)
        if sides is not None:
            mask &= dx * np.sin(sides) - dy * np.cos(sides) > 0
        return mask

    plan.facet(_around(centre, radius), ramp, heading, tone, contrast, inside)


def _table(plan, rng):
    """Slabs of a table top across the lower part, and folds of cloth."""
    for k in range(9):
        y, x = rng.uniform(0.68, 1.0), rng.uniform(0.0, 1.1)
        tilt = rng.normal(0, 0.12)
        long, deep = rng.uniform(0.3, 0.6), rng.uniform(0.05, 0.12)
        corners = [
            (y, x - long / 2),
            (y + tilt * long, x + long / 2),
            (y + tilt * long + deep, x + long / 2),
            (y + deep, x - long / 2),
        ]
        plan.facet(corners, [OCHRE, SIENNA, GREY][k % 3], np.pi / 2 * rng.choice([-1, 1]), 0.5, 0.8)


def _bottle(plan, rng):
    """A bottle broken into shifted upright halves, with an elliptic lip and foot."""
    for shift, ramp, side in [(-0.015, BLUE, 0), (0.025, OLIVE, np.pi), (0.005, BLUE, np.pi)]:
        x, y = 0.72 + shift, 0.20 + shift
        corners = [
            (y, x - 0.03),
            (y, x + 0.03),
            (y + 0.16, x + 0.03),
            (y + 0.24, x + 0.09),
            (y + 0.55, x + 0.09),
            (y + 0.55, x - 0.09),
            (y + 0.24, x - 0.09),
            (y + 0.16, x - 0.03),
        ]
        plan.facet(corners, ramp, side + 0.1, 0.5, 1.0, lambda v, u, x=x, side=side: (u - x) * np.cos(side) > -0.03)
    for y, radius in [(0.20, 0.045), (0.74, 0.10), (0.47, 0.085)]:
        _disc(plan, (y, 0.725), radius, BLUE, 0.4, 0.62, 0.8, hole=0.72 * radius)


def _guitar(plan, rng):
    """The bouts of a guitar as half discs slid against each other, its sound hole, neck and bridge."""
    lower, waist, upper = np.array([0.68, 0.42]), np.array([0.54, 0.47]), np.array([0.44, 0.50])
    axis = 1.15
    for centre, radius, ramp in [(lower, 0.20, OCHRE), (upper, 0.145, OCHRE), (lower + 0.03, 0.19, SIENNA)]:
        for side in (0, np.pi):
            slid = centre + rng.normal(0, 0.018, 2)
            _disc(plan, slid, radius, ramp, axis + side + np.pi / 2, 0.55, 0.85, sides=np.pi / 2 + 0.35 + side)
    for centre, radius in [(lower, 0.205), (upper, 0.15)]:
        _disc(plan, centre + (0.0, 0.03), radius, GREY, 2.6, 0.62, 0.7, hole=0.86 * radius, sides=axis)
        _disc(plan, centre - (0.0, 0.02), radius, OCHRE, 0.4, 0.75, 0.5, hole=0.90 * radius, sides=axis + np.pi)
    _disc(plan, waist, 0.062, BLUE, 0.5, 0.22, 0.35)
    _disc(plan, waist + 0.008, 0.040, GREY, 3.6, 0.10, 0.2, sides=0.9)
    tip, foot = np.array([0.07, 0.62]), np.array([0.50, 0.485])
    across = np.array([0.012, 0.030])
    for k in range(5):
        a, b = tip + (foot - tip) * k / 5, tip + (foot - tip) * (k + 1) / 5
        slide = rng.normal(0, 0.012, 2)
        corners = [a - across + slide, a + across + slide, b + across + slide, b - across + slide]
        plan.facet(corners, [SIENNA, GREY, OCHRE][k % 3], 0.2 + np.pi * (k % 2), 0.42, 0.8)
    _disc(plan, (0.20, 0.30), 0.11, OLIVE, 0.9, 0.5, 0.9, sides=0.7)
    _disc(plan, (0.33, 0.93), 0.13, GREY, 2.2, 0.5, 0.9, sides=2.2)
    _disc(plan, (0.83, 0.86), 0.12, BLUE, 0.3, 0.5, 0.9, sides=3.6)
    _disc(plan, (0.60, 0.13), 0.13, OCHRE, 0.3, 0.5, 0.9, sides=-0.6)


def _strings(plan, rng):
    """Strings over the sound hole, a bridge, and staves of music, drawn as thin dark lines."""
    picture = Image.new("L", plan.shape[::-1])
    draw = ImageDraw.Draw(picture)

    def rule(start, end, width):
        draw.line([(p[1] * plan.scale, p[0] * plan.scale) for p in (start, end)], fill=235, width=width)

    for k in range(5):
        offset = np.array([0.003, 0.0105]) * (k - 2)
        rule(np.array([0.22, 0.575]) + offset, np.array([0.70, 0.425]) + offset, 3)
    rule((0.69, 0.37), (0.72, 0.48), 8)
    for y, x, tilt in [(0.87, 0.22, -0.10), (0.14, 0.86, 0.16), (0.90, 0.92, 0.08)]:
        for k in range(5):
            rule((y + 0.015 * k, x), (y + 0.015 * k + tilt * 0.2, x + 0.2), 2)
        for _ in range(6):
            u, k = rng.uniform(0.02, 0.18), rng.integers(0, 5)
            cy, cx = (y + 0.015 * k + tilt * u) * plan.scale, (x + u) * plan.scale
            draw.ellipse([cx - 10, cy - 7, cx + 10, cy + 7], fill=240)
            draw.line([(cx + 9, cy), (cx + 9, cy - 52)], fill=240, width=3)
    plan.line = np.maximum(plan.line, np.asarray(picture, dtype=np.float32) / 255)


def _painted(plan, rng):
    """The plan in oil: two layers of short strokes, part of the crisp plan kept, then the drawn lines."""
    shape = plan.shape
    canvas = Canvas(shape, plan.colour)
    angle = plan.angle + 0.15 * noise(shape, 40, rng)
    flow = unit(np.stack([np.sin(angle), np.cos(angle)], axis=-1))
    for width, length, spacing in [(22, 60, 17), (13, 38, 11)]:
        starts = scattered_points(shape, spacing, rng, margin=10)
        paths = stream_lines(flow, starts, length * rng.uniform(0.6, 1.3, len(starts)), steps=6)
        tones = vary(pick(plan.colour, starts), rng, hue=0.018, value=0.045)
        for path, tone in zip(paths, tones, strict=True):
            canvas.stroke(path, width * rng.uniform(0.7, 1.2), tone, rng, opacity=0.8, load=width / 16, streak=0.04)
    canvas.colour = mix(canvas.colour, plan.colour, 0.45)
    canvas.colour = mix(canvas.colour, smoothstep(0.02, 0.90, canvas.colour), 0.6)
    line = ndimage.gaussian_filter(plan.line, 0.7) * np.clip(0.85 + 0.25 * fractal_noise(shape, 30, rng), 0, 1)
    canvas.colour = mix(canvas.colour, INK, 0.92 * line)
    return canvas.lit(strength=0.38, gloss=0.10, weave=0.12, rng=rng)
