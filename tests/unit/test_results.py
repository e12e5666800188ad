"""The results that notebooks read: each is of a sweep that comes with the project, and shows what is said of it."""

import random
from itertools import combinations, pairwise

import pandas as pd
import pytest
import torch
import yaml

import nstlab as lab
from nstlab import sweeps
from nstlab.errors import RequestError
from nstlab.metrics import distances, rmse
from nstlab.storage import home
from nstlab.sweeps.outcome import cell

FOLDER = home() / "notebooks" / "results"
NAMES = sorted(path.stem for path in FOLDER.glob("*.csv") if "." not in path.stem)
TRACED = sorted(path.stem for path in FOLDER.glob("*.yaml"))
WITH_HISTORY = sorted(path.name.removesuffix(".history.csv") for path in FOLDER.glob("*.history.csv"))
AGAIN = {
    "beginnings": ({"init": "average", "k_S": 100}, 0.1),
    "control": ({"colour": "matched"}, 0.05),
    "duration": ({"iteration": 10}, 0.03),
    "gates": ({"gates": "first:50"}, 0.05),
    "initial_values": ({"iteration": 20, "init": "average"}, 0.05),
    "iterations": ({"iteration": 5}, 0.03),
    "judges": ({"style_loss": "gram_l1"}, 0.1),
    "layers": ({"content_layers": "relu3_1"}, 0.1),
    "loss": ({"style_loss": "mean_std"}, 0.05),
    "optimiser": ({"optimizer": "adam", "learning_rate": 1}, 0.01),
    "reduction": ({"reduction": None, "weights": "original-8bit"}, 0.05),
    "rounding": ({"amount": 0.5, "convolution": "plain"}, 0.3),
    "style_weight": ({"k_S": 0.01}, 0.05),
    "width": ({"reduction": "random", "amount": 0.5}, 0.3),
}
"""Table -> which rows are made again, and how far rounding may lead them: L-BFGS magnifies it, Adam hardly."""


def same(stored, asked) -> bool:
    """Whether a cell of a stored table is a setting's value."""
    if pd.isna(stored):
        return asked in (None, "", ())
    if asked is None:
        return False
    return stored == (asked if isinstance(asked, str) else pytest.approx(asked, rel=1e-5))


def test_all_results_together_are_small():
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    wanted = {f"{name}.{end}" for name in NAMES for end in ("csv", "jpg")} | {f"{name}.yaml" for name in TRACED}
    wanted |= {f"{name}.history.csv" for name in WITH_HISTORY}
    assert {path.name for path in files} == wanted
    assert sum(path.stat().st_size for path in files) < 8_000_000


@pytest.mark.parametrize("name", TRACED)
def test_results_say_what_made_them(name, tmp_path):
    """Each row's run is the one that the sweep's file gives here: the same settings, pictures and weights, by hash."""
    plan, (table, _) = sweeps.make_plan(name, out=tmp_path), sweeps.stored_results(name)
    assert list(table["run"]) == [point.run.id for point in plan.points for _ in plan.content.get("store_at", [None])]
    made_with = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["made_with"]
    assert {"nstlab", "torch", "papermill", "dask", "python", "threads"} <= set(made_with)
    assert len(made_with["notebook_sha256"]) == 64


@pytest.fixture
def one_thread():
    """As the sweeps had it: on a processor like theirs a run then has the same bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", TRACED)
def test_a_row_can_be_made_again(name, tmp_path, one_thread):
    """Within what rounding makes of it on another processor, which notebook 14 tells from the table `rounding`."""
    (table, pictures), (wanted, rounding) = sweeps.stored_results(name), AGAIN[name]
    fits = [all(same(row[column], value) for column, value in wanted.items()) for _, row in table.iterrows()]
    number = random.Random(0).choice(list(table.index[fits]))
    plan = sweeps.make_plan(name, out=tmp_path)
    settings = [point.settings for point in plan.points for _ in plan.content.get("store_at", [None])][number]
    *_, last = lab.transfer(settings.with_(iterations=int(table.loc[number].get("iteration", settings.iterations))))
    for term in ("content", "style"):
        assert last.losses[term] == pytest.approx(table.loc[number, f"loss_{term}"], rel=rounding, abs=1e-3), term
    alike = [rmse(last.image, picture) for picture in pictures if picture.shape == last.image.shape]
    own = rmse(last.image, pictures[number])
    assert own == min(alike)
    assert own < (12 if rounding <= 0.03 else 25)  # grey levels; JPEG makes about eight of them in a picture so rough


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_the_losses_on_the_way_are_those_of_the_table(name):
    (table, _), history = sweeps.stored_results(name), sweeps.stored_history(name)
    assert set(history["run"]) == set(table["run"])
    both = table[["run", "iteration", "loss_total", "loss_content", "loss_style"]].merge(history)
    assert len(both) == len(table)
    for term in ("total", "content", "style"):
        assert both[term].tolist() == pytest.approx(both[f"loss_{term}"].tolist(), rel=1e-5)


def test_losses_that_are_not_stored_are_asked_for():
    with pytest.raises(RequestError, match="no losses of gates"):
        sweeps.stored_history("gates")


@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_of_a_sweep_that_is_there(name, tmp_path):
    """Row by row, every setting in the table is the one in the sweep's file."""
    plan = sweeps.make_plan(name, out=tmp_path)
    table, pictures = sweeps.stored_results(name)
    moments = plan.content.get("store_at", [None])
    wanted = [(point, moment) for point in plan.points for moment in moments]
    assert len(table) == len(wanted) == len(pictures)
    for (_, row), (point, moment), picture in zip(table.iterrows(), wanted, pictures, strict=True):
        settings = point.settings.model_dump(mode="json")
        for column in table.columns.intersection(list(settings)):
            assert same(row[column], cell(settings[column])), (point.label, column)
        assert set(plan.axes) <= set(table.columns)
        assert moment is None or row["iteration"] == moment
        assert max(picture.shape[2:]) == point.settings.size
    text = (home() / "notebooks" / "sweeps" / f"{name}.yaml").read_text()
    assert f"nstlab sweep {name} --threads 1 --store" in text


def test_seven_beginnings_end_about_equally_low_and_in_different_pictures():
    """Notebook 05's summary."""
    table, pictures = sweeps.stored_results("initial_values")
    spread, apart = {}, {}
    for iteration, rows in table.groupby("iteration"):
        spread[iteration] = rows["loss_total"].max() / rows["loss_total"].min()
        apart[iteration] = distances([pictures[k] for k in rows.index])
    first, *_, last = sorted(spread)
    assert spread[last] < 1.15 < 2 < spread[first]
    assert min(apart[last][pair] for pair in combinations(range(7), 2)) > 20  # grey levels; JPEG is worth a few
    assert apart[last].mean() > 0.5 * apart[first].mean()  # they do not meet as the totals do


def test_more_style_costs_more_content_and_the_price_is_k_S():
    """Notebook 06: along the runs content rises; while style falls, its price lies between the two k_S."""
    table, pictures = sweeps.stored_results("style_weight")
    content, style = table["loss_content"], table["loss_style"]
    cheap = table["k_S"] <= 10
    assert content[cheap].is_monotonic_increasing and style[cheap].is_monotonic_decreasing
    price = (-content.diff() / style.diff())[cheap][1:]
    assert all(a <= p <= b for (a, b), p in zip(pairwise(table["k_S"][cheap]), price, strict=True))
    steps = [rmse(*pair) for pair in pairwise(pictures)]
    assert max(steps) > 2 * steps[0]


def test_early_layers_keep_the_picture_and_deep_ones_do_not():
    """Notebook 03: the SSIM falls with every layer."""
    table, _ = sweeps.stored_results("layers")
    ssim = table[table["style_layers"].isna()].set_index("content_layers")["ssim_content"]
    assert ssim.is_monotonic_decreasing and list(ssim.index) == sorted(ssim.index)
    assert ssim["relu1_1"] > 0.7 and ssim[["relu4_2", "relu5_1", "relu5_2"]].max() < 0.1


def test_the_loss_is_near_its_end_long_before_the_picture_stops():
    """Notebook 07."""
    table, pictures = sweeps.stored_results("iterations")
    for _, rows in table.groupby("optimizer"):
        assert rows["loss_total"].is_monotonic_decreasing
        *_, before, last = rows.index
        assert rows["loss_total"][before] < 1.2 * rows["loss_total"][last]
        assert rmse(pictures[before], pictures[last]) > 5


def test_a_stored_picture_is_what_its_settings_paint(tmp_path):
    """The cheapest one, painted anew; another number of threads and JPEG are worth a few grey levels."""
    point = sweeps.make_plan("layers", out=tmp_path).points[0]
    _, pictures = sweeps.stored_results("layers")
    assert rmse(point.run.advance(progress=False).result, pictures[0]) < 10
