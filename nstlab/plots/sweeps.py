"""The figures of a sweep: contact sheets, loss surfaces, the trade-off, clusters, the effect of each knob."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nstlab.plots.features import png
from nstlab.plots.transfers import LAYER_COLOURS, legend_beside, plain, show

PAPER, INK, FAINT = "#faf8f3", "#2b2926", "#8d877e"
SHEET_DPI = 160
GAP = 0.07  # inches between two pictures
MARGIN = 0.55
TILE = "row "  # before a picture's row, in the id of its axes


def value_label(value: Any) -> str:
    """A parameter's value as a picture's label: short, broken at commas and underscores.

    >>> value_label(1000.0), value_label("white_noise"), value_label("relu1_1,relu2_1")
    ('1000', 'white\\nnoise', 'relu1_1\\nrelu2_1')
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "none"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:g}" if abs(value) < 1e5 else f"{value:.0e}".replace("e+0", "e").replace("e+", "e")
    text = plain(str(value))
    if Path(text).is_absolute():
        return Path(text).stem
    if "," in text:
        return text.replace(",", "\n")
    return text.replace("_", "\n") if len(text) > 8 else text


def sweep_sheets(
    table: pd.DataFrame,
    axes: Mapping[str, Sequence[Any]],
    images: Sequence[torch.Tensor | None],
    given: Mapping[str, torch.Tensor] | None = None,
    title: str = "",
    note: str = "",
) -> Iterator[Figure]:
    """Contact sheets: the first axis across, the second down, a page for each combination of the others.

    table: one row per point; axes: parameter -> values in order; images: the points' pictures, (1, 3, H, W) in
    [0, 1], in the table's order, None for a missing one; given: pictures to show next to the title; note: a line at
    the bottom. Points that do not fill a grid follow one another, each with its values.
    """
    rows = table[list(axes)].astype(object).where(table[list(axes)].notna(), None)  # an empty cell is None
    where = {values: n for n, values in enumerate(rows.itertuples(index=False, name=None))}
    size = int(np.prod([len(values) for values in axes.values()]))
    names = list(axes)
    if len(where) < len(table) or size > 2 * len(table):
        captions = ["\n".join(f"{name} {value_label(row[name])}" for name in names) for _, row in table.iterrows()]
        yield _sequence(captions, images, given or {}, title, note)
        return
    across, down = names[0], names[1] if len(names) > 1 else None
    for page in itertools.product(*(axes[name] for name in names[2:])):
        cells = [
            [where.get((x, *([y] if down else []), *page)) for x in axes[across]]
            for y in (axes[down] if down else [None])
        ]
        turned = " · ".join(f"{name} {value_label(value)}" for name, value in zip(names[2:], page, strict=True))
        sheet = _grid(cells, images, (across, axes[across]), (down, axes[down]) if down else None)
        sheet.header(title, turned, given or {}, note)
        yield sheet.figure


def _grid(
    cells: list[list[int | None]],
    images: Sequence[torch.Tensor | None],
    across: tuple[str, Sequence[Any]],
    down: tuple[str, Sequence[Any]] | None,
) -> _Sheet:
    """One page: pictures in rows and columns, with labels at the top and on the left; cells: their numbers."""
    columns, rows = len(across[1]), len(cells)
    width, height = _cell([images[n] for row in cells for n in row if n is not None], columns)
    left, top = MARGIN + (1.0 if down else 0.2), 2.35
    sheet = _Sheet(left + columns * (width + GAP) + MARGIN, top + rows * (height + GAP) + 0.75)
    for column, value in enumerate(across[1]):
        x = left + column * (width + GAP) + width / 2
        sheet.text(x, top - 0.12, value_label(value), ha="center", va="bottom", size=_size(width))
    sheet.text(left, top - 0.5, f"{across[0]} →", ha="left", va="bottom", size=9, color=FAINT)
    for row, line in enumerate(cells):
        y = top + row * (height + GAP)
        if down:
            label = value_label(down[1][row])
            sheet.text(left - 0.14, y + height / 2, label, ha="right", va="center", size=_size(height))
        for column, n in enumerate(line):
            sheet.picture(left + column * (width + GAP), y, width, height, None if n is None else images[n], n)
    if down:
        sheet.text(left - 0.14, top - 0.12, f"{down[0]} ↓", ha="right", va="bottom", size=9, color=FAINT)
    return sheet


def _sequence(
    captions: Sequence[str],
    images: Sequence[torch.Tensor | None],
    given: Mapping[str, torch.Tensor],
    title: str,
    note: str,
) -> Figure:
    """One page of points that do not fill a grid, in order."""
    columns = min(len(images), max(4, round(len(images) ** 0.5 * 1.3)))
    lines = max(caption.count("\n") + 1 for caption in captions)
    rows = -(-len(images) // columns)
    width, height = _cell(images, columns)
    below = 0.17 * lines + 0.12
    sheet = _Sheet(2 * MARGIN + columns * (width + GAP), 2.1 + rows * (height + below) + 0.75)
    sheet.header(title, f"{len(images)} points", given, note)
    for n, (caption, picture) in enumerate(zip(captions, images, strict=True)):
        x, y = MARGIN + n % columns * (width + GAP), 2.1 + n // columns * (height + below)
        sheet.picture(x, y, width, height, picture, n)
        sheet.text(x, y + height + 0.05, caption, ha="left", va="top", size=7.5)
    return sheet.figure


def _cell(pictures: Sequence[torch.Tensor | None], columns: int) -> tuple[float, float]:
    """Width and height of one picture in inches."""
    aspects = [picture.shape[3] / picture.shape[2] for picture in pictures if picture is not None]
    aspect = float(np.clip(np.median(aspects), 0.25, 4)) if aspects else 1.0
    width = float(np.clip(26 / columns, 0.45, 2.1))
    return (width, width / aspect) if aspect >= 1 else (width * aspect, width)


def _size(inches: float) -> float:
    """A label's font size next to a picture of this size."""
    return float(np.clip(inches * 6, 5, 11))


class _Sheet:
    """A sheet of paper measured in inches from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = max(width, 5.2), height
        self.figure = plt.figure(figsize=(self.width, self.height), facecolor=PAPER)

    def text(self, x: float, y: float, text: str, size: float = 10, color: str = INK, **how: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, plain(text), fontsize=size, color=color, **how)

    def picture(
        self, x: float, y: float, width: float, height: float, picture: torch.Tensor | None, n: int | None = None
    ) -> None:
        """A picture, or where it would stand; n: its row in the table, for `sheet_tiles`."""
        axis = self.figure.add_axes(
            (x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height)
        )
        axis.set_gid(None if n is None else f"{TILE}{n}")
        if picture is not None:
            show(axis, picture)  # in its own proportions, whatever the cell's are
            return
        axis.set(xticks=[], yticks=[], facecolor="#efebe3")
        axis.spines[:].set_visible(False)
        axis.text(0.5, 0.5, "missing", ha="center", va="center", color=FAINT, fontsize=8)

    def header(self, title: str, page: str, given: Mapping[str, torch.Tensor], note: str) -> None:
        """Title and page at the top left, the given pictures on the right, the note at the bottom."""
        self.text(MARGIN, self.height - 0.42, note, ha="left", va="center", size=8, color=FAINT)
        self.text(MARGIN, 0.72, title, size=19, family="serif", ha="left", va="center")
        if page:
            self.text(MARGIN, 1.12, page, size=11, ha="left", va="center")
        right = self.width - MARGIN
        for name, picture in reversed(given.items()):
            height = 0.85
            width = height * picture.shape[3] / picture.shape[2]
            if right - width < MARGIN + 0.19 * len(title):  # no room beside the title
                return
            self.picture(right - width, 0.35, width, height, picture)
            self.text(right - width / 2, 1.32, name, size=8, color=FAINT, ha="center", va="center")
            right -= width + 0.2


def sheet_tiles(figure: Figure) -> dict[int, tuple[float, float, float, float]]:
    """Where a sheet's pictures stand: row of the table -> (left, top, right, bottom), as fractions of the sheet."""
    tiles = {}
    for axis in figure.axes:
        if (axis.get_gid() or "").startswith(TILE):
            place = axis.get_position(original=True)
            tiles[int(axis.get_gid().removeprefix(TILE))] = (place.x0, 1 - place.y1, place.x1, 1 - place.y0)
    return tiles


def sheet_png(figure: Figure, texts: Mapping[str, str] | None = None) -> bytes:
    """A contact sheet as the bytes of a PNG, sharp enough to print, with `texts` inside; closes the figure."""
    return png(figure, SHEET_DPI, texts)


def loss_surfaces(surfaces: Mapping[str, pd.DataFrame], across: str, down: str) -> Figure:
    """Losses over two knobs, as numbers on colours (log scale), one panel per loss.

    surfaces: caption -> a frame with the values of `across` as columns and those of `down` as index.
    """
    columns, rows = next(iter(surfaces.values())).shape[::-1]
    size = (len(surfaces) * max(3.6, 0.85 * columns + 1.9), max(2.6, 0.5 * rows + 1.5))
    figure, panels = plt.subplots(1, len(surfaces), figsize=size, squeeze=False, layout="constrained")
    for axis, (caption, surface) in zip(panels.flat, surfaces.items(), strict=True):
        values = surface.to_numpy(float)
        positive = values[np.isfinite(values) & (values > 0)]
        low, high = (positive.min(), positive.max()) if len(positive) else (1.0, 10.0)
        norm = LogNorm(low, high if high > low else low * 1.01)
        image = axis.imshow(np.where(values > 0, values, np.nan), norm=norm, cmap="cividis", aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = value <= 0 or norm(value) < 0.5
                axis.text(column, row, _short(value), ha="center", va="center", fontsize=8, color="w" if dark else "k")
        axis.set(title=caption, xlabel=across, ylabel=down)
        axis.set_xticks(range(columns), [value_label(value) for value in surface.columns], fontsize=8)
        axis.set_yticks(range(rows), [value_label(value).replace("\n", " ") for value in surface.index], fontsize=8)
        bar = figure.colorbar(image, ax=axis, label="loss (log scale)", shrink=0.9)
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.ax.yaxis.set_major_locator(LogLocator(numticks=6))
    return figure


def _short(value: float) -> str:
    """A loss in a cell: two digits, with k, M or G for thousands, millions and billions."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.{0 if value >= 10 * unit else 1}f} {letter}"
    return f"{value:.2g}"


def trade_off(table: pd.DataFrame, along: str, lines: str | None = None) -> Figure:
    """Content loss against style loss, both on log scales: one point per run, joined along one knob.

    along: the knob whose values label the points; lines: the knob with one line per value.
    """
    figure, axis = plt.subplots(figsize=(7.6, 5.2), layout="constrained")
    groups = table.groupby(lines, sort=False, dropna=False) if lines else [(along, table)]
    markers = itertools.cycle("osD^vP*")
    for (name, group), colour, marker in zip(groups, itertools.cycle(LAYER_COLOURS), markers, strict=False):
        drawn = group[(group["loss_content"] > 0) & (group["loss_style"] > 0)]
        label = value_label(name).replace("\n", " ")
        axis.plot(drawn["loss_style"], drawn["loss_content"], marker=marker, color=colour, label=label, alpha=0.9)
    first = next(iter(groups))[1]
    for place, values in _labels_by_place(first, along):
        text = f"{along} {', '.join(values)}"
        axis.annotate(text, place, xytext=(7, 5), textcoords="offset points", fontsize=8, color=INK)
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="style loss (grey levels⁴)",
        ylabel="content loss (grey levels²)",
        title="What style costs in content: down and to the left is better",
    )
    axis.margins(x=0.12)  # room for the labels
    axis.grid(alpha=0.25)
    if lines:
        legend_beside(axis, lines)
    return figure


def _labels_by_place(table: pd.DataFrame, along: str) -> list[tuple[tuple[float, float], list[str]]]:
    """Labels as ((style loss, content loss), values); labels that would overlap are merged into one."""
    drawn = table[(table["loss_content"] > 0) & (table["loss_style"] > 0)]
    points = np.log(drawn[["loss_style", "loss_content"]].to_numpy())
    room = np.maximum(np.ptp(points, axis=0), 1e-9) * (0.15, 0.05) if len(points) else np.zeros(2)  # of a label
    places: list[tuple[np.ndarray, list[str]]] = []
    for point, value in zip(points, drawn[along], strict=True):
        near = [values for place, values in places if (np.abs(point - place) < room).all()]
        named = near[0] if near else []
        named.append(value_label(value).replace("\n", " "))
        if not near:
            places.append((point, named))
    return [(tuple(np.exp(place)), values) for place, values in places]


def clusters(images: Mapping[str, torch.Tensor], between: np.ndarray, linkage: np.ndarray, title: str = "") -> Figure:
    """Which pictures are alike: a tree that joins them at their distance, and all distances.

    images: label -> picture, (1, 3, H, W) in [0, 1]; between: (n, n), their distances in grey levels;
    linkage: as from scipy's `linkage`, (n - 1, 4).
    """
    from scipy.cluster.hierarchy import dendrogram  # a sixth of a second to load

    labels = list(images)
    n = len(labels)
    each = float(np.clip(9 / n, 0.28, 0.95))
    figure = plt.figure(figsize=(12.5, n * each + 1.3), layout="constrained")
    grid = figure.add_gridspec(n, 3, width_ratios=(4.2, each * 1.6, 5.4))
    tree = figure.add_subplot(grid[:, 0])
    drawn = dendrogram(linkage, orientation="left", ax=tree, no_labels=True, color_threshold=0,
                       above_threshold_color=INK)  # fmt: skip
    order = drawn["leaves"][::-1]  # from the top
    tree.set(xlabel="distance (root mean square, grey levels)", yticks=[], title="Joined at their distance")
    tree.spines[["left", "top", "right"]].set_visible(False)
    for place, leaf in enumerate(order):
        show(figure.add_subplot(grid[place, 1]), images[labels[leaf]])
    matrix = figure.add_subplot(grid[:, 2])
    shown = between[np.ix_(order, order)]
    image = matrix.imshow(shown, cmap="cividis_r", vmin=0, aspect="auto")
    names = [labels[leaf].replace("\n", " ") for leaf in order]
    matrix.set_yticks(range(n), names, fontsize=9 if n <= 12 else 7)
    matrix.set_xticks(range(n), names, fontsize=8 if n <= 12 else 6, rotation=40, ha="right")
    if n <= 14:
        for (row, column), value in np.ndenumerate(shown):
            light = value > 0.55 * shown.max()
            matrix.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8, color="w" if light else "k")
    matrix.set_title("Distance of each pair of pictures")
    figure.colorbar(image, ax=matrix, label="grey levels", shrink=0.9)
    if title:
        figure.suptitle(plain(title))
    return figure


def knob_sensitivity(table: pd.DataFrame) -> Figure:
    """What each knob does: how far it moves the picture, and by which factor it changes each loss.

    table: as from `nstlab.sweeps.sensitivity`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.75 * len(table) + 1.7), layout="constrained")
    places = np.arange(len(table))[::-1]
    left.barh(places, table["distance"], color=LAYER_COLOURS[3], height=0.55)
    left.set(xlabel="mean distance of two pictures (grey levels)", title="How far one knob alone moves the picture")
    left.set_yticks(places, table["knob"])
    for part, shift, colour in (("style", 0.19, LAYER_COLOURS[0]), ("content", -0.19, "#7a7a7a")):
        right.barh(places + shift, table[f"{part}_factor"], color=colour, height=0.34, label=f"{part} loss")
    right.set(xscale="log", xlabel="factor between two runs (log scale; 1 is no change)", title="… and the two losses")
    right.set_yticks(places, table["knob"])
    right.set_xlim(left=1)
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter(FuncFormatter(lambda factor, _: f"{factor:g}"))
    right.xaxis.set_minor_formatter(NullFormatter())
    legend_beside(right)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    return figure
