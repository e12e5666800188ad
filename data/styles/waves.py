"""Breaking waves under a red sun, in the manner of a colour woodcut."""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.interpolate import CubicSpline

from .colour import gradient, in_bytes, mix, palette, rgb
from .fields import grid, noise, smoothstep
from .paint import paper_grain

PAPER = rgb("eee0c0")
FOAM = rgb("f6edd8")
SHADOW = rgb("9dbcc4")
INK = rgb("14203f")
SUN = palette("c8402a e28a52")
SKY = palette("35527a 8fa3a6 e3d2ab efd9b0 ecc79a e0a884")
CLOUDS = palette("f3e6c6 d9c49a b9b89f")
BANDS = palette("16305f d6ddca 2c5f8f 7fa9b5 1b3f73 a9c6c2 2a5685 efe6cd 1d4478 5b8faa")
SWELLS = palette("16305f 2c5f8f 1b3f73 a9c6c2 2a5685 7fa9b5")

# A breaking wave of width and height 1: the back from its foot to the tip, and the hollow face.
BACK = np.array([(0.0, 0.0), (0.20, 0.16), (0.36, 0.50), (0.50, 0.84), (0.68, 1.0), (0.86, 0.95), (0.98, 0.74)])
FACE = np.array([(1.12, 0.0), (0.92, 0.07), (0.76, 0.22), (0.67, 0.45), (0.70, 0.66), (0.82, 0.76), (0.98, 0.74)])

# left foot (x), foot (y), width and height of each wave from far to near; a negative width faces left
WAVES = [
    (0.50, 0.60, 0.16, 0.060),
    (0.66, 0.60, 0.20, 0.075),
    (0.86, 0.60, 0.16, 0.060),
    (1.00, 0.60, 0.22, 0.080),
    (1.40, 0.70, -0.54, 0.290),
    (0.42, 0.69, 0.30, 0.130),
    (0.70, 0.71, 0.26, 0.100),
    (-0.36, 0.86, 0.99, 0.720),
    (1.40, 0.88, -0.62, 0.250),
    (0.40, 0.86, 0.34, 0.140),
    (-0.12, 1.02, 0.44, 0.190),
    (0.66, 1.00, 0.36, 0.150),
    (0.24, 1.05, 0.50, 0.200),
    (0.92, 1.06, 0.52, 0.220),
]


def waves(shape, rng):
    """Waves built from curves, printed as flat colour blocks and a line block on grained paper.

    Each wave is a fan of bands between its back and its hollow face; foam is a union of round lobes and
    branching claws along the crest. Waves are laid from far to near. The wood's grain, the tooth of the
    paper, uneven inking and a slight shift between the blocks are added to the finished design.
    """
    print_block = Block((3 * shape[0], 3 * shape[1]))
    _sky(print_block, rng)
    for foot_x, foot_y, width, height in WAVES:
        _wave(print_block, foot_x, foot_y, width, height, rng)
    return _printed(print_block, rng)


class Block:
    """A colour block and a line block under the knife; places are (x, y) in parts of the height."""

    def __init__(self, shape):
        self.shape = shape
        self.colour = Image.new("RGB", (shape[1], shape[0]))
        self.line = Image.new("L", (shape[1], shape[0]))

    def area(self, outline, colour):
        """Fill an outline with a flat colour and clear the lines in it."""
        places = [tuple(p) for p in np.asarray(outline) * self.shape[0]]
        ImageDraw.Draw(self.colour).polygon(places, fill=in_bytes(colour))
        ImageDraw.Draw(self.line).polygon(places, fill=0)

    def cut(self, curve, width, taper=1.0):
        """Draw a line that swells in the middle and thins towards its ends."""
        curve = np.asarray(curve)
        tangent = np.gradient(curve, axis=0)
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=-1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        swell = 1 - taper + taper * np.sin(np.linspace(0.08, np.pi - 0.08, len(curve)))
        side = normal * (swell * width / 2)[:, None]
        ribbon = np.concatenate([curve + side, (curve - side)[::-1]]) * self.shape[0]
        ImageDraw.Draw(self.line).polygon([tuple(p) for p in ribbon], fill=255)

    def lay(self, mask, colour, outline):
        """Print a colour through a mask and cut a line of the given width round it."""
        rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
        if not len(rows):
            return
        left, top = max(columns[0] - 1, 0), max(rows[0] - 1, 0)
        piece = mask[top : rows[-1] + 2, left : columns[-1] + 2]
        stencil = Image.fromarray((piece * 255).astype(np.uint8))
        self.colour.paste(in_bytes(colour), (left, top), stencil)
        edge = ndimage.distance_transform_edt(piece) <= outline * self.shape[0]
        self.line.paste(Image.fromarray((edge * 255).astype(np.uint8)), (left, top), stencil)


def _smooth(points, count=160):
    """A smooth curve through points."""
    points = np.asarray(points, dtype=float)
    run = np.concatenate([[0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(points, axis=0), axis=1)))])
    return CubicSpline(run, points)(np.linspace(0, run[-1], count))


def _sky(block, rng):
    """A graded sky with a sun and banks of mist."""
    height = block.shape[0]
    y, x = grid(block.shape) / height
    colour = gradient(SKY, y / 0.62 + 0.01 * noise(block.shape, (30, 500), rng))
    distance = np.hypot(y - 0.30, x - 0.93)
    sun = mix(SUN[0], SUN[1], smoothstep(0.22, 0.42, y))
    colour = np.where((distance < 0.115)[..., None], sun, colour)
    block.colour = Image.fromarray((colour * 255).astype(np.uint8))
    turn = np.linspace(0, 2 * np.pi, 200)
    block.cut(np.stack([0.93 + 0.115 * np.cos(turn), 0.30 + 0.115 * np.sin(turn)], axis=-1), 0.004, 0.3)
    for k in range(13):
        y0 = 0.05 + 0.042 * k
        x0, length = rng.uniform(0.35, 1.15), rng.uniform(0.25, 0.6)
        _mist(block, x0, y0, length, rng.uniform(0.010, 0.028), CLOUDS[k % 3])


def _mist(block, x, y, length, thickness, colour):
    """One bank of mist: a long bar with round ends."""
    turn = np.linspace(-np.pi / 2, np.pi / 2, 24)
    right = np.stack([x + length + thickness / 2 * np.cos(turn), y + thickness / 2 * np.sin(turn)], axis=-1)
    left = np.stack([x - thickness / 2 * np.cos(turn), y - thickness / 2 * np.sin(turn)], axis=-1)
    outline = np.concatenate([left, right])
    block.area(outline, colour)
    block.cut(np.concatenate([outline, outline[:1]]), 0.0028, 0.4)


def _wave(block, foot_x, foot_y, width, height, rng):
    """One wave: the fan of bands from back to face, its lines, and the foam on its crest."""

    def place(points):
        return np.stack([foot_x + width * points[:, 0], foot_y - height * points[:, 1]], axis=-1)

    back, face = place(_smooth(BACK)), place(_smooth(FACE))
    size = np.sqrt(abs(width) * height)
    count = int(np.clip(7 + 16 * size, 8, 16))
    edges = np.sort(np.linspace(0, 1, count + 1) ** 0.8 + rng.uniform(-0.25, 0.25, count + 1) / count)
    edges[0], edges[-1] = 0, 1
    first = rng.integers(len(BANDS))
    rows = [(1 - e) * back + e * face + _ripple(len(back), size, rng) * (0 < e < 1) for e in edges]
    for k in range(count):
        block.area(np.concatenate([rows[k], rows[k + 1][::-1]]), BANDS[(first + k) % len(BANDS)])
    line = 0.0028 + 0.0035 * size
    for row in rows[1:-1]:
        block.cut(row, line, 0.75)
    block.cut(back, 1.8 * line, 0.4)
    block.cut(face, 1.8 * line, 0.4)
    _swell(block, foot_y - 0.09 * height, size, rng)
    _foam(block, back, face, size, np.sign(width), rng)


def _swell(block, top, size, rng):
    """The open water at the foot of a wave: long bands that rise and fall, the first edged with foam."""
    x = np.linspace(-0.05, 1.05 * block.shape[1] / block.shape[0], 300)
    phase, pitch = rng.uniform(0, 2 * np.pi), 0.30 + 0.5 * size
    y = top - 0.01
    thick = 0.010 + 0.028 * size
    for k in range(14):
        swing = (0.010 + 0.05 * size) * np.sin(2 * np.pi * x / pitch + phase)
        curve = np.stack([x, y + swing + 0.3 * thick * np.sin(2 * np.pi * 2.7 * x / pitch + 5 * phase + k)], axis=-1)
        colour = FOAM if k == 0 else SWELLS[k % len(SWELLS)]
        block.area(np.concatenate([curve, [(x[-1], 1.1), (x[0], 1.1)]]), colour)
        block.cut(curve, 0.0026 + 0.003 * size, 0.2)
        y += thick * (0.45 if k == 0 else rng.uniform(0.7, 1.4))
        phase += rng.normal(0, 0.25)


def _ripple(count, size, rng):
    """A slow sideways waver for a band's edge, nothing at the tip."""
    waver = ndimage.gaussian_filter1d(rng.standard_normal((count, 2)), 18, axis=0)
    return waver * 0.05 * size * np.linspace(1, 0, count)[:, None]


def _foam(block, back, face, size, facing, rng):
    """Foam on the crest: two layers of claws that hang before the hollow, the crest's lobes, and spray."""
    crest = back[int(0.44 * len(back)) :]
    inner = face[int(0.74 * len(face)) :][::-1]
    lip, fingers = _hanging_foam(inner, size, facing, rng)
    lobes, tufts = _crest_foam(crest, size, facing, rng)
    layers = [(fingers[0] + fingers[2], fingers[0]), (lip + fingers[1], lip), (lobes + tufts, lobes)]
    for part, modelled in layers:
        whole = _disc_mask(block.shape, part)
        block.lay(whole, FOAM, 0.0022 + 0.0022 * size)
        _foam_shadows(block, modelled, whole, size, facing, rng)
    _spray(block, crest, size, facing, rng)


def _along(curve, count, start=0.0):
    """Points spread over a curve, each with how far along it lies."""
    for at in np.linspace(start, 1, count):
        yield at, *curve[int(at * (len(curve) - 1))]


def _hanging_foam(inner, size, facing, rng):
    """Discs of the foam's lower edge, and of the claws below it in three sets."""
    lip, fingers = [], ([], [], [])
    for at, x, y in _along(inner, int(16 + 26 * size)):
        lip.append((x, y, size * (0.036 - 0.026 * at) * rng.uniform(0.6, 1.1)))
    for k, (at, x, y) in enumerate(_along(inner, int(10 + 14 * size))):
        heading = np.pi / 2 - facing * (0.55 - 1.0 * at + rng.normal(0, 0.25))
        length = size * rng.uniform(0.13, 0.28) * (1.1 - 0.5 * at)
        fingers[k % 3].extend(_claw(x, y, heading, length, -facing, 2, rng))
    return lip, fingers


def _crest_foam(crest, size, facing, rng):
    """Discs of the round lobes along the crest, and of the tufts blown forward from it."""
    lobes, tufts = [], []
    for at, x, y in _along(crest, int(26 + 40 * size)):
        radius = size * (0.012 + 0.050 * at**0.7 * (1.05 - 0.3 * at)) * rng.uniform(0.75, 1.2)
        lobes.append((x, y + 0.6 * radius, radius))
    for at, x, y in _along(crest, int(8 + 10 * size), start=0.3):
        heading = -np.pi / 2 + facing * (0.5 + 1.4 * at**2 + rng.normal(0, 0.2))
        tufts += _claw(x, y, heading, size * rng.uniform(0.10, 0.19), facing, 2, rng)
    return lobes, tufts


def _foam_shadows(block, discs, whole, size, facing, rng):
    """Pale blue crescents and claws that model the foam from inside."""
    inside = ndimage.binary_erosion(whole, iterations=int(2 + 8 * size))
    lobes = [(x + rng.normal(0, 0.4) * r, y + rng.uniform(-0.9, 0.9) * r, 0.5 * r) for x, y, r in discs]
    cut = [(x + 0.25 * r * facing, y - 0.4 * r, r) for x, y, r in lobes]
    marks = _disc_mask(block.shape, lobes) & ~_disc_mask(block.shape, cut)
    hooks = []
    for x, y, r in discs[::2]:
        heading = np.pi / 2 + rng.normal(0, 0.8)
        hooks += _claw(x, y - 0.5 * r, heading, rng.uniform(1.0, 1.8) * r, -facing, 1, rng)
    hooks = [(x, y, 0.55 * r) for x, y, r in hooks]
    marks = (marks | _disc_mask(block.shape, hooks)) & inside
    block.colour.paste(in_bytes(SHADOW), mask=Image.fromarray((marks * 255).astype(np.uint8)))


def _claw(x, y, heading, length, bend, branches, rng):
    """The discs of one tapering, hooked finger of foam, with smaller hooks branching off."""
    discs, steps = [], 22
    turn = bend * rng.uniform(1.2, 2.2) / steps
    for k in range(steps):
        at = k / steps
        discs.append((x, y, length * 0.14 * (1 - at) ** 0.7 + 0.0006))
        x, y = x + length / steps * np.cos(heading), y + length / steps * np.sin(heading)
        heading += turn * (0.3 + 1.4 * at)
        if branches and k in (8, 14):
            fork = heading - bend * rng.uniform(0.5, 0.9)
            discs += _claw(x, y, fork, 0.55 * length * (1 - 0.4 * at), bend, branches - 1, rng)
    return discs


def _spray(block, crest, size, facing, rng):
    """Drops flung ahead of the crest."""
    drops = []
    for _ in range(int(90 * size)):
        x, y = crest[rng.integers(len(crest) // 3, len(crest))]
        away = rng.exponential(0.16 * size)
        angle = -np.pi / 2 + facing * rng.uniform(0.0, 2.0)
        drops.append((x + away * np.cos(angle), y + away * np.sin(angle) - 0.02 * size, rng.uniform(0.0022, 0.0055)))
    block.lay(_disc_mask(block.shape, drops), FOAM, 0.0012)


def _disc_mask(shape, discs):
    """A mask of the union of discs given as (x, y, radius)."""
    picture = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(picture)
    for x, y, radius in discs:
        box = [
            (x - radius) * shape[0],
            (y - radius) * shape[0],
            (x + radius) * shape[0],
            (y + radius) * shape[0],
        ]
        draw.ellipse(box, fill=1)
    return np.array(picture)


def _printed(block, rng):
    """The blocks printed on paper: wood grain, uneven ink, carved edges and a slight shift of the lines."""
    shape = block.shape
    y, x = grid(shape)
    shake = [1.6 * noise(shape, 40, rng) + 0.8 * noise(shape, 10, rng) for _ in range(2)]
    colour = np.asarray(block.colour, dtype=np.float32) / 255
    colour = np.stack(
        [
            ndimage.map_coordinates(colour[..., c], (y + shake[0], x + shake[1]), order=1, mode="nearest")
            for c in range(3)
        ],
        axis=-1,
    )
    line = np.asarray(block.line, dtype=np.float32) / 255
    line = ndimage.map_coordinates(line, (y + shake[0] - 2, x + shake[1] + 2), order=1, mode="nearest")

    rings = y / shape[0] * 26 + 1.1 * noise(shape, (shape[0] * 0.12, shape[0] * 0.7), rng)
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * rings) + 0.5 * noise(shape, (4, 160), rng)
    fibre = paper_grain(shape, rng, 4)
    depth = 1 - np.mean(colour, axis=-1)
    cover = 1 - depth * np.clip(0.10 + 0.13 * grain + 0.07 * fibre + 0.05 * noise(shape, 300, rng), 0, 0.6)
    colour = mix(PAPER, colour, cover)
    colour = mix(colour, INK, line * np.clip(0.93 + 0.05 * fibre, 0, 1))
    return np.clip(colour * (1 + 0.022 * fibre)[..., None], 0, 1)
