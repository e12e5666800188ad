"""What a layer does to a picture: the network to scale, layer cards, contact sheets, receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize, SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from nstlab.plots.transfers import LAYER_COLOURS, blank_axes, show
from nstlab.terminal import number

if TYPE_CHECKING:
    from nstlab.dissect import Comparison, LayerCard, Patch
    from nstlab.network import Box, Layer

FROM_ZERO, AROUND_ZERO = "inferno", "RdBu_r"
"""The colour maps for values that are never negative (a ReLU's output) and for signed ones (a convolution's)."""

BOX_COLOUR = "#00e5ff"
KIND_COLOURS = {"conv": "#2c6fad", "relu": "#c1440e", "pool": "#5c5c5c"}


def scale(values: torch.Tensor, signed: bool | None = None) -> tuple[str, Normalize]:
    """Colour map and range of an activation: sequential from 0, or diverging around 0 if it is signed.

    The highest half per cent of the values get the last colour, so that one peak does not darken all the rest.
    """
    values = np.asarray(values.cpu())
    signed = bool(values.min() < 0) if signed is None else signed
    reach = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    return (AROUND_ZERO, Normalize(-reach, reach)) if signed else (FROM_ZERO, Normalize(0, reach))


def feature_map(axis: Axes, values: torch.Tensor, caption: str = "", norm: tuple[str, Normalize] | None = None):
    """One feature's activation (H_l, W_l) as an image; returns it, for a colour bar."""
    colours, norm = norm or scale(values)
    drawn = axis.imshow(values.cpu().numpy(), cmap=colours, norm=norm, interpolation="nearest")
    axis.set_title(caption, fontsize=8.5, pad=3)
    axis.set(xticks=[], yticks=[])
    return drawn


def network(layers: Sequence[Layer], height: int, width: int) -> Figure:
    """The sequence of functions as boxes to scale, for a picture of height x width pixels.

    A box's face is the activation's height x width; its depth is the number of features. The picture, each convolution
    and each pooling has a box.
    """
    shapes = [("picture", "picture", 3, height, width)]
    shapes += [
        (f"F{la.index} {la.name}", la.kind, la.features, *la.size(height, width)) for la in layers if la.kind != "relu"
    ]
    figure, axis = plt.subplots(figsize=(13, 3.6), layout="constrained")
    pixel, feature = 1.0 / max(height, width), 0.26 / 512  # height and width have one scale, depth has another
    x = 0.0
    for name, kind, features, rows, columns in shapes:
        depth, tall = max(features * feature, 0.012), rows * pixel
        shear = 0.3 * columns * pixel
        _box(axis, x, depth, tall, shear, KIND_COLOURS.get(kind, "#4c9f70"))
        axis.text(x + depth / 2, -tall / 2 - 0.03, name, rotation=90, ha="center", va="top", fontsize=8)
        if kind in ("pool", "picture"):
            label = f"{features} ×\n{rows} × {columns}"
            above = tall / 2 + 0.5 * shear + 0.04
            axis.text(x, above, label, fontsize=8, va="bottom")
        x += depth + shear + 0.035
    axis.set(xlim=(-0.06, x + 0.1), ylim=(-0.9, 0.95), aspect="equal")
    axis.axis("off")
    axis.set_title(
        "Large and thin becomes small and thick: height and width to one scale, thickness = number of features\n"
        "(numbers: features × height × width; each blue conv is followed by a relu, the next F, of the same size)",
        fontsize=10.5,
    )
    return figure


def _box(axis: Axes, x: float, depth: float, rows: float, shear: float, colour: str) -> None:
    """A box with its left edge at x: `depth` wide, `rows` high, its width drawn obliquely."""
    y = -rows / 2
    lean = 0.5 * shear
    front = [(x, y), (x + depth, y), (x + depth, y + rows), (x, y + rows)]
    top = [(x, y + rows), (x + depth, y + rows), (x + depth + shear, y + rows + lean), (x + shear, y + rows + lean)]
    side = [(x + depth, y), (x + depth + shear, y + lean), (x + depth + shear, y + rows + lean), (x + depth, y + rows)]
    for corners, alpha in ((side, 0.35), (top, 0.6), (front, 0.95)):
        axis.add_patch(Polygon(corners, closed=True, facecolor=colour, alpha=alpha, edgecolor="white", linewidth=0.6))


def layer_card(card: LayerCard) -> Figure:
    """A layer's page: its maps, what excites it, its values, its features, its Gram matrix and spectrum."""
    figure = plt.figure(figsize=(13, 10.4), layout="constrained")
    figure.suptitle(_headline(card), fontsize=12, x=0.01, ha="left")
    upper, lower = figure.subfigures(2, 1, height_ratios=(1.55, 1))
    left, right = upper.subfigures(1, 2, width_ratios=(1.6, 1))
    _maps(left, card)
    _patches(right, card)
    axes = lower.subplots(1, 4, width_ratios=(1.15, 1.1, 1.15, 1.05))
    _values(axes[0], card)
    _features(axes[1], card)
    _gram(lower, axes[2], card)
    _spectrum(axes[3], card)
    figure.set_label(card.layer.name)
    return figure


def _headline(card: LayerCard) -> str:
    layer, (rows, columns), field = card.layer, card.size, card.layer.receptive_field
    parts = [
        f"$\\bf{{{layer.name.replace('_', chr(92) + '_')}}}$ = F{layer.index}",
        f"{layer.features} features × {rows} × {columns} positions, {card.megabytes:.1f} MB",
        f"each position sees {field} × {field} pixels, one every {layer.stride}",
        f"zeros: {card.zeros:.0%}",
        f"silent features: {card.dead}",
    ]
    return "   ·   ".join(parts)


def _maps(figure, card: LayerCard) -> None:
    figure.suptitle(
        f"The {len(card.features)} features that vary most inside the picture, on one colour scale (grey levels)",
        fontsize=10,
    )
    columns = 4
    axes = figure.subplots(-(-len(card.features) // columns), columns, squeeze=False)
    norm = scale(card.maps, signed=card.layer.kind == "conv")
    for axis in axes.flat:
        axis.axis("off")
    for axis, feature, values in zip(axes.flat, card.features, card.maps, strict=False):
        axis.axis("on")
        drawn = feature_map(axis, values, f"#{feature}", norm)
    figure.colorbar(drawn, ax=axes, location="right", shrink=0.8, pad=0.01, extend="max").ax.tick_params(labelsize=8)


def _patches(figure, card: LayerCard) -> None:
    figure.suptitle("What excites three of them most: the pixels that they see", fontsize=10)
    axes = figure.subplots(max(len(card.patches), 1), 4, squeeze=False)
    for row, (feature, patches) in zip(axes, card.patches.items(), strict=False):
        patch_row(row, patches)
        row[0].text(-0.12, 0.5, f"#{feature}", rotation=90, ha="right", va="center", transform=row[0].transAxes)


def patch_row(axes: Sequence[Axes], patches: Sequence[Patch]) -> None:
    """Patches, the strongest first, each under its activation in grey levels; spare axes stay empty."""
    for axis in axes:
        axis.axis("off")
    for axis, patch in zip(axes, patches, strict=False):
        axis.axis("on")
        axis.imshow(np.asarray(patch.pixels[0].cpu().clamp(0, 1).permute(1, 2, 0)), interpolation="nearest")
        axis.set(xticks=[], yticks=[])
        axis.set_title(f"{patch.value:,.0f}", fontsize=8.5, pad=3)


def _values(axis: Axes, card: LayerCard) -> None:
    h = card.histogram
    names = {"conv": ("input", "output"), "relu": ("before ReLU", "after ReLU"), "pool": ("input", "output")}
    before, after = names[card.layer.kind]
    axis.stairs(h.before, h.edges, color="#8a8a8a", label=before, fill=True, alpha=0.45)
    axis.stairs(h.after, h.edges, color=KIND_COLOURS[card.layer.kind], label=after, linewidth=1.6)
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set(title="How often each value occurs", xlabel="activation (grey levels)", ylabel="fraction of all values")
    axis.set_yscale("log")
    axis.locator_params(axis="x", nbins=4)
    low, high = axis.get_ylim()
    axis.set_ylim(low, 10 * high)  # room for the legend above the values
    axis.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
    _small(axis)


def _features(axis: Axes, card: LayerCard) -> None:
    table = card.statistics
    if card.layer.kind == "conv":  # it has no zeros to speak of
        axis.scatter(table["mean"], table["maximum"], color=KIND_COLOURS["conv"], s=9)
    else:
        drawn = axis.scatter(table["mean"], table["maximum"], c=table["zeros"], cmap="viridis", vmin=0, vmax=1, s=9)
        bar = axis.figure.colorbar(drawn, ax=axis, pad=0.02)
        bar.set_label("fraction of zeros", fontsize=8)
        bar.ax.tick_params(labelsize=8)
    axis.locator_params(nbins=4)
    axis.set(title="One point per feature", xlabel="mean (grey levels)", ylabel="maximum (grey levels)")
    _small(axis)


def _gram(figure, axis: Axes, card: LayerCard) -> None:
    G = card.gram.numpy()
    reach = max(float(np.abs(G).max()), 1e-12)
    if card.layer.kind == "conv":
        colours, norm = AROUND_ZERO, SymLogNorm(reach / 1e3, vmin=-reach, vmax=reach)
    else:
        colours, norm = FROM_ZERO, LogNorm(reach / 1e4, reach)
    drawn = axis.imshow(np.where(G == 0, reach / 1e5, G) if card.layer.kind != "conv" else G, cmap=colours, norm=norm)
    axis.set(title=f"Gram of the {len(G)} strongest features", xlabel="feature, the strongest first", ylabel="feature")
    bar = figure.colorbar(drawn, ax=axis, pad=0.02, shrink=0.9)
    if card.layer.kind == "conv":
        power = np.floor(np.log10(reach))
        bar.set_ticks([-(10**power), -(10 ** (power - 1)), 0, 10 ** (power - 1), 10**power])
    bar.set_label("G (grey levels²)", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    _small(axis)


def _spectrum(axis: Axes, card: LayerCard) -> None:
    s = card.spectrum
    p = s.eigenvalues / max(s.eigenvalues.sum(), 1e-300)
    order = np.arange(1, len(p) + 1)
    axis.plot(order[p > 1e-9], p[p > 1e-9], color="#6a4c93", linewidth=1.6)
    axis.axvline(max(s.entropy_rank, 1), color="#c1440e", linestyle="--", linewidth=1)
    axis.set(xscale="log", yscale="log", xlabel="eigenvalue, by size", ylabel="fraction of their sum")
    axis.set_title(f"Effective rank (dashed): {number(s.entropy_rank)}\n90 % in {s.ninety} of {len(p)} directions")
    _small(axis)


def _small(axis: Axes) -> None:
    axis.title.set_fontsize(10)
    axis.xaxis.label.set_fontsize(9)
    axis.yaxis.label.set_fontsize(9)
    axis.tick_params(labelsize=8)


def contact_sheet(cards: Sequence[LayerCard], title: str = "") -> Figure:
    """All layers at a glance: the feature of each that varies most, on its own colour scale."""
    columns = 8
    rows = -(-(len(cards) + 1) // columns)
    aspect = cards[0].image.shape[2] / cards[0].image.shape[3]
    figure, axes = blank_axes(rows, columns, (13, rows * (1.45 * aspect + 0.42) + 0.6))
    show(axes.flat[0], cards[0].image, "the picture")
    for axis, card in zip(axes.flat[1:], cards, strict=False):
        axis.axis("on")
        signed = card.layer.kind == "conv"
        caption = f"{card.layer.name} #{card.features[0]}\n{card.size[0]} × {card.size[1]}, zeros {card.zeros:.0%}"
        feature_map(axis, card.maps[0], caption, scale(card.maps[0], signed))
        axis.spines[:].set(color=KIND_COLOURS[card.layer.kind], linewidth=1.5)
    figure.suptitle(
        title or "From pixels to ever coarser, ever sparser maps: each layer's most varied feature (frame: its kind)"
    )
    return figure


def layer_profile(cards: Sequence[LayerCard]) -> Figure:
    """Three quantities by layer: fraction of zeros, silent features, effective rank of the Gram."""
    names = [card.layer.name for card in cards]
    x = np.arange(len(cards))
    colours = [KIND_COLOURS[card.layer.kind] for card in cards]
    figure, axes = plt.subplots(3, 1, figsize=(12, 7.4), sharex=True, layout="constrained")
    axes[0].bar(x, [100 * card.zeros for card in cards], color=colours)
    axes[0].set(title="Zeros (blue conv, red relu, grey pool)", ylabel="zeros (%)", ylim=(0, 100))
    axes[1].bar(x, [card.dead for card in cards], color=colours)
    axes[1].set(title="Features that are nowhere above 0 in this picture", ylabel="silent features")
    axes[2].bar(x, [card.spectrum.entropy_rank for card in cards], color=colours)
    axes[2].step(x, [card.layer.features for card in cards], where="mid", color="black", linewidth=1, label="features")
    axes[2].set(
        title="How many directions the features really use: effective rank of the Gram, and number of features",
        ylabel="effective rank",
        yscale="log",
    )
    axes[2].legend(frameon=False, fontsize=9)
    axes[2].set_xticks(x, names, rotation=90, fontsize=8)
    for axis in axes:
        axis.title.set_fontsize(10.5)
        axis.margins(x=0.01)
        axis.grid(axis="y", alpha=0.25)
    return figure


def comparison(record: Comparison, names: tuple[str, str]) -> Figure:
    """One layer, two pictures: the features that tell them apart, with one colour scale per feature."""
    count = len(record.features)
    figure, axes = plt.subplots(
        2, count + 1, figsize=(13, 4.9), layout="constrained", width_ratios=[1.15] + [1] * count
    )
    for row, (image, name) in enumerate(zip(record.images, names, strict=True)):
        show(axes[row, 0], image, name)
        for axis, feature in zip(axes[row, 1:], record.features, strict=True):
            pair = record.maps[feature]
            norm = scale(torch.cat([values.flatten() for values in pair]), record.layer.kind == "conv")
            drawn = feature_map(axis, pair[row], f"#{feature}: mean {number(record.means[feature, row])}", norm)
            if row:
                bar = figure.colorbar(drawn, ax=axes[:, record.features.index(feature) + 1], location="bottom")
                bar.ax.tick_params(labelsize=7)
    room = figure.colorbar(drawn, ax=axes[:, 0], location="bottom")  # keeps the pictures level with their maps
    room.ax.tick_params(labelsize=7)
    room.ax.set_visible(False)
    figure.suptitle(
        f"{record.layer.name}: the features in which {names[0]} and {names[1]} differ most (grey levels)", fontsize=11
    )
    return figure


def receptive_fields(image: torch.Tensor, gradients: Mapping[str, torch.Tensor], boxes: Mapping[str, Box]) -> Figure:
    """The receptive field made visible: the size of a position's gradient over the picture, for each layer.

    gradients: (1, 3, H, W) by layer; boxes: the computed receptive fields, drawn as frames.
    """
    figure, axes = plt.subplots(
        1,
        len(gradients) + 1,
        figsize=(13, 13 / (len(gradients) + 1) * image.shape[2] / image.shape[3] + 1.1),
        layout="constrained",
    )
    show(axes[0], image, "the picture")
    for colour, box in zip(LAYER_COLOURS * 6, boxes.values(), strict=False):
        frame(axes[0], box, colour)
    for axis, colour, (name, gradient) in zip(axes[1:], LAYER_COLOURS * 6, gradients.items(), strict=False):
        size = gradient[0].abs().sum(0)
        drawn = (size / size.max().clamp_min(1e-30)).clamp_min(1e-5).cpu().numpy()
        shown = axis.imshow(drawn, cmap=FROM_ZERO, norm=LogNorm(1e-5, 1), interpolation="nearest")
        box = boxes[name]
        frame(axis, box, colour)
        axis.set_title(f"{name}: {box.height} × {box.width} pixels", fontsize=9.5)
        axis.set(xticks=[], yticks=[])
    bar = figure.colorbar(shown, ax=axes, location="bottom", shrink=0.4, aspect=40)
    bar.set_label("how strongly the position responds to a pixel: |∂a/∂x|, relative to the largest", fontsize=9)
    return figure


def frame(axis: Axes, box: Box, colour: str = BOX_COLOUR, width: float = 1.8) -> None:
    """A box of pixels as a frame on a picture."""
    corner = (box.left - 0.5, box.top - 0.5)
    axis.add_patch(Rectangle(corner, box.width, box.height, fill=False, edgecolor=colour, linewidth=width))
