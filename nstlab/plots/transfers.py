"""Pictures side by side, film strips, loss curves: the figures of a run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from nstlab.settings import Settings

LAYER_COLOURS = ("#c1440e", "#e3a02b", "#4c9f70", "#2c6fad", "#6a4c93", "#b5578b", "#5c5c5c")
CONTENT_COLOUR, TOTAL_COLOUR = "#7a7a7a", "#111111"
TERM_COLOURS = (CONTENT_COLOUR, *LAYER_COLOURS)


def pictures(
    images: Mapping[str, torch.Tensor], columns: int | None = None, title: str = "", height: float = 3.2
) -> Figure:
    """A grid of pictures, (1, 3, H, W) in [0, 1] units each, each under its caption.

    columns: pictures per row (None: all); height: of one picture, in inches.
    """
    columns = columns or len(images)
    rows = -(-len(images) // columns)
    shapes = [image.shape for image in images.values()]
    aspect = max(shape[3] / shape[2] for shape in shapes)
    size = (columns * height * aspect, rows * (height + 0.35) + (0.4 if title else 0))
    figure, axes = blank_axes(rows, columns, size)
    for axis, (caption, image) in zip(axes.flat, images.items(), strict=False):
        show(axis, image, caption)
    if title:
        figure.suptitle(plain(title))
    return figure


def blank_axes(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches, and its rows x columns axes, which show nothing yet."""
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


def plain(text: str) -> str:
    r"""Text for a figure, in which dollar signs do not start a formula; applying it twice changes nothing.

    >>> print(plain("A$AP & Ke$ha"))
    A\$AP & Ke\$ha
    """
    return re.sub(r"(?<!\\)\$", r"\\$", text)


def show(axis: Axes, image: torch.Tensor, caption: str = "") -> None:
    """One picture, (1, 3, H, W) in [0, 1] units, clamped, on an axis without ticks."""
    pixels = np.asarray(image[0].detach().cpu().clamp(0, 1).permute(1, 2, 0))
    axis.imshow(pixels, interpolation="lanczos")
    axis.set_title(plain(caption), fontsize=10)
    axis.axis("off")


def triptych(content: torch.Tensor, style: torch.Tensor, result: torch.Tensor) -> Figure:
    """Content, style and result side by side."""
    return pictures({"content": content, "style": style, "result": result}, height=3.6)


def film_strip(frames: Mapping[int, torch.Tensor], title: str = "") -> Figure:
    """The stored frames of a run, ordered by iteration."""
    captions = {f"iteration {k}": image for k, image in sorted(frames.items())}
    rows = max(-(-len(captions) // 5), 1)
    return pictures(captions, columns=-(-len(captions) // rows), title=title, height=2.3)  # no row much shorter


def losses(history: pd.DataFrame, settings: Settings, layers: Sequence[str] | None = None) -> Figure:
    """Two panels over the iterations, on log scales: the total with its terms, and the style loss by layer.

    history: as `Run.history`; settings: the run's, for the terms' weights; layers: some style layers (None: all).
    """
    layers = list(layers if layers is not None else settings.style_layers)
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 3.8), layout="constrained")
    curve(left, history, history["total"], "total", TOTAL_COLOUR, linewidth=2.2)
    weights = [settings.term_weights(iteration) for iteration in history["iteration"]]
    colours = itertools.cycle(TERM_COLOURS)
    for colour, (term, label) in zip(colours, settings.terms_in(history.columns).items(), strict=False):
        curve(left, history, history[term] * [weight.get(term, 1.0) for weight in weights], label, colour)
    left.set(title="What is minimised, and its terms", ylabel="loss (grey levels²)")
    for colour, layer in zip(itertools.cycle(LAYER_COLOURS), layers, strict=False):
        curve(right, history, history[layer], layer, colour)
    right.set(title="Style loss by layer: which texture is learnt when", ylabel="style loss (grey levels⁴)")
    for axis in (left, right):
        axis.set(xlabel="iteration", yscale="log")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        legend_beside(axis)
    return figure


def legend_beside(axis: Axes, title: str | None = None) -> None:
    """The legend on the right of an axis, where it hides nothing."""
    axis.legend(frameon=False, fontsize=9, title=title, loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0.3)


def curve(axis: Axes, history: pd.DataFrame, values: pd.Series, label: str, colour: str, **style: float) -> None:
    """One loss over the iterations, without zeros, which a log scale cannot show."""
    axis.plot(history["iteration"], values.where(values > 0), label=label, color=colour, **style)


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG at 110 dots per inch and close it."""
    figure.savefig(path, dpi=110)
    plt.close(figure)
