"""The losses of neural style transfer: pure functions, activations in, a scalar out."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def gram(activation: torch.Tensor) -> torch.Tensor:
    """G = F Fᵀ / M, the (N, N) matrix of how strongly features occur together.

    F is the activation (1, N, H, W) as an N x M matrix, M = H·W. Gatys, Ecker & Bethge 2016, eq. 3, over M.

    >>> gram(torch.ones(1, 2, 3, 3))
    tensor([[1., 1.],
            [1., 1.]])
    """
    return _Gram.apply(activation.flatten(2)[0])


class _Gram(torch.autograd.Function):
    """F Fᵀ / M with its gradient as one product, (g + gᵀ) F / M, where autograd does two."""

    @staticmethod
    def forward(ctx, F: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(F)
        return F @ F.T / F.shape[1]

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> torch.Tensor:
        (F,) = ctx.saved_tensors  # (N, M)
        return ((g + g.T) / F.shape[1]) @ F


def content_loss(F: torch.Tensor, P: torch.Tensor) -> torch.Tensor:
    """mean over (C, H, W) of (F - P)², in squared grey levels (Gatys et al. 2016, eq. 1, as a mean).

    >>> content_loss(torch.full((1, 2, 3, 3), 5.0), torch.full((1, 2, 3, 3), 3.0))
    tensor(4.)
    """
    return (F - P).square().mean()


def style_loss(G: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """mean over (N, N) of ((G - A) / N)², for two Grams (Gatys et al. 2016, eq. 4, in design units).

    >>> style_loss(torch.full((2, 2), 6.0), torch.full((2, 2), 2.0))
    tensor(4.)
    """
    return ((G - A) / G.shape[0]).square().mean()


def layer_weights(chosen: Sequence[float] | str | None, style_grams: Sequence[torch.Tensor]) -> tuple[float, ...]:
    """w_l, one weight for each style layer: 1 each for None, the given ones, or "balanced".

    Balanced weights make each layer's loss relative to its own style, w_l ∝ 1 / mean((A/N)²), scaled so
    that Σ_l w_l·mean((A/N)²) stays what it is with w_l = 1 (so k_S keeps its order of magnitude).

    >>> layer_weights("balanced", [torch.ones(1, 1), torch.full((1, 1), 3.0)])
    (5.0, 0.5555555555555556)
    """
    if chosen is None:
        return (1.0,) * len(style_grams)
    if chosen != "balanced":
        return tuple(chosen)
    strengths = [float((A.double() / A.shape[0]).square().mean()) for A in style_grams]
    share = sum(strengths) / max(len(strengths), 1)
    return tuple(share / strength if strength > 0 else 0.0 for strength in strengths)
