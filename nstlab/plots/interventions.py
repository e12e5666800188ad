"""The figures of what features do: who carries a style, what switching them off changes, which belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from nstlab.plots.transfers import CONTENT_COLOUR, LAYER_COLOURS, blank_axes, legend_beside, plain, show

FLOOR = 1e-5
"""A part of a loss below which a feature does not serve it."""
ORDERS = {"first": "those that carry most first", "random": "any", "last": "those that carry least first"}
ORDER_COLOURS = dict(zip(ORDERS, ("#c1440e", CONTENT_COLOUR, "#2c6fad"), strict=True))


def carried(derivatives: pd.DataFrame, title: str = "") -> Figure:
    """How much of a style few features carry: their part of the derivatives of the loss, the largest first, by layer.

    derivatives: as from `dissect.gate_derivatives`.
    """
    figure, axis = plt.subplots(figsize=(8.5, 3.8), layout="constrained")
    for colour, (layer, table) in zip(LAYER_COLOURS, derivatives.groupby("layer", sort=False), strict=False):
        sizes = np.sort(table["style"].abs().to_numpy())[::-1]
        part = np.concatenate([[0], sizes.cumsum() / max(sizes.sum(), 1e-300)])
        label = f"{layer}, {len(sizes)} features"
        axis.plot(np.linspace(0, 100, len(part)), 100 * part, color=colour, label=label, linewidth=1.8)
    axis.plot([0, 100], [0, 100], color="#bbbbbb", linewidth=1, linestyle="--", label="if all carried the same")
    axis.set(xlabel="features of the layer, those that carry most first (%)", ylabel="carried (%)", ylim=(0, 102))
    axis.set(title=plain(title), xlim=(0, 100))
    axis.grid(alpha=0.25)
    legend_beside(axis)
    return figure


def predictions(tables: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """What switching off one feature changes, against what its derivative says: caption -> `dissect.switched_off`."""
    figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    low = high = 0.0
    for colour, (caption, table) in zip(LAYER_COLOURS, tables.items(), strict=False):
        predicted, true = table["style_predicted"], table["style"]
        axis.scatter(predicted, true, color=colour, label=caption, s=26, alpha=0.85, linewidths=0)
        low, high = min(low, predicted.min(), true.min()), max(high, predicted.max(), true.max())
    axis.plot([low, high], [low, high], color="#999999", linewidth=1, linestyle="--", label="as predicted")
    axis.axhline(0, color="#cccccc", linewidth=0.8, zorder=0)
    axis.set(xlabel="predicted change of the style loss", ylabel="true change", title=plain(title))
    axis.grid(alpha=0.25)
    legend_beside(axis)
    return figure


def removal_curves(curves: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """What is left of the style loss, against how many features are off; a panel for each `dissect.removal_curves`.

    Of random draws the mean, and the range as a band.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(4.6 * len(curves) + 2.6, 3.7), squeeze=False, sharey=True)
    figure.set_layout_engine("constrained")
    for axis, (caption, table) in zip(axes[0], curves.items(), strict=True):
        whole = table.loc[table["removed"] == 0, "style"].mean()
        for order, words in ORDERS.items():
            left = 100 / whole * table[table["order"] == order].groupby("removed")["style"].agg(["mean", "min", "max"])
            axis.plot(left.index, left["mean"], color=ORDER_COLOURS[order], label=words, marker="o", markersize=3)
            axis.fill_between(left.index, left["min"], left["max"], color=ORDER_COLOURS[order], alpha=0.18, linewidth=0)
        axis.set(title=plain(caption), xlabel="features that are off", ylim=(0, None))
        axis.set_xscale("symlog", linthresh=10)
        axis.set_xlim(-0.5, 1.1 * table["removed"].max())
        ticks = sorted(table["removed"].unique())
        axis.set_xticks(ticks, [str(tick) for tick in ticks], fontsize=8)
        axis.minorticks_off()
        axis.grid(alpha=0.25)
    axes[0, 0].set_ylabel("style loss left (%)")
    legend_beside(axes[0, -1])
    figure.suptitle(plain(title), fontsize=11)
    return figure


def served(parts: pd.DataFrame, sides: Mapping[str, Sequence[tuple[str, int]]], title: str = "") -> Figure:
    """Which of two losses each feature serves: a point for each, by its part of the content and of the style loss.

    parts: a row for each (layer, feature) with the columns style and content, 0 to 1; those below FLOOR are drawn
    there. sides: caption -> features to draw a ring around.
    """
    figure, axis = plt.subplots(figsize=(8.5, 4.6), layout="constrained")
    drawn = 100 * parts[["content", "style"]].clip(lower=FLOOR)
    for colour, (layer, of_layer) in zip(LAYER_COLOURS, drawn.groupby(level="layer", sort=False), strict=False):
        axis.scatter(of_layer["content"], of_layer["style"], s=14, alpha=0.75, linewidths=0, color=colour, label=layer)
    for colour, (caption, features) in zip(("#111111", "#c1440e"), sides.items(), strict=False):
        ringed = drawn.loc[features]
        ring = {"facecolors": "none", "edgecolors": colour, "linewidths": 1.1}
        axis.scatter(ringed["content"], ringed["style"], s=46, label=caption, **ring)
    ends = [100 * FLOOR, 1.5 * drawn.to_numpy().max()]
    axis.plot(ends, ends, color="#999999", linewidth=1, linestyle="--", label="serves both alike")
    axis.set(xscale="log", yscale="log", xlabel="part of the content loss (%)", ylabel="part of the style loss (%)")
    axis.set_title(plain(title))
    axis.grid(alpha=0.25)
    legend_beside(axis)
    return figure


def similarity_matrices(tables: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """Matrices of similarities, at most 1, on one scale with their numbers: caption -> table."""
    widths = [max(len(table.columns), 4) for table in tables.values()]
    height = max(len(table) for table in tables.values())
    figure, axes = plt.subplots(
        1,
        len(tables),
        figsize=(0.62 * sum(widths) + 1.4 * len(tables), 0.55 * height + 1.9),
        squeeze=False,
        width_ratios=widths,
        layout="constrained",
    )
    for axis, (caption, table) in zip(axes[0], tables.items(), strict=True):
        values = table.to_numpy(float)
        drawn = axis.imshow(values, vmin=0, vmax=1, cmap="viridis")
        for (row, column), value in np.ndenumerate(values):
            colour = "black" if value > 0.6 else "white"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(
            range(len(table.columns)), [plain(str(name)) for name in table.columns], rotation=45, ha="right"
        )
        axis.set_yticks(range(len(table)), [plain(str(name)) for name in table.index])
        axis.tick_params(labelsize=8, length=0)
        axis.set_title(plain(caption), fontsize=10)
    figure.colorbar(drawn, ax=axes[0].tolist(), shrink=0.8, label="similarity")
    figure.suptitle(plain(title), fontsize=11)
    return figure


def where_groups_act(
    rows: Mapping[str, tuple[torch.Tensor, np.ndarray]], captions: Sequence[str], title: str = ""
) -> Figure:
    """Where each group is active in some pictures: row title -> (picture (1, 3, H, W) in [0, 1], maps (K, h, w)).

    A picture is bright where the group is active, on one scale for a group.
    """
    count = len(captions)
    figure, axes = blank_axes(len(rows), count + 1, (1.75 * (count + 1), 1.85 * len(rows) + 0.5))
    highest = np.max([maps.reshape(count, -1).max(1) for _, maps in rows.values()], axis=0)
    for row, (name, (picture, maps)) in enumerate(rows.items()):
        show(axes[row, 0], picture, name)
        grey = picture.clamp(0, 1).mean(1, keepdim=True).expand_as(picture)
        for k in range(count):
            light = torch.from_numpy(maps[k] / max(highest[k], 1e-12)).float()[None, None].clamp(0, 1).sqrt()
            light = torch.nn.functional.interpolate(light, picture.shape[2:], mode="bilinear")
            shown = light * picture + (1 - light) * 0.18 * grey
            show(axes[row, k + 1], shown, captions[k] if row == 0 else "")
    figure.suptitle(plain(title), fontsize=11)
    return figure


def by_gates(table: pd.DataFrame, value: str, label: str, captions: Mapping[str, str], title: str = "") -> Figure:
    """One number against which features are off: a thin line for each pair of pictures, coloured by style; the means.

    table: a row for each point, with `gates`, `content`, `style` and the column `value`; captions: gates -> label, in
    order.
    """
    figure, axis = plt.subplots(figsize=(9.5, 4), layout="constrained")
    at = {gates: place for place, gates in enumerate(captions)}
    for colour, (style, of_style) in zip(LAYER_COLOURS, table.groupby("style", sort=False), strict=False):
        for content, pair in of_style.groupby("content", sort=False):
            values = pair.set_index("gates")[value].reindex(list(captions))
            first = content == of_style["content"].iloc[0]
            axis.plot(
                list(at.values()), values, color=colour, alpha=0.55, linewidth=1.2, label=style if first else None
            )
    means = table.groupby("gates")[value].mean().reindex(list(captions))
    axis.plot(list(at.values()), means, color="black", linewidth=2.4, marker="o", label="mean of all pairs")
    for place, mean in enumerate(means):
        axis.annotate(f"{mean:.2f}", (place, mean), (0, 7), textcoords="offset points", ha="center", weight="bold")
    axis.set_xticks(list(at.values()), [plain(caption) for caption in captions.values()], fontsize=9)
    axis.set(ylabel=plain(label), title=plain(title), ylim=(0, None))
    axis.grid(alpha=0.25, axis="y")
    legend_beside(axis)
    return figure


def grams(matrices: Mapping[str, torch.Tensor]) -> Figure:
    """Gram matrices beside each other, (N, N) each, on one log scale; black is 0, a feature that is off."""
    highest = max(float(G.max()) for G in matrices.values())
    figure, axes = blank_axes(1, len(matrices), (2.3 * len(matrices), 2.5))
    colours = plt.get_cmap("inferno").with_extremes(bad="black")
    for axis, (caption, G) in zip(axes[0], matrices.items(), strict=True):
        values = G.detach().cpu().numpy()
        shown = np.where(values > 0, np.log10(np.maximum(values, highest * 1e-5) / highest), np.nan)
        axis.imshow(shown, cmap=colours, vmin=-4.5, vmax=0, interpolation="nearest")
        axis.set_title(plain(caption), fontsize=9)
    return figure
