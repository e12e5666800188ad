"""VGG19's convolutional part as the sequence of functions F1 ... F37 (Simonyan & Zisserman 2015), and VGG16's."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, max_pool2d

from nstlab.errors import unknown
from nstlab.layers import architecture, convolutions, layer_names
from nstlab.network.convolution import Convolution, bordered, convolve, is_fast
from nstlab.network.device import choose_device, placed
from nstlab.network.fused import Convolve, ConvolveRelu, InTwoParts
from nstlab.network.layer import Layer
from nstlab.network.pooling import ConvolveReluMaxPool, ReluMaxPool
from nstlab.network.relu import order_of
from nstlab.network.sequence import Network
from nstlab.network.sparse_gradients import keep_strongest
from nstlab.network.weights import Weights, read_weights


def describe_layers(features: Iterable[tuple[int, int]], network: str = "vgg19") -> tuple[Layer, ...]:
    """The layers of a VGG whose convolutions have these (inputs, outputs): VGG19 has 37, with 16 convolutions.

    With r the receptive field and j the stride so far, a 3x3 convolution sets r ← r + 2j; a 2x2 pooling sets
    r ← r + j and j ← 2j (Dumoulin & Visin 2016).
    """
    convolutions = iter(features)
    layers: list[Layer] = []
    stride, field, outputs = 1, 1, 3
    for index, name in enumerate(layer_names(network), start=1):
        kind = name[:4]
        inputs, parameters = outputs, 0
        if kind == "conv":
            inputs, outputs = next(convolutions)
            parameters = 9 * inputs * outputs + outputs
            field += 2 * stride
        elif kind == "pool":
            field += stride
            stride *= 2
        work = 9 * inputs * outputs if kind == "conv" else 0
        before = (field - stride) // 2
        layers.append(Layer(index, name, kind, inputs, outputs, stride, field, parameters, before, work))
    return tuple(layers)


def vgg_layers(network: str = "vgg19") -> tuple[Layer, ...]:
    """The layers of the full VGG19 (37) or VGG16 (31)."""
    return describe_layers(((inputs, outputs) for _, inputs, outputs in convolutions(network)), network)


class VGG19(Network):
    """The network: grey-level pictures in, activations out. Frozen; any device and floating type.

    pooling: "max" or "average"; convolution: "auto", "lean" for less memory, or "plain" for torch's own functions one
    by one (the reference for the fast paths; see `nstlab.network.convolution`); precision: of the convolutions,
    "float32", "tf32" (CUDA) or "bfloat16"; activations have the floating type of the weights; padding: what
    convolutions see outside the picture, "zeros", or "replicate" for the border's own values.

    >>> net = load_vgg19("random", device="cpu")
    >>> net(net.prepare(torch.rand(1, 3, 32, 48)), keep=["relu3_1"])["relu3_1"].shape
    torch.Size([1, 256, 8, 12])
    """

    network = "vgg19"

    def __init__(
        self,
        weights: Weights,
        pooling: str = "max",
        convolution: str = "auto",
        precision: str = "float32",
        padding: str = "zeros",
    ) -> None:
        nn.Module.__init__(self)
        self._register(weights.mean)
        self.pooling, self.convolution, self.precision, self.padding = pooling, convolution, precision, padding
        self._prepared: dict[tuple[str, torch.dtype, bool], Convolution] = {}
        self.sha256 = weights.sha256
        self.read_as = f"{weights.format}: {weights.found}" if weights.format else ""  # for the user's own file
        for key, tensor in weights.tensors.items():
            self.register_buffer(key.replace(".", "_"), tensor)  # buffers: nothing here is trained
        pairs = [t.shape[1::-1] for key, t in weights.tensors.items() if key.endswith("weight")]
        self.layers = describe_layers((tuple(pair) for pair in pairs), self.network)
        known = architecture(self.network)
        self.content_layers, self.style_layers = known.content_layers, known.style_layers

    @property
    def names(self) -> tuple[str, ...]:
        return layer_names(self.network)

    def plain(self) -> VGG19:
        """The same network and weights with torch's own convolutions, in which zeros stay exactly zero.

        The fast ones round whole tiles together, so a zero may become 1e-7 of its neighbours.
        """
        net = copy.copy(self)
        net.convolution = "plain"
        return net

    def remade(self, weights: Weights) -> VGG19:
        """A network like this one, on its device, with other weights."""
        made = type(self)(weights, self.pooling, self.convolution, self.precision, self.padding)
        return made.to(self.mean).eval()

    def apply_layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """One function of the sequence: layer `name` applied to the output of the previous layer, without gates."""
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
            return Convolve.apply(x, self._prepare_convolution(name, x))
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        if self.precision == "bfloat16":
            return convolve(x.bfloat16(), weight.bfloat16(), bias.bfloat16()).to(x.dtype)
        return convolve(x, weight, bias)

    def activations(
        self, x: torch.Tensor, keep: Iterable[str], after: str | None = None, as_computed: bool = False
    ) -> Iterator[tuple[str, torch.Tensor]]:
        keep, done = set(keep), self.layer(after).index if after else 0
        for names in self.groups({*keep, after} - {None}):
            index = self.layer(names[0]).index
            if index <= done:
                continue
            if self.precision == "bfloat16" and self._is_fast(x):
                x = InTwoParts.apply(x) if index == 1 else x.to(torch.bfloat16, memory_format=torch.channels_last)
            x = self._apply_group(names, x, names[-1] in keep, [] if as_computed else None)
            x = self.gates[names[-1]](x) if names[-1] in self.gates else x
            if names[-1] in keep:
                yield names[-1], x if as_computed else x.to(self.mean.dtype)

    def groups(self, keep: Iterable[str]) -> list[tuple[str, ...]]:
        """The layers up to the deepest of `keep`, grouped into tuples that can be computed in one go.

        A convolution goes with its ReLU, and a ReLU with the max-pooling after it, unless `keep` has the activation
        between them, which need not be stored otherwise, or it is gated.

        >>> load_vgg19("random", device="cpu").groups(["relu1_1", "relu2_1"])
        [('conv1_1', 'relu1_1'), ('conv1_2', 'relu1_2', 'pool1'), ('conv2_1', 'relu2_1')]
        """
        keep = set(keep)
        deepest = max((self.layer(name).index for name in keep), default=0)
        found: list[tuple[str, ...]] = []
        for layer in self.layers[:deepest]:
            joins = layer.kind == "relu" or (layer.kind == "pool" and self.pooling == "max")
            if joins and found[-1][-1] not in keep and found[-1][-1] not in self.gates:
                found[-1] += (layer.name,)
            else:
                found.append((layer.name,))
        return found

    def _apply_group(
        self, names: tuple[str, ...], x: torch.Tensor, read: bool, by_products: list[torch.Tensor] | None
    ) -> torch.Tensor:
        if len(names) == 1 or not self._is_fast(x) or self.gradient_kept < 1:
            for name in names:
                x = self.apply_layer(name, x)
            return x
        if names[-1].startswith("relu"):
            if self.padding == "replicate":
                x = bordered(x, self.padding)
                y = ConvolveRelu.apply(x, self._prepare_convolution(names[0], x), read)
                return y[:, :, 1:-1, 1:-1].contiguous(memory_format=order_of(y))
            return ConvolveRelu.apply(x, self._prepare_convolution(names[0], x), read, by_products)
        if not names[0].startswith("conv"):
            return ReluMaxPool.apply(x)
        prepared = self._prepare_convolution(names[0], x)
        if self.padding == "zeros" and prepared.forward.goes_in_strips(x):
            return ConvolveReluMaxPool.apply(x, prepared)
        return ReluMaxPool.apply(self.apply_layer(names[0], x))

    def _is_fast(self, x: torch.Tensor) -> bool:
        return self.convolution != "plain" and is_fast(x)

    def _prepare_convolution(self, name: str, x: torch.Tensor) -> Convolution:
        weight, bias = getattr(self, f"{name}_weight"), getattr(self, f"{name}_bias")
        lean = self.convolution == "lean"
        prepared = self._prepared.get((name, x.dtype, lean))
        if prepared is None or not prepared.is_of(weight, bias):
            prepared = Convolution(weight, bias, x.dtype, parts=x.shape[1] // weight.shape[1], lean=lean)
            self._prepared[name, x.dtype, lean] = prepared
        return prepared


class VGG16(VGG19):
    """VGG16: VGG19 with three convolutions instead of four in each of the last three blocks."""

    network = "vgg16"


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
    return load_vgg(VGG19, weights, pooling, convolution, precision, weights_format, padding, device=device)


def load_vgg(
    kind: type[VGG19],
    weights: str,
    pooling: str = "max",
    convolution: str = "auto",
    precision: str = "float32",
    weights_format: str = "auto",
    padding: str = "zeros",
    device: str = "auto",
) -> VGG19:
    """VGG19 or VGG16 (`kind`), as `load_vgg19` does."""
    for what, name, known in (
        ("pooling", pooling, ("max", "average")),
        ("convolution", convolution, ("auto", "lean", "plain")),
        ("precision", precision, ("float32", "tf32", "bfloat16")),
        ("padding", padding, ("zeros", "replicate")),
    ):
        if name not in known:
            raise unknown(what, name, known)
    chosen = choose_device(device)
    read = read_weights(weights, weights_format, kind.network)
    net = placed(kind(read, pooling, convolution, precision, padding), chosen, precision).eval()
    return net.to(memory_format=torch.channels_last) if chosen.type == "cuda" else net
