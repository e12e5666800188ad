"""The figures of a replicated sweep: effects with their intervals, and what a value varies with."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from nstlab.plots.sweeps import value_label
from nstlab.plots.transfers import LAYER_COLOURS, plain

PAIRS_COLOUR, TOGETHER_COLOUR = "#b5b0a8", "#6f6a62"


def effects(
    effects: pd.DataFrame, variance: pd.DataFrame, label: str, noise: float = float("nan"), title: str = ""
) -> Figure:
    """What each level of each factor does, with intervals over pairs of pictures, and what the value varies with.

    effects and variance: as from `nstlab.sweeps.Study`; label: what the value is, with its unit; noise: the deviation
    between seeds, drawn as a band (NaN: none).
    """
    factors = list(dict.fromkeys(effects["factor"]))
    counts = [(effects["factor"] == factor).sum() for factor in factors]
    height = 0.3 * sum(counts) + 0.75 * len(factors) + 0.9
    figure = plt.figure(figsize=(11, max(height, 2.8)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(3, 2))
    axes = left.subplots(len(factors), 1, squeeze=False, sharex=True, height_ratios=[n + 0.8 for n in counts])[:, 0]
    for axis, factor, colour in zip(axes, factors, _colours(len(factors)), strict=True):
        rows = effects[effects["factor"] == factor]
        places = np.arange(len(rows))[::-1]
        if np.isfinite(noise):
            axis.axvspan(-noise, noise, color="#ecebe6", zorder=0)
        axis.axvline(0, color="#999999", linewidth=1)
        axis.hlines(places, rows["low"], rows["high"], color=colour, linewidth=3, alpha=0.55)
        axis.plot(rows["effect"], places, "o", color=colour, markersize=6)
        axis.set_yticks(places, [plain(value_label(level)) for level in rows["level"]])
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.set_title(plain(factor), loc="left", fontsize=10)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    band = "\n(grey: from one seed to another)" if np.isfinite(noise) else ""
    axes[-1].set_xlabel(plain(f"{label}: difference from the mean of the levels") + band)
    axes[-1].xaxis.set_major_locator(MaxNLocator(7))
    bars = right.subplots()
    places = np.arange(len(variance))[::-1]
    named = dict(zip(factors, _colours(len(factors)), strict=True))
    colours = [*(named.get(term, TOGETHER_COLOUR) for term in variance["term"][:-1]), PAIRS_COLOUR]
    bars.barh(places, 100 * variance["share"], color=colours, height=0.6)
    for place, share in zip(places, variance["share"], strict=True):
        bars.annotate(f"{share:.0%}", (100 * share, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
    bars.set_yticks(places, [plain(term) for term in variance["term"]])
    bars.set(xlabel="share of the variance within a pair (%)", xlim=(0, 115))
    bars.set_title("What it varies with", loc="left", fontsize=10)
    bars.spines[["top", "right"]].set_visible(False)
    figure.suptitle(plain(title), fontsize=11)
    return figure


def with_intervals(
    table: pd.DataFrame, xlabel: str, ylabel: str, title: str = "", at: float = 0, log: bool = False
) -> Figure:
    """Lines with their intervals as bands, each named at its end.

    table: columns line (its name), x, mean, low, high; at: the height that a dotted line marks; log: y in powers of
    ten, for factors.
    """
    figure, axis = plt.subplots(figsize=(8.6, 4.2), layout="constrained")
    axis.axhline(at, color="#888888", linewidth=1, linestyle=":")
    ends = []
    lines = list(table.groupby("line", sort=False))
    for (name, rows), colour in zip(lines, _colours(len(lines)), strict=True):
        axis.fill_between(rows["x"], rows["low"], rows["high"], color=colour, alpha=0.16, linewidth=0)
        axis.plot(rows["x"], rows["mean"], "o-" if len(rows) < 12 else "-", color=colour, markersize=5, linewidth=2)
        ends.append((rows["x"].iloc[-1], rows["mean"].iloc[-1], str(name), colour))
    if log:
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter(lambda value, place: f"{value:g}")
        axis.yaxis.set_minor_formatter(lambda value, place: "")
    axis.set(xlabel=plain(xlabel), ylabel=plain(ylabel))
    axis.set_title(plain(title), fontsize=11)
    axis.spines[["top", "right"]].set_visible(False)
    figure.draw_without_rendering()  # heights in pixels are known from here on
    places = [axis.transData.transform(end[:2])[1] for end in ends]
    for (x, y, name, colour), own, place in zip(ends, places, _apart(places, 16), strict=True):
        away = (place - own) * 72 / figure.dpi
        named = {"color": colour, "va": "center", "fontsize": 9, "annotation_clip": False}
        axis.annotate(plain(name), (x, y), (8, away), textcoords="offset points", **named)
    return figure


def _apart(places: Sequence[float], least: float) -> list[float]:
    """Heights as near to these as they can be that stand at least so far apart, in the same order from below.

    >>> _apart([10, 0, 12], 5)
    [8.5, 0.0, 13.5]
    """
    from scipy.optimize import isotonic_regression  # most of a second to load

    order = np.argsort(places, kind="stable")
    steps = np.arange(len(places)) * least
    level = isotonic_regression(np.asarray(places, float)[order] - steps).x + steps
    moved = np.empty(len(places))
    moved[order] = level
    return moved.tolist()


def _colours(count: int) -> list[str]:
    return [LAYER_COLOURS[number % len(LAYER_COLOURS)] for number in range(count)]
