"""The seven initial values: the picture at iteration 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import interpolate

from nstlab import own
from nstlab.errors import unknown
from nstlab.network import ORIGINAL_MEAN


def initial_value(
    name: str,
    content: torch.Tensor,
    style: torch.Tensor,
    seed: int = 0,
    mean: Sequence[float] | torch.Tensor = ORIGINAL_MEAN,
) -> torch.Tensor:
    """An initial value of the content's shape, (1, 3, H, W) RGB in [0, 1].

    `white_noise`: uniform, each pixel and channel drawn independently from `seed`, on the CPU; `white`, `black`;
    `mean`: the network's mean pixel; `content`; `style`: resized to cover (bicubic with antialiasing) and cropped
    at the centre; `average` of content and style; or a function of your own, `path/to/mine.py:name`, of the type
    `Start`. Raises RequestError for any other name, RunError if your function fails.

    >>> content, style = torch.zeros(1, 3, 32, 48), torch.ones(1, 3, 40, 40)
    >>> initial_value("average", content, style).mean()
    tensor(0.5000)
    """
    mean = torch.as_tensor(mean, dtype=content.dtype, device=content.device)
    if own.is_own(name):
        expected = f"a finite picture {tuple(content.shape)} in [0, 1] from content, style, seed and mean"
        return own.guarded(name, own.function_of(name, expected), expected, _no_picture)(content, style, seed, mean)
    if name not in INITIAL_VALUES:
        raise unknown("initial value", name, INITIAL_VALUES)
    return INITIAL_VALUES[name](content, style, seed, mean)


def _no_picture(result: object, content: torch.Tensor, *_: object) -> str | None:
    """What is wrong with an initial value."""
    if not isinstance(result, torch.Tensor):
        return type(result).__name__
    if result.shape != content.shape:
        return f"a tensor of shape {tuple(result.shape)}"
    return None if bool(result.isfinite().all()) else "values that are not finite"


Start = Callable[[torch.Tensor, torch.Tensor, int, torch.Tensor], torch.Tensor]
"""content (1, 3, H, W), style (1, 3, H', W'), seed, the network's mean pixel (3,) -> (1, 3, H, W), all in [0, 1]."""


def _white_noise(content: torch.Tensor, style: torch.Tensor, seed: int, mean: torch.Tensor) -> torch.Tensor:
    return torch.rand(content.shape, generator=torch.Generator().manual_seed(seed)).to(content)


INITIAL_VALUES: dict[str, Start] = {
    "white_noise": _white_noise,
    "white": lambda content, style, seed, mean: torch.ones_like(content),
    "black": lambda content, style, seed, mean: torch.zeros_like(content),
    "mean": lambda content, style, seed, mean: mean.view(1, 3, 1, 1).expand_as(content).clone(),
    "content": lambda content, style, seed, mean: content.clone(),
    "style": lambda content, style, seed, mean: cover(style, *content.shape[2:]),
    "average": lambda content, style, seed, mean: (content + cover(style, *content.shape[2:])) / 2,
}
"""By the names of `Settings.init`."""


def cover(picture: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A (1, 3, h, w) picture resized to cover height x width and cropped to it at the centre, in [0, 1].

    A picture of that size is returned unchanged.
    """
    h, w = picture.shape[2:]
    if (h, w) == (height, width):
        return picture.clone()
    scale = max(height / h, width / w)
    new = (max(height, round(h * scale)), max(width, round(w * scale)))
    picture = interpolate(picture, new, mode="bicubic", antialias=True).clamp(0, 1)  # bicubic overshoots
    top, left = (new[0] - height) // 2, (new[1] - width) // 2
    return picture[:, :, top : top + height, left : left + width].clone()
