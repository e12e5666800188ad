"""Minimal effort back propagation: only the strongest entries of a gradient are passed back (Sun et al. 2017)."""

from __future__ import annotations

import math
from typing import Any

import torch


class _KeepStrongest(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, z: torch.Tensor, share: float) -> torch.Tensor:
        context.share = share
        return z.view_as(z)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return strongest(gradient, context.share), None


def strongest(gradient: torch.Tensor, share: float) -> torch.Tensor:
    """A gradient (1, N, H, W) with, at each position, only the share·N entries (at least 1) of largest size.

    >>> strongest(torch.tensor([3.0, -4.0, 1.0, 2.0]).view(1, 4, 1, 1), 0.5).flatten()
    tensor([ 3., -4.,  0.,  0.])
    """
    k = math.ceil(share * gradient.shape[1])
    if k >= gradient.shape[1]:
        return gradient
    places = gradient.abs().topk(k, dim=1).indices  # (1, k, H, W)
    return torch.zeros_like(gradient).scatter(1, places, gradient.gather(1, places))


def keep_strongest(z: torch.Tensor, share: float) -> torch.Tensor:
    """z itself; its gradient is passed back as `strongest(gradient, share)`, share in (0, 1].

    Sun et al., *meProp*, ICML 2017, section 2.1, where k entries of each layer's gradient are kept an example;
    here an example is a position. With share = 1 it is plain back propagation.

    >>> z = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).requires_grad_()
    >>> (keep_strongest(z, 0.5) * torch.tensor([5.0, 7.0]).view(1, 2, 1, 1)).sum().backward()
    >>> z.grad.flatten()
    tensor([0., 7.])
    """
    return _KeepStrongest.apply(z, share)
