"""A network as a sequence of named functions, whatever they are: pictures in, activations out."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property

import torch
from torch import nn

from nstlab.errors import RequestError, unknown
from nstlab.gates import Gate, parse_gates
from nstlab.network.gating import LayerGates, layer_gates
from nstlab.network.layer import Function, Layer
from nstlab.network.measuring import measured_layers


class Network(nn.Module):
    """A sequence of named functions (1, C, H, W) -> (1, C', H', W'), with the pixels that the first of them wants.

    functions: by name, in order; torch modules, which are frozen, or any functions of one tensor. They must treat
    positions alike and see the picture through windows, as convolutions do.
    mean: the picture that counts as 0, RGB in [0, 1]; scale: what grey levels are divided by, for each channel or for
    all; the first function gets (255 · RGB - 255 · mean) / scale. So a network trained on pixels normalised by m and d
    has mean=m, scale=255 · d. Activations are multiplied by the mean of scale: that makes them grey levels again, as
    VGG19's are, and k_S a number of the same order.
    content_layers, style_layers: what a run reads when its settings do not say.

    >>> blur = torch.nn.AvgPool2d(3, stride=1, padding=1)
    >>> net = Network({"blur": blur, "half": torch.nn.MaxPool2d(2)}, content_layers=("half",), style_layers=("blur",))
    >>> net(net.prepare(torch.rand(1, 3, 32, 48)), keep=["half"])["half"].shape
    torch.Size([1, 3, 16, 24])
    >>> net.layer("half").receptive_field
    4
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        scale: float | Sequence[float] = 1.0,
        content_layers: Sequence[str] = (),
        style_layers: Sequence[str] = (),
    ) -> None:
        super().__init__()
        if not functions:
            raise RequestError("a network needs at least one function")
        self.functions = dict(functions)
        self._register(mean)
        self.register_buffer("scale", torch.as_tensor(scale, dtype=torch.float32).expand(3).clone())
        self.unit = float(self.scale.mean())  # grey levels
        for i, function in enumerate(self.functions.values()):
            if isinstance(function, nn.Module):
                self.add_module(f"function{i}", function)
        self.requires_grad_(False).eval()
        names = tuple(self.functions)
        self.content_layers = tuple(content_layers) or names[len(names) // 2 :][:1]
        self.style_layers = tuple(style_layers) or names
        for name in (*self.content_layers, *self.style_layers):
            if name not in self.functions:
                raise unknown("layer", name, self.functions)

    def _register(self, mean: Sequence[float]) -> None:
        """What every network has, whatever its functions are."""
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.sha256 = ""  # of the file that its weights came from
        self.read_as = ""  # how the user's own file was read
        self.channel_weights: dict[str, torch.Tensor] = {}  # of a reduced VGG; see nstlab.reduction
        self.gradient_kept = 1.0  # see nstlab.network.sparse_gradients
        self.gates: dict[str, LayerGates] = {}  # by layer; see `gated`

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The functions' descriptions, measured on small noise when they are first asked for.

        Raises RequestError for a function whose output is not (1, C, H, W), or does not follow the input's size.
        """
        return measured_layers(self.functions, self.mean)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its functions, in order."""
        return tuple(self.functions)

    def prepare(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) RGB in [0, 1] -> grey levels minus the mean pixel, the network's input.

        On the network's device and in its floating type, whatever the image's are.
        """
        return (image.to(self.mean) - self.mean.view(1, 3, 1, 1)) * 255

    def restore(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of `prepare`; not clamped."""
        return x / 255 + self.mean.view(1, 3, 1, 1)

    def layer(self, name: str) -> Layer:
        """The layer of this name. Raises RequestError if there is none."""
        if name not in self.names:
            raise unknown("layer", name, self.names)
        return self.layers[self.names.index(name)]

    def plain(self) -> Network:
        """The same network computed in such a way that zeros stay exactly zero."""
        return copy.copy(self)

    def gated(self, gates: str | Mapping[str, torch.Tensor | Mapping[int, Gate]]) -> Network:
        """The same network with some features scaled, switched off or replaced by their mean, wherever it is applied.

        gates: as text (see `nstlab.gates`), or by layer: by feature, or a tensor with a factor for each feature, which
        may require gradients. They replace those that a layer has already. A layer's activation is gated before it is
        read and before the next function is applied. Gates of 1 are this network itself.
        Raises RequestError for an unknown layer or feature, and for a network that has lost channels.

        >>> net = Network({"twice": lambda x: 2 * x})
        >>> net.gated("twice:0,2=0.5")(torch.ones(1, 3, 1, 1), keep=["twice"])["twice"].flatten()
        tensor([0., 2., 1.])
        """
        if self.channel_weights:
            raise RequestError("gates are for the whole network: this one has lost channels")
        by_layer = gates if isinstance(gates, Mapping) else _parsed(gates)
        net = copy.copy(self)
        net.gates = {name: found for name, found in self.gates.items() if name not in by_layer}
        for name, some in by_layer.items():
            layer = self.layer(name)
            some = some if isinstance(some, torch.Tensor) else _parsed({name: some}).get(name)
            if some is not None:
                net.gates[name] = layer_gates(layer, some)
        return net

    def apply_layer(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """One function of the sequence: layer `name` applied to the output of the previous layer, without gates."""
        if name not in self.names:
            raise unknown("layer", name, self.names)
        return self.functions[name](self._scaled(x) if name == self.names[0] else x / self.unit) * self.unit

    def _scaled(self, x: torch.Tensor) -> torch.Tensor:
        """Grey levels in the first function's own unit."""
        return x / self.scale.view(1, 3, 1, 1)

    def sequence(self, x: torch.Tensor) -> Iterator[tuple[Layer, torch.Tensor]]:
        """(F1, F1(x)), (F2, F2(F1(x))), ...: each layer with its activation, one at a time."""
        for name, activation in self.activations(x, self.names):
            yield self.layer(name), activation

    def forward(self, x: torch.Tensor, keep: Iterable[str]) -> dict[str, torch.Tensor]:
        """The activations of the layers named in `keep`, (1, C, H, W) each, in that order.

        `x` is (1, 3, H, W) in grey levels (see `prepare`). Nothing deeper than needed is computed.
        Raises RequestError for an unknown layer.
        """
        keep = list(keep)
        kept = dict(self.activations(x, keep))
        return {name: kept[name].contiguous() for name in keep}  # whatever is fastest on the way, `view` works

    def activations(
        self, x: torch.Tensor, keep: Iterable[str], after: str | None = None, as_computed: bool = False
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Like `forward`, but yields each activation as soon as it is there, so that it need not stay in memory.

        This helps backward too: autograd visits what was computed in reverse order.
        after: x is not a picture but the activation of this layer, and the functions behind it are applied.
        as_computed: for losses of which only the gradient by x is wanted. In bfloat16 if that is what the network
        computes with, instead of the weights' type; and what a Gram adds to an activation's own gradient may be left
        out of that, to be added where x's is computed (see `nstlab.network.fused.ConvolveRelu`).
        """
        keep, names = set(keep), self.up_to(keep)
        x = self._scaled(x) if after is None else x / self.unit
        for name in names[names.index(after) + 1 if after else 0 :]:
            x = self.functions[name](x)
            x = self.gates[name](x) if name in self.gates else x
            if name in keep:
                yield name, x * self.unit

    def up_to(self, keep: Iterable[str]) -> tuple[str, ...]:
        """The names of the functions up to the deepest of `keep`. Raises RequestError for an unknown one."""
        for name in (keep := set(keep)):
            if name not in self.names:
                raise unknown("layer", name, self.names)
        return self.names[: max((self.names.index(name) + 1 for name in keep), default=0)]


def _parsed(gates: object) -> Mapping[str, Mapping[int, Gate]]:
    try:
        return parse_gates(gates)
    except ValueError as error:
        raise RequestError(f"gates: {error}") from None
