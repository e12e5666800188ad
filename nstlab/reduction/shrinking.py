"""Removing channels, layer by layer from the front; what is left is a smaller VGG19 that works everywhere.

Each layer is judged by what the layers before it have become. The next layer takes over the work of the removed
channels as far as the technique knows it, and with `refit` as far as least squares can fit it. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nstlab.errors import RequestError
from nstlab.network import VGG19, Weights, bordered, convolve, in_double, sha256_of_tensors
from nstlab.reduction.distinctiveness import Selection
from nstlab.settings import Settings

POSITIONS = 8192  # of an activation vector, at most: more change the angles by less than a degree
REFIT_POSITIONS = 2048  # of a least-squares fit, at most
LEAST_POSITIONS = 16  # fewer do not tell channels apart
RIDGE = 0.03  # how strongly a refit holds on to the old weights; see `refitted`


@dataclass(frozen=True)
class Channels:
    """What a technique can judge the N channels of a convolution by.

    name: the convolution; activations: (N, P), after the ReLU, at some positions of some pictures; incoming: their
    weights (N, C, 3, 3); outgoing: the next layer's weights of each, (N, ...); derivatives: (N,), of the transfer's
    loss by each channel's gate, as from `gate_derivatives`, or None; count: how many to keep.
    """

    name: str
    activations: torch.Tensor
    incoming: torch.Tensor
    outgoing: torch.Tensor
    derivatives: torch.Tensor | None
    count: int


Choice = Callable[[Channels, Settings, torch.Generator], Selection]
"""A technique: which channels stay. All its random numbers come from the generator."""


def channel_weights(selections: Mapping[str, Selection], merged: bool) -> dict[str, torch.Tensor]:
    """c_l, (n,), for every layer that lost channels: the weight of each remaining channel in a loss.

    A merged channel counts for all that it stands for, c = √Σα²: exact duplicates then leave content and Gram loss
    unchanged. Otherwise the remaining ones are a sample of all, c = √(N/n), and their mean estimates the mean of all.
    """
    weights, ends = {}, last_of_blocks(selections)
    for name, selection in selections.items():
        n, N = selection.stands_for.shape
        c = selection.weights if merged else torch.full_like(selection.weights, (N / n) ** 0.5)
        for kind in ("conv", "relu"):
            weights[kind + name[4:]] = c
        if name in ends:
            weights["pool" + name[4]] = c
    return weights


def last_of_blocks(names: Iterable[str]) -> set[str]:
    """The last of each block's convolutions, which a pooling follows.

    >>> sorted(last_of_blocks(["conv1_1", "conv1_2", "conv2_1"]))
    ['conv1_2', 'conv2_1']
    """
    return set({name[4]: name for name in names}.values())


class Shrinking:
    """Removes channels layer by layer, carrying the pictures through the full and the reduced network."""

    def __init__(
        self,
        net: VGG19,
        settings: Settings,
        choose: Choice,
        pictures: Sequence[torch.Tensor],
        derivatives: Mapping[str, torch.Tensor] | None,
        merged: bool,
    ) -> None:
        """merged: whether the remaining channels stand for others; else they are a sample of all."""
        self.net, self.settings, self.choose, self.derivatives = net, settings, choose, derivatives
        self.merged = merged
        if not pictures:
            raise RequestError(f"reduction={settings.reduction} needs pictures to judge channels by")
        self.full = [net.prepare(picture) for picture in pictures]
        self.small = list(self.full)
        self.names = [layer.name for layer in net.layers if layer.kind == "conv"]
        keys = [f"{name}.{part}" for name in self.names for part in ("weight", "bias")]
        self.tensors = {key: getattr(net, key.replace(".", "_")).clone() for key in keys}
        self.generator = torch.Generator().manual_seed(settings.seed)

    @torch.no_grad()
    def run(self, record: dict[str, Selection]) -> VGG19:
        for name, following in zip(self.names, [*self.names[1:], None], strict=True):
            self._forward(name)
            if int(name[4]) in self.settings.reduced_blocks:
                record[name] = self._select(name, following)
                self._apply(record[name], name, following)
            if self.settings.refit and following and self.small[0].shape[1] < self.full[0].shape[1]:
                self._refit(following)
        weights = Weights(self.tensors, tuple(self.net.mean.tolist()), sha256_of_tensors(self.tensors))
        small = self.net.remade(weights)
        small.channel_weights = channel_weights(record, self.merged)
        return small

    def _forward(self, name: str) -> None:
        """Take both networks' activations through a convolution, its ReLU, and the pooling if any."""
        W, b = getattr(self.net, f"{name}_weight"), getattr(self.net, f"{name}_bias")
        self._through(name, self.small, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])
        self._through(name, self.full, W, b)

    def _through(self, name: str, pictures: list[torch.Tensor], W: torch.Tensor, b: torch.Tensor) -> None:
        """Replaces one activation after the other: all of them are the most that a run with few channels needs."""
        is_pooled = name in last_of_blocks(self.names) and name != self.names[-1]
        for i, x in enumerate(pictures):
            x = convolve(x, W, b, self.net.padding).relu_()
            pictures[i] = self.net.apply_layer(f"pool{name[4]}", x) if is_pooled else x

    def _select(self, name: str, following: str | None) -> Selection:
        a = _sampled(self.small, POSITIONS)  # (N, P)
        if a.shape[1] < LEAST_POSITIONS:
            raise RequestError(
                f"the calibration pictures are too small: {name} has {a.shape[1]} positions in them and needs "
                f"{LEAST_POSITIONS}; use a larger size, calibration=samples, or earlier reduced_blocks"
            )
        N = len(a)
        count = round((1 - self.settings.amount) * N)
        if count < 1:
            raise RequestError(f"amount = {self.settings.amount} would leave {name} none of its {N} channels")
        outgoing = self.tensors[f"{following}.weight"].transpose(0, 1) if following else torch.ones_like(a[:, :1])
        derivatives = None if self.derivatives is None else self.derivatives[name].to(a)
        channels = Channels(name, a, self.tensors[f"{name}.weight"], outgoing, derivatives, count)
        chosen = self.choose(channels, self.settings, self.generator)
        return Selection(chosen.keep, chosen.stands_for.to(a), chosen.shift.to(a))

    def _apply(self, selection: Selection, name: str, following: str | None) -> None:
        """Remove the channels: rows of W and b here, columns of W in the next layer."""
        keep = selection.keep
        for part in ("weight", "bias"):
            self.tensors[f"{name}.{part}"] = self.tensors[f"{name}.{part}"][keep].contiguous()
        self.small = [x[:, keep].contiguous() for x in self.small]
        if following is None:
            return
        W = self.tensors[f"{following}.weight"]  # (O, N, 3, 3)
        self.tensors[f"{following}.bias"] = self.tensors[f"{following}.bias"] + W.sum((2, 3)) @ selection.shift
        self.tensors[f"{following}.weight"] = torch.einsum("onhw,kn->okhw", W, selection.stands_for).contiguous()

    def _refit(self, following: str) -> None:
        W, b = self.tensors[f"{following}.weight"], self.tensors[f"{following}.bias"]
        W_full, b_full = getattr(self.net, f"{following}_weight"), getattr(self.net, f"{following}_bias")
        X = _patches(self.small, REFIT_POSITIONS, self.net.padding)  # (9n, P)
        Y = W_full.flatten(1) @ _patches(self.full, REFIT_POSITIONS, self.net.padding) + b_full[:, None]
        W_new, b_new = refitted(W.flatten(1), b, X, Y)
        self.tensors[f"{following}.weight"] = W_new.view_as(W).contiguous()
        self.tensors[f"{following}.bias"] = b_new


def refitted(
    W: torch.Tensor, b: torch.Tensor, X: torch.Tensor, Y: torch.Tensor, ridge: float = RIDGE
) -> tuple[torch.Tensor, torch.Tensor]:
    """W (O, K) and b (O,) changed so that W X + b approximates Y: ridge regression around the old values.

    X: (K, P) inputs; Y: (O, P) desired outputs. Minimises ‖W'X + b' - Y‖² + λ‖(W', b') - (W, b)‖², λ = ridge times
    the mean squared length of a column of X: there are often fewer positions than weights, and weights that the data
    do not determine stay.

    >>> refitted(torch.zeros(1, 1), torch.zeros(1), torch.tensor([[1.0, 2.0]]), torch.tensor([[5.0, 7.0]]), 1e-12)
    (tensor([[2.]]), tensor([3.]))
    """
    X_, R = in_double(X), in_double(Y - W @ X - b[:, None])
    level = X_.square().mean().sqrt().clamp_min(1e-12)  # the bias is a constant input, as strong as the others
    X_ = torch.cat([X_, level.expand(1, X.shape[1])])
    K, P = X_.shape
    λ = ridge * X_.square().sum() / P
    if P < K:
        system = X_.T @ X_
        system.diagonal().add_(λ)
        change = torch.linalg.solve(system, R.T).T @ X_.T
    else:
        system = X_ @ X_.T
        system.diagonal().add_(λ)
        change = torch.linalg.solve(system, X_ @ R.T).T
    return W + change[:, :-1].to(W), b + (change[:, -1] * level).to(b)


def _places(x: Sequence[torch.Tensor], most: int) -> list[torch.Tensor]:
    """About `most` positions of some activations at most, always the same ones: flat indices for each."""
    sizes = [t.shape[2] * t.shape[3] for t in x]
    draw = torch.Generator().manual_seed(0)
    counts = [min(size, -(-most * size // sum(sizes))) for size in sizes]
    return [
        torch.randperm(size, generator=draw)[:count].sort().values.to(t.device)
        for t, size, count in zip(x, sizes, counts, strict=True)
    ]


def _sampled(x: Sequence[torch.Tensor], most: int) -> torch.Tensor:
    """Activation vectors (N, P) over the positions of several activations (1, N, H, W)."""
    return torch.cat([t.flatten(2)[0][:, at] for t, at in zip(x, _places(x, most), strict=True)], dim=1)


def _patches(x: Sequence[torch.Tensor], most: int, padding: str = "zeros") -> torch.Tensor:
    """What a 3x3 convolution sees at these positions, (9N, P); padding: what is around each activation."""
    found = []
    for t, at in zip(x, _places(x, most), strict=True):
        windows = bordered(t, padding).unfold(2, 3, 1).unfold(3, 3, 1)[0]  # (N, H, W, 3, 3), no copy
        found.append(windows[:, at // t.shape[3], at % t.shape[3]])  # (N, P, 3, 3)
    return torch.cat(found, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
