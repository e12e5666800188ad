"""What a transfer minimises: L = Σ k_t·T_t, the weighted sum of its named terms.

A term is made once for each size of the picture, with its targets; it then gives its loss for any picture. To add one,
write a class here or elsewhere, put it into TERMS, and declare a knob in `nstlab.settings` whose `term` is its name:
history, figures and tables pick it up by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from nstlab.images import Pictures
from nstlab.layers import convolutions
from nstlab.network import Network
from nstlab.optimise.colour import to_paint_from, to_show
from nstlab.optimise.losses import content_loss_of, layer_weights, style_loss_of
from nstlab.optimise.masks import at_layer
from nstlab.optimise.smoothness import VARIATIONS
from nstlab.settings import Settings


class Term(Protocol):
    """One part of the loss, for pictures of one size.

    layers: those whose activations it reads; parts: those of them with a column of their own in a history.
    """

    layers: tuple[str, ...]
    parts: tuple[str, ...]

    def of_layer(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        """A layer's part of the loss, a scalar, from its activation (1, N, H, W); computed while the network runs.

        With precision=bfloat16 that is the activation's type, if the network computes with it.
        """

    def of_picture(self, x: torch.Tensor, of_layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The loss, a scalar, from the picture (1, 3, H, W) in grey levels and the layers' parts."""


class _ReducedNetwork:
    """How terms read a network that may have lost channels: each remaining one counts for several."""

    def __init__(self, net: Network) -> None:
        self.net = net

    def counted(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        """An activation, with each channel of a reduced layer times its weight (`VGG19.channel_weights`)."""
        c = self.net.channel_weights.get(name)
        return activation if c is None else activation * c.to(self.net.mean).view(1, -1, 1, 1)

    def portion(self, name: str, power: int) -> float:
        """(n/N)^power: scales a loss that divides by a reduced layer's n channels to the full layer's N."""
        if name not in self.net.channel_weights:
            return 1.0
        full = next(N for conv, _, N in convolutions() if conv[4] == name[4])
        return (self.net.layer(name).features / full) ** power


class ContentTerm(_ReducedNetwork):
    """C: how far the activations are from the content picture's; the mean over the content layers."""

    parts = ()

    def __init__(self, net: Network, pictures: Pictures, settings: Settings) -> None:
        super().__init__(net)
        self.loss = content_loss_of(settings.content_loss)
        self.layers = settings.content_layers
        P = self._targets(net.prepare(pictures.content))
        self.P = {name: self.counted(name, activation) for name, activation in P.items()}

    def _targets(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.net(x, keep=self.layers)

    def of_layer(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        return self.portion(name, 1) * self.loss(self.counted(name, activation), self.P[name])

    def of_picture(self, x: torch.Tensor, of_layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return sum((of_layers[name] for name in self.layers), x.new_zeros(())) / max(len(self.layers), 1)


@dataclass(frozen=True)
class Style:
    """One of the styles: its proportion v, and by layer its statistics A and weights w.

    view: which of `StyleTerm.views` it is compared with.
    """

    v: float
    view: int
    A: dict[str, torch.Tensor]
    w: dict[str, float]


class StyleTerm(_ReducedNetwork):
    """S = Σ_j v_j Σ_l w_l·loss(G, A): how far the activations' statistics are from those of the style pictures.

    views: the masks (None: everywhere) through which the styles see the picture, each once.
    """

    def __init__(self, net: Network, pictures: Pictures, settings: Settings) -> None:
        super().__init__(net)
        self.settings, self.compare = settings, style_loss_of(settings.style_loss)
        self.layers = self.parts = settings.style_layers
        self.views: list[torch.Tensor | None] = []
        self._views_at: dict[str, list[torch.Tensor | None]] = {}
        self.styles = [self._style(j, v, pictures) for j, v in enumerate(settings.proportions) if v > 0]

    def _style(self, j: int, v: float, pictures: Pictures) -> Style:
        of_content, of_style = (
            (*masks, *[None] * (j + 1))[j] for masks in (pictures.content_masks, pictures.style_masks)
        )
        A = self._statistics(self.net.prepare(pictures.styles[j]), of_style)
        A = {name: A[name] for name in self.layers}
        chosen = self.settings.style_layer_weights
        if isinstance(chosen, tuple) and chosen and isinstance(chosen[0], tuple):
            chosen = chosen[j] if len(chosen) > 1 else chosen[0]
        chosen = layer_weights(chosen, list(A.values()), self.compare.loss)
        view = next((i for i, t in enumerate(self.views) if t is of_content), len(self.views))
        if view == len(self.views):
            self.views.append(of_content)
        return Style(v, view, A, dict(zip(self.layers, chosen, strict=True)))

    def _statistics(self, x: torch.Tensor, t: torch.Tensor | None) -> dict[str, torch.Tensor]:
        """By layer, of a style picture in grey levels under its mask."""
        seen = self.net.activations(x, keep=self.layers, as_computed=True)
        return {name: self.statistic(name, F, self._at_layer(t, F)) for name, F in seen}

    def _at_layer(self, t: torch.Tensor | None, activation: torch.Tensor) -> torch.Tensor | None:
        return None if t is None else at_layer(t, activation.shape[2:], self.net.mean)

    def statistic(self, name: str, activation: torch.Tensor, t: torch.Tensor | None = None) -> torch.Tensor:
        """t: a mask at the activation's positions, (1, 1, H, W); None: all of it."""
        if t is not None:
            activation = self.compare.masking(activation, t)
        return self.compare.statistic(self.counted(name, activation), self.settings.seed)

    def of_layer(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        if name not in self._views_at:  # made once: a term is for pictures of one size
            self._views_at[name] = [self._at_layer(t, activation) for t in self.views]
        return self.of_statistics(name, [self.statistic(name, activation, t) for t in self._views_at[name]])

    def of_statistics(self, name: str, statistics: Sequence[torch.Tensor]) -> torch.Tensor:
        """A layer's part of the loss, from the picture's statistics through each of the `views`."""
        portion, losses = self.portion(name, self.compare.power), []
        for style in self.styles:
            loss = self.compare.loss(statistics[style.view], style.A[name])
            loss = loss.to(self.net.mean.dtype).to(self.net.mean.device)  # in this order, see `in_double`
            loss = style.w[name] * portion * loss
            losses.append(loss if style.v == 1 else style.v * loss)
        return sum(losses[1:], losses[0])

    def of_picture(self, x: torch.Tensor, of_layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return sum((of_layers[name] for name in self.layers), x.new_zeros(()))


class VariationTerm:
    """T: how much neighbouring pixels of the picture differ, in grey levels."""

    layers, parts = (), ()

    def __init__(self, net: Network, pictures: Pictures, settings: Settings) -> None:
        self.variation = VARIATIONS[settings.tv]

    def of_layer(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        raise LookupError(f"{name}: this term reads no layers")

    def of_picture(self, x: torch.Tensor, of_layers: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.variation(x)


TERMS: dict[str, Callable[[Network, Pictures, Settings], Term]] = {
    "content": ContentTerm,
    "style": StyleTerm,
    "tv": VariationTerm,
}
"""Name -> term, in the order in which they are added up. A term whose knob is 0, as by default, is left out."""


class Objective:
    """The loss of a transfer, for the pictures of one size or of several.

    net: the network; pictures: content and style at each size. A call with a picture (1, 3, H, W) in grey levels
    returns scalar tensors by name: `total`, each term, and each term's parts (a style layer's w_l times its loss;
    these sum to `style`). The picture's shape determines the size.
    """

    def __init__(self, net: Network, pictures: Pictures | Sequence[Pictures], settings: Settings) -> None:
        self.net, self.settings = net, settings
        self.pictures = [pictures] if isinstance(pictures, Pictures) else list(pictures)
        self._made: tuple[tuple[int, ...], dict[str, Term]] | None = None
        self.terms_of(self.pictures[0].content.shape[2:])

    def __call__(self, x: torch.Tensor, weights: Mapping[str, float] | None = None) -> dict[str, torch.Tensor]:
        """weights: of the terms, by name (None: those at iteration 0)."""
        return self.through(self.net, x, targets_too=False, weights=weights)

    def losses(
        self,
        x: torch.Tensor,
        activations: Iterable[tuple[str, torch.Tensor]],
        weights: Mapping[str, float] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Like a call, but from given activations of x as the network sees it: (layer, activation), in any order."""
        return self._losses(self.terms_of(x.shape[2:]), x, activations, weights)

    def through(
        self, net: Network, x: torch.Tensor, targets_too: bool = True, weights: Mapping[str, float] | None = None
    ) -> dict[str, torch.Tensor]:
        """Like a call, but another network, such as a gated one, sees the picture; targets_too: and the targets.

        Differentiable by the network's gates, also where they act on the targets.
        """
        x = self.painted(x)
        terms = self._terms(net, x.shape[2:]) if targets_too else self.terms_of(x.shape[2:])
        return self._losses(terms, x, net.activations(x, keep=layers_read(terms), as_computed=True), weights)

    def _losses(
        self,
        terms: Mapping[str, Term],
        x: torch.Tensor,
        activations: Iterable[tuple[str, torch.Tensor]],
        weights: Mapping[str, float] | None = None,
    ) -> dict[str, torch.Tensor]:
        of_layers: dict[str, dict[str, torch.Tensor]] = {name: {} for name in terms}
        for layer, activation in activations:
            for name, term in terms.items():
                if layer in term.layers:
                    of_layers[name][layer] = term.of_layer(layer, activation)
            del activation  # while the next one is computed
        losses = {name: term.of_picture(x, of_layers[name]) for name, term in terms.items()}
        parts = {part: of_layers[name][part] for name, term in terms.items() for part in term.parts}
        return {"total": weighted_sum(losses, weights or self.settings.term_weights()), **losses, **parts}

    def terms_of(self, shape: Sequence[int]) -> dict[str, Term]:
        """The terms, with their targets, for pictures of height x width `shape`; kept for one shape at a time."""
        if self._made is None or self._made[0] != tuple(shape):
            with torch.no_grad():
                self._made = (tuple(shape), self._terms(self.net, shape))
        return self._made[1]

    def _terms(self, net: Network, shape: Sequence[int]) -> dict[str, Term]:
        pictures = to_paint_from(self._pictures_of(shape), self.settings.colour)
        return {name: self._make(name, net, pictures) for name in TERMS if name not in self.settings.terms_off}

    def _make(self, name: str, net: Network, pictures: Pictures) -> Term:
        return TERMS[name](net, pictures, self.settings)

    def shown(self, x: torch.Tensor) -> torch.Tensor:
        """The optimised picture, (1, 3, H, W) in grey levels, as it is shown and saved: in [0, 1] units, unclamped.

        A tensor of its own, which later steps leave alone.
        """
        content = self._pictures_of(x.shape[2:]).content
        return to_show(self.net.restore(x.detach()), content, self.settings.colour)

    def painted(self, x: torch.Tensor) -> torch.Tensor:
        """The picture that the network sees: with `colour="luminance"` its grey, so that no other colour is painted."""
        if self.settings.colour != "luminance":
            return x
        return self.net.prepare(self.net.restore(x).mean(1, keepdim=True).expand(x.shape))

    def _pictures_of(self, shape: Sequence[int]) -> Pictures:
        return next(p for p in self.pictures if p.content.shape[2:] == tuple(shape))

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the losses that a call returns, in order."""
        terms = self.terms_of(self.pictures[0].content.shape[2:])
        return ("total", *terms, *(part for term in terms.values() for part in term.parts))

    def shape_at(self, iteration: int) -> tuple[int, int]:
        """The picture's height and width at an iteration; with `scales` it starts smaller."""
        size = self.settings.size_at(iteration)
        return next(tuple(p.content.shape[2:]) for p in self.pictures if max(p.content.shape[2:]) == size)


def layers_read(terms: Mapping[str, Term]) -> set[str]:
    """The layers whose activations these terms read."""
    return {layer for term in terms.values() for layer in term.layers}


def weighted_sum(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Σ k_t·T_t in the terms' order, so the same to the bit everywhere; a term without a knob has weight 1."""
    weighted = [weights.get(name, 1.0) * loss for name, loss in losses.items()]
    return sum(weighted[1:], weighted[0])
