"""Quality against size, merged features side by side, and metrics that disagree: the figures of 08 and 09."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from nstlab.plots.transfers import LAYER_COLOURS, blank_axes, legend_beside, show
from nstlab.terminal import number

MARKS = "osD^vP*X<>"


def reduction_curves(table: pd.DataFrame, xs: Mapping[str, str]) -> Figure:
    """What each reduced network keeps against what it costs; one panel per cost.

    table: one row per run: `technique`, `kept` (1: as good as the whole network, 0: as untrained weights), and the
    columns of `xs`, column -> axis label, each a fraction of the whole network's.
    """
    figure, axes = plt.subplots(1, len(xs), figsize=(13, 4.9), sharey=True, layout="constrained")
    techniques = list(dict.fromkeys(table["technique"]))
    for axis, (column, label) in zip(np.atleast_1d(axes), xs.items(), strict=True):
        for k, technique in enumerate(techniques):
            rows = table[table["technique"] == technique].sort_values(column)
            colour = plt.get_cmap("tab10")(k % 10)
            line = "--" if technique.endswith("refit") else "-"
            axis.plot(rows[column], rows["kept"], line, marker=MARKS[k % len(MARKS)], color=colour, label=technique)
        axis.axhline(1, color="#111111", linewidth=1)
        axis.axhline(0, color="#999999", linewidth=1, linestyle=":")
        axis.set(xscale="log", xlabel=label, ylim=(min(float(table["kept"].min()), 0) - 0.12, 1.12))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:g} %"))
        axis.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("kept (whole network 100 %, untrained 0 %)")
    first.yaxis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:.0f} %"))
    how = {"xycoords": ("axes fraction", "data"), "fontsize": 8}
    first.annotate("as good as the whole network", (0.02, 1.01), **how)
    first.annotate("no better than untrained weights", (0.99, -0.01), **how, ha="right", va="top")
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    figure.suptitle("Higher is better, further left is smaller: which stays up longest towards the left?")
    return figure


def angle_histograms(angles: Mapping[str, torch.Tensor], threshold: float) -> Figure:
    """The angle of each channel to its nearest neighbour, layer by layer; angles: layer -> (N, N) in degrees."""
    figure, axes = plt.subplots(
        1, len(angles), figsize=(13, 2.9), sharey=True, sharex=True, layout="constrained", squeeze=False
    )
    for axis, (name, θ), colour in zip(axes.flat, angles.items(), itertools.cycle(LAYER_COLOURS), strict=False):
        nearest = θ.clone().fill_diagonal_(torch.inf).amin(1).numpy()
        percent = np.full(len(nearest), 100 / len(nearest))
        axis.hist(nearest, bins=np.arange(0, 91, 5), weights=percent, color=colour)
        axis.axvline(threshold, color="k", linestyle="--", linewidth=1)
        under = int((nearest < threshold).sum())
        axis.set_title(f"{name}\n{under} of {len(nearest)} under {threshold:g}°", fontsize=10)
        axis.set_xlabel("angle to the nearest (°)")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("channels (%)")
    return figure


def feature_pairs(pairs: Sequence[tuple[str, torch.Tensor, torch.Tensor]], title: str = "") -> Figure:
    """Pairs of maps that should show the same feature, one above the other, each on its own colour scale.

    pairs: (caption, map (H, W), map (H, W)).
    """
    figure, axes = blank_axes(2, len(pairs), (13, 13 / len(pairs) * 2 + 0.9))
    for column, (caption, first, second) in zip(axes.T, pairs, strict=True):
        for axis, values in zip(column, (first, second), strict=True):
            axis.imshow(np.asarray(values), cmap="magma", vmin=0, vmax=max(float(values.max()), 1e-9))
        column[0].set_title(caption, fontsize=9)
    figure.suptitle(title)
    return figure


def tolerance(table: pd.DataFrame, ylabel: str, title: str) -> Figure:
    """Bars in groups: one group per row of `table`, one bar per column."""
    figure, axis = plt.subplots(figsize=(11, 3.9), layout="constrained")
    places, width = np.arange(len(table)), 0.8 / len(table.columns)
    for k, column in enumerate(table.columns):
        at = places + (k - (len(table.columns) - 1) / 2) * width
        axis.bar(at, table[column], width, label=column, color=LAYER_COLOURS[k % len(LAYER_COLOURS)])
    axis.set_xticks(places, table.index)
    axis.set(ylabel=ylabel, title=title)
    axis.grid(axis="y", alpha=0.25)
    legend_beside(axis)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def metric_ranks(table: pd.DataFrame, worse: Mapping[str, int], title: str = "") -> Figure:
    """What metrics say about some pictures: each cell shows a value, coloured by its rank.

    table: one row per metric, one column per picture; worse: metric -> 1 if larger is worse, -1 if smaller is.
    """
    ranks = table.mul(pd.Series(worse), axis=0).rank(axis=1, method="min")
    figure, axis = plt.subplots(
        figsize=(1.75 * len(table.columns) + 3.2, 0.42 * len(table) + 1.4), layout="constrained"
    )
    image = axis.imshow(ranks, cmap="RdYlBu_r", vmin=1, vmax=len(table.columns), aspect="auto", alpha=0.75)
    for (row, column), value in np.ndenumerate(table.to_numpy(dtype=float)):
        axis.text(column, row, number(value), ha="center", va="center", fontsize=9)
    axis.set_xticks(range(len(table.columns)), table.columns, fontsize=9)
    axis.set_yticks(range(len(table)), table.index, fontsize=9)
    axis.xaxis.tick_top()
    figure.colorbar(image, ax=axis, label="rank in its row (1 is best)", ticks=range(1, len(table.columns) + 1))
    figure.suptitle(title)
    return figure


def cross_table(table: pd.DataFrame, title: str = "") -> Figure:
    """Optimised by (rows) × scored by (columns): the fraction of the first loss that is left, on a log colour scale."""
    figure, axis = plt.subplots(figsize=(1.45 * len(table.columns) + 3.6, 0.5 * len(table) + 2.0), layout="constrained")
    values = table.to_numpy(dtype=float)
    image = axis.imshow(np.log10(values.clip(1e-3, 10)), cmap="viridis_r", aspect="auto")
    middle = np.log10(values.clip(1e-3, 10)).mean()
    for (row, column), value in np.ndenumerate(values):
        dark = np.log10(max(value, 1e-3)) > middle
        axis.text(column, row, f"{value:.2g}", ha="center", va="center", color="w" if dark else "k", fontsize=10)
    axis.set_xticks(range(len(table.columns)), table.columns, rotation=20, ha="right", fontsize=9)
    axis.set_yticks(range(len(table)), table.index, fontsize=9)
    axis.set(xlabel="scored by", ylabel="optimised by")
    bar = figure.colorbar(image, ax=axis, label="score relative to the content picture's")
    ticks = [t for t in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0) if image.norm.vmin <= np.log10(t) <= image.norm.vmax]
    bar.set_ticks(np.log10(ticks), labels=[f"{t:g}" for t in ticks])
    figure.suptitle(title)
    return figure


def tiles(images: Sequence[torch.Tensor], captions: Sequence[str], columns: int = 7, title: str = "") -> Figure:
    """Small pictures, (1, 3, H, W) in [0, 1] each, under short captions, `columns` in a row."""
    rows = -(-len(images) // columns)
    side = 13 / columns
    figure, axes = blank_axes(rows, columns, (13, rows * (side + 0.42) + 0.4))
    for axis, image, caption in zip(axes.flat, images, captions, strict=False):
        show(axis, image, caption)
        axis.title.set_fontsize(8.5)
    figure.suptitle(title)
    return figure
