"""A river bank in summer light, in dots of pure colour."""

import numpy as np

from .colour import gradient, mix, palette, rgb, vary
from .fields import fractal_noise, grid, noise, pick, scattered_points, smoothstep
from .paint import Canvas

PIGMENTS = palette(
    "fff8e4 fff0a0 ffd92e f9b61c f4802a e2432c d2496e c85a9e 8a55b0 5a3fa0 2c3aa0 2f62c8 "
    "4f97dc 8cc4e8 30a6a8 1d7f74 2f9a56 7cb83c bcd648 20306a f6c6b4 c8b4e4"
)
SKY = palette("3f86dc 74b0ea aed0ee f4d8d4 ffcf8a ffdf7a")
WATER = palette("24509c 3f86cc 7cbfe0 c4e2e2 fff0b8")
MEADOW = palette("2f4a8a 2f7f5a 7cb03c cfd446 fff08a")
FOLIAGE = palette("20286c 1d5a66 2f8a4e 86b83c e8e25a")
POPPY = rgb("e6352a")
BORDER = palette("23286e 4a2f86 8a3a6a 1f4f8a c8602a")

# centre (y, x) and radius of the masses of leaves of the great tree
CROWN = [
    (0.05, 0.06, 0.15),
    (0.13, 0.22, 0.13),
    (0.02, 0.32, 0.11),
    (0.22, 0.08, 0.12),
    (0.26, 0.27, 0.085),
    (0.07, 0.45, 0.075),
    (0.31, 0.15, 0.075),
    (0.17, 0.37, 0.07),
    (0.00, 0.54, 0.05),
]
# foot (y, x), height and half width of the trees on the far bank
POPLARS = [
    (0.47, 0.62, 0.15, 0.020),
    (0.47, 0.67, 0.19, 0.023),
    (0.47, 0.725, 0.14, 0.020),
    (0.475, 1.08, 0.20, 0.026),
    (0.475, 1.145, 0.25, 0.030),
    (0.47, 1.02, 0.11, 0.040),
]
# foot of the mast (y, x), height and colour of each sail boat
BOATS = [(0.565, 0.83, 0.21, "f47a2e"), (0.515, 0.55, 0.095, "fff6dc"), (0.530, 0.985, 0.11, "fff2d0")]


def dots(shape, rng):
    """A landscape planned in flat fields of light, then put on in four layers of small round touches.

    The colour of each touch is a pigment drawn at random among those near the planned colour, now and then
    its complement, so that the mixture happens in the eye. Touches shrink from layer to layer and have the
    relief of thick paint.
    """
    work = (2 * shape[0], 2 * shape[1])
    plan = _landscape(work, rng)
    canvas = Canvas(work, rgb("f1e2bd"))
    for radius, spacing, spread, purity in [
        (9.5, 13, 0.10, 0.25),
        (7.0, 11, 0.16, 0.50),
        (5.4, 9.5, 0.20, 0.60),
        (3.8, 9.0, 0.24, 0.75),
    ]:
        places = scattered_points(work, spacing, rng, margin=8)
        wanted = pick(plan, places + rng.normal(0, 0.5 * radius, places.shape))
        colours = _divided(wanted, spread, purity, rng)
        _touch(canvas, places, radius * rng.uniform(0.75, 1.15, len(places)), colours, rng)
    return canvas.lit(strength=0.26, gloss=0.06)


def _divided(wanted, spread, purity, rng):
    """Split colours into pigments: the nearest to the wanted colour after a random push."""
    pushed = wanted + rng.normal(0, spread, wanted.shape)
    opposite = rng.random(len(wanted)) < 0.05
    pushed[opposite] = wanted[opposite].mean(axis=1, keepdims=True) * 2 - wanted[opposite]
    distance = ((pushed[:, None, :] - PIGMENTS[None]) ** 2).sum(axis=-1)
    return vary(mix(wanted, PIGMENTS[distance.argmin(axis=1)], np.full(len(wanted), purity)), rng, 0.015, 0.03)


def _touch(canvas, places, radii, colours, rng):
    """Set down round touches of paint, each a little domed and a little out of round."""
    reach = int(np.ceil(radii.max() * 1.2))
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    stretch, lean = rng.uniform(0.85, 1.15, (2, len(places), 1))
    tilt = rng.uniform(0, np.pi, (len(places), 1))
    along = (dy * np.sin(tilt) + dx * np.cos(tilt)) * stretch
    across = (dx * np.sin(tilt) - dy * np.cos(tilt)) * lean
    distance = np.hypot(along, across) / radii[:, None]
    rows = np.rint(places[:, :1] + dy).astype(int)
    columns = np.rint(places[:, 1:] + dx).astype(int)
    inside = distance < 1
    inside &= (rows >= 0) & (rows < canvas.shape[0]) & (columns >= 0) & (columns < canvas.shape[1])
    dome = np.sqrt(1 - np.clip(distance, 0, 1) ** 2) * radii[:, None] * 0.28
    which = np.broadcast_to(np.arange(len(places))[:, None], inside.shape)[inside]
    canvas.colour[rows[inside], columns[inside]] = colours[which]
    canvas.thickness[rows[inside], columns[inside]] = dome[inside]


def _landscape(work, rng):
    """The planned colours: sky, far bank, water with boats, meadow, figures, the great tree and a border."""
    y, x = grid(work) / work[0]
    bank = 0.655 + 0.11 * smoothstep(0.1, 1.2, x) + 0.012 * np.sin(11 * x) + 0.03 * np.exp(-(((x - 0.2) / 0.2) ** 2))
    colour = _sky(work, y, x, rng)
    colour = np.where((y > 0.465)[..., None], _water(work, y, x, rng), colour)
    colour = _far_bank(colour, work, y, x, rng)
    for foot_y, foot_x, height, code in BOATS:
        colour = _boat(colour, y, x, foot_y, foot_x, height, rgb(code))
    meadow = _meadow(work, y, x, bank, rng)
    colour = np.where((y > bank)[..., None], meadow, colour)
    colour = _people(colour, y, x)
    colour = _tree(colour, work, y, x, rng)
    edge = np.minimum(np.minimum(y, 1 - y), np.minimum(x, work[1] / work[0] - x))
    border = gradient(BORDER, 0.5 + 0.3 * noise(work, 50, rng))
    return mix(colour, border, smoothstep(-0.020, -0.014, -edge)).astype(np.float32)


def _sky(work, y, x, rng):
    """Blue above, warm towards the horizon, with a low sun and long clouds."""
    glow = np.exp(-np.hypot((y - 0.34) * 1.3, x - 0.93) / 0.22)
    colour = gradient(SKY, y / 0.50 + 0.30 * glow)
    cloud = smoothstep(0.2, 1.3, fractal_noise(work, (work[0] * 0.12, work[0] * 0.45), rng))
    colour = mix(colour, rgb("ffe2d2"), 0.65 * cloud)
    colour = mix(colour, rgb("dc9ccc"), 0.60 * smoothstep(0.2, 1.3, np.roll(cloud, -40, axis=0)) * (1 - cloud))
    return mix(colour, rgb("fff6c0"), smoothstep(0.50, 0.80, glow))


def _water(work, y, x, rng):
    """Ripples, lighter where they mirror the low sky, with a path of sunlight."""
    ripple = noise(work, (work[0] * 0.012, work[0] * 0.12), rng)
    colour = gradient(WATER, 0.62 - 1.3 * (y - 0.465) + 0.15 * ripple)
    path = np.exp(-(((x - 0.93) / (0.05 + 0.25 * (y - 0.46))) ** 2)) * smoothstep(-0.8, 0.6, ripple)
    colour = mix(colour, rgb("ffe07a"), 0.85 * path)
    for _, foot_x, height, half in POPLARS:
        shade = np.exp(-(((x - foot_x - 0.004 * ripple) / half) ** 2)) * (1 - smoothstep(0.3, 0.9, (y - 0.47) / height))
        colour = mix(colour, rgb("2f6f7c"), 0.7 * shade)
    return colour


def _far_bank(colour, work, y, x, rng):
    """Violet hills, a line of bushes and the poplars."""
    hills = 0.42 - 0.035 * np.sin(2.7 * x + 0.3) - 0.012 * np.sin(8 * x)
    shade = mix(rgb("7f7fca"), rgb("d09ac0"), np.clip((y - hills) / 0.06, 0, 1))
    colour = np.where(((y > hills) & (y < 0.468))[..., None], shade, colour)
    leaves = noise(work, 26, rng)
    bushes = 0.452 - 0.010 * np.abs(np.sin(23 * x)) - 0.010 * np.sin(5 * x)
    green = gradient(FOLIAGE, 0.50 + 0.15 * leaves + 6 * (bushes - y))
    colour = np.where(((y > bushes) & (y < 0.475))[..., None], green, colour)
    for foot_y, foot_x, height, half in POPLARS:
        up = (foot_y - y) / height
        width = half * np.sqrt(np.clip(4 * up * (1.02 - up), 0, 1)) * (1 + 0.2 * leaves)
        inside = (np.abs(x - foot_x) < width) & (up > 0) & (up < 1)
        green = gradient(FOLIAGE, 0.50 + 0.30 * (x - foot_x) / half + 0.12 * leaves)
        colour = np.where(inside[..., None], green, colour)
    return colour


def _boat(colour, y, x, foot_y, foot_x, height, sail):
    """A boat with two sails, lit from the right, and its reflection."""
    for direction, strength in ((1, 1.0), (-1, 0.55)):
        up = direction * (foot_y - y) / height
        right = (x - foot_x) / height
        tall = (up > 0.06) & (up < 1) & (right > 0.01) & (right < 0.42 * (1 - up) + 0.03)
        jib = (up > 0.08) & (up < 0.85) & (right < -0.02) & (right > -0.33 * (0.86 - up) / 0.86 - 0.02)
        hull = (up > -0.06) & (up < 0.06) & (np.abs(right) < 0.34 + 0.8 * up)
        lit = mix(sail, rgb("a9b4e0"), np.clip(0.75 - 1.9 * right, 0, 1))
        colour = np.where(tall[..., None], mix(colour, lit, np.full(y.shape, strength)), colour)
        colour = np.where(
            jib[..., None], mix(colour, mix(sail, rgb("c0a0d0"), 0.5), np.full(y.shape, strength)), colour
        )
        colour = np.where(hull[..., None], mix(colour, rgb("6a2f4a"), np.full(y.shape, strength)), colour)
    return colour


def _meadow(work, y, x, bank, rng):
    """Grass in sun with violet shade under the tree, a sandy path, and poppies."""
    tufts = noise(work, (40, 14), rng)
    light = 0.74 + 0.10 * tufts + 0.06 * noise(work, (60, 300), rng)
    under = np.hypot((y - 0.83) / 0.10, (x - 0.22) / 0.40)
    streak = np.hypot((y - 0.975) / 0.05, (x - 0.85) / 0.45)
    speckle = noise(work, 34, rng)
    shade = np.maximum(
        1 - smoothstep(0.7, 1.15, under + 0.12 * speckle), 1 - smoothstep(0.6, 1.1, streak + 0.15 * speckle)
    )
    light = light - shade * (0.50 - 0.20 * (speckle > 1.1))
    colour = gradient(MEADOW, light + 0.25 * (bank + 0.02 > y))
    path = np.abs(y - (0.80 + 0.13 * x**1.5 + 0.02 * np.sin(6 * x))) / (0.012 + 0.030 * x)
    sand = mix(rgb("ffdca0"), rgb("a890d0"), np.clip(shade, 0, 1))
    colour = mix(colour, sand, 0.85 * (1 - smoothstep(0.7, 1.3, path + 0.2 * tufts)) * (x > 0.3))
    bloom = (noise(work, 13, rng) > 1.5) & (noise(work, 130, rng) > 0.1) & (y > bank + 0.03)
    return np.where(bloom[..., None], POPPY, colour)


def _people(colour, y, x):
    """Two strollers, one with a parasol, and their shadows."""
    for foot_y, foot_x, tall, dress, top in [
        (0.875, 0.700, 0.155, "f6e6f0", "e8503a"),
        (0.868, 0.765, 0.160, "2f3a86", ""),
    ]:
        up, right = (foot_y - y) / tall, (x - foot_x) / tall
        shadow = (np.abs(up + 0.02 + 0.10 * right) < 0.035) & (right < 0.1) & (right > -0.9)
        skirt = (up > 0) & (up < 0.52) & (np.abs(right) < 0.20 - 0.24 * up)
        body = (up >= 0.50) & (up < 0.80) & (np.abs(right) < 0.10)
        head = np.hypot(up - 0.88, right) < 0.075
        lit = mix(mix(rgb(dress), rgb("5a50b0"), 0.55), rgb(dress), smoothstep(-0.08, 0.06, right))
        for mask, paint in [(shadow, rgb("5a55b0")), (skirt | body, lit), (head, rgb("f2b48a"))]:
            colour = np.where(mask[..., None], paint, colour)
        if top:
            brim = (np.hypot((up - 0.92) / 0.8, right + 0.02) < 0.40) & (up > 0.93)
            lit = mix(rgb("b02a5a"), rgb("ff9a4a"), smoothstep(-0.3, 0.35, right))
            colour = np.where(brim[..., None], lit, colour)
        else:
            hat = (up > 0.92) & (up < 1.04) & (np.abs(right) < 0.07)
            colour = np.where(hat[..., None], rgb("3a2a5a"), colour)
    return colour


def _tree(colour, work, y, x, rng):
    """The great tree: a forked trunk and masses of leaves lit from the right."""
    bend = 0.02 * np.sin(7 * y)
    for lean, half, top in [(0.0, 0.024, 0.22), (0.22, 0.012, 0.20), (-0.16, 0.012, 0.22)]:
        middle = 0.175 + bend + lean * np.clip(0.56 - y, 0, 1)
        trunk = (np.abs(x - middle) < half * (0.6 + 0.9 * y**2)) & (y > top) & (y < 0.80)
        bark = mix(rgb("2c2466"), rgb("e08a4a"), smoothstep(-0.5, 1.0, (x - middle) / half))
        colour = np.where(trunk[..., None], bark, colour)
    rough, gaps = noise(work, 46, rng), noise(work, 90, rng)
    for cy, cx, radius in CROWN:
        distance = np.hypot(y - cy, x - cx) / radius + 0.13 * rough + 0.10 * gaps
        light = 0.42 + 0.45 * ((x - cx) - 0.7 * (y - cy)) / radius + 0.13 * rough
        leaves = (distance < 1) & (gaps > -1.55)
        colour = np.where(leaves[..., None], gradient(FOLIAGE, light), colour)
    return colour
