"""What autograd sees of the fast path: a convolution, alone or with its ReLU, and the gradient of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nstlab.network.convolution import Convolution
from nstlab.network.onednn import symmetric_product
from nstlab.network.relu import greater, where_positive


def is_computed_again(inputs: int, outputs: int) -> bool:
    """Whether a large activation that others read is computed once more for its gradient, instead of being kept."""
    return 8 * inputs <= outputs


def like_the_input(ctx, g: torch.Tensor) -> torch.Tensor:
    """A gradient that is contiguous if the input was, as a picture is: optimizers of others may ask for a `view`."""
    return g.contiguous() if ctx.is_contiguous else g


class InTwoParts(torch.autograd.Function):
    """float32 features (1, C, H, W) as the sum of two in bfloat16, (1, 2C, H, W): 16 bits of mantissa instead of 8.

    So a convolution in bfloat16 sees the pixels as they are.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        ctx.dtype = x.dtype
        rounded = x.bfloat16()
        return torch.cat([rounded, (x - rounded).bfloat16()], dim=1).contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> torch.Tensor:
        return g[:, : g.shape[1] // 2].to(ctx.dtype, memory_format=torch.contiguous_format)


class Convolve(torch.autograd.Function):
    """The convolution alone, for when its own activation is wanted."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, convolution: Convolution) -> torch.Tensor:
        ctx.convolution, ctx.is_contiguous = convolution, x.is_contiguous()
        return convolution.forward(x)

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple[torch.Tensor, None]:
        return like_the_input(ctx, ctx.convolution.backward(g)), None


class ConvolveRelu(torch.autograd.Function):
    """Convolution and ReLU in one: the convolution's own output is not kept, since backward needs only the ReLU's.

    If nobody else reads that (`read` is False), it keeps only where it is positive: one byte instead of four. If it is
    large, and made of far fewer numbers, as relu1_1 is of pixels, it is computed once more, strip by strip.
    by_products: None, or a list; a Gram matrix of the output may put its derivative by F Fᵀ there, as a symmetric
    matrix (N, N), instead of handing back a gradient as large as the output.
    """

    @staticmethod
    def forward(
        ctx, x: torch.Tensor, convolution: Convolution, read: bool, by_products: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        y = convolution.forward(x, relu=True)
        ctx.convolution, ctx.is_contiguous, ctx.by_products = convolution, x.is_contiguous(), by_products
        ctx.again = read and convolution.backward.goes_in_strips(x) and is_computed_again(x.shape[1], y.shape[1])
        ctx.save_for_backward(x if ctx.again else y if read else greater(y, 0))
        return y

    @staticmethod
    def backward(ctx, g: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (kept,) = ctx.saved_tensors
        convolution, matrices = ctx.convolution, list(ctx.by_products or ())
        if ctx.by_products:
            ctx.by_products.clear()

        def rows_of(rows: slice) -> torch.Tensor:
            y = convolution.forward.rows(kept, rows, relu=True) if ctx.again else kept[:, :, rows]
            return where_positive(with_products(g[:, :, rows], y, matrices), y)

        if convolution.backward.goes_in_strips(g):
            found = convolution.backward.in_strips(rows_of, g.shape[2:], g.dtype)
        else:
            found = convolution.backward(with_products(g, kept, matrices), kept)
        return like_the_input(ctx, found), None, None, None


def with_products(g: torch.Tensor, y: torch.Tensor, matrices: Sequence[torch.Tensor]) -> torch.Tensor:
    """g + M F for each M of the symmetric matrices (N, N); g and y: (1, N, H, W), F: y as a matrix (N, H·W)."""
    for M in matrices:
        F = y.flatten(2).squeeze(0)
        g = symmetric_product(M.to(F.dtype), F).unflatten(1, y.shape[2:])[None].add_(g)
    return g
