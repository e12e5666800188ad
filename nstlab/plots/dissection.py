"""Reconstructions next to their picture, how close they came, and which loss term pulls on the picture."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure

from nstlab.plots.transfers import CONTENT_COLOUR, LAYER_COLOURS, blank_axes, legend_beside, show

if TYPE_CHECKING:
    from nstlab.dissect import Reconstruction


def reconstructions(found: Mapping[str, Reconstruction], title: str = "", columns: int = 6) -> Figure:
    """The picture, then what each layer (or set of layers) recovers, with PSNR and SSIM."""
    target = next(iter(found.values())).target
    count = len(found) + 1
    columns = min(columns, count)
    rows = -(-count // columns)
    aspect = target.shape[2] / target.shape[3]
    figure, axes = blank_axes(rows, columns, (13, rows * (13 / columns * aspect + 0.5) + 0.4))
    show(axes.flat[0], target, "the picture\n")
    for axis, (name, record) in zip(axes.flat[1:], found.items(), strict=False):
        show(axis, record.image, f"{name}\n{record.psnr:.1f} dB, SSIM {round(record.ssim, 2) + 0.0:.2f}")
    figure.suptitle(title, fontsize=11)
    return figure


def reconstruction_quality(found: Mapping[str, Reconstruction]) -> Figure:
    """PSNR and SSIM by layer, and how far each loss fell over the iterations."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 3.9), layout="constrained")
    names = list(found)
    colours = _colours(len(names))
    left.bar(names, [record.psnr for record in found.values()], color=colours)
    left.set(title="How alike the pixels are", ylabel="PSNR to the picture (dB)")
    middle.bar(names, [record.ssim for record in found.values()], color=colours)
    middle.set(title="How alike the structure is", ylabel="SSIM to the picture", ylim=(0, 1))
    for axis in (left, middle):
        axis.tick_params(axis="x", rotation=90, labelsize=8)
    for colour, (name, record) in zip(colours, found.items(), strict=True):
        right.plot(record.losses / record.losses[0], color=colour, label=name, linewidth=1.4)
    right.set(title="How much of the loss is left", xlabel="iteration", ylabel="loss / loss of the noise", yscale="log")
    right.grid(alpha=0.25)
    legend_beside(right)
    return figure


def _colours(count: int) -> list[tuple[float, ...]]:
    return [plt.get_cmap("viridis")(0.92 * i / max(count - 1, 1)) for i in range(count)]


def gradient_shares(table: pd.DataFrame, title: str = "") -> Figure:
    """Who pulls on the picture: each term's share of the gradient over the iterations, and its projection on the sum.

    table: as from `dissect.gradient_shares_along`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.3 if title else 4), layout="constrained")
    figure.suptitle(title, fontsize=11)
    terms = list(dict.fromkeys(table["term"]))
    colours = [CONTENT_COLOUR if term == "content" else None for term in terms]
    remaining = itertools.cycle(LAYER_COLOURS)
    colours = [colour or next(remaining) for colour in colours]
    share = table.pivot(index="iteration", columns="term", values="share")[terms]
    projection = table.pivot(index="iteration", columns="term", values="projection")[terms]
    left.stackplot(share.index, share.to_numpy().T * 100, labels=terms, colors=colours)
    left.set(title="How strongly each term pulls", ylabel="share of Σ‖gradient‖ (%)", ylim=(0, 100))
    for term, colour in zip(terms, colours, strict=True):
        right.plot(projection.index, projection[term], color=colour, label=term, marker="o", markersize=3)
    right.axhline(0, color="black", linewidth=0.7)
    right.set(
        title="What each term adds to the common direction (below 0: against it)", ylabel="projection, ⟨g_t, g⟩ / ‖g‖²"
    )
    for axis in (left, right):
        axis.set(xlabel="iteration (symmetric log scale)")
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xlim(share.index.min(), share.index.max())
        last = share.index[-1]  # on this scale, the labels of iterations that are nearly as late would overlap
        axis.set_xticks(share.index, [str(i) if i == last or i < 0.7 * last else "" for i in share.index])
        axis.minorticks_off()
        axis.title.set_fontsize(10.5)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
    return figure


def favourites(images: Mapping[str, torch.Tensor], names: Sequence[str], features: Sequence[Sequence[int]]) -> Figure:
    """What some features like best, one column per layer: images["relu3_1 #7"] under that name."""
    rows = max(len(some) for some in features)
    figure, axes = blank_axes(rows, len(names), (2.3 * len(names), 2.55 * rows + 0.4))
    for column, name, some in zip(axes.T, names, features, strict=True):
        for axis, feature in zip(column, some, strict=False):
            show(axis, images[f"{name} #{feature}"], f"{name} #{feature}")
    figure.suptitle(
        "The picture that each feature likes best: the deeper its layer, the larger and richer the pattern", fontsize=11
    )
    return figure
