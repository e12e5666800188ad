"""Minimal effort back propagation: only the strongest entries of a gradient are passed back (Sun et al. 2017)."""

from __future__ import annotations

import math
from typing import Any

import torch


class _KeepStrongest(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, z: torch.Tensor, fraction: float) -> torch.Tensor:
        context.fraction = fraction
        return z.view_as(z)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return strongest(gradient, context.fraction), None


def strongest(gradient: torch.Tensor, fraction: float) -> torch.Tensor:
    """A gradient (1, N, H, W) with only the fraction·N largest entries (at least 1) at each position, by |g|.

    >>> strongest(torch.tensor([3.0, -4.0, 1.0, 2.0]).view(1, 4, 1, 1), 0.5).flatten()
    tensor([ 3., -4.,  0.,  0.])
    """
    k = math.ceil(fraction * gradient.shape[1])
    if k >= gradient.shape[1]:
        return gradient
    places = gradient.abs().topk(k, dim=1).indices  # (1, k, H, W)
    return torch.zeros_like(gradient).scatter(1, places, gradient.gather(1, places))


def keep_strongest(z: torch.Tensor, fraction: float) -> torch.Tensor:
    """z itself; its gradient is passed back as `strongest(gradient, fraction)`, fraction in (0, 1].

    Sun et al., *meProp*, ICML 2017, section 2.1, keep k entries of each layer's gradient per example; here an
    example is a position. fraction = 1 is plain back propagation.

    >>> z = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).requires_grad_()
    >>> (keep_strongest(z, 0.5) * torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)).sum().backward()
    >>> z.grad.flatten()
    tensor([0., 7.])
    """
    return _KeepStrongest.apply(z, fraction)
