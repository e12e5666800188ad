"""The figures of what can be controlled: several styles, masks, colour, borders, smoothness."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nstlab.plots.courses import COLOURS
from nstlab.plots.transfers import blank_axes, legend_beside, plain, show

NOTHING = "#1d4e89"  # where a map is 0, which a log scale cannot show


def captioned_rows(rows: Mapping[str, Mapping[str, torch.Tensor]], height: float = 2.2) -> Figure:
    """Rows of pictures, (1, 3, H, W) in [0, 1], each picture under its caption, and each row under its title."""
    columns = max(len(row) for row in rows.values())
    figure = plt.figure(figsize=(columns * height + 0.3, len(rows) * (height + 0.65)), layout="constrained")
    parts = np.atleast_1d(figure.subfigures(len(rows), 1))
    for part, (title, row) in zip(parts, rows.items(), strict=True):
        part.suptitle(plain(title), x=0.01, ha="left", fontsize=11, weight="bold")
        axes = part.subplots(1, columns, squeeze=False)[0]
        for axis in axes:
            axis.axis("off")
        for axis, (caption, picture) in zip(axes, row.items(), strict=False):
            show(axis, picture)
            axis.set_title(plain(caption), fontsize=9)
    return figure


def masks(at_layers: Mapping[str, torch.Tensor], title: str = "") -> Figure:
    """A mask as each layer sees it: caption -> t (1, 1, H, W) in [0, 1], on one scale; grey is partly in."""
    figure, axes = blank_axes(1, len(at_layers), (2.1 * len(at_layers), 2.5 if title else 2.2))
    for axis, (caption, t) in zip(axes[0], at_layers.items(), strict=True):
        rows, columns = t.shape[2:]
        axis.imshow(t[0, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(f"{caption}\n{rows} × {columns} positions", fontsize=9)
        axis.plot([0, 1, 1, 0, 0], [0, 0, 1, 1, 0], color="#999999", linewidth=0.6, transform=axis.transAxes)
    if title:
        figure.suptitle(plain(title))
    return figure


def borders(at_layers: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """How far each position is from what it should be: caption -> (H, W), 0 or more, on one log scale; 0 is blue."""
    largest = max(float(values.max()) for values in at_layers.values())
    norm = LogNorm(max(largest, 1e-30) / 1e3, max(largest, 1e-30))
    figure, axes = blank_axes(1, len(at_layers), (2.3 * len(at_layers) + 0.9, 3.1))
    colours = plt.get_cmap("inferno").with_extremes(bad=NOTHING)
    for axis, (caption, values) in zip(axes[0], at_layers.items(), strict=True):
        shown = np.where(values > 0, np.maximum(values, norm.vmin), np.nan)
        drawn = axis.imshow(shown, cmap=colours, norm=norm, interpolation="nearest")
        axis.set_title(plain(caption), fontsize=9)
    figure.colorbar(drawn, ax=axes[0], shrink=0.8, label="fraction of the activation")
    if title:
        figure.suptitle(plain(title))
    return figure


def lines(
    table: pd.DataFrame, xlabel: str, ylabel: str, title: str = "", log: bool = False, ticks: Sequence[str] = ()
) -> Figure:
    """A line per column over the index, with a marker at each row; ticks: labels for the rows, evenly spaced."""
    figure, axis = plt.subplots(figsize=(9, 3.7), layout="constrained")
    places = np.arange(len(table)) if ticks else table.index.to_numpy()
    for (column, values), colour, marker in zip(table.items(), itertools.cycle(COLOURS), itertools.cycle("osD^vP*")):
        axis.plot(places, values, marker=marker, color=colour, label=str(column))
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if ticks:
        axis.set_xticks(places, ticks)
    if log:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
    else:
        axis.set_ylim(bottom=0)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    legend_beside(axis)
    return figure
