"""The techniques that make a network smaller, by the names of `Settings.reduction`. Nothing is trained.

| `reduction` | which channels stay | what the others leave behind |
| --- | --- | --- |
| distinctiveness | those at the largest angles to each other | their outgoing weights, added to their nearest's |
| magnitude | the largest ‖W_c‖₁, incoming weights | nothing |
| contribution | the largest E|a_c|·‖W_next,c‖₁ | nothing |
| sensitivity | the largest |mean a_c·∂L/∂a_c|, L the loss of the transfer | nothing |
| random | any, from `seed` | nothing |
| weight_sharing | all; see nstlab.reduction.codebooks | |
| minimal_effort | all; see nstlab.network.sparse_gradients | |

Removed channels are really gone: the network has smaller tensors and takes fewer multiply-adds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from nstlab.errors import RequestError
from nstlab.network import VGG19, Weights, sha256_of_tensors
from nstlab.reduction.codebooks import prune, quantise
from nstlab.reduction.distinctiveness import Selection, chosen, merge
from nstlab.reduction.shrinking import Channels, Choice, Shrinking
from nstlab.settings import Settings

Pictures = Sequence[torch.Tensor]
Derivatives = Mapping[str, torch.Tensor] | None
Record = dict[str, Selection]


@dataclass(frozen=True)
class Technique:
    """A way to make a network smaller: its settings, and the function that makes the smaller network.

    judges: whether it looks at pictures; derives: whether it needs the loss's derivatives by each channel.
    """

    knobs: tuple[str, ...]
    make: Callable[[VGG19, Settings, Pictures, Derivatives, Record], VGG19]
    judges: bool = False
    derives: bool = False


def reduced(
    net: VGG19,
    settings: Settings,
    pictures: Pictures = (),
    derivatives: Derivatives = None,
    record: Record | None = None,
) -> VGG19:
    """The full network reduced as `settings.reduction` says; the full network itself if nothing is removed.

    pictures: (1, 3, H, W) in [0, 1] each, to judge channels by; derivatives: from `gate_derivatives`, for
    sensitivity; record: is filled with every layer's Selection, by the convolution's name.
    Raises RequestError for an amount that leaves a layer without channels, or for pictures that are too small.

    >>> net = load_vgg19("random", device="cpu")
    >>> half = reduced(net, Settings(reduction="magnitude", amount=0.5), [torch.rand(1, 3, 64, 64)])
    >>> half.layer("conv4_1").features, half.layer("conv4_1").parameters
    (256, 295168)
    """
    if settings.reduction is None:
        return net
    technique = TECHNIQUES[settings.reduction]
    return technique.make(net, settings, pictures, derivatives, record if record is not None else {})


def _largest(score: Callable[[Channels, torch.Generator], torch.Tensor]) -> Choice:
    """A technique that keeps the channels with the highest scores, (N,)."""
    return lambda channels, settings, generator: chosen(score(channels, generator), channels.count)


def magnitude(channels: Channels, _: torch.Generator) -> torch.Tensor:
    """‖W_c‖₁ of the incoming weights."""
    return channels.incoming.abs().sum((1, 2, 3))


def contribution(channels: Channels, _: torch.Generator) -> torch.Tensor:
    """E|a_c|·‖W_next,c‖₁: how much of the channel reaches the next layer."""
    return channels.activations.abs().mean(1) * channels.outgoing.abs().flatten(1).sum(1)


def sensitivity(channels: Channels, _: torch.Generator) -> torch.Tensor:
    """|Σ a_c·∂L/∂a_c|: what switching the channel off does to the loss, to first order."""
    if channels.derivatives is None:
        raise RequestError("reduction=sensitivity needs the derivatives of a loss: see gate_derivatives")
    return channels.derivatives.abs()


def at_random(channels: Channels, generator: torch.Generator) -> torch.Tensor:
    """Random scores, from the seed."""
    return torch.rand(len(channels.activations), generator=generator).to(channels.activations)


def distinctiveness(channels: Channels, settings: Settings, _: torch.Generator) -> Selection:
    """Those at the largest angles; each stands for those merged into it (Gedeon & Harris 1991)."""
    return merge(channels.activations, channels.outgoing, channels.count, settings.angle)


def _shrink(choose: Choice, merged: bool = False) -> Callable[..., VGG19]:
    def make(net: VGG19, settings: Settings, pictures: Pictures, derivatives: Derivatives, record: Record) -> VGG19:
        if settings.amount == 0 and settings.angle is None:
            return net
        return Shrinking(net, settings, choose, pictures, derivatives, merged).run(record)

    return make


def _share_weights(net: VGG19, settings: Settings, *_: object) -> VGG19:
    tensors = {}
    for name in (layer.name for layer in net.layers if layer.kind == "conv"):
        weight = prune(getattr(net, f"{name}_weight"), settings.sparsity)
        tensors[f"{name}.weight"] = quantise(weight, settings.bits) if settings.bits else weight
        tensors[f"{name}.bias"] = getattr(net, f"{name}_bias").clone()
    weights = Weights(tensors, tuple(net.mean.tolist()), sha256_of_tensors(tensors))
    return net.remade(weights)


def _spare_gradients(net: VGG19, settings: Settings, *_: object) -> VGG19:
    sparing = copy.copy(net)
    sparing.gradient_kept = settings.gradient_kept
    return sparing


_KNOBS = ("amount", "refit", "reduced_blocks", "calibration")

TECHNIQUES = {
    "distinctiveness": Technique(("angle", *_KNOBS), _shrink(distinctiveness, merged=True), judges=True),
    "magnitude": Technique(_KNOBS, _shrink(_largest(magnitude)), judges=True),
    "contribution": Technique(_KNOBS, _shrink(_largest(contribution)), judges=True),
    "sensitivity": Technique(_KNOBS, _shrink(_largest(sensitivity)), judges=True, derives=True),
    "random": Technique(_KNOBS, _shrink(_largest(at_random)), judges=True),
    "weight_sharing": Technique(("bits", "sparsity"), _share_weights),
    "minimal_effort": Technique(("gradient_kept",), _spare_gradients),
}
"""By the names of `Settings.reduction`."""
