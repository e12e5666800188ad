"""The networks by name: `load_network`, and what is known of one before it is loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

from nstlab import own
from nstlab.errors import RequestError, RunError
from nstlab.layers import ARCHITECTURES, VGG_BLOCKS, architecture
from nstlab.network.device import choose_device, placed
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
    return placed(efficientnet_lite0(weights, **build), choose_device(device))


NETWORKS: dict[str, Callable[..., Network]] = {
    "vgg19": _vgg19,
    "vgg16": _vgg16,
    "efficientnet-lite0": _efficientnet_lite0,
}
"""By the names of `Settings.network`: (weights, device=..., and those settings that it takes) -> the network.

Its plain data, which settings check, is in `nstlab.layers.ARCHITECTURES`.
"""


def load_network(name: str = "vgg19", weights: str | None = None, device: str = "auto", **build: Any) -> Network:
    """The network of this name, or the one that `path/to/mine.py:name` makes, frozen, on a device.

    weights: a name or a path (None: the network's own; VGG16 has none, and is untrained); build: of the settings
    pooling, padding, convolution, precision and weights_format, those that it takes.
    Raises RequestError for an unknown name, setting or weights; RunError for a failed download.

    >>> load_network("vgg16", device="cpu").layers[-1].name
    'pool5'
    """
    own.trust(name)
    return make_network(name, weights, device, **build)


def make_network(name: str, weights: str | None, device: str, **build: Any) -> Network:
    """Like `load_network`, but a reference that was only read is not trusted."""
    known = architecture(name)
    for knob in build:
        if knob not in known.takes:
            raise RequestError(not_taken(name, knob))
    if own.is_own(name):
        if weights not in (None, *known.known_weights):
            raise RequestError(f"weights = {weights}: {own.parts(name)[1]} makes its own")
        return placed(_made(name), choose_device(device))
    return NETWORKS[name](weights if weights is not None else known.weights, device=device, **build)


def _made(reference: str) -> Network:
    """The network that a function of the user's own makes; what it draws at random begins at seed 0."""
    expected = "a nstlab.Network"
    make = own.guarded(reference, own.function_of(reference, expected), expected, _no_network)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = make()
    except RunError as error:
        raise RequestError(str(error)) from None  # nothing runs yet
    net.sha256 = net.sha256 or sha256_of_tensors(net.state_dict())
    return net.requires_grad_(False).eval()


def _no_network(made: object) -> str | None:
    return None if isinstance(made, Network) else type(made).__name__


@lru_cache(maxsize=32)
def _described(reference: str, digest: str) -> tuple[tuple[Layer, ...], dict[str, tuple[str, ...]]]:
    net = _made(reference)
    return net.layers, {"content_layers": net.content_layers, "style_layers": net.style_layers}


def defaults_of(name: str) -> dict[str, tuple[str, ...]]:
    """The layers that a run reads when its settings do not say, by setting; loads a network of the user's own."""
    if own.is_own(name):
        return _described(name, own.sha256(name))[1]
    known = architecture(name)
    return {"content_layers": known.content_layers, "style_layers": known.style_layers}


def not_taken(network: str, knob: str) -> str:
    """What to say of a setting that a network has no use for."""
    owners = [name for name, known in ARCHITECTURES.items() if knob in known.takes]
    return f"{network} has no {knob}: it is for {' and '.join(owners)}"


def layers_of(name: str = "vgg19") -> tuple[Layer, ...]:
    """The layers of the full network of this name, without its weights; loads a network of the user's own."""
    if own.is_own(name):
        return _described(name, own.sha256(name))[0]
    return vgg_layers(name) if name in VGG_BLOCKS else lite0_layers()


def network_sha256(name: str, weights: str) -> str:
    """The SHA-256 of a network's weights, without loading it. Raises like `load_network`."""
    if name in VGG_BLOCKS:
        return weights_sha256(weights, name)
    if own.is_own(name):
        return _made(name).sha256
    return sha256_of_tensors(untrained()) if weights == "random" else hash_of(weights_path(weights))


def network_read_as(name: str, weights: str, weights_format: str = "auto") -> str | None:
    """How the user's own weights file is read, if its names suggest another way (see `weights_read_as`)."""
    return weights_read_as(weights, weights_format, name) if name in VGG_BLOCKS else None
