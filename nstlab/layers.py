"""The networks by name, as plain data: their layers, the weights that they come with, and what they are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from nstlab import own
from nstlab.errors import unknown

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
"""VGG19's convolutional part: (convolutions, features) of each of its five blocks."""

VGG_BLOCKS = {"vgg19": BLOCKS, "vgg16": ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))}

STAGES = ((1, 16, 1, 3, 1), (2, 24, 2, 3, 6), (2, 40, 2, 5, 6), (3, 80, 2, 3, 6), (3, 112, 1, 5, 6))
STAGES += ((4, 192, 2, 5, 6), (1, 320, 1, 3, 6))
"""EfficientNet-Lite0's stages: (blocks, features, stride of the first, kernel, expansion) (Tan & Le 2019, table 1)."""

STEM, HEAD = 32, 1280
"""The features before the first stage and behind the last."""


@dataclass(frozen=True)
class Architecture:
    """What settings must know of a network without loading it.

    layers: the names of its functions, in order; content_layers, style_layers, weights: what a run takes when its
    settings do not say; known_weights: by name, besides the path of a file; takes: the settings that not every network
    has. Of a network of the user's own only loading it shows the layers: None.
    """

    layers: tuple[str, ...] | None
    content_layers: tuple[str, ...] | None
    style_layers: tuple[str, ...] | None
    known_weights: tuple[str, ...]
    takes: tuple[str, ...] = ()

    @property
    def weights(self) -> str:
        return self.known_weights[0]


NOT_EVERY_NETWORK = ("pooling", "padding", "convolution", "precision", "weights_format", "reduction", "tile")
"""Settings that depend on how a network is built."""


def _vgg(network: str, *weights: str) -> Architecture:
    names: list[str] = []
    for block, (count, _) in enumerate(VGG_BLOCKS[network], start=1):
        for i in range(1, count + 1):
            names += [f"conv{block}_{i}", f"relu{block}_{i}"]
        names.append(f"pool{block}")
    style = tuple(f"relu{block}_1" for block in range(1, 6))
    return Architecture(tuple(names), ("relu4_2",), style, weights, NOT_EVERY_NETWORK)


_BLOCK_NAMES = tuple(f"block{i}_{j}" for i, (count, *_) in enumerate(STAGES, start=1) for j in range(1, count + 1))

ARCHITECTURES = {
    "vgg19": _vgg("vgg19", "original-8bit", "torchvision", "random"),
    "vgg16": _vgg("vgg16", "random", "torchvision"),
    "efficientnet-lite0": Architecture(
        ("stem", *_BLOCK_NAMES, "head"),
        ("block3_2",),
        ("stem", "block1_1", "block2_2", "block3_2", "block5_1"),
        ("imagenet", "random"),
        ("padding",),
    ),
}
"""By the names of `Settings.network`; the functions that make them are in `nstlab.network.NETWORKS`."""


OF_ONES_OWN = Architecture(None, None, None, ("own",))
"""What is known of the network that a `path/to/mine.py:name` makes, with weights of its own."""


def architecture(network: str) -> Architecture:
    """What is known of a network by its name. Raises RequestError for an unknown one."""
    if own.is_own(network):
        return OF_ONES_OWN
    if network not in ARCHITECTURES:
        raise unknown("network", network, ARCHITECTURES)
    return ARCHITECTURES[network]


def layer_names(network: str = "vgg19") -> tuple[str, ...]:
    """The names of a network's functions in order; VGG19's F1 ... F37 are conv1_1, relu1_1, ..., relu5_4, pool5."""
    return architecture(network).layers


def layer_features(network: str = "vgg19") -> dict[str, int] | None:
    """How many features each layer has, in order; None for a network of the user's own, which only loading shows.

    >>> layer_features()["relu3_1"], layer_features("efficientnet-lite0")["block1_1"]
    (256, 16)
    """
    if own.is_own(network):
        return None
    if network in VGG_BLOCKS:
        return {name: VGG_BLOCKS[network][int(name.split("_")[0][4:]) - 1][1] for name in layer_names(network)}
    of_stages = [features for count, features, *_ in STAGES for _ in range(count)]
    return dict(zip(layer_names(network), [STEM, *of_stages, HEAD], strict=True))


def convolutions(network: str = "vgg19") -> list[tuple[str, int, int]]:
    """(name, features in, features out) of a VGG's convolutions in order: VGG19's 16, VGG16's 13."""
    features = [3] + [out for count, out in VGG_BLOCKS[network] for _ in range(count)]
    names = [name for name in layer_names(network) if name.startswith("conv")]
    return list(zip(names, features, features[1:], strict=False))
