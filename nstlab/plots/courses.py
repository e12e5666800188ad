"""Several runs side by side: tables of pictures, curves over the iterations, quantities by layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from nstlab.plots.transfers import LAYER_COLOURS, TOTAL_COLOUR, legend_beside, show

COLOURS = (*LAYER_COLOURS, TOTAL_COLOUR)
DASHES = ("-", "--", ":", "-.")


def picture_table(
    rows: Mapping[str, Mapping[str, torch.Tensor | None]], title: str = "", height: float = 1.45, note: str = ""
) -> Figure:
    """Pictures in rows and columns, with labels on the left and at the top.

    rows: row label -> column label -> picture (1, 3, H, W) in [0, 1], or None for an empty cell; height: of one
    picture, in inches; note: a line at the bottom.
    """
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    shapes = [picture.shape for row in rows.values() for picture in row.values() if picture is not None]
    width = height * max(shape[3] / shape[2] for shape in shapes)
    size = (len(columns) * width + 1.2, len(rows) * height + 0.35 + 0.4 * bool(title) + 0.25 * bool(note))
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        for axis, column in zip(line, columns, strict=True):
            axis.set(xticks=[], yticks=[])
            there = row.get(column) is not None
            axis.spines[:].set(color="#cccccc", linewidth=0.6, visible=there)  # so that a white picture has an edge
            if there:
                show(axis, row[column])
                axis.set_axis_on()
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(column, fontsize=10)
    if title:
        figure.suptitle(title)
    if note:
        figure.supxlabel(note, fontsize=9)
    return figure


def film_strips(strips: Mapping[str, Mapping[int, torch.Tensor]], title: str = "", height: float = 1.25) -> Figure:
    """A film strip per row: run -> iteration -> its picture, (1, 3, H, W) in [0, 1]."""
    rows = {label: {f"{k}": frames[k] for k in sorted(frames)} for label, frames in strips.items()}
    return picture_table(rows, title, height, note="iteration →")


def over_iterations(
    panels: Mapping[str, Mapping[str, pd.Series]],
    ylabel: str = "loss (squared grey levels)",
    title: str = "",
    mark: float | None = None,
    log_x: bool = False,
) -> Figure:
    """One quantity over the iterations on a log scale: a line per run, a panel per group of runs.

    panels: panel title -> run label -> values, indexed by iteration (a log scale has no room for values that are not
    positive: they are left out); mark: a level to draw across. The panels have the same scales.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(max(6.5 * len(panels), 9), 4.1), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (caption, runs) in zip(axes[0], panels.items(), strict=True):
        styles = itertools.product(DASHES, COLOURS)
        for (label, values), (dash, colour) in zip(runs.items(), styles, strict=False):
            axis.plot(values.index, values.where(values > 0), dash, color=colour, label=label, linewidth=1.6)
        if mark is not None:
            axis.axhline(mark, color="#999999", linewidth=1, linestyle=(0, (2, 3)))
        axis.set(title=caption, xlabel="iteration", yscale="log")
        if log_x:
            axis.set_xscale("symlog", linthresh=1)
            axis.set_xlim(left=0)
        else:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
    names = [tuple(runs) for runs in panels.values()]
    for axis in axes[0] if len(set(names)) > 1 else axes[0, -1:]:  # one legend is enough for equal names
        legend_beside(axis)
    axes[0, 0].set_ylabel(ylabel)
    if title:
        figure.suptitle(title)
    return figure


def bars(
    table: pd.DataFrame,
    xlabel: str,
    title: str = "",
    missing: str = "not reached",
    log: bool = False,
    shape: str = "{:.0f}",
) -> Figure:
    """Horizontal bars with their numbers: a group per row of the table, a colour per column.

    missing: the text where the table has no number; shape: the format of a number.
    """
    groups, columns = len(table), list(table.columns)
    figure, axis = plt.subplots(figsize=(8.6, 0.3 * groups * max(len(columns), 1.4) + 1.3), layout="constrained")
    thick = 0.8 / len(columns)
    for n, (column, colour) in enumerate(zip(columns, itertools.cycle(COLOURS), strict=False)):
        places = np.arange(groups)[::-1] + 0.4 - thick * (n + 0.5)
        axis.barh(places, table[column].fillna(0), height=thick * 0.9, color=colour, label=str(column))
        for place, value in zip(places, table[column], strict=True):
            known = np.isfinite(value)
            text = shape.format(value) if known else missing
            at = (value if known else 0 if not log else axis.get_xlim()[0], place)
            axis.annotate(text, at, (4, 0), textcoords="offset points", va="center", fontsize=8, color="#444444")
    axis.set(xlabel=xlabel, title=title)
    axis.set_yticks(np.arange(groups)[::-1], [str(name) for name in table.index])
    axis.margins(x=0.13)
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.spines[["top", "right"]].set_visible(False)
    if len(columns) > 1:
        legend_beside(axis)
    return figure


def by_layer(table: pd.DataFrame, ylabel: str, title: str = "", thick: Iterable[str] = ()) -> Figure:
    """A quantity by layer on a log scale: rows are layers, and each column is a line with its name at the end.

    thick: columns to draw thicker.
    """
    figure, axis = plt.subplots(figsize=(10, 4.9), layout="constrained")
    places = np.arange(len(table))
    ends = _apart([float(np.log10(table[column].iloc[-1])) for column in table.columns])
    for column, colour, end in zip(table.columns, itertools.cycle(COLOURS), ends, strict=False):
        width = 3 if column in set(thick) else 1.6
        axis.plot(places, table[column], "o-", color=colour, linewidth=width, markersize=4)
        axis.annotate(
            column, (places[-1], table[column].iloc[-1]), (places[-1] + 0.18, 10**end), color=colour, fontsize=9,
            va="center", arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6},
        )  # fmt: skip
    axis.set(yscale="log", ylabel=ylabel, title=title, xlim=(-0.3, len(table) + 0.9))
    axis.set_xticks(places, table.index)
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _apart(values: Sequence[float], fraction: float = 0.055) -> list[float]:
    """The values moved so that labels at them do not overlap."""
    order = np.argsort(values)
    least = fraction * max(max(values) - min(values), 1.0)
    placed = list(values)
    for below, above in itertools.pairwise(order):
        placed[above] = max(placed[above], placed[below] + least)
    return placed


def drift(paths: Mapping[str, pd.Series], title: str = "", floor: float = 1e-12) -> Figure:
    """The distance of two paths over the iterations; equal ones lie on a line of their own at the bottom.

    paths: label -> relative difference by iteration; a difference of exactly 0 is drawn at `floor`.
    """
    figure, axis = plt.subplots(figsize=(9.5, 4.2), layout="constrained")
    colours, markers = itertools.cycle(COLOURS), itertools.cycle("osD^vP*X")
    for (label, values), colour, marker in zip(paths.items(), colours, markers, strict=False):
        axis.plot(values.index, values.clip(lower=floor), marker + "-", color=colour, label=label, markersize=4)
    axis.axhspan(floor / 3, floor * 3, color="#dddddd", alpha=0.5)
    text = "exactly equal, to the bit "
    axis.text(values.index[-1], 1.6 * floor, text, va="bottom", ha="right", fontsize=9, color="#444444")
    axis.set(yscale="log", ylim=(floor / 3, None), xlabel="iteration", title=title)
    axis.set_ylabel("difference of the two pictures\n(largest, over the largest grey level)")
    axis.grid(alpha=0.25)
    legend_beside(axis)
    return figure
