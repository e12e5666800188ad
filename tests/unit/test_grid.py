"""A grid of runs seen along some of its knobs, and what the notebooks take from the package to show."""

import pandas as pd
import pytest
import torch

from nstlab import course
from nstlab.reduction import merge
from nstlab.sweeps import Grid

AXES = {"k_S": [1, 10, 100], "learning_rate": [None, 0.5], "init": ["white", "black"]}


@pytest.fixture
def done() -> pd.DataFrame:
    """All points of the grid but those with k_S = 100; the loss is the number of its row."""
    points = [(k, rate, init) for k in AXES["k_S"][:2] for rate in AXES["learning_rate"] for init in AXES["init"]]
    return pd.DataFrame(points, columns=list(AXES)).assign(loss=range(len(points)))


def test_values_that_no_run_has_are_left_out(done):
    grid = Grid(done, AXES)
    assert grid.axes == {"k_S": [1, 10], "learning_rate": [None, 0.5], "init": ["white", "black"]}
    assert grid.middle == {"k_S": 10, "learning_rate": 0.5, "init": "black"}


def test_knobs_with_one_value_are_left_out_but_one_knob_always_stays(done):
    assert list(Grid(done[done["k_S"] == 1], AXES).axes) == ["learning_rate", "init"]
    assert Grid(done.iloc[:1], AXES).axes == {"k_S": [1]}


def test_the_knobs_that_are_not_free_stand_at_their_middle(done):
    grid = Grid(done, AXES)
    assert grid.rows("k_S")["loss"].tolist() == [3, 7]
    assert grid.rows("learning_rate", "init")["loss"].tolist() == [4, 5, 6, 7]


def test_an_empty_cell_is_the_value_none(done):
    grid = Grid(done[done["learning_rate"].isna()], AXES)
    assert grid.rows("k_S")["loss"].tolist() == [1, 5]


def test_a_surface_has_the_order_of_the_sweep(done):
    surface = Grid(done.sample(frac=1, random_state=0), AXES).surface("loss", "k_S", "init")
    assert surface.index.tolist() == ["white", "black"] and surface.columns.tolist() == [1, 10]
    assert surface.to_numpy().tolist() == [[2, 6], [3, 7]]
    assert Grid(done, AXES).surface("loss", "init", "init").to_numpy().tolist() == [[6, 7]]


def test_the_nearest_pair_and_the_typical_merger():
    a = torch.zeros(4, 3)
    for row, degrees in enumerate((0, 10, 40, 60)):
        turned = torch.deg2rad(torch.tensor(float(degrees)))
        a[row, :2] = torch.stack([turned.cos(), turned.sin()])
    a[0] *= 2  # the loudest
    angles = torch.tensor([[0.0, 10, 40, 60], [10, 0, 30, 50], [40, 30, 0, 20], [60, 50, 20, 0]])
    assert course.nearest_pair(angles) == (0, 1)
    selection = merge(a, torch.eye(4), 3)
    assert course.typical_merger(selection, angles, torch.ones(4, dtype=torch.bool)) == (0, 1)


def test_a_listing_is_the_source_as_it_stands():
    assert course.listing(course.nearest_pair, Grid.rows).count("\ndef ") + 1 == 2
    assert course.listing(Grid.rows).startswith("def rows(self")
