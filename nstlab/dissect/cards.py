"""A card for each layer, each position and each feature: measurements of what they do to a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from nstlab.dissect.features import (
    Histogram,
    Patch,
    Spectrum,
    angle_to_others,
    feature_statistics,
    histogram,
    spectrum_of,
    top_patches,
    zeros,
)
from nstlab.network import Box, Layer, Network, position_at, receptive_box
from nstlab.optimise import gram

MAPS = 12  # feature maps on a layer card
STRONGEST = 64  # features whose Gram a layer card keeps


@torch.no_grad()
def activations(net: Network, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """All activations of a picture (1, 3, H, W) in [0, 1], by layer: (1, C, H_l, W_l), in grey levels for a VGG.

    VGG19's 37 take about 2.5 kB a pixel: 160 MB at 256 x 256.
    """
    return {layer.name: activation for layer, activation in net.sequence(net.prepare(image))}


@dataclass(frozen=True)
class LayerCard:
    """One layer and one picture, on a page.

    layer, image (1, 3, H, W) in [0, 1]; size: (H_l, W_l) positions; megabytes: of the activation; zeros: the
    fraction of zeros in it; dead: the number of features that are nowhere above 0 in this picture; statistics: as
    `feature_statistics`; features, maps: the features that vary most (ignoring the outer eighth of the picture) and
    their maps (n, H_l, W_l); histogram: of the layer's input and output; patches: of the first features, strongest
    first; gram: of the `strongest` features, by energy; spectrum: of the Gram of all features.
    """

    layer: Layer
    image: torch.Tensor
    size: tuple[int, int]
    megabytes: float
    zeros: float
    dead: int
    statistics: pd.DataFrame
    features: list[int]
    maps: torch.Tensor
    histogram: Histogram
    patches: dict[int, list[Patch]]
    strongest: list[int]
    gram: torch.Tensor
    spectrum: Spectrum


def layer_card(net: Network, image: torch.Tensor, name: str) -> LayerCard:
    """The card of layer `name` for a picture (1, 3, H, W) in [0, 1]. Raises RequestError for an unknown layer.

    >>> layer_card(load_vgg19("random", device="cpu"), torch.rand(1, 3, 32, 48), "pool2").size
    (8, 12)
    """
    return next(layer_cards(net, image, [name]))


def layer_cards(net: Network, image: torch.Tensor, names: Iterable[str] | None = None) -> Iterator[LayerCard]:
    """The cards of some layers (None: all), in the network's order; keeps two activations at a time."""
    wanted = {net.layer(name).index for name in (names if names is not None else [la.name for la in net.layers])}
    image = image.to(net.mean)
    before = net.prepare(image)
    for layer in net.layers[: max(wanted, default=0)]:
        with torch.no_grad():  # left before a card is yielded: the caller must not inherit it
            after = net.apply_layer(layer.name, before)
        if layer.index in wanted:
            yield _card(layer, image, before, after)
        before = after


@torch.no_grad()
def _card(layer: Layer, image: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> LayerCard:
    statistics = feature_statistics(after)
    inside = feature_statistics(_inside(after))["deviation"]
    features = inside.sort_values(ascending=False, kind="stable").index[:MAPS].tolist()
    G = gram(after)
    strongest = G.diagonal().argsort(descending=True)[:STRONGEST]
    return LayerCard(
        layer=layer,
        image=image,
        size=tuple(after.shape[2:]),
        megabytes=after.numel() * after.element_size() / 1e6,
        zeros=zeros(after),
        dead=int((statistics["maximum"] <= 0).sum()),
        statistics=statistics,
        features=features,
        maps=after[0, features].cpu(),
        histogram=histogram(before, after),
        patches={feature: top_patches(layer, after, image, feature) for feature in features[:3]},
        strongest=strongest.tolist(),
        gram=G[strongest][:, strongest].cpu(),
        spectrum=spectrum_of(after),
    )


def _inside(activation: torch.Tensor) -> torch.Tensor:
    """An activation without its outer eighth: some features respond only to the border of zeros."""
    rows, columns = (side // 8 for side in activation.shape[2:])
    return activation[:, :, rows : activation.shape[2] - rows, columns : activation.shape[3] - columns]


@dataclass(frozen=True)
class Comparison:
    """One layer and two pictures: which features tell them apart.

    means: (C, 2), each feature's mean in both pictures, in grey levels; contrast: (C,), the difference of the means
    over the pooled deviation, positive if the first picture has more; features: the largest |contrast| first;
    maps: {feature: (map in the first, map in the second)}.
    """

    layer: Layer
    images: tuple[torch.Tensor, torch.Tensor]
    means: np.ndarray
    contrast: np.ndarray
    features: list[int]
    maps: dict[int, tuple[torch.Tensor, torch.Tensor]]


@torch.no_grad()
def compare_layer(net: Network, first: torch.Tensor, second: torch.Tensor, name: str, count: int = 6) -> Comparison:
    """The features of layer `name` in which two pictures, (1, 3, H, W) in [0, 1] each, differ most.

    contrast_c = (μ_c - ν_c) / √((σ_c² + τ_c²)/2 + ε²), with μ, σ of the first picture and ν, τ of the second. ε is a
    tenth of the layer's root mean square deviation, so that features which are rarely active do not lead the list.
    """
    a, b = (net(net.prepare(image), keep=[name])[name] for image in (first, second))
    A, B = feature_statistics(a), feature_statistics(b)
    pooled = (A["deviation"] ** 2 + B["deviation"] ** 2) / 2
    contrast = ((A["mean"] - B["mean"]) / np.sqrt(pooled + 0.01 * pooled.mean() + 1e-12)).to_numpy()
    features = np.argsort(-np.abs(contrast), kind="stable")[:count].tolist()
    return Comparison(
        layer=net.layer(name),
        images=(first, second),
        means=np.stack([A["mean"], B["mean"]], axis=1),
        contrast=contrast,
        features=features,
        maps={feature: (a[0, feature].cpu(), b[0, feature].cpu()) for feature in features},
    )


@dataclass(frozen=True)
class PositionCard:
    """One pixel through all the layers.

    row, column: the pixel; positions, boxes: by layer, the position that stands for the pixel, and what it sees;
    excited: by layer, (feature, activation in grey levels, fraction of that feature's maximum in the picture),
    the largest activation first.
    """

    image: torch.Tensor
    row: int
    column: int
    positions: dict[str, tuple[int, int]]
    boxes: dict[str, Box]
    excited: dict[str, list[tuple[int, float, float]]]


@torch.no_grad()
def position_card(
    net: Network,
    image: torch.Tensor,
    row: int,
    column: int,
    computed: Mapping[str, torch.Tensor] | None = None,
    count: int = 5,
) -> PositionCard:
    """What the layers make of pixel (row, column) of a picture (1, 3, H, W) in [0, 1].

    computed: the picture's `activations`, if you have them (this then takes milliseconds).
    Raises RequestError for a pixel outside the picture.
    """
    computed = computed if computed is not None else activations(net, image)
    height, width = image.shape[2:]
    positions, boxes, excited = {}, {}, {}
    for name, activation in computed.items():
        layer = net.layer(name)
        i, j = positions[name] = position_at(layer, row, column, height, width)
        boxes[name] = receptive_box(layer, i, j, height, width)
        values, features = activation[0, :, i, j].topk(min(count, layer.features))
        highest = activation[0, features].amax((1, 2)).clamp_min(1e-12)
        rows = zip(features.tolist(), values.tolist(), (values / highest).tolist(), strict=True)
        excited[name] = [row for row in rows if row[1] > 0]
    return PositionCard(image, row, column, positions, boxes, excited)


@dataclass(frozen=True)
class FeatureCard:
    """One feature of one layer in one picture.

    map: (H_l, W_l) in grey levels; patches: the places that excite it most; inputs, kernels: the features of the
    previous layer that its convolution weighs most, and their kernels (n, 3, 3), for a VGG's conv or relu layer (none
    for other layers); nearest: (feature, angle in degrees) of the nearest other features.
    """

    layer: Layer
    feature: int
    image: torch.Tensor
    map: torch.Tensor
    patches: list[Patch]
    inputs: list[int]
    kernels: torch.Tensor
    nearest: list[tuple[int, float]]


@torch.no_grad()
def feature_card(
    net: Network,
    image: torch.Tensor,
    name: str,
    feature: int,
    computed: Mapping[str, torch.Tensor] | None = None,
    count: int = 6,
) -> FeatureCard:
    """What feature `feature` of layer `name` sees in a picture (1, 3, H, W) in [0, 1].

    computed: as for `position_card`. Raises RequestError for an unknown layer or feature.
    """
    layer = net.layer(name)
    layer.check_feature(feature)
    computed = computed if computed is not None else activations(net, image)
    angles = angle_to_others(computed[name], feature)
    others = [other for other in angles.argsort().tolist() if other != feature][:count]
    inputs, kernels = incoming_kernels(net, computed, name, feature, count)
    return FeatureCard(
        layer=layer,
        feature=feature,
        image=image,
        map=computed[name][0, feature].cpu(),
        patches=top_patches(layer, computed[name], image, feature, count),
        inputs=inputs,
        kernels=kernels,
        nearest=[(other, float(angles[other])) for other in others],
    )


@torch.no_grad()
def incoming_kernels(
    net: Network, computed: Mapping[str, torch.Tensor], name: str, feature: int, count: int = 6
) -> tuple[list[int], torch.Tensor]:
    """The inputs that a conv (or relu) feature listens to most in a picture, and their kernels (n, 3, 3).

    Ranked by ‖W_ci‖₁ · mean|a_i|, a_i the input feature in this picture; for conv1_1 they are red, green, blue in
    that order. A pool has no weights, and another network's function none that it shows: [] and (0, 3, 3).
    """
    layer = net.layer(name)
    if layer.kind not in ("conv", "relu"):
        return [], torch.zeros(0, 3, 3)
    conv = "conv" + name[4:]
    W = getattr(net, f"{conv}_weight")[feature]  # (inputs, 3, 3)
    before = net.layer(conv).index - 1
    if before == 0:
        return [0, 1, 2], W.cpu()
    heard = W.abs().sum((1, 2)) * computed[net.layers[before - 1].name].abs().mean((0, 2, 3))
    inputs = heard.argsort(descending=True)[:count]
    return inputs.tolist(), W[inputs].cpu()
