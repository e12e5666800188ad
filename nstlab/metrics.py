"""Distances between pictures and between vectors, without a network.

Each states its range, which direction is better, and what it is blind to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import interpolate


def _grey_levels(image: torch.Tensor) -> torch.Tensor:
    """(1, 3, H, W) in [0, 1] units, clamped, as grey levels in float64."""
    return image.detach().cpu().clamp(0, 1).double() * 255


def rmse(image: torch.Tensor, other: torch.Tensor) -> float:
    """Root mean square difference of two pictures in [0, 1] units, clamped; in grey levels, 0 to 255.

    Symmetric; 0 for equal pictures. Blind to structure: two equally good paintings may be far apart. Noise of one
    grey level in the initial value already makes it about 7.
    """
    return float((_grey_levels(image) - _grey_levels(other)).square().mean().sqrt())


def psnr(image: torch.Tensor, target: torch.Tensor) -> float:
    """10·log₁₀(1 / mean squared error) of two pictures in [0, 1] units, clamped; in dB, ∞ for equal pictures.

    About 8 for white noise against a photograph; above 30 the eye sees little difference.

    >>> round(psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)), 3)
    20.0
    """
    from skimage.metrics import peak_signal_noise_ratio  # takes a second, which no run without an evaluation needs

    with np.errstate(divide="ignore"):
        return float(
            peak_signal_noise_ratio(_grey_levels(target).numpy(), _grey_levels(image).numpy(), data_range=255.0)
        )


def similarity(image: torch.Tensor, target: torch.Tensor) -> float:
    """SSIM of two pictures (1, 3, H, W) in [0, 1] units, clamped; 1 if they are equal (Wang et al. 2004, σ = 1.5)."""
    from skimage.metrics import structural_similarity

    a, b = (_grey_levels(t)[0].permute(1, 2, 0).numpy() / 255 for t in (image, target))
    return float(
        structural_similarity(
            a, b, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


def colour_distance(image: torch.Tensor, other: torch.Tensor) -> float:
    """Mean over R, G, B of the 1-Wasserstein distance between two pictures' histograms; in grey levels, 0 to 255.

    This is the mean distance of the sorted pixels. Both pictures are (1, 3, H, W) in [0, 1], clamped; sizes may
    differ. Symmetric; 0 for equal histograms. Blind to positions and to which red goes with which green.

    >>> colour_distance(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 2, 2))
    255.0
    """
    q = torch.linspace(0, 1, 513, dtype=torch.float64)[:-1] + 0.5 / 512
    a, b = (torch.quantile(_grey_levels(t)[0].flatten(1), q, dim=1) for t in (image, other))
    return float((a - b).abs().mean())


def distances(pictures: Sequence[torch.Tensor]) -> np.ndarray:
    """`rmse` of each pair of pictures: (n, n), in grey levels.

    Two sizes of the same shape are compared at the smaller one. Different proportions cannot be compared pixel by
    pixel and give NaN.

    >>> distances([torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1)])[0, 1].round(1)
    np.float64(25.5)
    """
    between = np.zeros((len(pictures), len(pictures)))
    for shape in {picture.shape[2:] for picture in pictures}:
        at = [_resized_to(picture, shape) for picture in pictures]
        for i, a in enumerate(at):
            for j, b in enumerate(at[:i]):
                if min(pictures[i].shape[2:], pictures[j].shape[2:]) == shape:
                    alike = a is not None and b is not None
                    between[i, j] = between[j, i] = rmse(a, b) if alike else np.nan
    return between


def _resized_to(picture: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor | None:
    """A picture at another size; None if its proportions differ by more than rounding."""
    height, width = picture.shape[2:]
    if abs(height * shape[1] - width * shape[0]) > max(height, width) + max(shape):
        return None
    return picture if (height, width) == tuple(shape) else interpolate(picture, tuple(shape), mode="area")


def angles(a: torch.Tensor, b: torch.Tensor | None = None) -> torch.Tensor:
    """θ, in degrees, between the rows of a (N, P) and of b (K, P; None: a): cos θ_ij = ⟨a_i, b_j⟩ / ‖a_i‖‖b_j‖.

    (N, K), 0 to 180, or to 90 after a ReLU. A row of zeros has no direction: it is at 90 to all others. For
    channels' activations at all positions this is Gedeon & Harris's distinctiveness (1991, section 3), unscaled.

    >>> angles(torch.tensor([[1.0, 0.0], [2.0, 2.0]])).round()
    tensor([[ 0., 45.],
            [45.,  0.]])
    """
    rows, columns = (t / t.norm(dim=1, keepdim=True).clamp_min(1e-30) for t in (a, a if b is None else b))
    cosine = (rows @ columns.T).clamp(-1, 1)
    if b is None:
        cosine.fill_diagonal_(1.0)  # acos magnifies rounding near 1
    return torch.rad2deg(torch.acos(cosine))
