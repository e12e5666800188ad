"""Products of float32 matrices on a CPU, by the faster of torch's two libraries.

torch leaves them to MKL, which computes with vectors of 256 bits on processors that are not Intel's. oneDNN, which
comes with torch too, takes the 512 bits that are there: on one core of an EPYC with AVX-512 240 thousand million
operations a second against 105 [measured].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch

LARGE = 2**26  # multiplications: smaller products take so little time that they stay torch's


@cache
def has_wide_vectors() -> bool:
    """Whether torch computes with vectors of 512 bits on this processor."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def onednn() -> Callable[..., torch.Tensor] | None:
    """oneDNN's x @ w.T, which has no public name in torch; None if torch lacks it, or vectors are not wide."""
    return getattr(torch.ops.mkldnn, "_linear_pointwise", None) if has_wide_vectors() else None


def product(a: torch.Tensor, b: torch.Tensor, fewest: int = LARGE) -> torch.Tensor:
    """a @ b, (n, k) and (k, m) -> (n, m), not differentiable; fewest: multiplications that oneDNN is asked for.

    >>> product(torch.eye(2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[1., 2.],
            [3., 4.]])
    """
    is_ours = a.dtype == torch.float32 and a.device.type == "cpu" and len(a) * b.numel() >= fewest
    linear = onednn() if is_ours and a.is_contiguous() else None  # it would copy a transposed one
    return linear(a, b.T, None, "none", [], "") if linear else a @ b
