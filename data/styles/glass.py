"""A rose window of stained glass with the sun behind it."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from .colour import mix, palette, rgb, vary
from .fields import fractal_noise, grid, noise, scattered_points, smoothstep
from .paint import light_relief

LEAD = rgb("15151b")
BLUES = palette("0a1f86 0f37b8 1550d8 1a2a9c 2b78e4 0d6fb5 101a6a")
SEAS = palette("087a8f 12a3a8 0e5f9a 31c0b4 0b4f86 1a86c8")
RUBIES = palette("a80c24 c8142c 8c0a30 e23a30 d01848")
GOLDS = palette("f6b21a ffd24a f08a12 ffe48a e8a010")
GREENS = palette("0b7a3c 2ea24a 86bf3a 0a5a44 4fb56a")
VIOLETS = palette("4a1a94 6a2ab4 8a3ac0 3a1470 b060d0")
ROSES = palette("f08aa0 e8587a ffc0b0 d83a6a")


def glass(shape, rng):
    """A rose of vesicas, roundels and bands over a ground of broken pieces, joined by lead.

    Every pixel gets the number of its piece of glass; lead runs where numbers meet and is rounded by the
    distance from the joint. Each piece has its own colour, thickness, slant and streaks;
    light blooms through the bright ones.
    """
    work = (2 * shape[0], 2 * shape[1])
    window = Window(work, rng)
    _ground(window, rng)
    _rose(window, rng)
    _corners(window)
    return _leaded(window, rng)


class Window:
    """The piece and colour family of every pixel; places run from -1 to 1 over the shorter side."""

    def __init__(self, work, rng):
        y, x = grid(work)
        half = min(work) / 2
        bend = [0.006 * noise(work, work[0] * 0.15, rng) for _ in range(2)]
        self.shape = work
        self.y = (y - work[0] / 2) / half + bend[0]
        self.x = (x - work[1] / 2) / half + bend[1]
        self.radius = np.hypot(self.y, self.x)
        self.angle = np.arctan2(self.y, self.x)
        self.piece = np.zeros(work, dtype=np.int64)
        self.colour_of = [BLUES[0]]
        self.rng = rng

    def claim(self, mask, part, colours):
        """Give the masked pixels to new pieces, one for each value of `part`, coloured in turn."""
        values, index = np.unique(part[mask] if np.ndim(part) else np.zeros(mask.sum(), int), return_inverse=True)
        first = len(self.colour_of)
        self.piece[mask] = first + index
        self.colour_of += [colours(int(v)) for v in values]

    def any_of(self, colours):
        """A chooser that takes a colour at random, varied a little."""
        return lambda _: vary(colours[self.rng.integers(len(colours))], self.rng, 0.03, 0.05)

    def turn_by_turn(self, *families):
        """A chooser that takes the families of colours in turn."""
        return lambda k: self.any_of(families[k % len(families)])(k)

    def sector(self, count, shift=0.0):
        """The number of the sector, of `count` equal ones, that each pixel is in."""
        return np.floor((self.angle / (2 * np.pi) + shift / count) * count).astype(int) % count

    def fold(self, count, shift=0.0):
        """Coordinates along and across the middle line of each pixel's sector."""
        width = 2 * np.pi / count
        local = (self.angle + shift * width) % width - width / 2
        return self.radius * np.cos(local), self.radius * np.sin(local)


def _vesica(along, across, inner, outer, half_width):
    """A pointed oval between two radii: below 1 inside, with 1 on the rim."""
    position = (2 * along - inner - outer) / (outer - inner)
    return np.abs(across) / half_width + position**2


def _ground(window, rng):
    """Broken pieces everywhere, denser inside the rose."""
    for mask, spacing, families in [
        (window.radius > 0.9, 0.105, (SEAS, BLUES, SEAS, GREENS, BLUES, VIOLETS)),
        (window.radius <= 0.9, 0.080, (BLUES, BLUES, VIOLETS, BLUES, SEAS)),
    ]:
        sites = scattered_points((2.6, 2.6), spacing, rng) - 1.3
        places = np.stack([window.y[mask], window.x[mask]], axis=-1)
        part = np.zeros(window.shape, dtype=np.int64)
        part[mask] = cKDTree(sites).query(places)[1]
        window.claim(mask, part, window.turn_by_turn(*families))


def _rose(window, rng):
    """Rim, roundels, petals, leaves, beads and the flower in the middle."""
    radius = window.radius
    rim = (radius > 0.895) & (radius < 0.965)
    window.claim(rim, window.sector(48), window.turn_by_turn(RUBIES, GOLDS, RUBIES, ROSES))
    inner_rim = (radius > 0.865) & (radius <= 0.895)
    window.claim(inner_rim, window.sector(36, 0.5), window.turn_by_turn(GREENS, SEAS))

    along, across = window.fold(24)
    distance = np.hypot(along - 0.765, across)
    window.claim(distance < 0.088, window.sector(24), window.turn_by_turn(RUBIES, VIOLETS))
    turn = np.floor(np.arctan2(across, along - 0.765) / (np.pi / 2) + 0.5).astype(int) % 4
    window.claim(distance < 0.060, window.sector(24) * 4 + turn, window.turn_by_turn(ROSES, GOLDS))
    window.claim(distance < 0.024, window.sector(24), window.turn_by_turn(RUBIES, SEAS))

    along, across = window.fold(12, 0.5)
    leaf = _vesica(along, across, 0.36, 0.69, 0.062)
    side = (across > 0).astype(int)
    window.claim(leaf < 1, window.sector(12, 0.5) * 4 + side + 2 * (along > 0.53), window.any_of(GREENS))

    along, across = window.fold(12)
    side = (across > 0).astype(int)
    petal = _vesica(along, across, 0.315, 0.690, 0.118)
    band = np.floor((along - 0.3) / 0.055 + 0.8 * np.abs(across) / 0.118).astype(int)
    window.claim(petal < 1, (window.sector(12) * 20 + band) * 2 + side, window.turn_by_turn(RUBIES, RUBIES, ROSES))
    heart = _vesica(along, across, 0.36, 0.62, 0.062)
    window.claim(heart < 1, window.sector(12) * 2 + (along > 0.48), window.any_of(GOLDS))

    bead = (radius > 0.262) & (radius < 0.325)
    window.claim(bead, window.sector(32), window.turn_by_turn(GOLDS, BLUES, SEAS, BLUES))
    window.claim(radius <= 0.262, window.sector(16), window.turn_by_turn(VIOLETS, BLUES))
    along, across = window.fold(8)
    flower = _vesica(along, across, 0.03, 0.255, 0.075)
    window.claim(flower < 1, window.sector(8) * 2 + (across > 0), window.turn_by_turn(RUBIES, ROSES))
    flower = _vesica(along, across, 0.06, 0.19, 0.032)
    window.claim(flower < 1, window.sector(8), window.any_of(GOLDS))
    window.claim(radius < 0.075, window.sector(8, 0.5), window.turn_by_turn(GOLDS, ROSES))
    window.claim(radius < 0.034, np.zeros_like(window.piece), window.any_of(GOLDS[3:4]))


def _corners(window):
    """A roundel with a four-leaved flower in each corner, and leaves that reach along the sides."""
    y, x = np.abs(window.y), np.abs(window.x)
    quarter = (window.y > 0) * 2 + (window.x > 0)
    for tip_y, tip_x in [(0.97, 0.42), (0.42, 0.97)]:
        along, across = _frame(y, x, (0.86, 0.86), (tip_y, tip_x))
        leaf = _vesica(along, across, 0.10, 0.42, 0.055)
        part = quarter * 8 + (across > 0) + 2 * (along > 0.27)
        window.claim(leaf < 1, part, window.turn_by_turn(GREENS, GREENS, GOLDS))
    distance = np.hypot(y - 0.845, x - 0.845)
    turn = np.arctan2(y - 0.845, x - 0.845)
    sector = np.floor(turn / (np.pi / 6)).astype(int) % 12
    window.claim(distance < 0.155, quarter * 12 + sector, window.turn_by_turn(RUBIES, GOLDS))
    window.claim(distance < 0.122, quarter * 12 + sector // 3, window.any_of(BLUES))
    lobe = distance / (0.055 + 0.055 * np.abs(np.cos(2 * turn)))
    part = quarter * 4 + np.floor((turn + np.pi / 4) / (np.pi / 2)).astype(int) % 4
    window.claim(lobe < 1, part, window.turn_by_turn(ROSES, RUBIES, GOLDS))
    window.claim(distance < 0.036, quarter, window.any_of(GOLDS))


def _frame(y, x, origin, tip):
    """Coordinates along and across the line from an origin to a tip."""
    direction = np.array(tip) - np.array(origin)
    direction = direction / np.linalg.norm(direction)
    dy, dx = y - origin[0], x - origin[1]
    return dy * direction[0] + dx * direction[1], dx * direction[0] - dy * direction[1]


def _leaded(window, rng):
    """Colour, light and lead from the finished plan of pieces."""
    shape, piece = window.shape, window.piece
    joint = ndimage.minimum_filter(piece, 3) != ndimage.maximum_filter(piece, 3)
    depth = ndimage.distance_transform_edt(~joint).astype(np.float32)

    base = np.array(window.colour_of, dtype=np.float32)[piece]
    count = len(window.colour_of)
    reach = np.asarray(ndimage.maximum(depth, piece, np.arange(count)), dtype=np.float32)[piece]
    brightness = rng.uniform(0.80, 1.24, count).astype(np.float32)[piece]
    lean = rng.uniform(-1, 1, (count, 2)).astype(np.float32)[piece]
    slope = 0.35 * (lean[..., 0] * np.sin(6 * window.y) + lean[..., 1] * np.sin(6 * window.x))
    streaks = np.where(rng.random(count)[piece] < 0.5, noise(shape, (7, 60), rng), noise(shape, (60, 7), rng))
    cloud = fractal_noise(shape, 50, rng)
    light = brightness * (1 + 0.15 * streaks + 0.15 * cloud + slope)
    light = light * (0.62 + 0.62 * smoothstep(0, 1, depth / np.maximum(reach, 12))) * (1.25 - 0.30 * window.radius)
    seeds = noise(shape, 4, rng)
    light = light * (1 + 0.25 * smoothstep(2.2, 3.0, seeds))
    colour = base * light[..., None]
    colour = mix(colour, np.ones(3, dtype=np.float32), 0.45 * smoothstep(1.20, 2.0, light))

    lead_width = np.clip(1.4 + 0.17 * reach, 2.2, 5.2) + 0.5 * noise(shape, 60, rng)
    cover = 1 - smoothstep(lead_width - 0.8, lead_width + 0.8, depth)
    dome = np.sqrt(np.clip(1 - (depth / lead_width) ** 2, 0, 1))
    metal = light_relief(np.broadcast_to(LEAD * 1.6, colour.shape), 2.5 * dome + 0.25 * noise(shape, 5, rng), 0.7, 0.35)
    picture = mix(np.clip(colour, 0, 1.2), metal, cover)
    bloom = ndimage.gaussian_filter(np.clip(picture - 0.40, 0, 1), (16, 16, 0))
    return np.clip(1 - (1 - np.clip(picture, 0, 1)) * (1 - 0.6 * bloom), 0, 1)
