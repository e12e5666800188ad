"""What oneDNN, which comes with torch, does on a CPU better than torch asks of it: its private functions.

Products of matrices: torch leaves them to MKL, which computes with vectors of 256 bits on processors that are not
Intel's. oneDNN takes the 512 bits that are there: on one core of an EPYC with AVX-512 240 thousand million operations a
second against 105. Convolutions: torch has their weights laid out anew in each call, which takes longer than the
convolution where positions are few. [measured]
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache

import torch
from torch.nn.grad import conv2d_weight

from nstlab.network.arena import empty

AT_A_TIME = 2**20  # values of a product: they are still in the cache when they are put where they belong
LARGE = 2**26  # multiplications: smaller products take so little time that they stay torch's


@cache
def has_wide_vectors() -> bool:
    """Whether torch computes with vectors of 512 bits on this processor."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def onednn() -> Callable[..., torch.Tensor] | None:
    """oneDNN's x @ w.T, which has no public name in torch; None if torch lacks it, or vectors are not wide."""
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None) if has_wide_vectors() else None


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b, (n, k) and (k, m) -> (n, m), in memory of the arena if there is one; not differentiable.

    >>> product(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 2.],
            [3., 4.]])
    """
    if a.device.type != "cpu":
        return a @ b
    if a.dtype == torch.bfloat16 and not has_bfloat16():
        return product(at_least_float32(a), at_least_float32(b)).bfloat16()
    (n, k), m = a.shape, b.shape[1]
    linear = onednn() if a.dtype == torch.float32 and n * k * m >= LARGE else None
    if linear and not a.is_contiguous() and a.T.is_contiguous() and b.is_contiguous():
        # linear would copy a; the gradient of 1x1 kernels is the same sum
        of_outputs, inputs = (matrix.view(1, k, 1, -1).permute(0, 3, 1, 2) for matrix in (a.T, b))
        return conv2d_weight(inputs, (n, m, 1, 1), of_outputs).view(n, m)
    found = empty((n, m), a.dtype)
    if not (linear and a.is_contiguous()):
        return torch.mm(a, b, out=found)
    rows = max(m, AT_A_TIME // m)
    for top in range(0, n, rows):
        found[top : top + rows] = linear(a[top : top + rows], b.T, None, "none", [], "")
    return found


def symmetric_product(M: torch.Tensor, F: torch.Tensor) -> torch.Tensor:
    """M @ F for a symmetric M (n, n) and F (n, m), laid out in memory as F is; not differentiable."""
    return product(F.T, M).T if F.T.is_contiguous() else product(M, F)


def at_least_float32(a: torch.Tensor) -> torch.Tensor:
    """A matrix in bfloat16 as one in float32, laid out alike; another one as it is. Not differentiable."""
    if a.dtype != torch.bfloat16:
        return a
    if a.device.type != "cpu":
        return a.float()
    return empty(a.T.shape).copy_(a.T).T if a.T.is_contiguous() else empty(a.shape).copy_(a)


def can_lay_out(dtype: torch.dtype = torch.float32) -> bool:
    """Whether this torch can lay out weights of this type for oneDNN and compute with them, on this processor.

    Not on Arm's, where nobody has measured what oneDNN leaves to which library.
    """
    if platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available():
        return False
    needed = "_reorder_convolution_weight", "_convolution_pointwise"
    return all(getattr(torch.ops.mkldnn, name, None) for name in needed) and (dtype != torch.bfloat16 or has_bfloat16())


@cache
def has_bfloat16() -> bool:
    """Whether oneDNN computes with bfloat16 on this processor. Without it torch does, more than ten times as slowly."""
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and supported is not None and supported()


class LaidOut:
    """A convolution with weights (N, C / groups, k, k), k = 1 or 3, laid out once as oneDNN reads them.

    weight: returns them, whenever they are to be laid out: for the first input, and for one of another shape or with
    another number of threads. For these oneDNN may want another layout, and would take twenty times as long to get it
    in each call.
    """

    def __init__(self, weight: Callable[[], torch.Tensor], groups: int = 1) -> None:
        self.weight, self.groups, self._made_for = weight, groups, None

    def __call__(self, x: torch.Tensor, bias: torch.Tensor | None = None, relu: bool = False) -> torch.Tensor:
        """(n, C, H, W) -> (n, N, H, W), both channels-last; zeros around the picture."""
        made_for = x.shape, torch.get_num_threads()
        if made_for != self._made_for:
            weight = self.weight()
            edge = weight.shape[2] // 2
            self._geometry = ([edge, edge], [1, 1], [1, 1], self.groups)
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._geometry, list(x.shape))
            self._made_for = made_for
        then = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, bias, *self._geometry, then, [], "")
