"""sweeps.Study: planted effects are found with their intervals, and what is not there is not found."""

import numpy as np
import pandas as pd
import pytest

from nstlab.errors import RequestError
from nstlab.sweeps import Study, as_factor, stored_results
from nstlab.sweeps.statistics import interval, pairs_for

OPTIMISER, COLOUR = {"adam": -1.0, "lbfgs": 0.0, "sgd": 1.0}, {"a": 0.0, "b": 0.0}


def planted(seed: int, pairs: int = 8, seeds: int = 3, noise: float = 0.5, between: float = 0.5) -> pd.DataFrame:
    """A table in which the optimiser does what OPTIMISER says, the colour nothing, and every pair has its own level.

    between: how much a level's effect differs from pair to pair; noise: from seed to seed.
    """
    rng, rows = np.random.default_rng(seed), []
    for pair in range(pairs):
        own = rng.normal(0, 5)
        apart = {name: rng.normal(0, between) for name in (*OPTIMISER, *COLOUR)}
        for optimiser, effect in OPTIMISER.items():
            for colour in COLOUR:
                value = own + effect + apart[optimiser] + apart[colour]
                for number in range(seeds):
                    row = {"content": f"photo {pair}", "style": "ink", "seed": number}
                    row |= {"optimiser": optimiser, "colour": colour, "loss": value + rng.normal(0, noise)}
                    rows.append(row)
    return pd.DataFrame(rows)


def study(seed: int, **options: float) -> Study:
    return Study(planted(seed, **options), ["optimiser", "colour"], "loss")


def test_planted_effects_lie_in_their_intervals():
    """Of 40 tables with eight pairs each the intervals have the truth as often as their docstring says."""
    inside = 0
    for seed in range(40):
        found = study(seed).effects().set_index("factor").loc["optimiser"].set_index("level")
        inside += sum(found.loc[name, "low"] <= effect <= found.loc[name, "high"] for name, effect in OPTIMISER.items())
        assert (found["effect"].sum() < 1e-9) and found["effect"].is_monotonic_increasing
    assert 0.83 <= inside / 120 <= 0.97


def test_a_knob_without_effect_is_taken_to_have_one_at_the_stated_rate():
    """At 5 % of 100 tables, give or take three standard errors; the other knob is always found."""
    tables = [study(seed).variance().set_index("term") for seed in range(100)]
    assert sum(table.loc["colour", "p"] <= 0.05 for table in tables) <= 11
    assert all(table.loc["optimiser", "p"] < 0.05 for table in tables)
    assert sum(bool(study(seed).comparisons("colour")["stands_out"].any()) for seed in range(30)) <= 5


def test_variance_goes_where_it_comes_from():
    table = study(1, between=0.01, noise=0.01).variance().set_index("term")["share"]
    assert table.sum() == pytest.approx(1) and table["optimiser"] > 0.99
    rows = planted(1, between=0.01, noise=0.01)
    rows["loss"] += np.where((rows["optimiser"] == "adam") == (rows["colour"] == "a"), 2.0, -2.0)
    assert (
        Study(rows, ["optimiser", "colour"], "loss").variance().set_index("term").loc["optimiser × colour", "p"] < 0.01
    )
    rows = planted(1, between=3.0, noise=0.01)
    assert Study(rows, ["optimiser", "colour"], "loss").variance().iloc[-1]["share"] > 0.5


def test_noise_is_what_seeds_make_and_hides_smaller_differences():
    assert study(2, noise=0.5).noise == pytest.approx(0.5, rel=0.1)
    assert np.isnan(study(2, seeds=1).noise)
    loud = study(3, noise=40.0, pairs=12).comparisons("colour")
    assert not loud["stands_out"].any() and loud["noise"].iloc[0] > 5
    quiet = study(3, noise=0.1, between=0.1).comparisons("optimiser")
    assert quiet["stands_out"].all() and (quiet["wins"] == 8).all()
    assert list(quiet["difference"].round()) == [1, 2, 1]


def test_ranks_have_ties_within_the_noise():
    rows = pd.DataFrame(
        [
            {"content": content, "style": "ink", "seed": seed, "init": init, "loss": level + seed}
            for content in ("one", "two")
            for init, level in (("white", 9.0), ("black", 0.0), ("content", 0.5))
            for seed in (0, 1)
        ]
    )
    found = Study(rows, ["init"], "loss").ranks("init").set_index("level")  # seeds differ by 0.7
    assert list(found["rank"]) == [1.5, 1.5, 3.0] and list(found.index) == ["black", "content", "white"]
    assert list(found["first"]) == [2, 2, 0]
    largest = Study(rows[rows["seed"] == 0], ["init"], "loss").ranks("init", lowest_first=False)
    assert list(largest["level"]) == ["white", "content", "black"] and list(largest["rank"]) == [1, 2, 3]


def test_what_cannot_be_said_is_said():
    assert study(0, pairs=12).limits() == []
    few = study(0, pairs=4, seeds=1).limits()
    assert "4 pairs" in few[0] and "takes 7" in few[0] and "takes 6" in few[1] and few[2].startswith("One seed")
    alone = study(0, pairs=1)
    assert alone.limits()[0].startswith("One pair") and alone.effects()["low"].isna().all()
    assert alone.variance()["p"].isna().all() and not alone.comparisons("optimiser")["stands_out"].any()
    gap = planted(0)
    gap = gap[~((gap["content"] == "photo 2") & (gap["optimiser"] == "sgd"))]
    lacking = Study(gap, ["optimiser", "colour"], "loss")
    assert lacking.missing == ["photo 2, ink"] and "photo 2" in lacking.limits()[-1] and len(lacking.cells) == 7


def test_logarithms_empty_cells_and_wrong_columns():
    table, _ = stored_results("gates")
    found = Study(table, ["gates"], "eval_style_error", log=True)
    means = found.effects().set_index("level")["mean"]
    assert 10 ** means["none"] == pytest.approx(0.1, rel=0.5) and found.limits()[0].startswith("One seed")
    for wrong in ({"value": "loss"}, {"factors": []}, {"factors": ["k"]}):
        with pytest.raises(RequestError, match=r"column|factor"):
            Study(**{"table": table, "factors": ["gates"], "value": "eval_style_error"} | wrong)
    with pytest.raises(RequestError, match="no pair"):
        Study(planted(0).query("optimiser == 'adam' or colour == 'a'"), ["optimiser", "colour"], "loss")
    with pytest.raises(RequestError, match="no factor"):
        found.by("k_S")


def test_intervals_of_few_and_of_equal_numbers():
    assert interval(pd.Series([2.0, 2.0, 2.0])) == (2.0, 2.0)
    assert np.isnan(interval(pd.Series([1.0, 2.0]))).all()
    low, high = interval(pd.Series([1.0, 2.0, 3.0, 4.0, 8.0]))
    assert 1 <= low < 3.6 < high <= 8
    assert pairs_for(2) == 6


def test_one_change_is_a_row_of_all_comparisons_but_for_the_correction():
    asked = study(1).change("optimiser", "adam", "sgd")
    rows = study(1).comparisons("optimiser").set_index(["a", "b"])
    row = rows.loc[("adam", "sgd")]
    assert asked["difference"] == row["difference"] == pytest.approx(2, abs=0.8)
    assert (asked["wins"], asked["pairs"]) == (row["wins"], row["pairs"]) == (8, 8) and asked["p"] <= row["p"]
    assert as_factor(study(1).change("optimiser", "sgd", "adam")).endswith("8 of 8 pairs)")
    with pytest.raises(RequestError, match="optimiser has no level rmsprop; it has adam, lbfgs, sgd"):
        study(1).change("optimiser", "adam", "rmsprop")
