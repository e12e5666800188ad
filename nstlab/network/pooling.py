"""ReLU and 2x2 max-pooling after a convolution, computed together, with bytes kept instead of numbers."""

from __future__ import annotations

import torch

from nstlab.network.arena import arranged, empty
from nstlab.network.convolution import Convolution, in_strips
from nstlab.network.fused import like_the_input
from nstlab.network.relu import greater, order_of, times


class ReluMaxPool(torch.autograd.Function):
    """ReLU and 2x2 max-pooling of a convolution's output, in reverse order: max(relu) is relu(max).

    This quarters the ReLU's work, and neither the convolution's output nor 8-byte indices are kept: one byte says
    which of two columns was larger, one which of two rows, one whether the ReLU passes. Of equal values the first
    wins, as in torch.
    """

    @staticmethod
    def forward(ctx, z: torch.Tensor) -> torch.Tensor:
        y, is_right, is_bottom = _pooling(z.shape[1], z, order_of(z))
        _max_pool(z, y, is_right, is_bottom)
        ctx.shape = z.shape
        ctx.save_for_backward(is_right, is_bottom, greater(y, 0))
        return y

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> torch.Tensor:
        return _unpooled(g, *ctx.saved_tensors, *ctx.shape[2:])


class ConvolveReluMaxPool(torch.autograd.Function):
    """Convolution, ReLU and max-pooling, strip by strip: the convolution's output, the largest of all, is never whole.

    At 1024 pixels it would be 268 MB, and its gradient as much.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, convolution: Convolution) -> torch.Tensor:
        (H, W), (N, _) = x.shape[2:], convolution.forward.features
        y, is_right, is_bottom = _pooling(N, x, torch.channels_last)
        for rows, window, inner in in_strips(H, W, N):
            z = convolution.forward(x[:, :, window])[:, :, inner]
            half = slice(rows.start // 2, rows.stop // 2)
            _max_pool(z, y[:, :, half], is_right[:, :, 2 * half.start : 2 * half.stop], is_bottom[:, :, half])
        ctx.convolution, ctx.is_contiguous, ctx.shape = convolution, x.is_contiguous(), x.shape
        ctx.save_for_backward(is_right, is_bottom, greater(y, 0))
        return y

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple[torch.Tensor, None]:
        is_right, is_bottom, passes = ctx.saved_tensors
        H, W = ctx.shape[2:]

        def rows_of(rows: slice) -> torch.Tensor:
            first, last = rows.start // 2, -(-rows.stop // 2)  # of the pooled rows
            half, both = slice(first, last), slice(2 * first, min(2 * last, H))
            parts = g[:, :, half], is_right[:, :, both], is_bottom[:, :, half], passes[:, :, half]
            whole = _unpooled(*parts, both.stop - both.start, W)
            return whole[:, :, rows.start - both.start : rows.stop - both.start]

        found = ctx.convolution.backward.in_strips(rows_of, (H, W), g.dtype)
        return like_the_input(ctx, found), None


def _pooling(features: int, x: torch.Tensor, order: torch.memory_format) -> list[torch.Tensor]:
    """Room for what is left of `features` at x's positions, which of two columns was larger, and which of two rows."""
    h, w = x.shape[2] // 2, x.shape[3] // 2
    kinds = ((x.dtype, h), (torch.uint8, 2 * h), (torch.uint8, h))
    return [empty((1, features, n, w), kind, order) for kind, n in kinds]


def _max_pool(z: torch.Tensor, y: torch.Tensor, is_right: torch.Tensor, is_bottom: torch.Tensor) -> None:
    rows, columns = 2 * y.shape[2], 2 * y.shape[3]
    left, right = z[:, :, :rows, 0:columns:2], z[:, :, :rows, 1:columns:2]
    greater(right, left, out=is_right)  # (1, C, 2h, w)
    wide = torch.maximum(left, right, out=empty(is_right.shape, z.dtype, order_of(is_right)))
    top, bottom = wide[:, :, 0::2], wide[:, :, 1::2]
    greater(bottom, top, out=is_bottom)  # (1, C, h, w)
    torch.maximum(top, bottom, out=y).relu_()


def _unpooled(
    g: torch.Tensor, is_right: torch.Tensor, is_bottom: torch.Tensor, passes: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """The gradient of what was pooled, from the gradient g of what is left."""
    rows, columns = is_right.shape[2], 2 * is_right.shape[3]
    whole = empty((1, g.shape[1], height, width), g.dtype, order_of(is_right))
    g = arranged(g, order_of(is_right))
    if height > rows or width > columns:
        whole.zero_()
    left, right = whole[:, :, :rows, 0:columns:2], whole[:, :, :rows, 1:columns:2]
    top, bottom = left[:, :, 0::2], left[:, :, 1::2]
    times(g, passes, out=top)
    times(top, is_bottom, out=bottom)
    top -= bottom
    times(left, is_right, out=right)
    left -= right
    return whole
