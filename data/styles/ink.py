"""Mountains in mist with pines, in ink on rough paper."""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from .colour import mix, rgb
from .fields import fractal_noise, grid, noise, scattered_points, smoothstep
from .paint import light_relief, paper_grain, ribbon, within

PAPER = rgb("ece0c4")
SEAL = rgb("b8281e")
# how strongly each pigment darkens red, green and blue
BLACK = np.array([1.0, 0.97, 0.90], dtype=np.float32)
INDIGO = np.array([1.0, 0.70, 0.42], dtype=np.float32)
OCHRE = np.array([0.22, 0.52, 1.0], dtype=np.float32)

# Ranges from far to near: tone, foot of the mist (y) and peaks as (x, height, half width), in heights.
RANGES = [
    (
        0.30,
        0.46,
        [(0.10, 0.26, 0.12), (0.30, 0.36, 0.13), (0.47, 0.27, 0.10), (0.68, 0.38, 0.13), (0.82, 0.24, 0.1)],
    ),
    (
        0.50,
        0.62,
        [(0.02, 0.40, 0.13), (0.20, 0.27, 0.10), (0.55, 0.46, 0.12), (0.66, 0.33, 0.09), (0.84, 0.30, 0.1)],
    ),
    (
        0.75,
        0.80,
        [(0.10, 0.46, 0.14), (0.26, 0.30, 0.10), (0.40, 0.16, 0.12), (0.78, 0.42, 0.11), (0.66, 0.24, 0.1)],
    ),
]


def ink(shape, rng):
    """Ranges washed in one behind the other, each fading into mist, then textured with dry strokes.

    Everything adds to a map of ink density, which darkens the paper as a dye does. Washes have wet, darker
    rims, blooms and granulation in the tooth of the paper; a dry brush only marks the paper's high points.
    Rocks, pines, a boat and a red seal come last.
    """
    sheet = Sheet((2 * shape[0], 2 * shape[1]), rng)
    _sky(sheet, rng)
    for tone, foot, peaks in RANGES:
        _range(sheet, tone, foot, peaks, rng)
    _birds(sheet, rng)
    _water(sheet, rng)
    _rocks(sheet, rng)
    for y, x, height, lean in [(0.93, 0.15, 0.40, 0.14), (0.95, 0.27, 0.17, 0.10), (0.93, 0.67, 0.24, 0.04)]:
        _pine(sheet, y, x, height, lean, rng)
    return _finished(sheet, rng)


class Sheet:
    """Paper with the ink it has taken; places are (y, x) in parts of the height."""

    def __init__(self, shape, rng):
        self.shape = shape
        self.scale = shape[0]
        self.y, self.x = grid(shape) / shape[0]
        self.grain = paper_grain(shape, rng, 3.2)
        self.ink = np.zeros((*shape, 3), dtype=np.float32)

    def wash(self, cover, tone, pigment, rng, bloom=0.35, edge=0.9):
        """Lay a wash where `cover` (0 to 1) says, with cloudy pooling and a wet rim where it falls off."""
        pool = 1 + bloom * fractal_noise(self.shape, 0.12 * self.scale, rng) + 0.10 * self.grain
        rim = np.clip(cover - ndimage.gaussian_filter(cover, 7), 0, 1)
        density = tone * np.clip(cover * pool + edge * rim, 0, None)
        self.ink += density[..., None] * pigment

    def brush(self, path, width, tone, rng, dry=0.4, taper=0.8, pigment=BLACK):
        """One stroke of the brush; the drier it is, the more of the paper stays bare, and most at its end."""
        along, across, place = ribbon(np.asarray(path) * self.scale, width, rng, taper)
        inside = within(place, self.shape)
        bristle = ndimage.gaussian_filter1d(rng.standard_normal(len(across)), 1.2) * 1.8
        lack = dry * (0.4 + 1.5 * along[:, None]) + 0.55 * dry * bristle
        rows, columns = place[0][inside], place[1][inside]
        marked = smoothstep(-0.25, 0.35, 0.9 - 1.6 * lack[inside] + 0.5 * self.grain[rows, columns])
        density = (tone * marked)[:, None] * pigment
        self.ink[rows, columns] = np.maximum(self.ink[rows, columns], density + 0.5 * self.ink[rows, columns])

    def lift(self, amount):
        """Take ink off again, as with a wet brush."""
        self.ink *= (1 - amount)[..., None]


def _sky(sheet, rng):
    """Bands of thin wash with blooms, and a pale sun left out of them."""
    clouds = fractal_noise(sheet.shape, (0.12 * sheet.scale, 0.40 * sheet.scale), rng)
    sun = np.hypot(sheet.y - 0.125, sheet.x - 0.50) < 0.055 + 0.002 * clouds
    sheet.wash(smoothstep(0.0, 0.25, clouds) * ~sun, 0.22, INDIGO, rng, edge=0.2)
    sheet.wash(smoothstep(0.75, 0.85, clouds - 0.4 * sheet.y) * ~sun, 0.13, BLACK, rng, edge=0.3)
    sheet.wash(smoothstep(-0.3, -0.1, -clouds) * ~sun * (sheet.y < 0.5), 0.14, OCHRE, rng, edge=0.1)
    for _ in range(14):
        _bloom(sheet, rng.uniform(0, 0.9), rng.uniform(0, 0.8), rng.uniform(0.02, 0.07), 0.08, rng)


def _birds(sheet, rng):
    """A skein of geese over the peaks."""
    for k in range(11):
        y = 0.060 + 0.006 * abs(k - 4) + 0.003 * rng.normal()
        x = 0.16 + 0.022 * k + 0.004 * rng.normal()
        dip, reach = rng.uniform(0.002, 0.005), rng.uniform(0.008, 0.011)
        for side in (-1, 1):
            wing = [(y, x), (y - dip, x + 0.5 * side * reach), (y - 0.4 * dip, x + side * reach)]
            sheet.brush(wing, 3.0, 1.2, rng, dry=0.05)


def _bloom(sheet, y, x, radius, tone, rng):
    """A back-run: water pushed into a damp wash leaves a pale patch with a dark, lacy rim."""
    distance = np.hypot(sheet.y - y, sheet.x - x) / radius
    edge = 1 + 0.18 * fractal_noise(sheet.shape, 0.05 * sheet.scale, rng) - distance
    sheet.lift(0.35 * smoothstep(0.0, 0.15, edge))
    rim = np.exp(-((edge / 0.05) ** 2)) + 0.5 * np.exp(-np.clip(-edge, 0, None) / 0.12) * (edge < 0)
    sheet.ink += (tone * rim)[..., None] * INDIGO


def _range(sheet, tone, foot, peaks, rng):
    """One range of peaks: clear mist in front of what lies behind, a wash down from the ridge, strokes."""
    columns = np.arange(sheet.shape[1]) / sheet.scale
    ridge = np.zeros_like(columns)
    for x, height, half in peaks:
        away = np.abs(columns - x) / half
        ridge = np.maximum(ridge, height * np.clip(1.15 - 0.55 * away**0.8 - 0.45 * away**2.2, 0, 1))
    rough = ndimage.gaussian_filter1d(rng.standard_normal(len(columns)), 22)
    fine = ndimage.gaussian_filter1d(rng.standard_normal(len(columns)), 6)
    ridge = foot - ridge + 0.085 * rough + 0.018 * fine
    depth = sheet.y - ridge[None, :]
    ragged = depth + 0.004 * fractal_noise(sheet.shape, 18, rng)
    fade = 1 - smoothstep(0.50 * foot, 1.08 * foot, sheet.y + 0.05 * noise(sheet.shape, 0.2 * sheet.scale, rng))
    body = smoothstep(0, 0.004, ragged)
    bleed = smoothstep(-0.03, 0.015, depth + 0.012 * fractal_noise(sheet.shape, 60, rng))
    wet = smoothstep(0.2, 1.0, noise(sheet.shape, 0.18 * sheet.scale, rng))
    cover = body + (bleed - body) * wet
    sheet.lift(0.88 * cover)
    sheet.wash(cover * fade, 1.15 * tone, INDIGO, rng)
    sheet.wash(cover * np.exp(-depth.clip(0) / 0.07) * fade, 1.25 * tone, BLACK, rng)
    sheet.wash(cover * smoothstep(-0.2, 0.9, noise(sheet.shape, 0.1 * sheet.scale, rng)) * fade, 0.34, OCHRE, rng)
    _wrinkles(sheet, tone, foot, ridge, rng)


def _wrinkles(sheet, tone, foot, ridge, rng):
    """Texture strokes: the ridge line itself and dry strokes that run down the slopes from it."""
    slope = np.gradient(ndimage.gaussian_filter1d(ridge, 14)) * sheet.scale
    wide = sheet.shape[1] / sheet.scale
    for x in np.arange(0, wide, 0.045):
        places = np.clip(np.linspace(x - 0.012, x + 0.06, 12), 0, wide - 0.002)
        line = np.stack([np.interp(places * sheet.scale, np.arange(len(ridge)), ridge) + 0.002, places], axis=-1)
        sheet.brush(line, rng.uniform(5, 13), 1.25 * tone, rng, dry=rng.uniform(0.1, 0.45))
    for y, x in scattered_points((1.0, wide), 0.0125, rng):
        column = int(np.clip(x * sheet.scale, 0, len(ridge) - 1))
        depth = y - ridge[column]
        if not 0.004 < depth < 0.30 or y > foot + 0.02 or rng.random() < 0.15 + 1.7 * depth:
            continue
        side = np.clip(slope[column], -1.6, 1.6) + rng.normal(0, 0.25)
        length = rng.uniform(0.025, 0.10)
        run = np.linspace(0, 1, 8)
        path = np.stack(
            [
                y + length * run,
                x + 0.45 * length * np.sign(side) * abs(side) ** 0.5 * run + 0.006 * rng.normal() * np.sin(3 * run),
            ],
            axis=-1,
        )
        fade = np.clip(1.25 - (y - 0.45 * foot) / (0.62 * foot), 0.15, 1)
        sheet.brush(path, rng.uniform(4, 17), tone * fade * rng.uniform(0.6, 1.5), rng, dry=rng.uniform(0.3, 0.7))


def _water(sheet, rng):
    """Still water in long dry strokes, with a boat."""
    wide = sheet.shape[1] / sheet.scale
    for _ in range(150):
        y, x = rng.uniform(0.80, 0.99), rng.uniform(-0.1, wide)
        length = rng.uniform(0.06, 0.25)
        run = np.linspace(0, 1, 12)
        path = np.stack([y + 0.004 * np.sin(8 * run + 9 * y), x + length * run], axis=-1)
        pigment = INDIGO if rng.random() < 0.7 else BLACK
        sheet.brush(path, rng.uniform(5, 22), rng.uniform(0.2, 0.75), rng, dry=rng.uniform(0.35, 0.7), pigment=pigment)
    run = np.linspace(-1, 1, 14)
    sheet.brush(np.stack([0.868 + 0.007 * (1 - run**2), 0.475 + 0.065 * run], axis=-1), 10, 1.9, rng, dry=0.1)
    sheet.brush([(0.872, 0.455), (0.850, 0.458), (0.838, 0.462)], 12, 1.6, rng, dry=0.05)
    sheet.brush([(0.836, 0.448), (0.831, 0.462), (0.837, 0.477)], 7, 1.9, rng, dry=0.05)
    sheet.brush([(0.845, 0.460), (0.800, 0.520), (0.880, 0.545)], 2.5, 1.5, rng, dry=0.1)
    sheet.brush([(0.885, 0.43), (0.887, 0.53)], 9, 0.5, rng, dry=0.5, pigment=INDIGO)


def _rocks(sheet, rng):
    """Boulders at the lower corners: wash, bold outline, cut strokes and dots of moss."""
    for y, x, size in [
        (0.95, 0.04, 0.14),
        (1.0, 0.20, 0.13),
        (1.01, 0.33, 0.10),
        (1.0, 0.66, 0.09),
        (0.98, 0.79, 0.12),
        (1.02, 0.45, 0.07),
    ]:
        turn = np.linspace(np.pi, 2.05 * np.pi, 26)
        waver = ndimage.gaussian_filter1d(rng.standard_normal(26), 1.5) * 0.22
        outline = np.stack(
            [y + 0.75 * size * (1 + waver) * np.sin(turn), x + size * (1 + waver) * np.cos(turn)], axis=-1
        )
        mask = _polygon(sheet, np.concatenate([outline, [(1.1, x + size), (1.1, x - size)]]))
        soft = ndimage.gaussian_filter(mask.astype(np.float32), 2.5)
        sheet.lift(0.85 * soft)
        sheet.wash(soft * (0.35 + smoothstep(-0.6, 1.2, (sheet.y - y + 0.5 * size) / size)), 0.50, BLACK, rng)
        sheet.wash(soft, 0.26, OCHRE, rng)
        for _ in range(2):
            sheet.brush(outline + rng.normal(0, 0.002, outline.shape), rng.uniform(10, 16), 1.9, rng, dry=0.3)
        for _ in range(26):
            at, inward = rng.integers(3, 23), rng.uniform(0.05, 0.75)
            start = outline[at] + inward * (np.array([y, x]) - outline[at])
            end = start + size * np.array([rng.uniform(0.10, 0.35), rng.normal(0.10, 0.16)])
            sheet.brush(
                [start, (start + end) / 2 + rng.normal(0, 0.004, 2), end],
                rng.uniform(7, 18),
                rng.uniform(0.7, 1.6),
                rng,
                dry=rng.uniform(0.35, 0.7),
            )
        for _ in range(16):
            dot = outline[rng.integers(0, 26)] + rng.normal(0, 0.10 * size, 2)
            sheet.brush([dot, dot + (0.004, 0.005)], rng.uniform(8, 15), rng.uniform(1.2, 2.0), rng, dry=0.1)


def _polygon(sheet, outline):
    """A mask of the inside of an outline."""
    picture = Image.new("1", sheet.shape[::-1])
    ImageDraw.Draw(picture).polygon([(x * sheet.scale, y * sheet.scale) for y, x in outline], fill=1)
    return np.array(picture)


def _pine(sheet, y, x, height, lean, rng):
    """A crooked pine: trunk, level boughs and fans of needles."""
    up = np.linspace(0, 1, 16)
    sway = np.cumsum(ndimage.gaussian_filter1d(rng.standard_normal(16), 1.5)) * 0.012
    trunk = np.stack(
        [y - height * up, x + lean * height * up * 2 + 0.11 * height * np.sin(5.2 * up) + sway * height * up],
        axis=-1,
    )
    needles = Image.new("L", sheet.shape[::-1])
    draw = ImageDraw.Draw(needles)
    boughs = []
    for k, at in enumerate(np.linspace(0.45, 1.0, 8)):
        root = trunk[int(at * 15)]
        side = 1 if k % 2 else -1
        reach = height * rng.uniform(0.34, 0.60) * (1.3 - 0.75 * at)
        run = np.linspace(-0.12, 1, 12)
        rise = rng.uniform(-0.05, 0.35)
        bough = np.stack(
            [
                root[0] - reach * (rise * run - 0.25 * run**2 + 0.03 * np.sin(9 * run + k)),
                root[1] + side * reach * run,
            ],
            axis=-1,
        )
        boughs.append(bough)
        for _ in range(int(8 + 95 * reach)):
            pad = bough[rng.integers(4, 12)] + (
                -abs(rng.normal(0, 0.035)) * height,
                rng.normal(0, 0.05) * height,
            )
            _needle_fan(draw, pad * sheet.scale, 0.075 * height * sheet.scale, rng)
    dark = ndimage.gaussian_filter(np.asarray(needles, dtype=np.float32) / 255, 0.7)
    haze = ndimage.gaussian_filter(dark, 10)
    sheet.lift(np.clip(1.6 * ndimage.gaussian_filter(dark, 22), 0, 0.75))
    sheet.ink += (0.9 * haze)[..., None] * INDIGO
    sheet.brush(trunk, 0.085 * height * sheet.scale, 1.3, rng, dry=0.42, taper=0.4)
    for edge in (-1, 1):
        sheet.brush(trunk + (0, 0.038 * height * edge), 7, 2.0, rng, dry=0.35)
    for bough in boughs:
        sheet.brush(bough, 0.026 * height * sheet.scale, 1.9, rng, dry=0.3)
    sheet.ink = np.maximum(sheet.ink, (2.3 * dark)[..., None] * BLACK)


def _needle_fan(draw, centre, length, rng):
    """A half circle of fine needles."""
    tone = int(rng.uniform(70, 255))
    for angle in np.linspace(-0.15, np.pi + 0.15, 13):
        reach = length * rng.uniform(0.7, 1.1)
        tip = (centre[1] + reach * np.cos(angle), centre[0] - 0.75 * reach * np.sin(angle))
        draw.line([(centre[1], centre[0]), tip], fill=tone, width=2)


def _seal(sheet, picture, rng):
    """A red seal: a square of meander lines, pressed unevenly."""
    side, cells = 0.072, 9
    top, left = 0.075, sheet.shape[1] / sheet.scale - 0.125
    v, u = (sheet.y - top) / side, (sheet.x - left) / side
    ragged = 0.018 * fractal_noise(sheet.shape, 12, rng)
    inside = (np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v)) + ragged) > 0
    carved = np.ones((cells, cells), dtype=bool)
    carved[1:8, 1:8] = np.array(
        [
            [0, 1, 0, 0, 0, 1, 0],
            [0, 1, 1, 0, 1, 1, 0],
            [0, 0, 0, 0, 0, 0, 0],
            [1, 1, 1, 0, 1, 1, 1],
            [0, 0, 0, 0, 0, 0, 0],
            [0, 1, 1, 1, 1, 1, 0],
            [0, 1, 0, 0, 0, 1, 0],
        ],
        dtype=bool,
    )
    row = np.clip(((v + ragged) * cells).astype(int), 0, cells - 1)
    column = np.clip(((u + ragged) * cells).astype(int), 0, cells - 1)
    print_mask = inside & carved[row, column]
    strength = ndimage.gaussian_filter(print_mask.astype(np.float32), 0.8)
    strength = strength * np.clip(0.92 + 0.10 * sheet.grain, 0, 1)
    return mix(picture, SEAL, strength)


def _finished(sheet, rng):
    """Paper darkened by the ink, with drops, the seal and the light on its fibres."""
    for _ in range(60):
        dot = rng.uniform((0, 0), (1, sheet.shape[1] / sheet.scale))
        sheet.brush([dot, dot + (0.001, 0.002)], rng.uniform(2, 7), rng.uniform(0.3, 1.2), rng, dry=0.0)
    ink = ndimage.gaussian_filter(sheet.ink, (0.9, 0.9, 0))
    fibres = np.maximum(noise(sheet.shape, (3, 40), rng), noise(sheet.shape, (40, 3), rng))
    tint = PAPER * (1 + 0.010 * fibres + 0.020 * noise(sheet.shape, 160, rng))[..., None]
    picture = tint * np.exp(-1.25 * ink)
    picture = _seal(sheet, picture, rng)
    return light_relief(picture, 0.16 * sheet.grain + 0.05 * fibres, 0.22, 0.0)
