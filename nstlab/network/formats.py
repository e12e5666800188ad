"""VGG19's state dicts as other tools have them: whose names they have, and which pixels they expect."""

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
"""What a VGG19's file may expect of its pixels: the values of `Settings.weights_format`."""

KNOWN_FILES = {
    "dcbb9e9d": ("torchvision", "torchvision's VGG19"),
    "d01eb7cb": ("caffe", "the original VGG19, as jcjohnson and neural-style-pt have it"),
}
"""Files that are known by the first digits of their SHA-256."""

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params")
"""Under what training scripts store a state dict."""


def _flat(stored: object) -> Tensors:
    """The tensors of a state dict by their names, out of what wraps it, without the prefixes of DataParallel."""
    while isinstance(stored, Mapping) and (inner := [key for key in WRAPPERS if isinstance(stored.get(key), Mapping)]):
        stored = stored[inner[0]]
    if not isinstance(stored, Mapping):
        return {}
    named = {str(key).replace("module.", ""): value for key, value in stored.items()}
    return {key: value for key, value in named.items() if isinstance(value, torch.Tensor)}


def convolutions_in(stored: object, path: Path) -> Tensors:
    """The 16 convolutions of a state dict by the layers' names, in float32. Raises RequestError if it is another's."""
    tensors = _flat(stored)
    if not tensors:
        raise RequestError(f"{path} holds no state dict")
    if any("running_mean" in key for key in tensors):
        raise RequestError(f"{path} has batch normalisation (a vgg19_bn), which VGG19 as it is used here has not")
    prefix, by_layer = _naming(tensors, path)
    index = {name: str(i) for i, name in enumerate(layer_names())}  # torchvision's `features` are our layers
    found: Tensors = {}
    for name, inputs, outputs in convolutions():
        for part, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
            key = f"{prefix}{name if by_layer else index[name]}.{part}"
            if key not in tensors:
                raise RequestError(f"{path} has no {key} ({name}'s {part}): not a VGG19{_other_network(tensors)}")
            tensor = tensors[key]
            if tuple(tensor.shape) != shape:
                raise RequestError(f"{path}: {name}'s {part} is {tuple(tensor.shape)}, VGG19's is {shape}")
            if tensor.layout != torch.strided or not tensor.is_floating_point():
                raise RequestError(f"{path}: {name}'s {part} holds no plain floating-point numbers")
            found[f"{name}.{part}"] = tensor.detach().to(torch.float32, copy=True).contiguous()
            if not found[f"{name}.{part}"].isfinite().all():
                raise RequestError(f"{path}: {name}'s {part} has numbers that are infinite or not a number (NaN)")
    return found


def _other_network(tensors: Tensors) -> str:
    count = sum(tensor.ndim == 4 for tensor in tensors.values())
    known = {8: "VGG11", 10: "VGG13", 13: "VGG16"}.get(count)
    return f" but a {known}, by its {count} convolutions" if known else f" (it has {count} convolutions, VGG19 16)"


def _naming(tensors: Tensors, path: Path) -> tuple[str, bool]:
    """The prefix of the names in a state dict, and whether they are the layers' (or else torchvision's numbers)."""
    for ending, by_layer in (("conv1_1.weight", True), ("features.0.weight", False), ("0.weight", False)):
        for key in tensors:
            if key == ending or key.endswith("." + ending):
                return key.removesuffix("conv1_1.weight" if by_layer else "0.weight"), by_layer
    raise RequestError(f"{path} has neither conv1_1.weight nor features.0.weight: not a VGG19 of known names")


def suggested_format(stored: object, path: Path) -> str:
    """The format that a file's names suggest, which may not be the one that it has."""
    return "grey" if _naming(_flat(stored), path)[1] else "torchvision"


def recognised(tensors: Tensors, path: Path, sha256: str, original: Tensors) -> tuple[str, str]:
    """What a file expects of its pixels, and how that is known. Raises RequestError if it cannot be told.

    original: the original VGG19's tensors.

    Its first convolution is compared with the original's in both orders of channels: w and b fit it with factors r_w
    and r_b. For pixels divided by a, homogeneity (see `to_grey_levels`) makes r_w = a·r_b.
    """
    known = KNOWN_FILES.get(sha256[:8])
    if known:
        return known
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
    choices = ", ".join(f"{name} ({meaning})" for name, meaning in FORMATS.items())
    raise RequestError(
        f"{path} is a VGG19 whose numbers are not known, so nobody can tell which pixels it expects: "
        f"say weights_format={choices}"
    )


def _cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0)


def to_grey_levels(tensors: Tensors) -> Tensors:
    """A network for (pixel - mean) / std as one for grey levels minus the mean, its activations times s.

    ReLU networks are homogeneous: the input and all biases times s give all activations times s, exactly. So
    conv1_1 takes up 1/(255·std) and s, every bias s, with s = 255 x 0.226.
    """
    scaled = {key: t * TORCHVISION_SCALE if key.endswith("bias") else t for key, t in tensors.items()}
    per_channel = TORCHVISION_SCALE / (255 * torch.tensor(TORCHVISION_STD))
    scaled["conv1_1.weight"] = tensors["conv1_1.weight"] * per_channel.view(1, 3, 1, 1)
    return scaled
