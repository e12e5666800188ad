"""The networks by name: `load_network`, and what is known of one before it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nstlab.errors import RequestError, unknown
from nstlab.layers import ARCHITECTURES, VGG_BLOCKS, architecture
from nstlab.network.device import choose_device
from nstlab.network.efficientnet import EfficientNetLite0, efficientnet_lite0, lite0_layers, untrained, weights_path
from nstlab.network.layer import Layer
from nstlab.network.sequence import Network
from nstlab.network.vgg19 import VGG16, VGG19, load_vgg, vgg_layers
from nstlab.network.weights import hash_of, sha256_of_tensors, weights_read_as, weights_sha256


def _vgg19(weights: str, **build: Any) -> VGG19:
    return load_vgg(VGG19, weights, **build)


def _vgg16(weights: str, **build: Any) -> VGG16:
    return load_vgg(VGG16, weights, **build)


def _efficientnet_lite0(weights: str, device: str, **build: Any) -> EfficientNetLite0:
    return efficientnet_lite0(weights, **build).to(choose_device(device))


NETWORKS: dict[str, Callable[..., Network]] = {
    "vgg19": _vgg19,
    "vgg16": _vgg16,
    "efficientnet-lite0": _efficientnet_lite0,
}
"""By the names of `Settings.network`: (weights, device=..., and those settings that it takes) -> the network.

Its plain data, which settings check, is in `nstlab.layers.ARCHITECTURES`.
"""


def load_network(name: str = "vgg19", weights: str | None = None, device: str = "auto", **build: Any) -> Network:
    """The network of this name, frozen, on a device.

    weights: a name or a path (None: the network's own; VGG16 has none, and is untrained); build: of the settings
    pooling, padding, convolution, precision and weights_format, those that it takes.
    Raises RequestError for an unknown name, setting or weights; RunError for a failed download.

    >>> load_network("vgg16", device="cpu").layers[-1].name
    'pool5'
    """
    if name not in NETWORKS:
        raise unknown("network", name, NETWORKS)
    known = architecture(name)
    for knob in build:
        if knob not in known.takes:
            raise RequestError(not_taken(name, knob))
    return NETWORKS[name](weights if weights is not None else known.weights, device=device, **build)


def not_taken(network: str, knob: str) -> str:
    """What to say of a setting that a network has no use for."""
    owners = [name for name, known in ARCHITECTURES.items() if knob in known.takes]
    return f"{network} has no {knob}: it is for {' and '.join(owners)}"


def layers_of(name: str = "vgg19") -> tuple[Layer, ...]:
    """The layers of the full network of this name, without its weights."""
    return vgg_layers(name) if name in VGG_BLOCKS else lite0_layers()


def network_sha256(name: str, weights: str) -> str:
    """The SHA-256 of a network's weights, without loading it. Raises like `load_network`."""
    if name in VGG_BLOCKS:
        return weights_sha256(weights, name)
    return sha256_of_tensors(untrained()) if weights == "random" else hash_of(weights_path(weights))


def network_read_as(name: str, weights: str, weights_format: str = "auto") -> str | None:
    """How the user's own weights file is read, if its names suggest another way (see `weights_read_as`)."""
    return weights_read_as(weights, weights_format, name) if name in VGG_BLOCKS else None
