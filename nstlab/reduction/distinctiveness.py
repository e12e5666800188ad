"""Which channels are the same feature twice, and how one stands for several (Gedeon & Harris 1991).

A channel's activation vector is its values at all positions of some pictures, as the next convolution sees them. Two
channels at a small angle are one feature up to a factor, and one of them can do the work of both. Two that always add
up to the same are complementary, and one of them can replace the other with a minus sign.
Gedeon & Harris scale their sigmoids to [0, 1] and measure the angles from 0.5. After a ReLU that would make all
sparse features neighbours (all are near -0.5 nearly everywhere), so here angles are measured from 0, and from the
mean for complementary pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nstlab.metrics import angles
from nstlab.network import in_double

COMPLEMENTARY = 15.0
"""Degrees: when merging by amount, a pair is complementary if its centred angle is within this of 180."""


@dataclass(frozen=True)
class Selection:
    """Which of a layer's N channels stay, and how they stand for all of them: a ≈ stands_forᵀ a[keep] + shift.

    keep: (n,) the channels that stay, in ascending order; stands_for: (n, N), how much of each channel (column) each
    kept one (row) stands for; shift: (N,) in grey levels.
    """

    keep: torch.Tensor
    stands_for: torch.Tensor
    shift: torch.Tensor

    @property
    def weights(self) -> torch.Tensor:
        """c, (n,): each kept channel's weight in a loss, √Σ_j stands_for_ij² over the channels it stands for."""
        return self.stands_for.square().sum(1).sqrt()


def chosen(scores: torch.Tensor, count: int) -> Selection:
    """The `count` channels with the highest scores, each standing only for itself; the others become 0.

    >>> chosen(torch.tensor([3.0, 1.0, 2.0]), 2).keep
    tensor([0, 2])
    """
    keep = scores.argsort(descending=True, stable=True)[:count].sort().values
    everyone = torch.eye(len(scores), dtype=scores.dtype, device=scores.device)
    return Selection(keep, everyone[keep], torch.zeros_like(scores))


def merge(a: torch.Tensor, outgoing: torch.Tensor, count: int, angle: float | None = None) -> Selection:
    """Merge channels until `count` are left or, if `angle` is given, no two are closer than that.

    a: (N, P) activation vectors; outgoing: (N, ...) the next layer's weights of each. Complementary pairs go first:
    a_j ≈ α a_i + β with α < 0, by least squares; if both have the same outgoing weights, i has no effect left and
    goes as well (the case that Gedeon & Harris describe). Then the two at the smallest angle are merged, again and
    again: the stronger stays, a_j ≈ α a_i with α = ⟨a_i, a_j⟩/⟨a_i, a_i⟩, with an error of sin θ times a_j's length.
    What j stood for already is projected onto i directly, so that errors do not add up along a chain.
    """
    a = in_double(a)
    N = len(a)
    count = count if angle is None else 1
    T, shift = torch.eye(N, dtype=a.dtype, device=a.device), a.new_zeros(N)
    gone: set[int] = set()
    for i, j in _complementary(a, angle if angle is not None else COMPLEMENTARY):
        if N - len(gone) > count and not {i, j} & gone:
            gone |= _oppose(a, outgoing, T, shift, i, j)
    _merge_nearest(a, T, shift, gone, count, angle)
    keep = torch.tensor([i for i in range(N) if i not in gone], device=a.device)
    return Selection(keep, T[keep], shift)


def _complementary(a: torch.Tensor, angle: float) -> list[tuple[int, int]]:
    """Pairs (stronger, weaker) whose centred vectors are within `angle` of opposite, the closest first."""
    lengths = a.norm(dim=1)
    centred = a - a.mean(1, keepdim=True)
    centred[centred.norm(dim=1) <= 1e-9 * lengths] = 0.0  # constant up to rounding: at 90 to all, opposite to none
    rows, columns = torch.triu_indices(len(a), len(a), offset=1, device=a.device)
    distance = 180 - angles(centred)[rows, columns]
    near = torch.nonzero(distance < angle).flatten()
    pairs = []
    for k in near[distance[near].argsort(stable=True)].tolist():
        i, j = int(rows[k]), int(columns[k])
        pairs.append((i, j) if lengths[i] >= lengths[j] else (j, i))
    return pairs


def _oppose(a: torch.Tensor, outgoing: torch.Tensor, T: torch.Tensor, shift: torch.Tensor, i: int, j: int) -> set[int]:
    """Let i stand for its complement j; returns which of the two go."""
    u, v = a[i] - a[i].mean(), a[j] - a[j].mean()
    α = float(u @ v / (u @ u))
    T[j, j], T[i, j] = 0.0, α
    shift[j] = a[j].mean() - α * a[i].mean()
    left = outgoing[i] + α * outgoing[j]
    if float(left.norm()) > 1e-5 * float(outgoing[i].norm()):
        return {j}
    T[i] = 0.0  # together the two are a constant, which the shift carries
    return {i, j}


def _merge_nearest(
    a: torch.Tensor, T: torch.Tensor, shift: torch.Tensor, gone: set[int], count: int, angle: float | None
) -> None:
    """Merge the two nearest until `count` are left or none are closer than `angle`; changes T and gone."""
    θ = angles(a)
    silent = ~a.any(dim=1)
    θ[silent], θ[:, silent] = 0.0, 0.0  # any channel can stand for a silent one
    θ.fill_diagonal_(torch.inf)
    for i in gone:
        θ[i], θ[:, i] = torch.inf, torch.inf
    inner = a @ a.T  # ⟨a_i, a_j⟩
    while len(a) - len(gone) > count:
        i, j = divmod(int(θ.argmin()), len(a))
        if angle is not None and not float(θ[i, j]) < angle:
            return
        if inner[j, j] > inner[i, i]:
            i, j = j, i
        α = inner[i] / inner[i, i].clamp_min(1e-30)
        for m in torch.nonzero(T[j]).flatten().tolist():
            T[i, m] = α[m] if shift[m] == 0 else α[j] * T[j, m]
        T[j] = 0.0
        gone.add(j)
        θ[j], θ[:, j] = torch.inf, torch.inf
