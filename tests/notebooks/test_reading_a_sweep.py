"""Notebook 10 reads whatever sweep it is given, and becomes a page that opens offline."""

import re

import nbformat
import pytest

from nstlab import sweeps
from nstlab.errors import RunError
from nstlab.storage import home
from nstlab.sweeps.notebook import execute, write_mark
from nstlab.sweeps.outcome import write_as_run, write_outcome
from nstlab.sweeps.report import NOTEBOOK, write_contact_sheets, write_report

FILE = """
notebook: 04_vanilla_transfer.ipynb
fixed: {{size: 48, device: cpu, iterations: {iterations}}}
grid: {grid}
"""


def swept(folder, grid: str, left_out: int = 0, iterations: int = 3) -> sweeps.Outcome:
    """A small sweep as `nstlab sweep` leaves it, computed here instead of in kernels."""
    (folder / "mine.yaml").write_text(FILE.format(grid=grid, iterations=iterations))
    plan = sweeps.make_plan(folder / "mine.yaml", out=folder / "out")
    for point in plan.points[left_out:]:
        point.run.advance(progress=False)
        write_mark(point.run.folder, plan.notebook.name, point.others, iterations, seconds=1.0)
    plan.folder.mkdir(parents=True)
    write_as_run(plan, {"workers": 2, "threads": 1})
    write_outcome(plan, {})
    outcome = sweeps.load(plan.folder)
    write_contact_sheets(outcome)
    return outcome


def outputs_of(cell) -> list:
    return cell.get("outputs", [])


def test_the_report_of_a_sweep_opens_offline(tmp_path):
    outcome = swept(tmp_path, "{k_S: [1, 1000], init: [content, style, average]}", left_out=1)
    page = write_report(outcome).read_text()
    assert page.count("data:image/png;base64") >= 7  # the contact sheet and the figures
    assert "5 done" in page and "1 missing" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*\b(src|href)=[\"']?(https?:)?//", page)
    assert not re.search(r"@import|url\([\"']?https?:", page)
    executed = nbformat.read(outcome.folder / "notebook.ipynb", as_version=4)
    figures = [out for cell in executed.cells for out in outputs_of(cell) if "image/png" in out.get("data", {})]
    sheets = [
        out
        for cell in executed.cells
        for out in outputs_of(cell)
        if "nst-sheet" in out.get("data", {}).get("text/html", "")
    ]
    assert len(sheets) == 1 and len(figures) >= 6
    said = [output.get("data", {}).get("text/markdown", "") for cell in executed.cells for output in outputs_of(cell)]
    assert any("grey levels** on average" in text for text in said) and not any(" nan" in text for text in said)


@pytest.mark.parametrize(
    "grid",
    [
        "{seed: [0, 1]}",
        "{k_S: [1, 1000], learning_rate: [null, 0.5], optimizer: [lbfgs, adam]}",
        "{style_layers: [[relu1_1], [relu1_1, relu2_1]], k_S: [1, 100]}",
    ],
)
def test_it_reads_other_shapes_of_sweep(tmp_path, grid):
    outcome = swept(tmp_path, grid, iterations=1)
    execute(home() / "notebooks" / NOTEBOOK, outcome.folder, {"sweep": "mine", "out": str(outcome.out)})


def test_it_says_which_sweep_there_is_not(tmp_path):
    with pytest.raises(RunError, match="nstlab sweep none_such"):
        execute(home() / "notebooks" / NOTEBOOK, tmp_path, {"sweep": "none_such", "out": str(tmp_path)})
