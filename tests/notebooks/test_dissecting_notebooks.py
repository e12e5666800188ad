"""Notebooks 01 to 03 run from a fresh kernel with small parameters, with any picture, and say what they promise."""

import re

import nbformat
import numpy as np
import papermill
import pytest
from PIL import Image

from nstlab.storage import home

FIRST, SECOND, THIRD = (
    "01_a_sequence_of_functions",
    "02_activations_layer_by_layer",
    "03_what_a_layer_keeps",
)
SMALL = {
    FIRST: {"size": 64},
    SECOND: {"size": 64, "layers": ["relu2_1"]},
    THIRD: {
        "size": 48,
        "iterations": 3,
        "content_layers": ["relu1_1", "relu2_2"],
        "style_layers": ["relu1_1", "relu2_1"],
        "channels": 1,
        "favourite_size": 32,
        "favourite_iterations": 2,
    },
}
FIGURES = {FIRST: 4, SECOND: 10, THIRD: 9}


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    """An unusual picture: grey, upright, 97 x 131 pixels."""
    rows, columns = np.mgrid[:131, :97]
    pixels = (128 + 100 * np.sin(columns / 5) * np.cos(rows / 9)).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "portrait.png"
    Image.fromarray(pixels, mode="L").save(path)
    return str(path)


def execute(name, parameters, tmp_path):
    """The executed copy of a notebook; an error in a cell is raised."""
    if name == THIRD:
        parameters = parameters | {"out": str(tmp_path / "out")}
    return papermill.execute_notebook(
        str(home() / "notebooks" / f"{name}.ipynb"),
        str(tmp_path / "executed.ipynb"),
        parameters=parameters | {"device": "cpu"},
        cwd=str(home() / "notebooks"),
        kernel_name="python3",
        progress_bar=False,
    )


@pytest.fixture(autouse=True)
def inline_figures(monkeypatch):
    """The kernels show their figures, as in JupyterLab; the other tests' backend only draws them."""
    monkeypatch.delenv("MPLBACKEND", raising=False)


def texts(book):
    """What the cells display as Markdown."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [output.data["text/markdown"] for output in outputs if "text/markdown" in output.get("data", {})]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("picture", ["astronaut", "portrait"])
def test_it_runs_and_shows_its_figures(name, picture, portrait, tmp_path):
    parameters = SMALL[name] | {"content": portrait if picture == "portrait" else picture}
    if picture == "portrait":
        parameters["size"] = 131 if name == FIRST else 64
    book = execute(name, parameters, tmp_path)
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= FIGURES[name]
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr" and "Warning" in o.text]
    said = "\n".join(texts(book))
    assert "What we saw" in said and not re.search(r"\bnan\b|\{", said)


@pytest.mark.parametrize("name", SMALL)
def test_it_is_built_as_a_lesson(name):
    book = nbformat.read(home() / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    prose = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    assert code[1].metadata.get("tags") == ["parameters"]  # right after the set-up
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert prose[0].startswith(f"# {name[:2]} · ") and "**The question:**" in prose[0] and "**Time:**" in prose[0]
    assert "## Exercises" in prose[-1] and "<details><summary>Answers</summary>" in prose[-1]
    assert sum("Predict before you look" in text for text in prose) >= 2
    questions, answers = prose[-1].split("<details>")
    numbered = r"^\d\. "
    assert len(re.findall(numbered, questions, re.M)) == len(re.findall(numbered, answers, re.M)) >= 4
