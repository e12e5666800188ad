"""What the part of a network that a transfer uses costs, and what losing a channel would do to the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nstlab.network import VGG19, Network
from nstlab.reduction.codebooks import coded_bytes


@dataclass(frozen=True)
class Cost:
    """What the part of a network that a transfer uses costs.

    parameters: the weights that are not 0, and the biases; multiply_adds: of one forward pass in dense arithmetic;
    coded_bytes: the size of the Huffman-coded file, or None if it was not worked out.
    """

    parameters: int
    multiply_adds: int
    coded_bytes: int | None


def cost(net: Network, height: int, width: int, deepest: str = "relu5_1", coded: bool = False) -> Cost:
    """The cost of a network's layers up to `deepest` for a picture of height x width pixels.

    coded: whether to work out the coded size, too; that takes a second.

    >>> cost(load_vgg19("random", device="cpu"), 224, 224).multiply_adds
    18121162752
    """
    used = net.layers[: net.layer(deepest).index]
    work = sum(layer.multiply_adds(height, width) for layer in used)
    layers = [layer for layer in used if layer.kind == "conv"]
    if not isinstance(net, VGG19):
        return Cost(sum(layer.parameters for layer in used), work, None)
    weights = [getattr(net, f"{layer.name}_weight") for layer in layers]
    biases = [getattr(net, f"{layer.name}_bias") for layer in layers]
    return Cost(
        parameters=sum(int(weight.count_nonzero()) for weight in weights) + sum(bias.numel() for bias in biases),
        multiply_adds=work,
        coded_bytes=coded_bytes(weights, biases) if coded else None,
    )


def gate_derivatives(
    net: VGG19, x: torch.Tensor, loss: Callable[[dict[str, torch.Tensor]], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Σ over positions of a_c·∂L/∂a_c for each channel of each convolution, (N,), by the convolution's name.

    It is minus the first-order change of the loss when the channel is gated to 0 (Molchanov et al. 2017, eq. 8;
    Mozer & Smolensky 1989's relevance to first order). x: the picture in grey levels at which to take it; loss: a
    scalar from all activations by name. Layers that the loss does not depend on have zeros.

    >>> net = load_vgg19("random", device="cpu")
    >>> found = gate_derivatives(net, torch.rand(1, 3, 32, 32), lambda F: F["relu1_1"].sum())
    >>> len(found["conv1_1"]), float(found["conv1_2"].abs().sum())
    (64, 0.0)
    """
    with torch.enable_grad():
        F = {layer.name: a for layer, a in net.sequence(x.detach().clone().requires_grad_())}
        inside = {name: a for name, a in F.items() if name.startswith("relu")}
        gradients = torch.autograd.grad(loss(F), list(inside.values()), allow_unused=True)
    found = {}
    for (name, a), g in zip(inside.items(), gradients, strict=True):
        product = torch.zeros_like(a) if g is None else a.detach() * g
        found["conv" + name[4:]] = product.sum((0, 2, 3))
    return found
