"""Notebook 04 from a fresh kernel, and what make run does with it."""

import base64
import io
import json
import sys

import nbformat
import pytest
from PIL import Image

import nstlab as lab
from nstlab.__main__ import main
from nstlab.sweeps import run_notebook

NOTEBOOK = "04_vanilla_transfer.ipynb"


def test_with_an_unusual_picture_and_every_kind_of_parameter(tmp_path, monkeypatch):
    """Portrait, grey, 97 x 131 pixels, named by a path relative to where the user stands."""
    monkeypatch.chdir(tmp_path)
    Image.open(lab.sample_pictures()["chelsea"]).convert("L").resize((97, 131)).save("odd.png")
    values = {"content": "odd.png", "size": 60, "style_size": 64, "iterations": 5, "k_S": 300.0, "init": "average"}
    values |= {"style_layers": ["relu1_1", "relu3_1"], "style_layer_weights": [1.0, 2.0]}
    run = run_notebook(NOTEBOOK, values, tmp_path / "out", progress=False)
    assert run.iteration == 5
    assert run.result.shape == (1, 3, 60, 44)
    executed = nbformat.read(run.folder / "notebook.ipynb", as_version=4)
    assert all(cell.execution_count for cell in executed.cells if cell.cell_type == "code")
    figures = [o for cell in executed.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(figures) >= 5
    for figure in figures:  # on a card of their own: readable in JupyterLab's dark theme, too
        assert Image.open(io.BytesIO(base64.b64decode(figure["data"]["image/png"]))).getpixel((0, 0))[3] == 255
    streams = [o for cell in executed.cells for o in cell.get("outputs", []) if o.output_type == "stream"]
    assert {o.name for o in streams if "transfer:" in o.text} == {"stdout"}  # JupyterLab paints the other one pink
    again = lab.Run(lab.Settings(**values), tmp_path / "out")
    assert again.folder == run.folder


@pytest.mark.parametrize(
    "unusual",
    [
        {"init": "black"},
        {"style_layers": [], "content_layers": ["relu1_1"]},
        {"content": "waves", "content_layers": []},
    ],
    ids=str,
)
def test_its_checks_hold_for(unusual, tmp_path):
    """A flat picture, in which all maxima of a pooling tie; content alone; a style alone, of the picture itself."""
    values = {"content": "chelsea", "style": "waves", "size": 96, "iterations": 2}
    assert run_notebook(NOTEBOOK, values | unusual, tmp_path, progress=False).complete


def test_the_command_line_goes_through_it_with_settings_that_agree_together(tmp_path, monkeypatch, capsys):
    """`nstlab run --notebook`, with one part of the settings from a run.json and the other as text."""
    source = tmp_path / "run.json"
    first = lab.Settings(size=48, iterations=1, style_layers=("relu1_1", "relu3_1"), k_S_changes="1:3")
    source.write_text(json.dumps({"settings": first.model_dump(mode="json")}))
    words = ["run", "--notebook", NOTEBOOK, "--from", str(source), "--set", "style_layer_weights=1,2"]
    monkeypatch.setattr(sys, "argv", ["nstlab", *words, "--out", str(tmp_path / "out")])
    main()
    run = lab.Run(first.with_(style_layer_weights=(1, 2)), tmp_path / "out")
    assert run.iteration == 1 and str(run.folder / "notebook.ipynb") in capsys.readouterr().out


def test_what_it_refuses_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(lab.RequestError, match=r"unknown parameter of 04_vanilla_transfer\.ipynb 'k_s'"):
        run_notebook(NOTEBOOK, {"k_s": 3}, tmp_path, progress=False)
    with pytest.raises(lab.RequestError, match="k_S"):
        run_notebook(NOTEBOOK, {"k_S": -3}, tmp_path, progress=False)
    with pytest.raises(lab.RequestError, match="unknown notebook"):
        run_notebook("05_nothing.ipynb", {}, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_cell_that_fails_is_one_line_and_its_notebook_is_kept(tmp_path):
    """The request is checked by the picture's header; that its pixels are cut off shows in the cell that reads them."""
    Image.open(lab.sample_pictures()["coffee"]).save(tmp_path / "gone.png")
    values = {"content": str(tmp_path / "gone.png"), "size": 48, "iterations": 1, "k_S": 10.0}
    settings = lab.Settings(**values)
    whole = (tmp_path / "gone.png").read_bytes()
    (tmp_path / "gone.png").write_bytes(whole[: len(whole) // 2])
    folder = lab.Run(settings, tmp_path / "out").folder
    with pytest.raises(lab.RunError) as error:
        run_notebook(NOTEBOOK, values, tmp_path / "out", progress=False)
    assert "stopped at cell" in str(error.value) and "\n" not in str(error.value)
    assert (folder / "notebook.ipynb").exists()


def test_with_two_styles_and_all_that_can_be_controlled(tmp_path):
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "start.png")
    values = {"style": ["swirl", "gilt"], "style_weights": [2, 1], "size": 48, "iterations": 2, "colour": "luminance"}
    values |= {"content_masks": ["astronaut-figure", "none"], "k_TV": 3.0, "padding": "replicate"}
    values |= {"init": str(tmp_path / "start.png"), "explore": False}
    run = run_notebook(NOTEBOOK, values, tmp_path / "out", progress=False)
    assert run.iteration == 2 and run.settings.proportions == (2 / 3, 1 / 3)
