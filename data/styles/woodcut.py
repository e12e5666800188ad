"""A sunrise over hills, cut in black lines."""

import numpy as np
from scipy import ndimage

from .colour import mix, rgb
from .fields import fractal_noise, grid, noise, smoothstep
from .paint import paper_grain

PAPER = rgb("efe6d2")
INK = rgb("15130f")
SUN = (0.335, 0.60)
PITCH = 118.0  # lines to the height of the picture


def woodcut(shape, rng):
    """Every shape is filled with lines of its own direction that swell where the tone is dark.

    A shape gives three fields: how deep inside it a place is, a phase that counts its lines, and a tone;
    the place is black where the phase is nearer to a line than the tone. Shapes are cut from far to near
    with a black outline inside a thin white one, then printed with a little of the wood's grain.
    """
    block = Block((2 * shape[0], 2 * shape[1]), rng)
    _sky(block)
    _clouds(block, rng)
    _mountains(block, rng)
    _hills(block, rng)
    _foreground(block, rng)
    return block.printed(rng)


class Block:
    """The wood block: how black it prints; places are y and x in parts of the height."""

    def __init__(self, shape, rng):
        self.shape = shape
        self.y, self.x = grid(shape) / shape[0]
        self.wide = shape[1] / shape[0]
        self.black = np.zeros(shape, dtype=np.float32)
        self.waver = 0.10 * noise(shape, 0.030 * shape[0], rng) + 0.30 * noise(shape, 0.12 * shape[0], rng)
        self.burr = 0.05 * noise(shape, 5, rng) + 0.05 * noise(shape, 16, rng)

    def cut(self, depth, phase, tone, outline=0.0035):
        """Cut one shape, which lies where depth is above 0, in front of everything before it."""
        away = 2 * np.abs((phase + self.waver) % 1 - 0.5)
        edge = self.shape[0] / (2 * PITCH)
        lines = np.clip((np.clip(tone, 0, 1) + self.burr - away) * edge + 0.5, 0, 1)
        lines = np.where(tone >= 0.97, 1, lines)
        rough = depth + 0.010 * self.burr
        rim = np.clip(rough * self.shape[0] + 0.5, 0, 1)
        lines = lines + (rim - lines) * np.clip((outline - rough) * self.shape[0] + 0.5, 0, 1)
        inside = np.clip((depth + 0.0030) * self.shape[0] + 0.5, 0, 1)
        self.black += (lines - self.black) * inside

    def printed(self, rng):
        """The block inked and pressed on paper, with bare grain in the solid blacks."""
        rings = 42 * self.x + 2.0 * noise(self.shape, (0.5 * self.shape[0], 0.1 * self.shape[0]), rng)
        grain = np.sin(2 * np.pi * rings) + 0.9 * noise(self.shape, (140, 4), rng)
        tooth = paper_grain(self.shape, rng, 3)
        ink = ndimage.gaussian_filter(self.black, 0.5)
        ink = ink * np.clip(0.97 - 0.05 * np.clip(grain, 0, 2) - 0.10 * smoothstep(1.6, 2.6, tooth), 0, 1)
        paper = PAPER * (1 + 0.015 * tooth + 0.012 * fractal_noise(self.shape, 300, rng))[..., None]
        return np.clip(mix(paper, INK, ink), 0, 1)


def _sky(block):
    """Rings about the sun, broken by beams of light, and the sun itself."""
    dy, dx = block.y - SUN[0], block.x - SUN[1]
    radius, angle = np.hypot(dy, dx), np.arctan2(dy, dx)
    beam = smoothstep(-0.25, 0.45, np.cos(22 * angle) + 0.35 * np.cos(44 * angle + 1))
    tone = 0.30 + 0.75 * np.clip(radius - 0.08, 0, 1) - 0.42 * beam * (1 - 0.6 * smoothstep(0.2, 0.75, radius))
    block.cut(np.ones(block.shape, dtype=np.float32), PITCH * radius, tone)
    teeth = 0.135 + 0.022 * np.abs((angle * 22 / (2 * np.pi)) % 1 - 0.5) * 2
    block.cut(teeth - radius, 100 * angle / (2 * np.pi), 0.30 + 0 * radius)
    block.cut(0.108 - radius, PITCH * radius, smoothstep(0.02, 0.12, radius - 0.4 * dy) * 0.55)


def _clouds(block, rng):
    """Rolled clouds: overlapping scrolls, each of rings that thicken towards the bottom."""
    for y, x, size, count in [
        (0.10, 0.16, 0.080, 7),
        (0.21, 0.93, 0.075, 7),
        (0.30, 0.13, 0.050, 6),
        (0.06, 0.72, 0.05, 6),
    ]:
        for k in rng.permutation(count):
            across = (k - (count - 1) / 2) / count
            radius = size * (1.05 - 1.5 * across**2) * rng.uniform(0.7, 1.1)
            cy, cx = y + rng.normal(0, 0.10) * size + 0.8 * size * abs(across), x + 3.2 * size * across
            dy, dx = block.y - cy, block.x - cx
            distance = np.hypot(dy * 1.15, dx)
            scroll = np.arctan2(dy, dx) / (2 * np.pi)
            block.cut(radius - distance, 100 * distance + scroll, 0.20 + 0.32 * dy / radius + 0.10 * dx / radius)


def _mountains(block, rng):
    """Sharp peaks with a lit and a shaded side."""
    for x, top, half in [(0.12, 0.315, 0.26), (0.93, 0.330, 0.25), (0.36, 0.415, 0.20), (0.72, 0.430, 0.19)]:
        ridge = x + 0.035 * np.sin(26 * (block.y - top)) + 0.10 * (block.y - top)
        fall = block.y - top
        crag = 0.010 * np.sin(60 * block.x) + 0.008 * np.sin(97 * block.x + 1.0)
        depth = (fall - 0.30 / half * 0.9 * np.abs(block.x - x) ** 1.1 + crag) * 0.7
        shaded = block.x < ridge if x < SUN[1] else block.x > ridge
        right = (block.x > ridge).astype(float)
        phase = PITCH * ((1 - 2 * right) * 0.75 * block.x + 0.75 * block.y)
        gully = 0.12 * np.sin(55 * (block.x - x) + 14 * fall)
        tone = np.where(shaded, 0.74, 0.34) + gully - 0.30 * smoothstep(0.0, 0.26, fall)
        block.cut(depth, phase, np.clip(tone, 0.14, 0.9))


def _hills(block, rng):
    """Folded fields with furrows, rows of round trees and cypresses, down to a winding river."""
    folds = [
        (0.530, 0.035, 5.0, 0.3, 0.55),
        (0.585, 0.045, 3.6, 2.0, 1.15),
        (0.650, 0.050, 4.2, 4.1, 0.75),
        (0.735, 0.050, 3.2, 0.6, 1.20),
    ]
    for k, (level, swing, waves, start, slant) in enumerate(folds):
        top = level + swing * np.sin(waves * block.x + start) + 0.4 * swing * np.sin(2.3 * waves * block.x + 2 * start)
        fall = block.y - top
        steep = swing * waves * np.cos(waves * block.x + start)
        light = 0.34 + 1.6 * steep + 2.2 * fall
        if k % 2:
            phase = PITCH * (0.55 * block.x + slant * 0.5 * (fall + 0.4 * (block.x - 0.5) ** 2))
        else:
            phase = PITCH * (1.05 * fall + 0.15 * np.sin(5 * block.x + k))
        block.cut(fall, phase, np.clip(light, 0.10, 0.92))
        for x in np.sort(rng.uniform(0.02, block.wide - 0.02, 14 - 2 * k)):
            column = int(np.clip(x * block.shape[0], 0, block.shape[1] - 1))
            foot = float(top[0, column]) + rng.uniform(0.015, 0.045)
            size = (0.020 + 0.010 * k) * rng.uniform(0.8, 1.3)
            (_cypress if rng.random() < 0.35 else _round_tree)(block, foot, x, size)


def _round_tree(block, foot, x, size):
    """A ball of leaves on a short trunk, lit from the sun's side."""
    trunk = np.minimum(0.16 * size - np.abs(block.x - x), np.minimum(foot - block.y, block.y - foot + 1.2 * size))
    block.cut(trunk, PITCH * block.x, np.ones(block.shape, dtype=np.float32), outline=0)
    dy, dx = block.y - (foot - 1.5 * size), block.x - x
    side = np.sign(x - SUN[1])
    lobes = 0.06 * size * np.cos(9 * np.arctan2(dy, dx))
    shade = 0.52 + 0.45 * (side * dx + 0.6 * dy) / size
    block.cut(
        size - np.hypot(dy, dx) + lobes,
        165 * np.hypot(dy + 0.5 * size, dx + side * 0.6 * size),
        np.clip(shade, 0.1, 0.96),
    )


def _cypress(block, foot, x, size):
    """A flame-shaped tree with rising, twisted lines."""
    up = (foot - block.y) / (4.2 * size)
    half = 1.25 * size * np.clip(up, 0, 1) ** 0.45 * np.clip(1 - up, 0, 1) ** 0.8
    sway = x + 0.10 * size * np.sin(7 * up)
    side = np.sign(x - SUN[1])
    across = (block.x - sway) / np.maximum(half, 1e-4)
    depth = np.where((up > 0) & (up < 1), half - np.abs(block.x - sway), -1)
    shade = 0.60 + 0.42 * side * across
    block.cut(depth, 3.6 * across * (size / 0.03) ** 0.6 + 7 * up, np.clip(shade, 0.18, 0.96), outline=0.003)


def _foreground(block, rng):
    """A river bend and, before it, a thicket of long leaves with ribs."""
    bank = 0.830 + 0.030 * np.sin(5 * block.x + 1) + 0.05 * (block.x - 0.5)
    ripple = 0.010 * np.sin(20 * block.x + 60 * block.y) * smoothstep(0.0, 0.1, block.y - bank)
    glitter = np.exp(-(((block.x - SUN[1]) / 0.10) ** 2))
    tone = 0.58 - 0.45 * glitter + 0.18 * np.sin(37 * block.x + 11 * np.sin(30 * block.y))
    block.cut(block.y - bank, PITCH * (block.y + ripple), tone)
    leaves = []
    for x in np.linspace(-0.03, block.wide + 0.03, 21):
        edge = abs(x - 0.5 * block.wide) / (0.5 * block.wide)
        for _ in range(2):
            length = rng.uniform(0.13, 0.22) + 0.13 * edge**2
            leaves.append((length, 1.02, x + rng.normal(0, 0.02), rng.normal(0.0, 0.35)))
    for length, y, x, lean in sorted(leaves, reverse=True):
        _leaf(block, y, x, length, lean, rng.uniform(0.10, 0.15) * length, rng.uniform(-0.9, 0.9))


def _leaf(block, y, x, length, lean, half, bend):
    """A curved, pointed leaf: a dark half and a light one, hatched outwards from the rib."""
    dy, dx = y - block.y, block.x - x
    along = (dy * np.cos(lean) + dx * np.sin(lean)) / length
    across = dx * np.cos(lean) - dy * np.sin(lean) - bend * length * 0.35 * along**2
    width = half * np.sqrt(np.clip(along * (1 - along), 0, 1)) * 2.2 * (1.1 - 0.4 * along)
    depth = np.where((along > 0) & (along < 1), width - np.abs(across), -1)
    tone = np.where(across > 0, 0.74, 0.30) + 0.25 * np.exp(-along / 0.25)
    tone = np.where(np.abs(across) < 0.0022, 0.0, tone)
    block.cut(depth, PITCH * (0.8 * along * length - 0.75 * np.abs(across)), np.clip(tone, 0, 0.95))
