"""Notebooks 00 and 05 to 07 run from a fresh kernel with small parameters, and all of them are one course."""

import re

import nbformat
import papermill
import pytest

from nstlab import course
from nstlab.storage import home

SMALL = {
    "00_start_here": {"size": 48, "iterations": 2},
    "05_initial_values": {"size": 40, "iterations": 2, "seeds": [0, 1]},
    "06_style_weight": {"size": 40, "iterations": 2, "strengths": [0.1, 10.0]},
    "07_iterations_and_learning_rate": {
        "size": 40,
        "iterations": 12,
        "short": 8,
        "rates": [0.5, 5.0],
        "lbfgs_rates": [1.0],
        "histories": [2, 3],
    },
}
FIGURES = {"00_start_here": 4, "05_initial_values": 7, "06_style_weight": 8, "07_iterations_and_learning_rate": 9}


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_and_shows_its_figures(name, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows its figures, as in JupyterLab
    book = papermill.execute_notebook(
        str(home() / "notebooks" / f"{name}.ipynb"),
        str(tmp_path / "executed.ipynb"),
        parameters=SMALL[name] | {"device": "cpu", "out": str(tmp_path / "out")},
        cwd=str(home() / "notebooks"),
        kernel_name="python3",
        progress_bar=False,
    )
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= FIGURES[name]
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr" and "Warning" in o.text]
    said = "\n".join(o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {}))
    assert "What we saw" in said and not re.search(r"\bnan\b|\{", said)
    runs = [path.name for path in (tmp_path / "out").iterdir()]
    assert runs, "its runs are stored where it was told"


@pytest.mark.parametrize("name", SMALL)
def test_it_is_built_as_a_lesson(name):
    book = nbformat.read(home() / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    prose = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    assert len(prose) > len(code)
    assert code[1].metadata.get("tags") == ["parameters"]  # right after the set-up
    assert "Predict before you look" in "".join(prose)
    questions, answers = prose[-1].split("<details><summary>Answers</summary>")
    numbered = r"^\d\. "
    assert len(re.findall(numbered, questions, re.M)) == len(re.findall(numbered, answers, re.M)) >= 4


def test_each_notebook_hands_over_to_others():
    """Every chapter asks a question, says its time, has exercises, and names another chapter."""
    chapters = course.chapters()
    assert [chapter.number for chapter in chapters] == sorted({chapter.number for chapter in chapters})
    for chapter in chapters:
        cells = nbformat.read(chapter.path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        named = set(re.findall(r"[Nn]otebooks? (?:\*\*)?(\d\d)|\*\*Notebook (\d\d)|\[Notebook (\d\d)", text))
        numbers = {number for found in named for number in found if number} - {chapter.number}
        assert numbers, f"{chapter.name} names no other notebook"
        assert "<details><summary>Answers</summary>" in text, chapter.name
