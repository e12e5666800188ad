"""Where a style is taken from and where it is painted (Gatys et al. 2017, section 4).

A mask t, in [0, 1], is brought to a layer's positions by averaging areas, and then turns an activation into one of
which a statistic sees only a part. A statistic that is a sum over products of two features sees every position by its
t²; any other one sees the positions that are in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import adaptive_avg_pool2d

IN = 0.5  # a position is in if its t is at least this fraction of the layer's largest

Masking = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""activation (1, N, H, W), mask t (1, 1, H, W) at the same positions -> an activation (1, N, H', W')."""


def at_layer(t: torch.Tensor, size: Sequence[int], like: torch.Tensor) -> torch.Tensor:
    """The mask (1, 1, H, W) at a layer's positions, height x width `size`, by averaging areas.

    like: a tensor of the type and on the device that it shall have. It is averaged on the CPU, because Apple's GPUs
    average only areas that are all of one size.
    """
    return adaptive_avg_pool2d(t.to("cpu", like.dtype), size).to(like.device)


def weighted(activation: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """F·t·√(M / Σt²): its Gram is F diag(t²) Fᵀ / Σt², M the number of positions."""
    return activation * (t * (t.numel() / t.square().sum()).sqrt())


def inside(activation: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Only the positions that are in, in one row: (1, N, 1, M')."""
    return activation[:, :, (t >= IN * t.max())[0, 0]].unsqueeze(2)
