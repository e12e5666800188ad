"""An activation in numbers: per feature, per layer, and where it is strongest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from nstlab.metrics import angles
from nstlab.network import Box, Layer, Network, in_double, receptive_box

BINS = 80  # of a histogram


def zeros(activation: torch.Tensor) -> float:
    """The fraction of an activation that is exactly 0, in [0, 1]: after a ReLU, its sparsity.

    >>> zeros(torch.tensor([[[[0.0, 2.0], [0.0, 0.0]]]]))
    0.75
    """
    return 1 - float(torch.count_nonzero(activation)) / activation.numel()


@torch.no_grad()
def feature_statistics(activation: torch.Tensor) -> pd.DataFrame:
    """One row per feature of (1, C, H, W): mean, maximum, deviation (grey levels) and zeros (a fraction in [0, 1]).

    deviation is the root mean square distance from the mean over the positions.

    >>> feature_statistics(torch.tensor([[[[0.0, 2.0]], [[3.0, 3.0]]]]))
       mean  maximum  deviation  zeros
    0   1.0      2.0        1.0    0.5
    1   3.0      3.0        0.0    0.0
    """
    F = activation.flatten(2)[0]  # (C, M)
    columns = {
        "mean": F.mean(1),
        "maximum": F.amax(1),
        "deviation": F.std(1, correction=0),
        "zeros": 1 - F.count_nonzero(1) / F.shape[1],
    }
    return pd.DataFrame({name: values.cpu().double().numpy() for name, values in columns.items()})


@torch.no_grad()
def dead_features(net: Network, images: Iterable[torch.Tensor], name: str) -> list[int]:
    """The features of layer `name` that are nowhere above 0 in any of the pictures."""
    highest = [net(net.prepare(image), keep=[name])[name].amax((0, 2, 3)) for image in images]
    return torch.nonzero(torch.stack(highest).amax(0) <= 0).flatten().tolist()


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues λ of a Gram matrix, largest first, in squared grey levels, and how many of them matter.

    participation_ratio: (Σλ)²/Σλ²; entropy_rank: exp(-Σ p ln p), p = λ/Σλ (Roy & Vetterli 2007's effective
    rank); ninety: the fewest eigenvalues that make up 90 % of Σλ. k equal eigenvalues give k for all three.
    """

    eigenvalues: np.ndarray
    participation_ratio: float
    entropy_rank: float
    ninety: int


def spectrum(G: torch.Tensor) -> Spectrum:
    """The spectrum of a Gram matrix (N, N); an all-zero matrix has rank 0.

    >>> round(spectrum(torch.diag(torch.tensor([5.0, 5.0, 0.0]))).entropy_rank, 6)
    2.0
    """
    λ = torch.linalg.eigvalsh(G.detach().cpu().double()).flip(0).clamp_min(0)  # only rounding makes them negative
    total = float(λ.sum())
    if total == 0:
        return Spectrum(λ.numpy(), 0.0, 0.0, 0)
    p = λ / total
    entropy = -float(torch.special.xlogy(p, p).sum())
    ninety = int((p.cumsum(0) < 0.9 - 1e-12).sum()) + 1
    return Spectrum(λ.numpy(), 1 / float(p.square().sum()), float(np.exp(entropy)), ninety)


@torch.no_grad()
def spectrum_of(activation: torch.Tensor) -> Spectrum:
    """`spectrum(gram(activation))` of (1, N, H, W), from F Fᵀ or Fᵀ F, whichever is smaller.

    Both have the same eigenvalues apart from zeros; at most M = H·W are not zero.
    """
    F = in_double(activation.flatten(2)[0])  # (N, M)
    N, M = F.shape
    if N <= M:
        return spectrum(F @ F.T / M)
    found = spectrum(F.T @ F / M)
    return replace(found, eigenvalues=np.pad(found.eigenvalues, (0, N - M)))


@torch.no_grad()
def angle_to_others(activation: torch.Tensor, feature: int) -> torch.Tensor:
    """θ_j, (N,), in degrees: the angle between a feature and every feature j of the same activation, (1, N, H, W).

    After a ReLU from 0 (the same up to a factor) to 90 (never active together); see `nstlab.metrics.angles`.
    """
    F = activation.flatten(2)[0]  # (N, M)
    θ = angles(F, F[feature : feature + 1])[:, 0]
    if bool(F[feature].any()):
        θ[feature] = 0.0  # acos magnifies rounding near 1
    return θ


@dataclass(frozen=True)
class Patch:
    """A place that excites a feature: the activation there (grey levels), the position, the pixels that it sees.

    pixels: (1, 3, h, w) in [0, 1], the part of the receptive field inside the picture.
    """

    value: float
    row: int
    column: int
    box: Box
    pixels: torch.Tensor


def top_patches(
    layer: Layer, activation: torch.Tensor, image: torch.Tensor, feature: int, count: int = 4
) -> list[Patch]:
    """The pieces of a picture (1, 3, H, W) that excite a feature most, the strongest first.

    `activation` is the layer's for that picture. Patches are at least half a receptive field apart (otherwise all
    would show one place) and the feature is above 0 in each, so there may be fewer than `count`.
    """
    remaining = activation[0, feature].detach().clone()  # (H_l, W_l)
    apart = max(1, layer.receptive_field // (2 * layer.stride))
    patches: list[Patch] = []
    while len(patches) < count:
        row, column = divmod(int(remaining.argmax()), remaining.shape[1])
        value = float(remaining[row, column])
        if not value > 0:
            break
        box = receptive_box(layer, row, column, *image.shape[2:])
        patches.append(Patch(value, row, column, box, box.cut(image)))
        remaining[max(row - apart + 1, 0) : row + apart, max(column - apart + 1, 0) : column + apart] = -torch.inf
    return patches


@torch.no_grad()
def best_patches(
    net: Network, images: Mapping[str, torch.Tensor], name: str, feature: int, count: int = 4
) -> list[tuple[str, Patch]]:
    """The pieces of several pictures that excite a feature of layer `name` most: (picture's name, patch).

    images: by name, (1, 3, H, W) in [0, 1], each of any size. Otherwise like `top_patches`.
    """
    layer, found = net.layer(name), []
    layer.check_feature(feature)
    for picture, image in images.items():
        activation = net(net.prepare(image), keep=[name])[name].cpu()
        found += [(picture, patch) for patch in top_patches(layer, activation, image, feature, count)]
    return sorted(found, key=lambda pair: -pair[1].value)[:count]


@dataclass(frozen=True)
class Histogram:
    """How often each value occurs in a layer's input and output: fractions in [0, 1] between `edges` (grey levels)."""

    edges: np.ndarray
    before: np.ndarray
    after: np.ndarray


def histogram(before: torch.Tensor, after: torch.Tensor) -> Histogram:
    """The histograms of a layer's input and output over the same 80 bins, without the outermost 0.1 % on each side."""
    samples = [_sample(t).numpy() for t in (before, after)]
    low, high = (float(np.quantile(np.concatenate(samples), q)) for q in (0.001, 0.999))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = [np.histogram(sample, edges)[0] / sample.size for sample in samples]
    return Histogram(edges, *counts)


def _sample(t: torch.Tensor) -> torch.Tensor:
    """At most 200,000 evenly spaced values, so that a large layer's histogram costs no more than a small one's."""
    flat = t.detach().flatten()
    return flat[:: max(1, flat.numel() // 200_000)].float().cpu()
