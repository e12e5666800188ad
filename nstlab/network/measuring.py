"""What a function does to positions, found by trying: its size, its window, its cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from nstlab.errors import RequestError
from nstlab.network.layer import Function, Layer

SIDES = (*range(16, 22), 31, 32, 33, 47, 48, 49)  # of the noise on which sizes are measured, for strides up to 16
WINDOWS = (20, 48, 128)  # the sides on which a window is looked for; one that is larger counts as
EVERYTHING = 2**20  # pixels on either side
DRAWS = (0.1, 1.0, 10.0)  # of noise: where a ReLU or a maximum shuts one out, another passes


@dataclass(frozen=True)
class Effect:
    """What one function does.

    inputs, features: channels in and out; stride, spare: h positions become (h + spare) // stride; window: the side of
    the square of its input that one position depends on, before: how many of these positions come before the first that
    it stands for (None, None: everything); parameters, work, kept: as in `Layer`.
    """

    inputs: int
    features: int
    stride: int
    spare: int
    window: int | None
    before: int | None
    parameters: int
    work: int
    kept: float


def measured_layers(functions: Mapping[str, Function], like: torch.Tensor) -> tuple[Layer, ...]:
    """The descriptions of a sequence of functions; like: a tensor on their device, of their floating type.

    Each function is tried alone. With r the receptive field and j the stride so far, one with window k and stride s
    sets r ← r + (k - 1)·j and j ← s·j, as in `describe_layers`.
    Raises RequestError for a function that fails, or whose output is not (1, C, H, W) or does not follow its size.
    """
    layers: list[Layer] = []
    channels, stride, field, before, steps = 3, 1, 1, 0, ()
    for index, (name, function) in enumerate(functions.items(), start=1):
        e = effect(name, function, channels, like)
        field = EVERYTHING * 2 if e.window is None else field + (e.window - 1) * stride
        before = EVERYTHING if e.before is None else before + e.before * stride
        stride, channels = stride * e.stride, e.features
        steps += () if (e.stride, e.spare) == (1, 0) else ((e.stride, e.spare),)
        cost = (e.parameters, before, e.work, e.kept, steps)
        layers.append(Layer(index, name, "block", e.inputs, e.features, stride, field, *cost))
    return tuple(layers)


def effect(name: str, function: Function, channels: int, like: torch.Tensor) -> Effect:
    """What one function does to an activation with so many channels. Raises RequestError like `measured_layers`."""
    draw = torch.Generator().manual_seed(0)

    def noise(side: int) -> torch.Tensor:
        return torch.randn(1, channels, side, side, generator=draw).to(like)

    with torch.no_grad():
        outputs = {side: _checked(name, function, noise(side)) for side in SIDES}
    stride, spare = _size(name, {side: y.shape[2] for side, y in outputs.items()})
    window, before = _window(function, noise, stride)
    x = noise(SIDES[0]).requires_grad_()
    own = [*function.parameters(), *function.buffers()] if isinstance(function, nn.Module) else []
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        positions = function(x).shape[2:].numel()
    with _saved(own) as saved:
        function(x * 1)  # a copy, which the function may overwrite
    return Effect(
        inputs=channels,
        features=outputs[SIDES[0]].shape[1],
        stride=stride,
        spare=spare,
        window=window,
        before=before,
        parameters=sum(p.numel() for p in own),
        work=round(counter.get_total_flops() / 2 / positions),
        kept=sum(saved.values()) / positions,
    )


def _checked(name: str, function: Function, x: torch.Tensor) -> torch.Tensor:
    try:
        y = function(x)
    except Exception as error:  # a function of the user's own may raise anything
        said = " ".join(str(error).split()) or type(error).__name__
        raise RequestError(f"the network's function {name!r} fails for {tuple(x.shape)}: {said[:200]}") from error
    if not isinstance(y, torch.Tensor) or y.ndim != 4 or len(y) != 1 or not y.numel():
        got = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise RequestError(f"the network's function {name!r} makes {got} of {tuple(x.shape)}, not (1, C, H, W)")
    return y


def _size(name: str, sizes: Mapping[int, int]) -> tuple[int, int]:
    """stride and spare with (h + spare) // stride for all the measured sizes."""
    for stride in range(1, 17):
        for spare in sorted(range(-32, 17), key=abs):
            if all((side + spare) // stride == size for side, size in sizes.items()):
                return stride, spare
    found = ", ".join(f"{side} -> {size}" for side, size in list(sizes.items())[:4])
    raise RequestError(f"the network's function {name!r} must keep or divide height and width (it has {found}, ...)")


def _window(function: Function, noise: Function, stride: int) -> tuple[int | None, int | None]:
    """The support of the gradient of a position in the middle, along the longer of its sides, and where it begins."""
    for side in WINDOWS:
        seen, at = torch.zeros(side, dtype=torch.bool), 0
        for size in DRAWS:
            x = (size * noise(side)).requires_grad_()
            y = function(x * 1)
            at = y.shape[2] // 2
            features = y[0, :, at, at]
            if not features.requires_grad:
                continue
            (gradient,) = torch.autograd.grad((features * torch.rand_like(features)).sum(), x)
            touched = gradient[0].abs().sum(0) > 0
            seen |= (touched.any(0) | touched.any(1)).cpu()
        rows = seen.nonzero().flatten().tolist() or [at * stride]
        if rows[0] > 0 and rows[-1] < side - 1:
            return rows[-1] - rows[0] + 1, at * stride - rows[0]
    return None, None


@contextmanager
def _saved(own: list[torch.Tensor]) -> Iterator[dict[int, int]]:
    """The bytes that autograd keeps for backward, by where they are; without a function's own weights."""
    kept: dict[int, int] = {}
    weights = {tensor.data_ptr() for tensor in own}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept
