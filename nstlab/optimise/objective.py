"""What a transfer minimises: L = Σ k_t·T_t, the sum of its terms, each by its name.

A term is made once for each size of the picture, with its targets; then it gives its loss for any picture. A new one
is a class here or elsewhere, its name in TERMS, and a knob in `nstlab.settings` whose `term` is that name: the
history, the figures and the tables have it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import torch

from nstlab.images import Pictures
from nstlab.layers import convolutions
from nstlab.network import VGG19
from nstlab.optimise.losses import CONTENT_LOSSES, STYLE_LOSSES, layer_weights
from nstlab.settings import Settings


class Term(Protocol):
    """One part of the loss, for pictures of one size.

    layers: those whose activations it reads; parts: of these, the ones that have a column of their own in a history.
    """

    layers: tuple[str, ...]
    parts: tuple[str, ...]

    def of_layer(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        """A layer's share of the loss, a scalar, from its activation (1, N, H, W): taken while the network runs."""

    def of_picture(self, x: torch.Tensor, of_layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss, a scalar, from the picture (1, 3, H, W) in grey levels and the layers' shares."""


class _ReducedNetwork:
    """What the terms of activations do in a network that lost channels: each that stayed counts for several."""

    def __init__(self, net: VGG19) -> None:
        self.net = net

    def counted(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        """An activation, each channel of a reduced layer times what it counts (`reduction.channel_weights`)."""
        c = self.net.channel_weights.get(name)
        return activation if c is None else activation * c.to(activation).view(1, -1, 1, 1)

    def portion(self, name: str, power: int) -> float:
        """(n/N)^power: brings a loss that divides by the n channels of a reduced layer to the N of the full one."""
        if name not in self.net.channel_weights:
            return 1.0
        full = next(N for conv, _, N in convolutions() if conv[4] == name[4])
        return (self.net.layer(name).features / full) ** power


class ContentTerm(_ReducedNetwork):
    """C: how far the activations are from the content picture's, the mean over the content layers."""

    parts = ()

    def __init__(self, net: VGG19, pictures: Pictures, settings: Settings) -> None:
        super().__init__(net)
        self.loss = CONTENT_LOSSES[settings.content_loss]
        self.layers = settings.content_layers
        P = net(net.prepare(pictures.content.to(net.mean)), keep=self.layers)
        self.P = {name: self.counted(name, activation) for name, activation in P.items()}

    def of_layer(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        return self.portion(name, 1) * self.loss(self.counted(name, activation), self.P[name])

    def of_picture(self, x: torch.Tensor, of_layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return sum((of_layers[name] for name in self.layers), x.new_zeros(())) / max(len(self.layers), 1)


class StyleTerm(_ReducedNetwork):
    """S: how far the activations' statistics are from the style picture's, Σ w_l over the style layers."""

    def __init__(self, net: VGG19, pictures: Pictures, settings: Settings) -> None:
        super().__init__(net)
        self.compare, self.seed = STYLE_LOSSES[settings.style_loss], settings.seed
        self.layers = self.parts = settings.style_layers
        styles = net.activations(net.prepare(pictures.style.to(net.mean)), keep=self.layers)
        A = {name: self.statistic(name, activation) for name, activation in styles}
        self.A = {name: A[name] for name in self.layers}
        chosen = layer_weights(settings.style_layer_weights, list(self.A.values()), self.compare.loss)
        self.w = dict(zip(self.layers, chosen, strict=True))

    def statistic(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        return self.compare.statistic(self.counted(name, activation), self.seed)

    def of_layer(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        loss = self.compare.loss(self.statistic(name, activation), self.A[name])
        return self.w[name] * self.portion(name, self.compare.power) * loss

    def of_picture(self, x: torch.Tensor, of_layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return sum((of_layers[name] for name in self.layers), x.new_zeros(()))


TERMS: dict[str, Callable[[VGG19, Pictures, Settings], Term]] = {"content": ContentTerm, "style": StyleTerm}
"""Name -> the term; in the order in which they are added up."""


class Objective:
    """The loss of a transfer, for the pictures of one size or of several.

    net: the network; pictures: content and style at each size. Called with a picture (1, 3, H, W) in grey levels it
    gives scalar tensors by name: `total`, each term, and each part of one (a style layer's w_l times its loss, so
    that these sum to `style`). Which size is meant, the picture's shape says.
    """

    def __init__(self, net: VGG19, pictures: Pictures | Sequence[Pictures], settings: Settings) -> None:
        self.net, self.settings = net, settings
        self.pictures = [pictures] if isinstance(pictures, Pictures) else list(pictures)
        self._made: tuple[tuple[int, ...], dict[str, Term]] | None = None
        self.terms_of(self.pictures[0].content.shape[2:])

    def __call__(self, x: torch.Tensor, weights: Mapping[str, float] | None = None) -> dict[str, torch.Tensor]:
        """weights: of the terms, by name; those in force at iteration 0 by default."""
        layers = [name for term in self.terms_of(x.shape[2:]).values() for name in term.layers]
        return self.losses(x, self.net.activations(x, keep=layers), weights)

    def losses(
        self,
        x: torch.Tensor,
        activations: Iterable[tuple[str, torch.Tensor]],
        weights: Mapping[str, float] | None = None,
    ) -> dict[str, torch.Tensor]:
        """As the call, from activations that are there already: (layer, activation), in any order."""
        terms = self.terms_of(x.shape[2:])
        shares: dict[str, dict[str, torch.Tensor]] = {name: {} for name in terms}
        for layer, activation in activations:
            for name, term in terms.items():
                if layer in term.layers:
                    shares[name][layer] = term.of_layer(layer, activation)
        losses = {name: term.of_picture(x, shares[name]) for name, term in terms.items()}
        parts = {part: shares[name][part] for name, term in terms.items() for part in term.parts}
        return {"total": weighted_sum(losses, weights or self.settings.term_weights()), **losses, **parts}

    def terms_of(self, shape: Sequence[int]) -> dict[str, Term]:
        """The terms, with their targets, for pictures of height x width `shape`; those of one shape at a time."""
        if self._made is None or self._made[0] != tuple(shape):
            pictures = next(p for p in self.pictures if p.content.shape[2:] == tuple(shape))
            with torch.no_grad():
                self._made = (
                    tuple(shape),
                    {name: make(self.net, pictures, self.settings) for name, make in TERMS.items()},
                )
        return self._made[1]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of what a call gives, in order."""
        terms = self.terms_of(self.pictures[0].content.shape[2:])
        return ("total", *terms, *(part for term in terms.values() for part in term.parts))

    def shape_at(self, iteration: int) -> tuple[int, int]:
        """Height and width that the picture has at an iteration: smaller ones first if there are `scales`."""
        size = self.settings.size_at(iteration)
        return next(tuple(p.content.shape[2:]) for p in self.pictures if max(p.content.shape[2:]) == size)


def weighted_sum(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Σ k_t·T_t in the terms' order, and so to the same bit everywhere; a term that no knob weighs counts once."""
    weighted = [weights.get(name, 1.0) * loss for name, loss in losses.items()]
    return sum(weighted[1:], weighted[0])
