"""VGG19's convolutional part as the sequence of functions F1 ... F37 (Simonyan & Zisserman 2015)."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d

from nstlab.errors import RequestError, unknown
from nstlab.layers import convolutions, layer_names
from nstlab.network.convolution import Convolution, Convolve, ConvolveRelu, ReluMaxPool, bordered, convolve, is_fast
from nstlab.network.device import choose_device
from nstlab.network.sparse_gradients import keep_strongest
from nstlab.network.weights import Weights, read_weights


@dataclass(frozen=True)
class Layer:
    """One of the functions F1 ... F37.

    index: 1 ... 37; kind: "conv", "relu" or "pool"; inputs, features: channels in and out; stride: pixels between
    neighbouring output positions; receptive_field: the side, in pixels, of the square that one position sees;
    parameters: the number of weights and biases.
    """

    index: int
    name: str
    kind: str
    inputs: int
    features: int
    stride: int
    receptive_field: int
    parameters: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of its activation for a picture of height x width pixels."""
        return height // self.stride, width // self.stride

    def multiply_adds(self, height: int, width: int) -> int:
        """Multiplications (each with an addition) for a picture of height x width pixels; 0 except for conv."""
        rows, columns = self.size(height, width)
        return 9 * self.inputs * self.features * rows * columns if self.kind == "conv" else 0

    def check_feature(self, feature: int) -> None:
        """Raises RequestError for a feature that the layer does not have."""
        if not 0 <= feature < self.features:
            raise RequestError(f"{self.name} has features 0 to {self.features - 1}, not {feature}")


def describe_layers(features: Iterable[tuple[int, int]]) -> tuple[Layer, ...]:
    """The 37 layers of a VGG19 whose 16 convolutions have these (inputs, outputs).

    With r the receptive field and j the stride so far, a 3x3 convolution sets r ← r + 2j; a 2x2 pooling sets
    r ← r + j and j ← 2j (Dumoulin & Visin 2016).
    """
    convolutions = iter(features)
    layers: list[Layer] = []
    stride, field, outputs = 1, 1, 3
    for index, name in enumerate(layer_names(), start=1):
        kind = name[:4]
        inputs, parameters = outputs, 0
        if kind == "conv":
            inputs, outputs = next(convolutions)
            parameters = 9 * inputs * outputs + outputs
            field += 2 * stride
        elif kind == "pool":
            field += stride
            stride *= 2
        layers.append(Layer(index, name, kind, inputs, outputs, stride, field, parameters))
    return tuple(layers)


def vgg19_layers() -> tuple[Layer, ...]:
    """The 37 layers of the full VGG19."""
    return describe_layers((inputs, outputs) for _, inputs, outputs in convolutions())


class VGG19(nn.Module):
    """The network: grey-level pictures in, activations out. Frozen; any device and floating type.

    pooling: "max" or "average"; convolution: "auto", or "plain" for torch's own functions one by one (the reference
    for the fast path; see `nstlab.network.convolution`); precision: of the convolutions, "float32", "tf32" (CUDA)
    or "bfloat16"; activations have the floating type of the weights; padding: what convolutions see outside the
    picture, "zeros", or "replicate" for the border's own values.

    >>> net = load_vgg19("random", device="cpu")
    >>> net(net.prepare(torch.rand(1, 3, 32, 48)), keep=["relu3_1"])["relu3_1"].shape
    torch.Size([1, 256, 8, 12])
    """

    def __init__(
        self,
        weights: Weights,
        pooling: str = "max",
        convolution: str = "auto",
        precision: str = "float32",
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        self.pooling, self.convolution, self.precision, self.padding = pooling, convolution, precision, padding
        self._prepared: dict[str, Convolution] = {}
        self.sha256 = weights.sha256
        self.read_as = f"{weights.format}: {weights.found}" if weights.format else ""  # for the user's own file
        self.register_buffer("mean", torch.tensor(weights.mean))
        for key, tensor in weights.tensors.items():
            self.register_buffer(key.replace(".", "_"), tensor)  # buffers: nothing here is trained
        pairs = [t.shape[1::-1] for key, t in weights.tensors.items() if key.endswith("weight")]
        self.layers = describe_layers(tuple(pair) for pair in pairs)
        self.channel_weights: dict[str, torch.Tensor] = {}  # of a reduced network; see nstlab.reduction
        self.gradient_kept = 1.0  # see nstlab.network.sparse_gradients

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) RGB in [0, 1] -> grey levels minus the mean pixel, the network's input."""
        return (image - self.mean.view(1, 3, 1, 1)) * 255

    def restore(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `prepare`; not clamped."""
        return x / 255 + self.mean.view(1, 3, 1, 1)

    def layer(self, name: str) -> Layer:
        """The layer of this name. Raises RequestError if there is none."""
        if name not in layer_names():
            raise unknown("layer", name, layer_names())
        return self.layers[layer_names().index(name)]

    def plain(self) -> VGG19:
        """The same network and weights with torch's own convolutions, in which zeros stay exactly zero.

        The fast ones round whole tiles together, so a zero may become 1e-7 of its neighbours.
        """
        net = copy.copy(self)
        net.convolution = "plain"
        return net

    def remade(self, weights: Weights) -> VGG19:
        """A network like this one, on its device, with other weights."""
        made = VGG19(weights, self.pooling, self.convolution, self.precision, self.padding)
        return made.to(self.mean).eval()

    def apply_layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """One function of the sequence: layer `name` applied to the output of the previous layer."""
        kind = self.layer(name).kind
        if kind == "conv":
            z = self._convolve(name, x)
            return keep_strongest(z, self.gradient_kept) if self.gradient_kept < 1 else z
        if kind == "relu":
            return x.relu()  # never in place: the conv layer's activation stays
        return max_pool2d(x, 2) if self.pooling == "max" else avg_pool2d(x, 2)

    def _convolve(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if self.padding == "replicate":  # one position more on each side, whose own output is cut off again
            return self._convolve_zeros(name, bordered(x, self.padding))[:, :, 1:-1, 1:-1]
        return self._convolve_zeros(name, x)

    def _convolve_zeros(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if self._is_fast(x):
            return Convolve.apply(x, self._prepare_convolution(name))
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        if self.precision == "bfloat16":
            return convolve(x.bfloat16(), weight.bfloat16(), bias.bfloat16()).to(x.dtype)
        return convolve(x, weight, bias)

    def sequence(self, x: torch.Tensor) -> Iterator[tuple[Layer, torch.Tensor]]:
        """(F1, F1(x)), (F2, F2(F1(x))), ...: each layer with its activation, one at a time."""
        for layer in self.layers:
            x = self.apply_layer(layer.name, x)
            yield layer, x

    def forward(self, x: torch.Tensor, keep: Iterable[str]) -> dict[str, torch.Tensor]:
        """The activations of the layers named in `keep`, (1, C, H, W) each, in that order.

        `x` is (1, 3, H, W) in grey levels (see `prepare`). Nothing deeper than needed is computed.
        Raises RequestError for an unknown layer.
        """
        keep = list(keep)
        kept = dict(self.activations(x, keep))
        return {name: kept[name] for name in keep}

    def activations(self, x: torch.Tensor, keep: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Like `forward`, but yields each activation as soon as it is there, so that it need not stay in memory.

        This helps backward too: autograd visits what was computed in reverse order.
        """
        keep = set(keep)
        for names in self.groups(keep):
            x = self._apply_group(names, x, read=names[-1] in keep)
            if names[-1] in keep:
                yield names[-1], x

    def groups(self, keep: Iterable[str]) -> list[tuple[str, ...]]:
        """The layers up to the deepest of `keep`, grouped into tuples that can be computed in one go.

        A convolution goes with its ReLU, and a ReLU with the max-pooling after it, unless `keep` has the activation
        between them, which need not be stored otherwise.

        >>> load_vgg19("random", device="cpu").groups(["relu1_1", "relu2_1"])
        [('conv1_1', 'relu1_1'), ('conv1_2', 'relu1_2', 'pool1'), ('conv2_1', 'relu2_1')]
        """
        keep = set(keep)
        deepest = max((self.layer(name).index for name in keep), default=0)
        found: list[tuple[str, ...]] = []
        for layer in self.layers[:deepest]:
            joins = layer.kind == "relu" or (layer.kind == "pool" and self.pooling == "max")
            if joins and found[-1][-1] not in keep:
                found[-1] += (layer.name,)
            else:
                found.append((layer.name,))
        return found

    def _apply_group(self, names: tuple[str, ...], x: torch.Tensor, read: bool) -> torch.Tensor:
        if len(names) == 1 or not self._is_fast(x) or self.gradient_kept < 1:
            for name in names:
                x = self.apply_layer(name, x)
            return x
        if names[-1].startswith("relu"):
            if self.padding == "replicate":
                y = ConvolveRelu.apply(bordered(x, self.padding), self._prepare_convolution(names[0]), read)
                return y[:, :, 1:-1, 1:-1].contiguous()
            return ConvolveRelu.apply(x, self._prepare_convolution(names[0]), read)
        return ReluMaxPool.apply(x if names[0].startswith("relu") else self.apply_layer(names[0], x))

    def _is_fast(self, x: torch.Tensor) -> bool:
        return self.convolution != "plain" and self.precision != "bfloat16" and is_fast(x)

    def _prepare_convolution(self, name: str) -> Convolution:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        prepared = self._prepared.get(name)
        if prepared is None or not prepared.is_of(weight, bias):
            prepared = self._prepared[name] = Convolution(weight, bias)
        return prepared


def load_vgg19(
    weights: str = "original-8bit",
    pooling: str = "max",
    device: str = "auto",
    convolution: str = "auto",
    precision: str = "float32",
    weights_format: str = "auto",
    padding: str = "zeros",
) -> VGG19:
    """VGG19 with named weights or those of a file (see `nstlab.network.read_weights`, also for weights_format).

    pooling, convolution, precision, padding: see `VGG19`. On a CUDA device the weights are channels-last, as its
    convolutions prefer, and cuDNN chooses its algorithms by rule, not by timing.
    Raises RequestError or RunError if the weights cannot be read.

    >>> load_vgg19("random", device="cpu").layers[20].name
    'relu4_1'
    """
    for kind, name, known in (
        ("pooling", pooling, ("max", "average")),
        ("convolution", convolution, ("auto", "plain")),
        ("precision", precision, ("float32", "tf32", "bfloat16")),
        ("padding", padding, ("zeros", "replicate")),
    ):
        if name not in known:
            raise unknown(kind, name, known)
    chosen = choose_device(device)
    net = VGG19(read_weights(weights, weights_format), pooling, convolution, precision, padding).to(chosen).eval()
    if chosen.type == "cuda":
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        net = net.to(memory_format=torch.channels_last)
    return net
