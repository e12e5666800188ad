"""One position through all layers, and one feature of one layer: the explorer's figures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from PIL import Image

from nstlab.plots.layers import AROUND_ZERO, feature_map, frame, is_signed, patch_row, scale
from nstlab.plots.transfers import show

if TYPE_CHECKING:
    from nstlab.dissect import FeatureCard, PositionCard

SHOWN = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")


def box_colours(count: int) -> list[str]:
    """Colours for nested boxes, from the smallest (yellow) to the largest (violet)."""
    return [to_hex(colormaps["plasma"](0.95 - 0.8 * i / max(count - 1, 1))) for i in range(count)]


def colour_stops(colours: str, count: int = 9) -> list[str]:
    """Evenly spaced colours of a colour map, as `scale` names it, from the lowest value to the highest."""
    return [to_hex(colormaps[colours](i / (count - 1))) for i in range(count)]


def position_card(card: PositionCard, layers: Sequence[str] = SHOWN) -> Figure:
    """A pixel's receptive field in some layers as nested boxes, and the features it excites most there."""
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2.1))
    axis = left.subplots()
    show(axis, card.image, f"row {card.row}, column {card.column}")
    colours = box_colours(len(layers))
    for name, colour in zip(layers, colours, strict=True):
        frame(axis, card.boxes[name], colour, 2)
    axis.plot(card.column, card.row, "+", color="#00e5ff", markersize=9, markeredgewidth=2)
    axes = right.subplots(1, len(layers), squeeze=False)[0]
    for bars, name, colour in zip(axes, layers, colours, strict=True):
        _excited(bars, card, name, colour)
    axes[0].set_ylabel("feature, the most excited on top", fontsize=9)
    right.supxlabel("activation (grey levels); in brackets: % of the feature's maximum in this picture", fontsize=9)
    figure.suptitle("What the position sees in each layer, and the features it excites most there", fontsize=11)
    return figure


def _excited(axis, card: PositionCard, name: str, colour: str) -> None:
    excited, box = card.excited[name], card.boxes[name]
    values = [value for _, value, _ in excited]
    axis.barh(range(len(excited)), values, color=colour)
    axis.set_yticks([])
    for i, (feature, _, fraction) in enumerate(excited):
        axis.text(0.04, i - 0.49, f"#{feature} ({fraction:.0%})", transform=axis.get_yaxis_transform(), fontsize=8)
    axis.set_ylim(max(len(excited), 1) - 0.4, -0.8)
    axis.set_title(f"{name}\nbox {box.height} × {box.width}", fontsize=9.5)
    axis.locator_params(axis="x", nbins=3)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right", "left"]].set_visible(False)
    for bar in axis.patches:
        bar.set_height(0.35)


def feature_card(card: FeatureCard) -> Figure:
    """A feature's map, the patches it likes best, the kernels it listens through, its nearest features."""
    figure = Figure(figsize=(13, 5.6), layout="constrained")
    nearest = ", ".join(f"#{other} ({angle:.0f}°)" for other, angle in card.nearest[:4])
    title = f"{card.layer.name}, feature {card.feature}. Nearest features by angle: {nearest}"
    figure.suptitle(title, fontsize=11)
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.7))
    axis = left.subplots()
    drawn = feature_map(axis, card.map, "its map", scale(card.map, signed=is_signed(card.layer, card.map)))
    bar = left.colorbar(drawn, ax=axis, location="bottom", shrink=0.8)
    bar.set_label("activation (grey levels)", fontsize=9)
    _patches_and_kernels(right, card)
    return figure


def feature_details(card: FeatureCard) -> Figure:
    """What excites a feature and what it listens to: `feature_card` without the map, for the explorer."""
    figure = Figure(figsize=(7.2, 3.9), layout="constrained")
    _patches_and_kernels(figure, card)
    return figure


def _patches_and_kernels(figure, card: FeatureCard) -> None:
    upper, lower = figure.subfigures(2, 1)
    upper.suptitle("The pixels that excite it most; above each, the activation (grey levels)", fontsize=10)
    patch_row(upper.subplots(1, 6), card.patches)
    _kernels(lower, card)


def _kernels(figure, card: FeatureCard) -> None:
    count = min(len(card.kernels), 6)
    if not count:
        figure.suptitle("A pool has no weights: it takes the largest of 2 × 2 positions", fontsize=10)
        return
    first = card.layer.name in ("conv1_1", "relu1_1")
    figure.suptitle(
        "Its kernel: how it weighs each colour's 3 × 3 neighbourhood"
        if first
        else "The 3 × 3 kernels of the six input features that it listens to most in this picture",
        fontsize=10,
    )
    axes = figure.subplots(1, count, squeeze=False)[0]
    reach = float(card.kernels.abs().max()) or 1.0
    norm = Normalize(-reach, reach)
    names = ("red", "green", "blue") if first else [f"from #{i}" for i in card.inputs]
    for axis, name, kernel in zip(axes, names, card.kernels, strict=False):
        drawn = feature_map(axis, kernel, name, (AROUND_ZERO, norm))
    bar = figure.colorbar(drawn, ax=axes, location="right", shrink=0.8)
    bar.ax.tick_params(labelsize=8)


def png(figure: Figure, dpi: int = 80, texts: Mapping[str, str] | None = None) -> bytes:
    """A figure as the bytes of a PNG, for a widget, with `texts` inside, by keyword; closes the figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata=texts)
    plt.close(figure)
    return buffer.getvalue()


def overlay_png(
    image: torch.Tensor,
    values: torch.Tensor | None = None,
    norm: tuple[str, Normalize] | None = None,
    side: int = 0,
) -> bytes:
    """A picture (1, 3, H, W) in [0, 1] as PNG bytes, with a feature's map (H_l, W_l) laid over its grey version.

    norm: colour map and range (None: the map's own, see `scale`); side: the longer side in pixels (0: unchanged).
    """
    pixels = np.asarray(image[0].detach().cpu().clamp(0, 1).permute(1, 2, 0))
    if values is not None:
        colours, limits = norm or scale(values)
        drawn = colormaps[colours](limits(values.cpu().numpy()))[:, :, :3]
        size = (pixels.shape[1], pixels.shape[0])
        drawn = np.asarray(Image.fromarray((255 * drawn).astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
        pixels = 0.3 * pixels.mean(2, keepdims=True) + 0.7 * drawn / 255
    picture = Image.fromarray((255 * pixels).round().astype(np.uint8))
    if side:
        factor = side / max(picture.size)
        picture = picture.resize([max(1, round(s * factor)) for s in picture.size], Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
