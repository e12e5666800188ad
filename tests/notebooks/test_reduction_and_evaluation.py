"""Notebooks 08 and 09 run from a fresh kernel with small parameters, and say what they promise."""

import re

import nbformat
import papermill
import pytest

from nstlab.storage import home

SMALL = {
    "08_network_reduction": {"size": 64},
    "09_evaluation": {"size": 48, "iterations": 2, "content": "chelsea", "style": "waves"},
}
FIGURES = {"08_network_reduction": 7, "09_evaluation": 6}


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_and_shows_its_figures(name, tmp_path, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows its figures, as in JupyterLab
    given = SMALL[name] | {"device": "cpu"} | ({"out": str(tmp_path / "out")} if name[:2] == "09" else {})
    book = papermill.execute_notebook(
        str(home() / "notebooks" / f"{name}.ipynb"),
        str(tmp_path / "executed.ipynb"),
        parameters=given,
        cwd=str(home() / "notebooks"),
        kernel_name="python3",
        progress_bar=False,
    )
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= FIGURES[name]
    assert not [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr" and "Warning" in o.text]
    said = "\n".join(o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {}))
    assert "What we saw" in said and not re.search(r"\bnan\b|\{", said)
    if name.startswith("08"):
        assert "The answer." in said and "of the parameters" in said


@pytest.mark.parametrize("name", SMALL)
def test_it_is_built_as_a_lesson(name):
    book = nbformat.read(home() / "notebooks" / f"{name}.ipynb", as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    prose = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    assert code[1].metadata.get("tags") == ["parameters"]
    assert prose[0].startswith(f"# {name[:2]} · ") and "**The question:**" in prose[0] and "**Time:**" in prose[0]
    assert "## Exercises" in prose[-1] and "<details><summary>Answers</summary>" in prose[-1]
    assert sum("Predict before you look" in text for text in prose) >= 2
    questions, answers = prose[-1].split("<details>")
    assert len(re.findall(r"^\d\. ", questions, re.M)) == len(re.findall(r"^\d\. ", answers, re.M)) >= 4
