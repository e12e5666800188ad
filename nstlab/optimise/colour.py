"""Whose colours the result has (Gatys et al. 2017, section 5): by the names of `Settings.colour`.

style       those of the style, as the loss has it
matched     the content's: the style pictures are given its mean colour and covariance beforehand
luminance   the content's: only luminance is painted, and the content's chroma is added when the picture is shown
recombined  the content's: painted as with `style`, and then the result's luminance is shown with the content's chroma
"""

from __future__ import annotations

from dataclasses import replace

import torch

from nstlab.images import Pictures
from nstlab.network import in_double

REC_601 = (0.299, 0.587, 0.114)  # the luminance of red, green and blue


def luminance(picture: torch.Tensor) -> torch.Tensor:
    """Y = 0.299 R + 0.587 G + 0.114 B (Rec. 601) of a picture (1, 3, H, W): (1, 1, H, W).

    >>> luminance(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)).item()
    0.29899999499320984
    """
    weights = torch.tensor(REC_601).to(picture).view(1, 3, 1, 1)
    return (weights * picture).sum(1, keepdim=True)


def matched(style: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """The style picture with the content's mean colour and covariance: x -> Σ_c^½ Σ_s^-½ (x - μ_s) + μ_c, unclamped.

    Roots are symmetric (Gatys et al. 2017, eq. 10 f.). Directions in which the style does not vary (a grey style has
    two) stay as they are: nothing can give them the content's variance.
    """
    (μ_s, Σ_s, x), (μ_c, Σ_c, _) = (_colours(picture) for picture in (style, content))
    mapped = _power(Σ_c, 0.5) @ _power(Σ_s, -0.5) @ (x - μ_s) + μ_c  # (3, M)
    return mapped.view(style.shape).to(style)


def _colours(picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean (3, 1), covariance (3, 3) and the pixels (3, M), in double precision."""
    x = in_double(picture).flatten(2).squeeze(0)
    μ = x.mean(1, keepdim=True)
    return μ, (x - μ) @ (x - μ).T / x.shape[1], x


def _power(Σ: torch.Tensor, power: float) -> torch.Tensor:
    """A symmetric matrix to a power, within the space that it spans."""
    λ, V = torch.linalg.eigh(Σ)
    spans = λ > 1e-9 * λ.max().clamp_min(1e-12)
    return V @ torch.diag(torch.where(spans, λ.clamp_min(1e-30) ** power, 0.0)) @ V.T


def in_luminance(style: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """The style picture in grey, its luminance brought to the content's mean and deviation; unclamped."""
    Y, wanted = luminance(style), luminance(content)
    deviation = Y.std(correction=0).clamp_min(1e-6)
    Y = (Y - Y.mean()) / deviation * wanted.std(correction=0) + wanted.mean()
    return Y.expand(style.shape).contiguous()


def recombined(result: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """The result's luminance with the content's chroma, (1, 3, H, W), unclamped.

    In YIQ or YCbCr, with the same chroma, RGB differs by the same amount in all three: the difference in luminance.
    """
    return content + (luminance(result) - luminance(content))


def to_paint_from(pictures: Pictures, colour: str) -> Pictures:
    """The pictures that the loss and the initial value see, for a way to treat colour."""
    if colour == "matched":
        return replace(pictures, styles=tuple(matched(style, pictures.content) for style in pictures.styles))
    if colour == "luminance":
        grey = luminance(pictures.content).expand(pictures.content.shape).contiguous()
        styles = tuple(in_luminance(style, pictures.content) for style in pictures.styles)
        init = pictures.init if pictures.init is None else luminance(pictures.init).expand(pictures.init.shape)
        return replace(pictures, content=grey, styles=styles, init=init)
    return pictures


def to_show(picture: torch.Tensor, content: torch.Tensor, colour: str) -> torch.Tensor:
    """A painted picture (1, 3, H, W) in [0, 1] units as it is shown and saved; content: in its own colours."""
    return recombined(picture, content.to(picture)) if colour in ("luminance", "recombined") else picture
