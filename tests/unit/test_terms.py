"""A third term of the loss, added in one place, is a term everywhere."""

import contextlib
import importlib
import re
from unittest.mock import patch

import pandas as pd
import pytest
import torch

import nstlab as lab
from nstlab import dissect, evaluation, plots
from nstlab.optimise import TERMS, set_up
from nstlab.settings import choices
from nstlab.storage import home
from nstlab.sweeps import outcome
from nstlab.widgets.curves import loss_curves

FLATNESS = 1e-3


class Flatness:
    """The mean square of the picture's grey levels: it pulls everything to the network's mean pixel."""

    layers, parts = (), ()

    def __init__(self, net, pictures, settings) -> None: ...

    def of_layer(self, name, activation): ...

    def of_picture(self, x, of_layers):
        return FLATNESS * x.square().mean()


@pytest.fixture
def flat(monkeypatch):
    """The settings of a small run, with the term."""
    monkeypatch.setitem(TERMS, "flatness", Flatness)
    layers = {"content_layers": ["relu2_1"], "style_layers": ["relu1_1"]}
    return lab.Settings(size=48, iterations=6, device="cpu", weights="random", **layers)


def weighed(history: pd.DataFrame, k_S: float, row: int) -> float:
    return history["content"][row] + k_S * history["style"][row] + history["flatness"][row]


def test_it_is_in_the_history_and_in_the_total_after_a_change_of_k_S(flat, tmp_path):
    history = lab.Run(flat.with_(k_S_changes="3:5"), tmp_path).advance(progress=False).history
    assert list(history.columns) == ["iteration", "seconds", "total", "content", "style", "flatness", "relu1_1"]
    assert history["flatness"].min() > 0
    for row in range(7):
        assert history["total"][row] == pytest.approx(weighed(history, 1000 if row < 3 else 5, row), rel=1e-6)


def test_it_goes_over_into_a_branch(flat, tmp_path):
    begun = lab.Run(flat.with_(iterations=3), tmp_path).advance(progress=False)
    branch = begun.change_k_S(5)
    assert branch.history["total"][3] == pytest.approx(weighed(branch.history, 5, 3), rel=1e-6)
    whole = lab.Run(branch.settings.with_(iterations=6), tmp_path / "whole").advance(progress=False)
    gone_on = lab.Run(branch.settings.with_(iterations=6), tmp_path).advance(progress=False)
    assert gone_on.history.drop(columns="seconds").equals(whole.history.drop(columns="seconds"))


def test_it_is_in_the_figure_the_live_curves_and_the_table(flat, tmp_path):
    run = lab.Run(flat, tmp_path).advance(progress=False)
    figure = plots.losses(run.history, run.settings)
    assert "flatness" in {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}
    rows = run.history.drop(columns=["iteration", "seconds"]).to_dict("records")
    assert "flatness" in loss_curves(list(enumerate(rows)), run.settings)
    assert outcome.history_row(run.folder / "history.csv", 6)["flatness"] == run.history["flatness"][6]


def test_what_pulls_has_a_row_for_it(flat):
    objective, x = set_up(flat.with_(init="white"))
    shares = dissect.gradient_shares(objective, x)
    assert list(shares.index) == ["content", "relu1_1", "flatness"] and shares["norm"]["flatness"] > 0
    assert shares["projection"].sum() == pytest.approx(1)


def test_it_shapes_the_picture(flat, tmp_path, monkeypatch):
    with_it = list(lab.transfer(flat))[-1].image
    monkeypatch.delitem(TERMS, "flatness")
    assert not torch.equal(with_it, list(lab.transfer(flat))[-1].image)


def test_what_CONTRIBUTING_adds_in_one_file_is_known_everywhere(tmp_path):
    """Each example there is run as it stands, in the module that it names, and then used."""
    text = (home() / "CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = re.findall(r"in `nstlab/([\w/]+)\.py`: [^\n]*\n\n```python\n(.*?)```", text, re.S)
    assert len(examples) == 4
    added = {"style_loss": "mean", "init": "negative", "reduction": "loudest"}
    layers = {"style_layers": "relu1_1,relu2_1", "content_layers": "relu2_1"}
    with contextlib.ExitStack() as undone:
        for path, code in examples:
            module = importlib.import_module("nstlab." + path.replace("/", "."))
            dictionary = re.search(r"^([A-Z_]+)\[", code, re.M).group(1)
            undone.enter_context(patch.dict(getattr(module, dictionary)))
            exec(code, dict(vars(module)))
        assert all(name in choices(knob) for knob, name in added.items())
        run = lab.Run(lab.Settings(size=64, iterations=1, device="cpu", amount=0.5, **layers, **added), tmp_path)
        row = evaluation.evaluate(run.advance(progress=False))
        assert torch.allclose(run.frame(0), 1 - lab.load_image("astronaut", 64), atol=1e-6)
        assert row["brightness"] > 1
    with pytest.raises(lab.RequestError, match="loudest"):
        lab.Settings(reduction="loudest")
