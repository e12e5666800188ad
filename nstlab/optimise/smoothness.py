"""Total variation: how much neighbouring pixels differ. By the names of `Settings.tv`."""

from __future__ import annotations

import torch


def _differences(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x[:, :, :, 1:] - x[:, :, :, :-1], x[:, :, 1:] - x[:, :, :-1]


def absolute_variation(x: torch.Tensor) -> torch.Tensor:
    """½(mean|Δ_h| + mean|Δ_v|) of a picture (1, 3, H, W): pastiche's, and d2l's. In grey levels.

    >>> absolute_variation(torch.tensor([[[[0.0, 2.0], [0.0, 2.0]]]]))
    tensor(1.)
    """
    across, down = _differences(x)
    return (across.abs().mean() + down.abs().mean()) / 2


def squared_variation(x: torch.Tensor) -> torch.Tensor:
    """mean Δ_h² + mean Δ_v² of a picture (1, 3, H, W), in squared grey levels.

    >>> squared_variation(torch.tensor([[[[0.0, 2.0], [0.0, 2.0]]]]))
    tensor(4.)
    """
    across, down = _differences(x)
    return across.square().mean() + down.square().mean()


VARIATIONS = {"l1": absolute_variation, "l2": squared_variation}
