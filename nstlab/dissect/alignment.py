"""How alike two activations are, whatever their features are called: linear CKA.

Centred kernel alignment (Kornblith et al. 2019) compares which examples are alike in one representation and in
another. It does not change when features are rotated or all scaled. The estimator of HSIC (Gretton et al. 2005) is the
unbiased one (Song et al. 2012, eq. 5), so that independent noise has 0 and not more the more features there are; a
value may therefore be a little below 0.

Where positions correspond, they are the examples (`cka`): layers of one picture, a picture and what was painted over
it, two networks. Where they do not, as between a content and a style, features are (`gram_cka`): are the same features
active together?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch.nn.functional import adaptive_avg_pool2d

from nstlab.errors import RequestError
from nstlab.network import Network, in_double
from nstlab.optimise import gram


@torch.no_grad()
def cka(F: torch.Tensor, K: torch.Tensor) -> float:
    """Linear CKA of two activations (1, N, H, W) and (1, N', H', W') of the same picture's positions; at most 1.

    The finer one is averaged to the positions of the other. Raises RequestError for fewer than four positions.

    >>> F = torch.rand(1, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    >>> round(cka(F, 3 * F.flip(1)), 6)
    1.0
    """
    size = min(F.shape[2:], K.shape[2:], key=lambda shape: shape[0] * shape[1])
    X, Y = (_examples(adaptive_avg_pool2d(in_double(each), size).flatten(2)[0].T) for each in (F, K))
    return _alignment(X.with_other(Y), X.with_other(X), Y.with_other(Y))


@torch.no_grad()
def gram_cka(G: torch.Tensor, A: torch.Tensor) -> float:
    """Linear CKA of two Grams (N, N), with features as examples: at most 1; positions may be different ones.

    >>> G = gram(torch.rand(1, 8, 6, 6, generator=torch.Generator().manual_seed(0)))
    >>> round(gram_cka(G, 2 * G), 6)
    1.0
    """
    K, L = (_Kernel(in_double(each)) for each in (G, A))
    return _alignment(K.with_other(L), K.with_other(K), L.with_other(L))


@dataclass(frozen=True)
class _Kernel:
    """How alike examples are, (M, M)."""

    K: torch.Tensor

    def with_other(self, other: _Kernel) -> float:
        K, L = (each.K - each.K.diag().diag() for each in (self, other))
        return _hsic(float((K * L).sum()), K.sum(0), L.sum(0))


@dataclass(frozen=True)
class _Features:
    """The same, as X Xᵀ of fewer features than examples: (M, N)."""

    X: torch.Tensor

    def with_other(self, other: _Features) -> float:
        X, Y = self.X, other.X
        k, l_ = X.square().sum(1), Y.square().sum(1)  # the diagonals
        sums = (Z @ Z.sum(0) - diagonal for Z, diagonal in ((X, k), (Y, l_)))
        return _hsic(float((X.T @ Y).square().sum() - k @ l_), *sums)


def _examples(X: torch.Tensor) -> _Features:
    X = X - X.mean(0)  # the estimator does not depend on it, but rounding does
    return _Features(X)


def _hsic(both: float, of_K: torch.Tensor, of_L: torch.Tensor) -> float:
    """The unbiased estimator, from Σ K_ij L_ij and the rows' sums of both kernels, whose diagonals are 0."""
    M = len(of_K)
    if M < 4:
        raise RequestError(f"CKA needs at least 4 examples, not {M}: choose a larger picture or an earlier layer")
    apart = float(of_K.sum()) * float(of_L.sum()) / ((M - 1) * (M - 2))
    return (both + apart - 2 / (M - 2) * float(of_K @ of_L)) / (M * (M - 3))


def _alignment(both: float, of_K: float, of_L: float) -> float:
    return both / (of_K * of_L) ** 0.5 if of_K > 0 < of_L else float("nan")  # NaN: one of them says nothing


@torch.no_grad()
def layer_similarity(
    net: Network,
    image: torch.Tensor,
    layers: Sequence[str],
    other: Network | None = None,
    other_image: torch.Tensor | None = None,
) -> pd.DataFrame:
    """`cka` of each layer of a network with each layer of the same or another network: rows net, columns other.

    image: (1, 3, H, W) in [0, 1]; other_image: what the other network sees (None: the same), of the same shape.
    """
    other, other_image = other or net, image if other_image is None else other_image
    rows = net(net.prepare(image), keep=layers)
    columns = other(other.prepare(other_image), keep=layers)
    found = [[cka(F, K) for K in columns.values()] for F in rows.values()]
    return pd.DataFrame(found, index=list(layers), columns=list(layers))


@torch.no_grad()
def picture_similarity(net: Network, images: Mapping[str, torch.Tensor], layer: str) -> pd.DataFrame:
    """`gram_cka` of each picture with each other at a layer; images: by caption, (1, 3, H, W) in [0, 1], any sizes."""
    grams = {caption: gram(net(net.prepare(im), keep=[layer])[layer]) for caption, im in images.items()}
    found = [[gram_cka(G, A) for A in grams.values()] for G in grams.values()]
    return pd.DataFrame(found, index=list(images), columns=list(images))
