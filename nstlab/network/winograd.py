"""Winograd's F(4x4, 3x3): a 3x3 convolution with 36 multiplications for 16 outputs, instead of 144 (Lavin & Gray 2016).

Y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A for 6 x 6 pixels d and a kernel g. A row of a kernel, or of pixels, counts as a
polynomial's coefficients. G evaluates it at six numbers p; Aᵀ and Bᵀ are the transposes of evaluating and of
interpolating, as a convolution is the transpose of a multiplication. A rotated kernel at 1/p is p⁻² times the kernel at
p, so one G serves both directions. Each matrix acts on rows and on columns; on a flattened square that is its Kronecker
product with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from math import inf

import torch

from nstlab.network.arena import empty
from nstlab.network.onednn import LaidOut, can_lay_out, has_wide_vectors
from nstlab.network.relu import where_positive

NUMBERS = (0, 1, -1, 1 / 2, -2, inf)  # where kernels are evaluated: a third less error than 0, ±1, ±2 and ∞
RECIPROCALS = (inf, 1, -1, 2, -1 / 2, 0)
AT_ONCE = 256  # tiles: their products stay in the processor's shared cache
IN_CACHE = 32  # tiles: what is between pixels and tiles stays in the cache of a core
IN_PART = 64  # features, whose kernels stay in the cache while they are made, laid out and used
IN_A_ROW = 64  # at most, of the picture that they are to oneDNN


@cache
def _matrices(numbers: tuple[float, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Aᵀ (16, 36), Bᵀ (36, 36), G (36, 9)."""

    def evaluate(most: int) -> torch.Tensor:
        """A row for each number: its powers up to that of `most` coefficients; for ∞, the last coefficient."""
        rows = [[float(k == most - 1) if p == inf else p**k for k in range(most)] for p in numbers]
        return torch.tensor(rows, dtype=torch.float64)

    A_T, B_T, G = evaluate(4).T, torch.linalg.inv(evaluate(6)).T, evaluate(3)
    if numbers == RECIPROCALS:
        B_T *= torch.tensor([[p**2 if 0 < abs(p) < inf else 1.0] for p in numbers], dtype=torch.float64)
    return tuple(torch.kron(m, m).to(dtype).contiguous() for m in (A_T, B_T, G))


def winograd_kernels(weight: torch.Tensor) -> torch.Tensor:
    """G g Gᵀ for every kernel: (N, C, 3, 3) -> (36, N, C)."""
    N, C = weight.shape[:2]
    _, _, G = _matrices(NUMBERS, weight.dtype)
    return (G @ weight.reshape(N * C, 9).T).view(36, N, C)


class Products:
    """For each of the 36 numbers, what P tiles are there times what the kernels are.

    They are a product of matrices for each number; where vectors are wide, which torch's own products do not use, one
    convolution of 1 x 1 pixels in 36 groups for oneDNN, which reads kernels laid out beforehand. weight: returns the
    plain kernels, (N, C, 3, 3). others: those of which these are the transposed.
    """

    def __init__(self, weight: Callable[[], torch.Tensor], others: Products | None = None) -> None:
        self.weight, self.others = weight, others

    @cached_property
    def form(self) -> torch.Tensor | LaidOut:
        """Winograd's form of the kernels, (36, N, C), kept; or the same for oneDNN."""
        if self.others is not None and not lays_out_products():
            return self.others.form.transpose(1, 2)
        return _form(self.weight)

    def transposed(self) -> Products:
        """(P, 36, N) -> (P, 36, C), with the same kernels: the very same if oneDNN does not lay them out."""
        weight = self.weight
        return Products(lambda: weight().transpose(0, 1), self)

    def __call__(self, tiles: torch.Tensor, kept: bool = True) -> Iterator[tuple[slice, torch.Tensor]]:
        """(P, 36, C) -> some features after the other: which, and (P, 36, n). P: see `in_rows`.

        kept: whether the form of the kernels is kept; if not, it is made for this use, IN_PART features at a time. The
        products are the same.
        """
        P, _, C = tiles.shape
        for features, form in self._parts(kept):
            if isinstance(form, torch.Tensor):
                yield features, torch.bmm(tiles.transpose(0, 1), form.transpose(1, 2)).transpose(0, 1)
            else:
                picture = tiles.view(in_rows(P)[0], -1, 1, 36 * C).permute(0, 3, 1, 2)
                yield features, form(picture).permute(0, 2, 3, 1).view(P, 36, -1)

    def _parts(self, kept: bool) -> Iterator[tuple[slice, torch.Tensor | LaidOut]]:
        if kept:
            yield slice(None), self.form
            return
        weight = self.weight()
        for first in range(0, len(weight), IN_PART):
            features = slice(first, first + IN_PART)
            yield features, _form(partial(weight.__getitem__, features))


def lays_out_products() -> bool:
    """Whether oneDNN computes the products, from kernels that are laid out."""
    return has_wide_vectors() and can_lay_out()


def _form(weight: Callable[[], torch.Tensor]) -> torch.Tensor | LaidOut:
    if lays_out_products():
        return LaidOut(lambda: winograd_kernels(weight()).flatten(0, 1)[:, :, None, None], groups=36)
    return winograd_kernels(weight())


def in_rows(tiles: int) -> tuple[int, int]:
    """In how many rows of at most IN_A_ROW tiles lie side by side, and how many there are if all rows are full.

    >>> in_rows(200), in_rows(65)
    ((4, 200), (2, 66))
    """
    rows = -(-tiles // IN_A_ROW)
    return rows, rows * -(-tiles // rows)


def winograd(
    x: torch.Tensor,
    products: Products,
    bias: torch.Tensor,
    numbers: tuple[float, ...] = NUMBERS,
    passes: torch.Tensor | None = None,
    relu: bool = False,
    kept: bool = True,
) -> torch.Tensor:
    """The 3x3 convolution of (1, C, H, W): (1, N, H, W). Channels lie side by side in memory, here and there.

    numbers: those at which the kernels were evaluated; RECIPROCALS for the same kernels rotated. x counts as 0 where
    `passes`, of its shape, is not above 0. relu: of the result. kept: see `Products`.
    """
    C, H, W = x.shape[1:]
    N, h, w = len(bias), -(-H // 4), -(-W // 4)  # h x w tiles of 4 x 4 outputs
    A_T, B_T, _ = _matrices(numbers, x.dtype)
    pixels = empty((4 * h + 2, 4 * w + 2, C), x.dtype)
    for edge in (pixels[0], pixels[H + 1 :], pixels[:, 0], pixels[:, W + 1 :]):
        edge.zero_()
    inner = pixels[1 : H + 1, 1 : W + 1].permute(2, 0, 1)[None]
    inner.copy_(x) if passes is None else where_positive(x, passes, out=inner)
    y = empty((h, 4, w, 4, N), x.dtype)
    most = AT_ONCE if kept else 2 * AT_ONCE  # what is made for each use pays with more
    strips = -(-h // max(1, most // w))
    at_once = -(-h // strips)  # rows of tiles, in each strip but the last as many
    _, some = in_rows(at_once * w)
    tiles = empty((some, 36, C), x.dtype)
    tiles[at_once * w :] = 0
    few = max(1, IN_CACHE // w)  # rows of tiles
    for top in range(0, h, at_once):
        rows = y[top : top + at_once]
        parts = [range(first, min(first + few, len(rows))) for first in range(0, len(rows), few)]
        for part in parts:
            _evaluate(B_T, pixels[4 * (top + part.start) :], out=tiles[part.start * w : part.stop * w])
        for features, product in products(tiles, kept):
            for part in parts:
                place = rows[part.start : part.stop, ..., features]
                _put(A_T, product[part.start * w : part.stop * w], bias[features], out=place)
        if relu:
            rows.relu_()
    return y.view(4 * h, 4 * w, N)[:H, :W].contiguous().permute(2, 0, 1)[None].detach()


def _evaluate(B_T: torch.Tensor, pixels: torch.Tensor, out: torch.Tensor) -> None:
    """Bᵀ d B of the first P tiles' 6 x 6 pixels, four apart, of (4 h + 2, 4 w + 2, C); out: (P, 36, C)."""
    (P, _, C), w, (row, column, _) = out.shape, pixels.shape[1] // 4, pixels.stride()
    seen = pixels.as_strided((P // w, w, 6, 6, C), (4 * row, 4 * column, row, column, 1))
    squares = empty(seen.shape, out.dtype).copy_(seen)
    torch.bmm(B_T.expand(P, 36, 36), squares.view(P, 36, C), out=out)


def _put(A_T: torch.Tensor, product: torch.Tensor, bias: torch.Tensor, out: torch.Tensor) -> None:
    """Aᵀ product A, and the bias, of P tiles: (P, 36, n), (n,) -> out, (h, 4, w, 4, n)."""
    P, _, n = product.shape
    tiles = torch.bmm(A_T.expand(P, 16, 36), product, out=empty((P, 16, n), product.dtype))
    torch.add(tiles.view(len(out), -1, 4, 4, n).transpose(1, 2), bias, out=out)
