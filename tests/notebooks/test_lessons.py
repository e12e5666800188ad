"""Notebooks 00 to 03, 05 to 09 and 11 to 14 run from a fresh kernel with small parameters; all are one course."""

import re

import nbformat
import numpy as np
import papermill
import pytest
from PIL import Image

from nstlab import course
from nstlab.sweeps import notebook_parameters

CHAPTERS = {chapter.number: chapter for chapter in course.chapters()}
SMALL = {
    "00": {"size": 48, "iterations": 2},
    "01": {"size": 64},
    "02": {"size": 64, "layers": ["relu2_1"]},
    "03": {
        "size": 48,
        "iterations": 3,
        "content_layers": ["relu1_1", "relu2_2"],
        "style_layers": ["relu1_1", "relu2_1"],
        "channels": 1,
        "favourite_size": 32,
        "favourite_iterations": 2,
    },
    "05": {"size": 40, "iterations": 2, "seeds": [0, 1]},
    "06": {"size": 40, "iterations": 2, "strengths": [0.1, 10.0]},
    "07": {"size": 40, "iterations": 12, "short": 8, "rates": [0.5, 5.0], "lbfgs_rates": [1.0], "histories": [2, 3]},
    "08": {"size": 64},
    "09": {"size": 48, "iterations": 2, "content": "chelsea", "style": "waves"},
    "11": {"size": 48, "iterations": 2, "strengths": [0.0, 30000.0]},
    "12": {"size": 48, "iterations": 2},
    "13": {"size": 48, "iterations": 2, "groups": 3},
    "14": {},
}
FIGURES = {
    "00": 4,
    "01": 4,
    "02": 10,
    "03": 9,
    "05": 7,
    "06": 8,
    "07": 12,
    "08": 7,
    "09": 6,
    "11": 14,
    "12": 6,
    "13": 14,
    "14": 10,
}


@pytest.fixture(autouse=True)
def inline_figures(monkeypatch):
    """The kernels show their figures, as in JupyterLab; the other tests' backend only draws them."""
    monkeypatch.delenv("MPLBACKEND", raising=False)


@pytest.fixture(scope="module")
def portrait(tmp_path_factory):
    """An unusual picture: grey, upright, 97 x 131 pixels."""
    rows, columns = np.mgrid[:131, :97]
    pixels = (128 + 100 * np.sin(columns / 5) * np.cos(rows / 9)).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "portrait.png"
    Image.fromarray(pixels, mode="L").save(path)
    return str(path)


def said_by(number, parameters, tmp_path):
    """What a notebook displays as Markdown when it is executed; it must draw its figures and warn of nothing."""
    path = CHAPTERS[number].path
    out = {"out": str(tmp_path / "out")} if "out" in notebook_parameters(path) else {}
    book = papermill.execute_notebook(
        str(path),
        str(tmp_path / "executed.ipynb"),
        parameters=parameters | {"device": "cpu"} | out,
        cwd=str(path.parent),
        kernel_name="python3",
        progress_bar=False,
    )
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    figures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(figures) >= FIGURES[number]
    assert all(" " in figure.metadata["image/png"]["alt"] for figure in figures)
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr" and "Warning" in o.text]
    said = "\n".join(o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {}))
    assert "What we saw" in said and not re.search(r"\bnan\b|\{", said)
    if out:
        assert list((tmp_path / "out").iterdir()), "its runs are stored where it was told"
    return said


@pytest.mark.parametrize("number", SMALL)
def test_it_runs_and_shows_its_figures(number, tmp_path):
    said = said_by(number, SMALL[number], tmp_path)
    if number == "08":
        assert "The answer." in said and "of the parameters" in said


@pytest.mark.parametrize("number", ["01", "02", "03"])
def test_it_runs_with_an_unusual_picture(number, portrait, tmp_path):
    said_by(number, SMALL[number] | {"content": portrait, "size": 131 if number == "01" else 64}, tmp_path)


@pytest.mark.parametrize("number", CHAPTERS)
def test_it_is_built_as_a_lesson(number):
    book = nbformat.read(CHAPTERS[number].path, as_version=4)
    cells = [cell for cell in book.cells if "colab" not in cell.metadata.get("tags", [])]
    code = [cell for cell in cells if cell.cell_type == "code"]
    prose = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    assert code[1].metadata.get("tags") == ["parameters"]  # right after the set-up
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert len(prose) > len([cell for cell in code if not cell.metadata.get("jupyter", {}).get("source_hidden")])
    assert prose[0].startswith(f"# {CHAPTERS[number].path.name[:2]} · ")
    assert "**The question:**" in prose[0] and "**Time:**" in prose[0]
    assert sum("Predict before you look" in text for text in prose) >= (1 if number == "00" else 2)
    assert "## Exercises" in prose[-1]
    questions, answers = prose[-1].split("<details><summary>Answers</summary>")
    numbered = r"^\d\. "
    least = 3 if number == "10" else 4
    assert len(re.findall(numbered, questions, re.M)) == len(re.findall(numbered, answers, re.M)) >= least


def test_each_notebook_hands_over_to_others():
    numbers = [chapter.number for chapter in course.chapters()]
    assert numbers == sorted(set(numbers))
    for number, chapter in CHAPTERS.items():
        cells = nbformat.read(chapter.path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        named = re.findall(r"[Nn]otebooks? (?:\*\*)?(\d\d)|\*\*Notebook (\d\d)|\[Notebook (\d\d)", text)
        others = {found for groups in named for found in groups if found} - {number}
        assert others, f"{chapter.name} names no other notebook"
