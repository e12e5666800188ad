"""Figures can be read: legends hide nothing, and numbers are written as people write them."""

import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

import nstlab as lab
from nstlab import plots
from nstlab.terminal import number, progress_stream

COURSES = {f"run {k}": pd.Series(np.geomspace(1e6, 10 + k, 30)) for k in range(8)}
TABLE = pd.DataFrame({"one": [1.0, 9.0, 3.0], "two": [2.0, 1.0, 9.0]}, index=["a", "b", "c"])
HISTORY = pd.DataFrame(
    {
        "iteration": range(9),
        **{name: np.geomspace(1e6, 10, 9) for name in ("total", "content", "style", *lab.Settings().style_layers)},
    }
)
FIGURES = {
    "over_iterations": lambda: plots.over_iterations({"L-BFGS": COURSES, "Adam": COURSES}),
    "over_iterations, each its own": lambda: plots.over_iterations(
        {"L-BFGS": COURSES, "Adam": {"x": COURSES["run 1"]}}
    ),
    "bars": lambda: plots.bars(TABLE, "seconds"),
    "tolerance": lambda: plots.tolerance(TABLE, "error", "title"),
    "drift": lambda: plots.drift(COURSES),
    "lines": lambda: plots.lines(TABLE, "row", "error", ticks=["a", "b", "c"]),
    "losses": lambda: plots.losses(HISTORY, lab.Settings()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_no_legend_lies_on_what_is_drawn(name):
    figure = FIGURES[name]()
    figure.canvas.draw()
    legends = [axis.get_legend() for axis in figure.axes if axis.get_legend()]
    assert legends
    for legend in legends:
        box = legend.get_window_extent()
        assert not any(box.overlaps(axis.get_window_extent()) for axis in figure.axes)
        assert figure.bbox.x1 >= box.x1 - 1
    assert figure.get_facecolor()[3] == 1  # a card of its own, in a dark theme, too
    plt.close(figure)


def test_a_border_is_drawn_where_it_is_and_nowhere_else():
    off = np.zeros((5, 5))
    off[0] = 0.5
    off[1, 1] = 1e-9  # below the scale, and not nothing
    figure = plots.borders({"layer": off, "another": 0 * off})
    layer, another = (axis.images[0].get_array() for axis in figure.axes[:2])
    assert (layer.mask == (off == 0)).all() and layer.max() == 0.5 and layer.min() == 0.5e-3
    assert another.mask.all()
    plt.close(figure)


def test_rows_of_pictures_have_all_their_titles_and_captions():
    grey = torch.full((1, 3, 4, 6), 0.5)
    figure = plots.captioned_rows({"first: $1": {"a": grey, "b": grey}, "second": {"c": grey}})
    assert [part.get_suptitle() for part in figure.subfigs] == [r"first: \$1", "second"]
    shown = [[axis.get_title() for axis in part.axes if axis.images] for part in figure.subfigs]
    assert shown == [["a", "b"], ["c"]]
    plt.close(figure)


@pytest.mark.parametrize("value", [845123.0, 1e9, 3.21, 0.02, -12345.6, 0.0])
def test_a_number_in_words_is_the_number(value):
    text = number(value)
    assert "e" not in text and float(text.replace(",", "")) == pytest.approx(value, rel=0.005)


def test_progress_goes_where_a_notebook_does_not_paint_it_pink(monkeypatch):
    assert progress_stream() is sys.stderr
    kernels = type("OutStream", (), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stdout", kernels)
    assert progress_stream() is kernels


def test_a_figure_says_what_is_to_be_seen():
    figure, (left, middle, right) = plt.subplots(1, 3)
    left.imshow(np.zeros((3, 3)))
    left.set_title("before $x$")
    middle.set(xlabel="iteration", ylabel="loss", title="A run")
    middle.plot([9, 5, np.nan, 1], label="Adam")
    middle.plot([9, 5, 2], label="_dotted")
    right.bar(["a", "b", "c"], [1, 30, 2])
    figure.suptitle("All\nof it")
    assert plots.in_words(figure) == (
        "All of it. Pictures: before x. A run: loss against iteration, Adam from 9 to 1. most b (30), least a (1)."
    )
    plt.close(figure)
    assert plots.in_words(plots.pictures({f"picture {k}": torch.zeros(1, 3, 8, 8) for k in range(20)})).endswith(
        "picture 11 and 8 more."
    )


def test_colour_scales_can_be_read_by_the_colour_blind():
    """None that goes from red to green, or through the rainbow."""
    source = "\n".join(path.read_text() for path in Path(plots.__file__).parent.glob("*.py"))
    named = set(re.findall(r'cmap="(\w+)"', source)) | set(re.findall(r'colormaps\["(\w+)"\]', source))
    assert len(named) > 4 and not {name.removesuffix("_r") for name in named} & {
        *("RdYlGn", "PiYG", "PRGn", "BrBG", "Spectral", "jet", "rainbow", "hsv", "gist_rainbow", "nipy_spectral")
    }
