"""3x3 convolution with frozen weights, forward and backward, as fast as a CPU allows.

The weights never change, so the gradient of a convolution is a convolution too, with the kernels rotated by 180°
and their two channel axes swapped: `Convolution` has both. On a CPU, in float32, one of three algorithms is chosen
from the shape alone (`algorithm`), never from a timing, so that a run's bytes do not depend on what else the machine
was doing. In all other cases, and with `convolution="plain"`, it is torch's conv2d.

In bfloat16 it is oneDNN's, on tensors whose channels lie side by side in memory ("channels-last"): two bytes a value
instead of four for everything that is read and written, and twice the products at a time on processors that have them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn.functional import conv2d, pad

FEWEST_CHANNELS = 16  # with fewer, as in conv1_1, the transforms cost more than they save
FEWEST_POSITIONS = 256  # with fewer, reading the transformed kernels (four times as many numbers) dominates
AT_A_TIME = 2**24  # values in and out; more go strip by strip, because the workspace is larger than both
WINOGRAD_FROM = 64  # weights per position; with more, NNPACK loses: it transforms its kernels on every call


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: str = "zeros") -> torch.Tensor:
    """A 3x3 convolution: (1, C, H, W), (N, C, 3, 3), (N,) -> (1, N, H, W); padding: "zeros" or "replicate".

    It is torch's, for any device and floating type: the reference for the fast paths.
    """
    if padding == "zeros":
        return conv2d(x, weight, bias, padding=1)
    return conv2d(bordered(x, padding), weight, bias)


def bordered(x: torch.Tensor, padding: str) -> torch.Tensor:
    """(1, C, H, W) with one position more on each side, (1, C, H + 2, W + 2): zeros, or the border's own values."""
    return pad(x, (1, 1, 1, 1), mode="constant" if padding == "zeros" else padding)


def algorithm(inputs: int, outputs: int, height: int, width: int) -> str:
    """Which algorithm convolves `inputs` to `outputs` features at height x width: onednn, nnpack or winograd.

    Measured on two AVX2 cores at 96, 256 and 512 pixels: NNPACK's Winograd F(6x6, 3x3) is fastest with many
    positions, Winograd F(4x4, 3x3) with kernels transformed once is fastest with many weights, and oneDNN's direct
    convolution with few features or few positions. oneDNN also replaces NNPACK on processors without it.

    >>> algorithm(3, 64, 256, 256), algorithm(512, 512, 16, 16), algorithm(512, 512, 6, 6)
    ('onednn', 'winograd', 'onednn')
    """
    if min(inputs, outputs) < FEWEST_CHANNELS or height * width < FEWEST_POSITIONS:
        return "onednn"
    if inputs * outputs >= WINOGRAD_FROM * height * width:
        return "winograd"
    return "nnpack" if nnpack() else "onednn"


def nnpack() -> Callable[..., torch.Tensor] | None:
    """NNPACK's convolution, which has no public name in torch; None if torch or the processor lacks it."""
    available = getattr(torch, "_nnpack_available", lambda: False)
    return getattr(torch, "_nnpack_spatial_convolution", None) if available() else None


def version_of(tensor: torch.Tensor) -> int | None:
    """How often a tensor was changed in place, by torch's private count; None if torch does not tell."""
    return getattr(tensor, "_version", None)


def is_fast(x: torch.Tensor) -> bool:
    """Whether the fast paths apply to this tensor: one picture, float32 or bfloat16, on a CPU."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and len(x) == 1


def layout(dtype: torch.dtype) -> torch.memory_format:
    """How the fast paths lay out tensors of this type."""
    return torch.channels_last if dtype == torch.bfloat16 else torch.contiguous_format


class Kernels:
    """The kernels (N, C, 3, 3) and biases (N,) of one direction of a convolution."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        self.weight, self.bias = weight.contiguous(memory_format=layout(weight.dtype)), bias.contiguous()
        self._transformed: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, passes: torch.Tensor | None = None) -> torch.Tensor:
        """(1, C, H, W) -> (1, N, H, W); x counts as 0 where `passes`, of x's shape, is not above 0."""
        (N, C), (H, W) = self.weight.shape[:2], x.shape[2:]
        chosen = "onednn" if x.dtype == torch.bfloat16 else algorithm(C, N, H, W)
        if (N + C) * H * W <= AT_A_TIME or x.dtype == torch.bfloat16:
            return self._convolve(x if passes is None else where_positive(x, passes), chosen)
        y = x.new_empty(1, N, H, W)
        rows = max(1, AT_A_TIME // (2 * (N + C) * W))
        for top in range(0, H, rows):
            above = min(top, 1)
            part = slice(top - above, top + rows + 1)  # with a neighbouring row on both sides
            strip = x[:, :, part] if passes is None else where_positive(x[:, :, part], passes[:, :, part])
            y[:, :, top : top + rows] = self._convolve(strip, chosen)[:, :, above : above + rows]
        return y

    def _convolve(self, x: torch.Tensor, chosen: str) -> torch.Tensor:
        if chosen == "winograd":
            if self._transformed is None:
                self._transformed = winograd_kernels(self.weight)
            return winograd(x, self._transformed, self.bias)
        if chosen == "nnpack":
            return nnpack()(x.contiguous(), self.weight, self.bias, [1, 1], [1, 1])
        return convolve(x, self.weight, self.bias)


def where_positive(g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """g where y > 0, else 0: the gradient of a ReLU with output y, or with y saying where it passes."""
    return g * y if y.dtype == torch.bool else torch.ops.aten.threshold_backward(g, y, 0)


class Convolution:
    """A convolution with frozen weights: `forward` for activations, `backward` for gradients."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype | None = None) -> None:
        weight, bias = weight.detach(), bias.detach()
        self.made_of = (weight, version_of(weight), bias, version_of(bias))
        weight, bias = weight.to(dtype or weight.dtype), bias.to(dtype or bias.dtype)
        self.forward = Kernels(weight, bias)
        self.backward = Kernels(weight.flip(2, 3).transpose(0, 1), weight.new_zeros(weight.shape[1]))

    def is_of(self, weight: torch.Tensor, bias: torch.Tensor) -> bool:
        """Whether it was made from these tensors, and they have not changed since."""
        before, version, bias_before, bias_version = self.made_of
        same = before.data_ptr() == weight.data_ptr() and bias_before.data_ptr() == bias.data_ptr()
        known = None not in (version, bias_version)
        return same and known and (version_of(weight), version_of(bias)) == (version, bias_version)


class Convolve(torch.autograd.Function):
    """The convolution alone, for when its own activation is wanted."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, convolution: Convolution) -> torch.Tensor:
        ctx.convolution = convolution
        return convolution.forward(x)

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.convolution.backward(g), None


class ConvolveRelu(torch.autograd.Function):
    """Convolution and ReLU in one: it overwrites the convolution's output, since backward needs only the ReLU's.

    If nobody else reads that (`read` is False), it keeps only where it is positive: one byte instead of four.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, convolution: Convolution, read: bool) -> torch.Tensor:
        y = convolution.forward(x).relu_()
        ctx.convolution = convolution
        ctx.save_for_backward(y if read else y > 0)
        return y

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (passes,) = ctx.saved_tensors
        return ctx.convolution.backward(g, passes), None, None


class ReluMaxPool(torch.autograd.Function):
    """ReLU and 2x2 max-pooling of a convolution's output, in reverse order: max(relu) is relu(max).

    This quarters the ReLU's work, and neither the convolution's output nor 8-byte indices are kept: one byte says
    which of two columns was larger, one which of two rows, one whether the ReLU passes. Of equal values the first
    wins, as in torch.
    """

    @staticmethod
    def forward(ctx, z: torch.Tensor) -> torch.Tensor:
        rows, columns = z.shape[2] // 2 * 2, z.shape[3] // 2 * 2
        left, right = z[:, :, :rows, 0:columns:2], z[:, :, :rows, 1:columns:2]
        is_right = right > left  # (1, C, 2h, w)
        wide = torch.maximum(left, right)
        top, bottom = wide[:, :, 0::2], wide[:, :, 1::2]
        is_bottom = bottom > top  # (1, C, h, w)
        y = torch.maximum(top, bottom).relu_()
        ctx.shape = z.shape
        ctx.save_for_backward(is_right, is_bottom, y > 0)
        return y

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> torch.Tensor:
        is_right, is_bottom, passes = ctx.saved_tensors
        rows, columns = is_right.shape[2], 2 * is_right.shape[3]
        odd = ctx.shape[2] > rows or ctx.shape[3] > columns
        whole = torch.empty(ctx.shape, dtype=g.dtype, memory_format=layout(g.dtype))  # (1, C, H, W)
        if odd:
            whole.zero_()
        left, right = whole[:, :, :rows, 0:columns:2], whole[:, :, :rows, 1:columns:2]
        top, bottom = left[:, :, 0::2], left[:, :, 1::2]
        torch.mul(g, passes, out=top)
        torch.mul(top, is_bottom, out=bottom)
        top -= bottom
        torch.mul(left, is_right, out=right)
        left -= right
        return whole


# Winograd's F(4x4, 3x3) (Lavin & Gray 2016, section 4.3): Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A for each tile d of 6 x 6
# pixels and kernel g. Flattened, each of the three is one matrix: the Kronecker product with itself.
B_T = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0))
B_T += ((0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))
G = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6))
G += ((1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))
A_T = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def _twice(matrix: tuple[tuple[float, ...], ...], dtype: torch.dtype) -> torch.Tensor:
    m = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(m, m).to(dtype)


def winograd_kernels(weight: torch.Tensor) -> torch.Tensor:
    """G g Gᵀ for every kernel: (N, C, 3, 3) -> (36, N, C)."""
    N, C = weight.shape[:2]
    return (_twice(G, weight.dtype) @ weight.reshape(N * C, 9).T).view(36, N, C)


def winograd(x: torch.Tensor, kernels: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The 3x3 convolution of (1, C, H, W) with transformed kernels (36, N, C): (1, N, H, W)."""
    C, H, W = x.shape[1:]
    N, h, w = kernels.shape[1], -(-H // 4), -(-W // 4)  # h x w tiles of 4 x 4 outputs
    x = pad(x, (1, 4 * w - W + 1, 1, 4 * h - H + 1))[0]
    channel, row, column = x.stride()
    tiles = x.as_strided((6, 6, C, h, w), (row, column, channel, 4 * row, 4 * column)).reshape(36, C * h * w)
    tiles = (_twice(B_T, x.dtype) @ tiles).view(36, C, h * w)
    products = torch.bmm(kernels, tiles)  # (36, N, h·w)
    y = _twice(A_T, x.dtype) @ products.view(36, N * h * w)  # (16, N·h·w)
    y = y.view(4, 4, N, h, w).permute(2, 3, 0, 4, 1).reshape(1, N, 4 * h, 4 * w)[:, :, :H, :W]
    return y + bias.view(1, N, 1, 1)
