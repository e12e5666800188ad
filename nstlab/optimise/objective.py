"""What a transfer minimises: L = Σ k_t·T_t, the weighted sum of its named terms.

A term is made once for each size of the picture, with its targets; it then gives its loss for any picture. To add one,
write a class here or elsewhere, put it into TERMS, and declare a knob in `nstlab.settings` whose `term` is its name:
history, figures and tables pick it up by name.
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

    layers: those whose activations it reads; parts: those of them with a column of their own in a history.
    """

    layers: tuple[str, ...]
    parts: tuple[str, ...]

    def of_layer(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        """A layer's part of the loss, a scalar, from its activation (1, N, H, W); computed while the network runs."""

    def of_picture(self, x: torch.Tensor, of_layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss, a scalar, from the picture (1, 3, H, W) in grey levels and the layers' parts."""


class _ReducedNetwork:
    """How terms read a network that may have lost channels: each remaining one counts for several."""

    def __init__(self, net: VGG19) -> None:
        self.net = net

    def counted(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        """An activation, with each channel of a reduced layer times its weight (`VGG19.channel_weights`)."""
        c = self.net.channel_weights.get(name)
        return activation if c is None else activation * c.to(activation).view(1, -1, 1, 1)

    def portion(self, name: str, power: int) -> float:
        """(n/N)^power: scales a loss that divides by a reduced layer's n channels to the full layer's N."""
        if name not in self.net.channel_weights:
            return 1.0
        full = next(N for conv, _, N in convolutions() if conv[4] == name[4])
        return (self.net.layer(name).features / full) ** power


class ContentTerm(_ReducedNetwork):
    """C: how far the activations are from the content picture's; the mean over the content layers."""

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
    """S: how far the activations' statistics are from the style picture's; the w_l-weighted sum over style layers."""

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
"""Name -> term, in the order in which they are added up."""


class Objective:
    """The loss of a transfer, for the pictures of one size or of several.

    net: the network; pictures: content and style at each size. A call with a picture (1, 3, H, W) in grey levels
    returns scalar tensors by name: `total`, each term, and each term's parts (a style layer's w_l times its loss;
    these sum to `style`). The picture's shape determines the size.
    """

    def __init__(self, net: VGG19, pictures: Pictures | Sequence[Pictures], settings: Settings) -> None:
        self.net, self.settings = net, settings
        self.pictures = [pictures] if isinstance(pictures, Pictures) else list(pictures)
        self._made: tuple[tuple[int, ...], dict[str, Term]] | None = None
        self.terms_of(self.pictures[0].content.shape[2:])

    def __call__(self, x: torch.Tensor, weights: Mapping[str, float] | None = None) -> dict[str, torch.Tensor]:
        """weights: of the terms, by name (None: those at iteration 0)."""
        layers = [name for term in self.terms_of(x.shape[2:]).values() for name in term.layers]
        return self.losses(x, self.net.activations(x, keep=layers), weights)

    def losses(
        self,
        x: torch.Tensor,
        activations: Iterable[tuple[str, torch.Tensor]],
        weights: Mapping[str, float] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Like a call, but from given activations: (layer, activation), in any order."""
        terms = self.terms_of(x.shape[2:])
        of_layers: dict[str, dict[str, torch.Tensor]] = {name: {} for name in terms}
        for layer, activation in activations:
            for name, term in terms.items():
                if layer in term.layers:
                    of_layers[name][layer] = term.of_layer(layer, activation)
        losses = {name: term.of_picture(x, of_layers[name]) for name, term in terms.items()}
        parts = {part: of_layers[name][part] for name, term in terms.items() for part in term.parts}
        return {"total": weighted_sum(losses, weights or self.settings.term_weights()), **losses, **parts}

    def terms_of(self, shape: Sequence[int]) -> dict[str, Term]:
        """The terms, with their targets, for pictures of height x width `shape`; kept for one shape at a time."""
        if self._made is None or self._made[0] != tuple(shape):
            pictures = next(p for p in self.pictures if p.content.shape[2:] == tuple(shape))
            with torch.no_grad():
                terms = {name: make(self.net, pictures, self.settings) for name, make in TERMS.items()}
            self._made = (tuple(shape), terms)
        return self._made[1]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the losses that a call returns, in order."""
        terms = self.terms_of(self.pictures[0].content.shape[2:])
        return ("total", *terms, *(part for term in terms.values() for part in term.parts))

    def shape_at(self, iteration: int) -> tuple[int, int]:
        """The picture's height and width at an iteration; with `scales` it starts smaller."""
        size = self.settings.size_at(iteration)
        return next(tuple(p.content.shape[2:]) for p in self.pictures if max(p.content.shape[2:]) == size)


def weighted_sum(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Σ k_t·T_t in the terms' order, so the same to the bit everywhere; a term without a knob has weight 1."""
    weighted = [weights.get(name, 1.0) * loss for name, loss in losses.items()]
    return sum(weighted[1:], weighted[0])
