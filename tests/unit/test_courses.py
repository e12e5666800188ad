"""Figures of several runs: everything that is given is drawn, and what is missing is said."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from nstlab import plots


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in [axis.title, axis.yaxis.label, *axis.texts]]


def test_a_strip_a_row_and_an_iteration_a_column():
    picture = torch.rand(1, 3, 8, 12)
    strips = {"white": {0: picture, 10: picture}, "black": {0: picture, 2: picture, 10: picture}}
    figure = plots.film_strips(strips, "title")
    assert len(figure.axes) == 6 and sum(bool(axis.images) for axis in figure.axes) == 5
    assert {"white", "black", "0", "2", "10"} <= set(texts(figure))


def test_bars_write_their_numbers_and_what_is_missing():
    figure = plots.bars(pd.DataFrame({"a": {"x": 12.0, "y": float("nan")}}), "iterations", missing="not reached")
    assert {"12", "not reached"} <= set(texts(figure))


def test_equal_paths_lie_at_the_foot():
    figure = plots.drift({"equal": pd.Series([0.0, 0.0]), "apart": pd.Series([0.0, 0.1])}, floor=1e-9)
    equal, apart = figure.axes[0].lines
    assert list(equal.get_ydata()) == [1e-9, 1e-9] and list(apart.get_ydata()) == [1e-9, 0.1]


def test_panels_share_their_scale_and_leave_out_what_has_no_logarithm():
    courses = {"one": {"a": pd.Series([1.0, 10.0])}, "two": {"b": pd.Series([0.0, 1000.0])}}
    left, right = plots.over_iterations(courses, mark=5.0).axes
    assert left.get_ylim() == right.get_ylim()
    assert list(right.lines[0].get_ydata())[1:] == [1000.0] and not right.lines[0].get_ydata()[0] > 0
    assert len(left.lines) == 2  # the run and the mark


def test_names_at_the_ends_of_lines_do_not_lie_on_each_other():
    table = pd.DataFrame({"a": {"x": 1.0, "y": 10.0}, "b": {"x": 2.0, "y": 10.0}, "c": {"x": 1.0, "y": 1e5}})
    names = [text for text in plots.by_layer(table, "weight").axes[0].texts if text.get_text() in "abc"]
    places = sorted(text.get_position()[1] for text in names)
    assert len(places) == 3 and places[0] < places[1] < places[2]


def test_runs_that_end_at_one_place_share_a_label():
    ends = pd.DataFrame({"k_S": [0.1, 10.0, 100.0, 1000.0], "loss_style": [1e6, 1e5, 9.1e4, 9e4]})
    ends["loss_content"] = [1e3, 9e5, 1e6, 1e6]
    figure = plots.trade_off(ends, "k_S")
    assert [text.get_text() for text in figure.axes[0].texts] == ["k_S 0.1", "k_S 10, 100, 1000"]
    assert len(figure.axes[0].lines[0].get_xdata()) == 4  # every run is drawn
    alone = plots.trade_off(ends.head(1), "k_S")
    assert [text.get_text() for text in alone.axes[0].texts] == ["k_S 0.1"]
