"""Other tools' VGG19 state dicts: whose names they use and which pixels they expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from nstlab.errors import RequestError
from nstlab.layers import convolutions, layer_names

TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)
TORCHVISION_SCALE = 255 * 0.226  # s of design.md: its activations become grey levels

Tensors = dict[str, torch.Tensor]

FORMATS = {
    "torchvision": "RGB from 0 to 1, normalised by torchvision's mean and deviation",
    "caffe": "BGR in grey levels minus the mean",
    "grey": "RGB in grey levels minus the mean",
}
"""The pixels that a VGG19 file may expect: the values of `Settings.weights_format`."""

KNOWN_FILES = {
    "dcbb9e9d": ("torchvision", "torchvision's VGG19"),
    "d01eb7cb": ("caffe", "the original VGG19, as jcjohnson and neural-style-pt have it"),
    "397923af": ("torchvision", "torchvision's VGG16"),
    "00b39a1b": ("caffe", "the original VGG16, as jcjohnson and neural-style-pt have it"),
}
"""Files known by the first digits of their SHA-256."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
"""The keys under which training scripts store a state dict."""


def flat(stored: object) -> Tensors:
    """The tensors of a state dict by name, unwrapped and without DataParallel's prefixes."""
    while isinstance(stored, Mapping) and (inner := [key for key in WRAPPERS if isinstance(stored.get(key), Mapping)]):
        stored = stored[inner[0]]
    if not isinstance(stored, Mapping):
        return {}
    named = {str(key).replace("module.", ""): value for key, value in stored.items()}
    return {key: value for key, value in named.items() if isinstance(value, torch.Tensor)}


def convolutions_in(stored: object, path: Path, network: str = "vgg19") -> Tensors:
    """The convolutions of a VGG19's state dict (or a VGG16's) by layer name, in float32.

    Raises RequestError if it is another network's.
    """
    tensors = flat(stored)
    if not tensors:
        raise RequestError(f"{path} holds no state dict")
    if any("running_mean" in key for key in tensors):
        raise RequestError(
            f"{path} has batch normalisation (a {network}_bn), which the {network.upper()} used here does not have"
        )
    prefix, by_layer = _naming(tensors, path)
    index = {name: str(i) for i, name in enumerate(layer_names(network))}  # torchvision's `features` are our layers
    if network != "vgg19" and (count := _count(tensors)) != len(convolutions(network)):
        raise RequestError(f"{path} has {count} convolutions, {network.upper()} has {len(convolutions(network))}")
    found: Tensors = {}
    for name, inputs, outputs in convolutions(network):
        for part, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
            key = f"{prefix}{name if by_layer else index[name]}.{part}"
            if key not in tensors:
                raise RequestError(f"{path} has no {key} ({name}'s {part}): not a VGG19{_other_network(tensors)}")
            tensor = tensors[key]
            if tuple(tensor.shape) != shape:
                raise RequestError(f"{path}: {name}'s {part} is {tuple(tensor.shape)}, {network.upper()}'s is {shape}")
            if tensor.layout != torch.strided or not tensor.is_floating_point():
                raise RequestError(f"{path}: {name}'s {part} does not hold plain floating-point numbers")
            found[f"{name}.{part}"] = tensor.detach().to(torch.float32, copy=True).contiguous()
            if not found[f"{name}.{part}"].isfinite().all():
                raise RequestError(f"{path}: {name}'s {part} has infinite values or NaN")
    return found


def _count(tensors: Tensors) -> int:
    return sum(tensor.ndim == 4 for tensor in tensors.values())


def _other_network(tensors: Tensors) -> str:
    count = _count(tensors)
    known = {8: "VGG11", 10: "VGG13", 13: "VGG16"}.get(count)
    return f" but a {known}, by its {count} convolutions" if known else f" (it has {count} convolutions, VGG19 has 16)"


def _naming(tensors: Tensors, path: Path) -> tuple[str, bool]:
    """The prefix of the names in a state dict, and whether they are layer names (or torchvision's numbers)."""
    for ending, by_layer in (("conv1_1.weight", True), ("features.0.weight", False), ("0.weight", False)):
        for key in tensors:
            if key == ending or key.endswith("." + ending):
                return key.removesuffix("conv1_1.weight" if by_layer else "0.weight"), by_layer
    raise RequestError(f"{path} has neither conv1_1.weight nor features.0.weight: not a VGG19 with known names")


def suggested_format(stored: object, path: Path) -> str:
    """The format that a file's names suggest; it may have another."""
    return "grey" if _naming(flat(stored), path)[1] else "torchvision"


def recognised(tensors: Tensors, path: Path, sha256: str, original: Tensors | None) -> tuple[str, str]:
    """The pixels that a file expects, and how that is known. Raises RequestError if it cannot be told.

    original: the original VGG19's tensors, or None for another network. Its first convolution is compared with the
    file's in both channel orders; r_w and r_b are the factors of weights and biases. Pixels divided by a make
    r_w = a·r_b (see `to_grey_levels`).
    """
    known = KNOWN_FILES.get(sha256[:8])
    if known:
        return known
    if original is not None and (found := _compared(tensors, original)):
        return found
    choices = ", ".join(f"{kind} ({meaning})" for kind, meaning in FORMATS.items())
    name = "VGG16" if original is None else "VGG19"
    raise RequestError(
        f"{path} is a {name} with unknown numbers, so it is unclear which pixels it expects: "
        f"say weights_format={choices}"
    )


def _compared(tensors: Tensors, original: Tensors) -> tuple[str, str] | None:
    w, b = tensors["conv1_1.weight"], tensors["conv1_1.bias"]
    W, B = original["conv1_1.weight"], original["conv1_1.bias"]
    likeness = {name: float(_cosine(w, other)) for name, other in (("RGB", W), ("BGR", W.flip(1)))}
    order = max(likeness, key=likeness.get)
    r_w = float((w * (W if order == "RGB" else W.flip(1))).sum() / W.square().sum())
    r_b = float((b * B).sum() / B.square().sum())
    if likeness[order] > 0.95 and float(_cosine(b, B)) > 0.95:
        for found, expected, scale in (
            ("torchvision", "RGB", 1 / TORCHVISION_SCALE),
            ("caffe", "BGR", 1.0),
            ("grey", "RGB", 1.0),
        ):
            if order == expected and abs(r_w - 1) < 0.1 and abs(r_b / scale - 1) < 0.1:
                return found, "the original VGG19, by the numbers of conv1_1"
    return None


def _cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)


def to_grey_levels(tensors: Tensors) -> Tensors:
    """Turns a network for (pixel - mean) / std into one for grey levels minus the mean, its activations times s.

    ReLU networks are homogeneous: multiplying the input and all biases by s multiplies all activations by exactly s.
    So conv1_1 absorbs 1/(255·std) and s, and every bias s, with s = 255 x 0.226.
    """
    scaled = {key: t * TORCHVISION_SCALE if key.endswith("bias") else t for key, t in tensors.items()}
    per_channel = TORCHVISION_SCALE / (255 * torch.tensor(TORCHVISION_STD))
    scaled["conv1_1.weight"] = tensors["conv1_1.weight"] * per_channel.view(1, 3, 1, 1)
    return scaled
