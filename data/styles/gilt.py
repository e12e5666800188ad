"""A tree of golden spirals over patterned cloaks and a meadow of flowers."""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .colour import gradient, in_bytes, mix, palette, rgb, vary
from .fields import fractal_noise, grid, noise, smoothstep
from .paint import light_relief

GOLD = palette("6e4410 a8741c d49a2c ecc050 f8e09a")
BRANCH = palette("3a1c0a 6a3a12 8a5420 c08a34")
STONES = palette("15120f f3ead2 15120f d8a83a 8f9aa0 f3ead2 7a1f1a c8781e")
FLOWERS = palette("c8341e f0b42a f4ecd4 2a5ca8 7a2a6a e87a3a 1f8a7a d84a78")
MEADOW = palette("12361e 2a5e2c 4f8a36 86a83c")
EYE = palette("f3ead2 15120f 1f7a8a c8341e")


def gilt(shape, rng):
    """Gold leaf drawn all over with small curls; cloaks, meadow and tree laid on it as raised ornament.

    The tree is a branching rule: every branch is a curve that winds tighter and tighter into a spiral and
    sends out smaller ones wound the other way. The raised edges of all ornaments are lit as a relief, and
    the leaf has its seams, wear and glitter.
    """
    panel = Panel((2 * shape[0], 2 * shape[1]))
    _ground(panel, rng)
    _cloak(panel, 0.16, 0.40, 0.27, _rectangles(panel, rng))
    _cloak(panel, 0.86, 0.46, 0.25, _rosettes(panel, rng, (10, 30), STONES[[3, 6, 1, 7, 3, 0]], rgb("b5532a")))
    _tree(panel, rng)
    _meadow(panel, rng)
    return panel.finished(rng)


class Panel:
    """The panel: colour, how raised the work is, and how much of it is metal; places in heights."""

    def __init__(self, shape):
        self.shape, self.scale = shape, shape[0]
        self.y, self.x = grid(shape) / shape[0]
        self.wide = shape[1] / shape[0]
        self.colour = np.zeros((*shape, 3), dtype=np.float32)
        self.height = np.zeros(shape, dtype=np.float32)
        self.metal = np.ones(shape, dtype=np.float32)

    def lay(self, mask, colour, raised, metal):
        """Cover the masked part with a colour or picture, in relief above what was there."""
        self.colour = np.where(mask[..., None], colour, self.colour)
        self.height = np.where(mask, raised, self.height)
        self.metal = np.where(mask, metal, self.metal)

    def draw(self, background):
        """An image of one colour to draw on, and its pen."""
        picture = Image.new("RGB", self.shape[::-1], in_bytes(background))
        return picture, ImageDraw.Draw(picture)

    def finished(self, rng):
        """The panel in raking light, with seams between leaves, worn spots and glitter on the metal."""
        seams = np.minimum(
            *[np.abs(((v + 0.006 * noise(self.shape, 90, rng)) * 7.3 + 0.3) % 1 - 0.5) for v in (self.y, self.x)]
        )
        leaf = (
            1
            + 0.07 * fractal_noise(self.shape, 120, rng)
            + 0.06 * noise(self.shape, 5, rng)
            - 0.12 * np.exp(-seams / 0.006)
        )
        worn = smoothstep(1.7, 2.6, fractal_noise(self.shape, 60, rng))
        metal = mix(self.colour * leaf[..., None], rgb("8a3a1e"), 0.45 * worn)
        plain = self.colour * (1 + 0.05 * noise(self.shape, 6, rng))[..., None]
        picture = mix(plain, metal, self.metal)
        height = (
            ndimage.gaussian_filter(self.height, 1.3)
            + 0.05 * noise(self.shape, 6, rng)
            + 0.12 * noise(self.shape, 14, rng)
        )
        lit = light_relief(np.clip(picture, 0, 1), height, 0.42, 0.10)
        glitter = smoothstep(2.0, 3.0, noise(self.shape, 3, rng)) * self.metal
        return np.clip(lit + 0.35 * glitter[..., None] * GOLD[4], 0, 1)


def _as_array(picture):
    """A drawn image as floats from 0 to 1."""
    return np.asarray(picture, dtype=np.float32) / 255


def _spiral(start, heading, wind, length, tightest=0.035, count=150):
    """A curve (y, x) that winds tighter along its length; wind is its sense, +1 or -1."""
    at = np.linspace(0, 1, count)
    radius = length * 0.33 * ((1 - at) ** 1.55 + tightest)
    turn = heading + wind * np.cumsum(length / count / radius)
    step = length / count * np.stack([np.sin(turn), np.cos(turn)], axis=-1)
    return np.asarray(start) + np.cumsum(step, axis=0), turn


def _ground(panel, rng):
    """Gold leaf, darker at the rim, with small incised curls everywhere."""
    tone = 0.60 + 0.10 * fractal_noise(panel.shape, 200, rng) - 0.35 * np.hypot(panel.y - 0.4, panel.x - panel.wide / 2)
    panel.colour[:] = gradient(GOLD, tone)
    curls = Image.new("L", panel.shape[::-1])
    pen = ImageDraw.Draw(curls)
    for _ in range(900):
        start = rng.uniform((0, 0), (1, panel.wide))
        curve, _ = _spiral(start, rng.uniform(0, 6.3), rng.choice([-1, 1]), rng.uniform(0.06, 0.14), count=60)
        pen.line(
            [(x * panel.scale, y * panel.scale) for y, x in curve],
            fill=int(rng.uniform(120, 255)),
            width=3,
            joint="curve",
        )
    incised = _as_array(curls)
    panel.colour = mix(panel.colour, GOLD[0], 0.62 * incised)
    panel.height -= 0.9 * incised


def _cloak(panel, middle, top, half, pattern):
    """A bell-shaped cloak, filled with a pattern and edged with a raised gold cord."""
    run = np.clip((panel.y - top) / (1 - top), 0, 1)
    inside = half * np.sin(np.pi / 2 * run**0.62) * (0.80 + 0.25 * run) - np.abs(
        panel.x - middle - 0.03 * np.sin(5 * run)
    )
    mask = (inside > 0) & (panel.y > top)
    colour, raised, metal = pattern
    panel.lay(mask, colour, raised, metal)
    for inner, outer, shade in [(-0.004, 0.010, BRANCH[0]), (0.0, 0.007, GOLD[3])]:
        panel.lay(
            (inside > inner) & (inside < outer) & (panel.y > top - 0.01),
            shade,
            3.0 if inner == 0 else 0.5,
            float(inner == 0),
        )


def _rectangles(panel, rng):
    """Upright blocks in black, white, silver and gold, some with a smaller block or a spiral inside."""
    picture, pen = panel.draw(GOLD[2])
    x = 0
    while x < panel.shape[1] * 0.62:
        width, y = rng.integers(16, 46), int(0.30 * panel.scale)
        while y < panel.shape[0]:
            height = int(width * rng.uniform(0.7, 2.6))
            colour = (
                vary(STONES[rng.integers(len(STONES))], rng, 0.02, 0.03)
                if rng.random() < 0.72
                else GOLD[rng.integers(1, 4)]
            )
            pen.rectangle([x + 2, y + 2, x + width - 2, y + height - 2], fill=in_bytes(colour))
            inner = STONES[rng.integers(len(STONES))]
            if width > 24 and rng.random() < 0.6:
                inset = rng.uniform(0.2, 0.32) * width
                box = [x + inset, y + inset, x + width - inset, y + height - inset]
                (pen.ellipse if rng.random() < 0.4 else pen.rectangle)(box, fill=in_bytes(inner))
            y += height
        x += int(width)
    colour = _as_array(picture)
    golden = np.abs(colour - GOLD[2]).sum(axis=-1) < 0.05
    return colour, 2.2 * ~golden, 0.25 + 0.6 * golden


def _rosettes(panel, rng, sizes, colours, background, top=0.40, count=1700):
    """Discs of many sizes made of rings, close together."""
    picture, pen = panel.draw(background)
    height = Image.new("L", panel.shape[::-1])
    height_pen = ImageDraw.Draw(height)
    for size in np.sort(rng.uniform(*sizes, count))[::-1]:
        cy, cx = rng.uniform(top, 1.02) * panel.scale, rng.uniform(0, panel.wide) * panel.scale
        stretch, rings = rng.uniform(0.8, 1.25), rng.integers(2, 5)
        shades = rng.permutation(len(colours))
        for k in range(rings):
            radius = size * (1 - k / rings)
            box = [cx - radius, cy - radius * stretch, cx + radius, cy + radius * stretch]
            pen.ellipse(box, fill=in_bytes(vary(colours[shades[k]], rng, 0.02, 0.03)))
            height_pen.ellipse(box, fill=int(90 + 160 * (k + 1) / rings))
    return _as_array(picture), 3.2 * _as_array(height), 0.25


def _meadow(panel, rng):
    """A flowering bank along the foot of the panel."""
    colour, raised, _ = _rosettes(panel, rng, (5, 22), np.concatenate([FLOWERS, MEADOW, MEADOW]), MEADOW[0], top=0.78)
    bank = panel.y - 0.845 - 0.035 * np.sin(4.2 * panel.x + 0.6) - 0.006 * noise(panel.shape, 30, rng)
    panel.lay(bank > 0, colour, raised, 0.05)


def _tree(panel, rng):
    """The trunk with its ornament, the branches from stout to fine, then eyes and leaves hung among them."""
    branches = []
    for start, heading, wind, length in [
        ((0.50, 0.508), -1.90, -1, 1.12),
        ((0.47, 0.512), -1.22, 1, 1.14),
        ((0.66, 0.505), -2.30, -1, 0.62),
        ((0.63, 0.512), -0.85, 1, 0.60),
        ((0.38, 0.508), -1.75, -1, 0.80),
        ((0.37, 0.512), -1.30, 1, 0.74),
    ]:
        _grow(branches, np.array(start), heading, wind, length, 0.030, 3, rng)
    for width_scale, shade, raised in [(1.30, BRANCH[0], 1.0), (1.0, BRANCH[2], 3.2), (0.42, GOLD[3], 4.4)]:
        picture = Image.new("L", panel.shape[::-1])
        pen = ImageDraw.Draw(picture)
        for curve, width in branches:
            taper = width * (1 - 0.72 * np.linspace(0, 1, len(curve)))
            for (y, x), radius in zip(curve, taper * width_scale / 2, strict=True):
                radius = max(radius, 0.0009)
                pen.ellipse([v * panel.scale for v in (x - radius, y - radius, x + radius, y + radius)], fill=255)
        tone = shade * (1 + 0.10 * noise(panel.shape, 30, rng))[..., None]
        panel.lay(_as_array(picture) > 0.5, tone, raised, 0.7)
    _trunk(panel, rng)
    spots = [
        tuple(curve[k] + rng.normal(0, 0.016, 2))
        for curve, width in branches
        if width > 0.006
        for k in rng.integers(10, 80, 3)
    ]
    _hung(panel, spots, 0.012, rng)


def _trunk(panel, rng):
    """The trunk, which narrows upwards, edged with gold and set with small blocks, discs and eyes."""
    run = np.clip((panel.y - 0.30) / 0.60, 0, 1)
    middle = 0.508 + 0.016 * np.sin(6 * run)
    inside = 0.024 * smoothstep(-0.02, 0.15, run) + 0.030 * run + 0.08 * run**5 - np.abs(panel.x - middle)
    mask = (inside > 0) & (panel.y > 0.31)
    colour, raised, _ = _rosettes(
        panel, rng, (5, 15), np.concatenate([BRANCH, GOLD[1:4], EYE[:2]]), BRANCH[1], top=0.28, count=3500
    )
    panel.lay(mask, BRANCH[0], 1.0, 0.3)
    panel.lay(mask & (inside > 0.003), GOLD[3], 4.0, 0.9)
    panel.lay(mask & (inside > 0.008), BRANCH[0], 2.0, 0.3)
    panel.lay(mask & (inside > 0.010), colour, raised, 0.4)
    _hung(panel, [(y, 0.508 + 0.016 * np.sin(10 * (y - 0.30))) for y in np.linspace(0.44, 0.83, 9)], 0.021, rng)


def _grow(branches, start, heading, wind, length, width, depth, rng):
    """Add a branch and, while depth lasts, smaller ones that leave it on its outer side."""
    curve, turn = _spiral(start, heading, wind, length, count=int(260 * length) + 60)
    branches.append((curve, width))
    if depth == 0:
        return
    for at in (0.12, 0.30, 0.46):
        k = int((at + rng.uniform(-0.04, 0.04)) * len(curve))
        smaller = length * rng.uniform(0.42, 0.58)
        _grow(
            branches,
            curve[k],
            turn[k] - 0.35 * wind,
            -wind,
            smaller,
            0.62 * width * (1 - 0.5 * at),
            depth - 1,
            rng,
        )


def _hung(panel, places, size, rng):
    """Almond eyes and small triangles in enamel colours at the given places."""
    for y, x in places:
        tilt = rng.uniform(-0.6, 0.6)
        reach = size * rng.uniform(0.7, 1.3)
        top, left = (max(int((v - 1.5 * reach) * panel.scale), 0) for v in (y, x))
        bottom, right = (int((v + 1.5 * reach) * panel.scale) for v in (y, x))
        window = np.s_[top:bottom, left:right]
        dy, dx = panel.y[window] - y, panel.x[window] - x
        along, across = (
            (dx * np.cos(tilt) + dy * np.sin(tilt)) / reach,
            (dy * np.cos(tilt) - dx * np.sin(tilt)) / reach,
        )
        almond = np.abs(across) / 0.55 + along**2
        triangle = np.maximum(np.abs(along) * 1.5 + across * 0.75, -across * 1.6)
        shape, rings = (almond, (1.0, 0.72, 0.34, 0.12)) if rng.random() < 0.6 else (triangle, (0.8, 0.5, 0.22, 0.0))
        for k, ring in enumerate(rings):
            mask = shape < ring
            panel.colour[window][mask] = [EYE[1], EYE[0], EYE[2 + rng.integers(2)], EYE[1]][k]
            panel.height[window][mask] = 3.5 + k
            panel.metal[window][mask] = 0.0
