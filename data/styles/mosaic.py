"""A peacock in tesserae of glass and gold."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from .colour import gradient, mix, palette, rgb, vary
from .fields import fractal_noise, grid, noise, pick, scattered_points, smoothstep, unit
from .paint import light_relief

MORTAR = rgb("4a4034")
GOLD = palette("8a5a10 b98218 dca62a f2c84e fbe08c")
FEATHER = palette("0a3d3f 0b6a55 1f9a6a 6fc06a c9d66a")
BODY = palette("0a1250 1230a0 1c58d0 2f9ad8 8fe0e0")
EYES = palette("0b1048 1648c0 1fb0b8 e8b028 8a4a14 2f8f4a")
RED, WHITE, NAVY = rgb("b01e22"), rgb("f4ecd8"), rgb("101a4a")
MEADOW = palette("123a1c 2a6a2a 5f9a34 a4c24a")

FAN_CENTRE = (0.665, 0.5)
# distance from the fan's centre, number and radius of the eyes in each row
EYE_ROWS = [(0.215, 7, 0.030), (0.305, 10, 0.035), (0.395, 13, 0.038)]
FAN_HALF_ANGLE = np.radians(104)


def mosaic(shape, rng):
    """A plan of flat shapes, set with square stones that line up along the outlines.

    The stones are the cells of a Voronoi diagram under a square distance turned, at each stone, along the
    nearest outline; some rounds of moving every stone to the middle of its cell make them even. Each stone
    has its own shade and tilt in the mortar; gold ones vary most.
    """
    plan, region, metal = _peacock((shape[0], shape[1]), rng)
    outline = ndimage.minimum_filter(region, 3) != ndimage.maximum_filter(region, 3)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(~outline), 2.5)
    across = unit(np.stack(np.gradient(ndimage.gaussian_filter(distance, 1.5)), axis=-1))
    stones = _settled(shape, across, region, spacing=8.6, rounds=14, rng=rng)
    return _set(shape, stones, across, plan, metal, rng)


def _nearest_stone(places, stones, turned):
    """The stone each place belongs to, and the place in that stone's own frame."""
    candidates = cKDTree(stones).query(places, k=6)[1]
    offset = places[:, None, :] - stones[candidates]
    axis = turned[candidates]
    first = offset[..., 0] * axis[..., 0] + offset[..., 1] * axis[..., 1]
    second = offset[..., 1] * axis[..., 0] - offset[..., 0] * axis[..., 1]
    best = np.maximum(np.abs(first), np.abs(second)).argmin(axis=1)
    rows = np.arange(len(places))
    return candidates[rows, best], first[rows, best], second[rows, best]


def _settled(shape, across, region, spacing, rounds, rng):
    """Stones moved again and again to the middle of their cells; pixels on outlines do not count."""
    stones = scattered_points(shape, spacing, rng)
    stones = np.clip(stones, 0, np.array(shape) - 1)
    y, x = grid(shape)
    outline = ndimage.minimum_filter(region, 3) != ndimage.maximum_filter(region, 3)
    counted = ~outline.ravel()
    places = np.stack([y.ravel(), x.ravel()], axis=-1)[counted][::2]
    for _ in range(rounds):
        owner, _, _ = _nearest_stone(places, stones, pick(across, stones))
        weight = np.bincount(owner, minlength=len(stones))
        middle = np.stack([np.bincount(owner, places[:, k], minlength=len(stones)) for k in (0, 1)], axis=-1)
        stones = np.where(weight[:, None] > 0, middle / np.maximum(weight, 1)[:, None], stones)
    return stones


def _set(shape, stones, across, plan, metal, rng):
    """The finished wall: stones with their shades, tilts, chips and bevels in rough mortar."""
    work = (2 * shape[0], 2 * shape[1])
    y, x = grid(work) / 2
    places = np.stack([y.ravel(), x.ravel()], axis=-1)
    turned = unit(pick(across, stones) + rng.normal(0, 0.07, stones.shape))
    owner, first, second = _nearest_stone(places, stones, turned)
    count = len(stones)
    area = np.bincount(owner, minlength=count) / 4
    half = 0.5 * np.sqrt(np.clip(area, 16, 110))
    half = half[:, None] * rng.uniform(0.86, 0.99, (count, 2))
    skew = rng.normal(0, 0.07, (count, 2))
    chip = 0.22 * noise(work, 8, rng).ravel()
    first, second = first + skew[owner, 0] * second, second + skew[owner, 1] * first
    inset = np.minimum(half[owner, 0] - np.abs(first), half[owner, 1] - np.abs(second)) - 0.25 + chip
    inset = inset.reshape(work).astype(np.float32)

    is_metal = pick(metal, stones)
    shade = np.where(is_metal, rng.normal(0, 0.16, count), rng.normal(0, 0.06, count)).astype(np.float32)
    own = np.clip(vary(pick(plan, stones), rng, 0.025, 0.02) * (1 + shade[:, None]), 0, 1)
    tilt = rng.normal(0, np.where(is_metal, 0.07, 0.03)[:, None], (count, 2))
    tilted = (tilt[owner, 0] * first + tilt[owner, 1] * second).reshape(work)
    colour = own[owner].reshape(*work, 3) * (1 + tilted[..., None] + 0.05 * noise(work, 5, rng)[..., None])
    glint = (is_metal & (rng.random(count) < 0.10))[owner].reshape(work)
    colour = mix(colour, rgb("fff3c4"), 0.45 * glint * smoothstep(-0.4, 0.4, tilted + 0.1))

    cover = smoothstep(-0.05, 0.35, inset)
    ground = MORTAR * (1 + 0.10 * fractal_noise(work, 14, rng))[..., None]
    picture = mix(ground, colour, cover)
    height = 1.8 * smoothstep(-0.3, 1.1, inset) + 0.12 * noise(work, 4, rng)
    shadow = ndimage.shift(cover, (2, 2), order=1, mode="nearest") * (1 - cover)
    picture = picture * (1 - 0.35 * shadow[..., None])
    return light_relief(np.clip(picture, 0, 1), height, 0.34, 0.14)


def _peacock(shape, rng):
    """The plan: colours, the numbers of the outlined regions, and where the stones are gold."""
    y, x = grid(shape) / shape[0]
    wide = shape[1] / shape[0]
    plan = gradient(GOLD, 0.62 + 0.12 * noise(shape, 120, rng))
    region = np.zeros(shape, dtype=int)
    metal = np.ones(shape, dtype=bool)

    def lay(mask, colour, gold=False):
        plan[mask] = colour[mask] if np.ndim(colour) == 3 else colour
        region[mask] = region.max() + 1
        metal[mask] = gold

    _fan(lay, y, x, rng)
    ground = 0.885 - 0.012 * np.sin(9 * x) - 0.01 * np.sin(23 * x)
    lay(y > ground, gradient(MEADOW, 0.45 + 3 * (y - ground) + 0.2 * noise(shape, 20, rng)))
    for cx in np.linspace(0.12, 0.88, 8):
        for petal in range(6):
            angle = petal * np.pi / 3
            lay(
                np.hypot(y - 0.915 - 0.011 * np.sin(angle), x - cx - 0.011 * np.cos(angle)) < 0.009,
                RED if petal % 2 else WHITE,
            )
    _bird(lay, y, x)
    edge = np.minimum(np.minimum(y, 1 - y), np.minimum(x, wide - x))
    lay(edge < 0.062, NAVY)
    run = np.where(np.minimum(y, 1 - y) < np.minimum(x, wide - x), x, y)
    lozenge = np.abs((run * 13 + 0.5) % 1 - 0.5) * 0.85 + np.abs(edge - 0.031) / 0.031 * 0.36
    lay((lozenge < 0.33) & (edge < 0.062), RED)
    lay((lozenge < 0.14) & (edge < 0.062), WHITE)
    lay((edge >= 0.055) & (edge < 0.069), WHITE)
    lay(edge < 0.011, np.broadcast_to(GOLD[3], plan.shape), gold=True)
    return plan, region, metal


def _fan(lay, y, x, rng):
    """The spread tail: rays of green, with rows of eyes and a scalloped hem."""
    dy, dx = y - FAN_CENTRE[0], x - FAN_CENTRE[1]
    radius, angle = np.hypot(dy, dx), np.arctan2(dx, -dy)
    eyes = []
    for row, (distance, count, size) in enumerate(EYE_ROWS):
        for at in np.linspace(-1, 1, count) * FAN_HALF_ANGLE * (0.90 + 0.03 * row):
            eyes.append((FAN_CENTRE[0] - distance * np.cos(at), FAN_CENTRE[1] + distance * np.sin(at), size))
    hem = (radius < 0.400) & (np.abs(angle) < FAN_HALF_ANGLE)
    for cy, cx, size in eyes[-EYE_ROWS[-1][1] :]:
        hem |= np.hypot(y - cy, x - cx) < 1.55 * size
    rays = 0.5 + 0.5 * np.cos(angle * 2 * np.pi * 6.5 / FAN_HALF_ANGLE)
    lay(hem, gradient(FEATHER, 0.08 + 1.0 * (radius / 0.45) * (0.15 + 0.85 * rays)))
    for cy, cx, size in eyes:
        away = np.hypot(y - cy, x - cx) / size
        lay(away < 1.15, EYES[5])
        lay(away < 1.0, EYES[3], gold=True)
        lay(away < 0.74, EYES[2])
        lay(np.hypot(y - cy - 0.12 * size, x - cx) / size < 0.46, EYES[0])


def _bird(lay, y, x):
    """Legs, body, neck, head with its crest, and beak."""
    for side in (-1, 1):
        lay(
            (np.abs(x - 0.5 - side * (0.025 + 0.1 * (y - 0.8))) < 0.008) & (y > 0.78) & (y < 0.90),
            rgb("c8741e"),
        )
    body = np.hypot((y - 0.700) / 0.150, (x - 0.5) / 0.088)
    run = np.clip((y - 0.40) / 0.25, 0, 1)
    neck = (np.abs(x - 0.505 - 0.020 * np.sin(3.1 * run)) < 0.030 + 0.035 * run**2) & (y > 0.405) & (y < 0.68)
    scale = 0.5 + 0.5 * np.sin(2 * np.pi * 15 * y) * np.sin(2 * np.pi * 13 * (x - 0.5) + 0.8)
    light = 0.50 + 2.6 * (x - 0.5) - 1.0 * (y - 0.62) + 0.22 * scale
    lay(neck | (body < 1), gradient(BODY, light))
    for k in range(5):
        tip_y, tip_x = 0.305 + 0.012 * (k - 2) ** 2 * 0.7, 0.508 + 0.030 * (k - 2)
        run = np.clip((0.385 - y) / (0.385 - tip_y), 0, 1)
        lay((np.abs(x - 0.512 - (tip_x - 0.512) * run) < 0.0045) & (y > tip_y) & (y < 0.39), WHITE)
        lay(np.hypot(y - tip_y, x - tip_x) < 0.0125, RED)
    lay(np.hypot((y - 0.412) / 0.040, (x - 0.516) / 0.037) < 1, gradient(BODY, light))
    lay((x > 0.546) & (x < 0.592) & (np.abs(y - 0.418) < 0.016 * (0.594 - x) / 0.045), rgb("e8a020"))
    lay(np.hypot((y - 0.407) / 0.013, (x - 0.526) / 0.017) < 1, WHITE)
    lay(np.hypot(y - 0.407, x - 0.528) < 0.0075, NAVY)
