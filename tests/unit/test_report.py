"""The pages about a sweep, parsed: formulas drawn, code folded, no answers; pictures that open their runs."""

import json
import os
import re

import nbformat
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from nstlab import sweeps
from nstlab.errors import RequestError
from nstlab.formulas import mathml
from nstlab.storage import home
from nstlab.sweeps.notebook import write_mark
from nstlab.sweeps.outcome import write_as_run, write_outcome
from nstlab.sweeps.page import ANSWERS, as_html
from nstlab.sweeps.report import about, alternative, write_contact_sheets
from nstlab.sweeps.sheet import TILES

TEXT = """# Title

The loss $L = C + k_S\\,S$ and, on its own line,

$$\\frac{1}{2}\\sum_l w_l$$

What comes [next](05_initial_values.ipynb#top), and [elsewhere](https://example.org/a.ipynb).

<details><summary>Answers</summary>

1. Forty-two.

</details>

<details><summary>More</summary>

Something else.

</details>
"""


def page_of(*cells) -> BeautifulSoup:
    return BeautifulSoup(as_html(nbformat.v4.new_notebook(cells=list(cells))), "html.parser")


def test_formulas_are_drawn_without_a_script():
    page = page_of(nbformat.v4.new_markdown_cell(TEXT))
    assert [math.get("display") for math in page.find_all("math")] == [None, "block"]
    assert "".join(page.find("math").text.split()) == "L=C+kSS"
    assert page.find("mfrac") and "$" not in page.body.text
    assert not page.find_all("script", src=True)
    assert not [script for script in page.find_all("script") if "mathjax" in str(script).lower()]


def test_what_is_no_formula_stays_readable():
    page = page_of(nbformat.v4.new_markdown_cell("$\\nosuchcommand{<b>x</b>}$"))
    assert page.find("code").text == "\\nosuchcommand{<b>x</b>}" and not page.find("b")


def formulas() -> list[str]:
    """All formulas of the course, code left out."""
    texts = []
    for path in sorted((home() / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        texts += [cell.source for cell in cells if cell.cell_type == "markdown"]
    found = []
    for text in texts:
        text = re.sub(r"(?s)```.*?```|`[^`]*`", "", text)
        found += re.findall(r"(?s)\$\$(.+?)\$\$|(?<![\\$])\$([^$]+)\$", text)
    return ["".join(both) for both in found]


def test_every_formula_of_the_course_can_be_drawn():
    every = formulas()
    assert len(every) > 50
    for tex in every:
        assert "<math" in mathml(tex), tex


def test_answers_are_left_out_and_other_folds_stay():
    page = page_of(nbformat.v4.new_markdown_cell(TEXT))
    assert "Forty-two" not in page.text and "Something else" in page.text
    assert not [fold for fold in page.find_all("summary") if "nswer" in fold.text]


def test_every_notebook_marks_its_answers_so():
    for path in (home() / "notebooks").glob("[0-9][0-9]_*.ipynb"):
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        assert "## Exercises" not in text or ANSWERS.search(text), path.name


def test_links_to_notebooks_that_are_not_there_are_text():
    page = page_of(nbformat.v4.new_markdown_cell(TEXT))
    assert "What comes next, and elsewhere." in page.text
    assert [a["href"] for a in page.find_all("a") if "ipynb" in a.get("href", "")] == ["https://example.org/a.ipynb"]


def test_code_is_folded_and_its_output_is_not():
    output = nbformat.v4.new_output("stream", name="stdout", text="the output")
    page = page_of(nbformat.v4.new_code_cell("shown = 'the source'", outputs=[output]))
    (fold,) = page.find_all("details")
    assert fold.summary.text == "Code" and "the source" in fold.text and not fold.has_attr("open")
    assert "the output" in page.text and "the output" not in fold.text


def test_what_needs_a_network_is_refused():
    html = '<img src="https://example.org/a.png">'
    output = nbformat.v4.new_output("display_data", {"text/html": html})
    with pytest.raises(RequestError, match="offline"):
        page_of(nbformat.v4.new_code_cell("1", outputs=[output]))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> sweeps.Outcome:
    """A sweep of two by two points of which one is missing, with its contact sheet."""
    folder = tmp_path_factory.mktemp("sweep")
    fixed = "{size: 48, device: cpu, iterations: 1}"
    grid = "{k_S: [10, 1000], init: [content, style]}"
    (folder / "mine.yaml").write_text(f"notebook: 04_vanilla_transfer.ipynb\nfixed: {fixed}\ngrid: {grid}\n")
    plan = sweeps.make_plan(folder / "mine.yaml", out=folder / "out")
    for point in plan.points[1:]:
        point.run.advance(progress=False)
        write_mark(point.run.folder, plan.notebook.name, point.others, 1, seconds=1.0)
        (point.run.folder / "notebook.ipynb").write_text("{}")
    plan.folder.mkdir(parents=True)
    write_as_run(plan, {"workers": 1, "threads": 1})
    write_outcome(plan, {})
    outcome = sweeps.load(plan.folder)
    write_contact_sheets(outcome)
    return outcome


def test_a_sheet_knows_where_its_pictures_stand(outcome):
    with Image.open(outcome.folder / "contact_sheet.png") as sheet:
        tiles, (width, height) = json.loads(sheet.text[TILES]), sheet.size
        pixels = sheet.convert("RGB")
    assert set(tiles) == set(outcome.table["run"])
    _, row = list(outcome.table.iterrows())[3]
    left, top, right, bottom = tiles[row["run"]]
    corners = (round(left * width), round(top * height), round(right * width), round(bottom * height))
    cut = pixels.crop(corners).resize((48, 48), Image.Resampling.BOX)
    with Image.open(outcome.out / row["picture"]) as picture:
        painted = picture.convert("RGB").resize((48, 48))
    differences = [abs(a - b) for a, b in zip(cut.tobytes(), painted.tobytes(), strict=True)]
    assert sum(differences) / len(differences) < 12  # grey levels: the sheet is the picture, enlarged


def test_a_click_on_the_sheet_opens_what_is_known_of_the_run(outcome):
    page = BeautifulSoup(sweeps.clickable_sheet(outcome).data, "html.parser")
    buttons = page.select("button.nst-tile")
    assert [button["aria-label"] for button in buttons] == [  # as they stand on the sheet, row by row
        "k_S 10, init content",
        "k_S 1000, init content",
        "k_S 10, init style",
        "k_S 1000, init style",
    ]
    cards = {button["aria-label"]: page.find(id=button["popovertarget"]) for button in buttons}
    assert "missing" in cards["k_S 10, init content"].text and "nstlab sweep mine" in cards["k_S 10, init content"].text
    card, row = cards["k_S 1000, init style"], outcome.table.iloc[3]
    assert card.has_attr("popover") and row["path"] in card.text
    assert card.pre.text == f"{outcome.run(row).settings.command} --out {outcome.out}"
    assert not page.find_all("a")  # JupyterLab does not serve the runs
    assert page.img["alt"] == "Contact sheet of the sweep mine: k_S 10, 1000; init content, style"


def test_the_reports_sheet_links_to_the_runs_files(outcome):
    page = BeautifulSoup(sweeps.clickable_sheet(outcome, beside=outcome.folder).data, "html.parser")
    links = [a["href"] for a in page.find_all("a")]
    assert len(links) == 2 * 3
    for link in links:
        assert not os.path.isabs(link) and (outcome.folder / link).is_file()


def test_a_sheet_that_was_drawn_by_hand_is_shown_without_buttons(outcome, tmp_path):
    copy = sweeps.Outcome(outcome.name, outcome.table, outcome.axes, tmp_path)
    with pytest.raises(RequestError, match="nstlab sweep mine"):
        sweeps.clickable_sheet(copy)
    Image.new("RGB", (60, 40)).save(tmp_path / "contact_sheet.png")
    page = BeautifulSoup(sweeps.clickable_sheet(copy).data, "html.parser")
    assert page.img and not page.find_all("button")


def test_a_report_has_a_title_links_and_alternative_texts(outcome):
    sheet = nbformat.v4.new_output("execute_result", {"text/html": sweeps.clickable_sheet(outcome).data})
    figure = nbformat.v4.new_output("display_data", {"image/png": "AAAA"})
    said = nbformat.v4.new_output("stream", name="stdout", text="the best   run\n")
    drawn = nbformat.v4.new_code_cell("plots.trade_off(plane, across)", outputs=[said, figure])
    top = nbformat.v4.new_markdown_cell("# 10 · Reading\n\n**The question:** which?\n\n**Time:** seconds")
    book = nbformat.v4.new_notebook(cells=[top, nbformat.v4.new_code_cell("HTML(x)", outputs=[sheet]), drawn])
    page = BeautifulSoup(as_html(about(outcome, book)), "html.parser")
    assert page.title.text == "mine: k_S × init"
    assert page.h1.text.startswith("The sweep mine: k_S × init")
    assert "4 runs (3 done, 1 missing), up to iteration 1, over k_S: 10, 1000; init: content, style." in page.text
    assert "which?" in page.text and "seconds" not in page.find(class_="jp-MarkdownOutput").text
    beside = {"table.csv", "contact_sheet.png", "sweep.yaml"}
    assert beside <= {a["href"] for a in page.find_all("a")} and all(
        (outcome.folder / name).is_file() for name in beside
    )
    texts = [image["alt"] for image in page.find_all("img")]
    assert len(page.select("a[href$='result.png']")) == 3
    assert texts[0].startswith("Contact sheet of the sweep mine")
    assert texts[1] == (
        "Content loss against style loss, both on log scales: one point per run, joined along one knob. "
        "the best run Sweep mine, k_S 10, 1000; init content, style."
    )


def test_a_figure_that_no_plot_draws_is_told_by_its_sweep(outcome):
    cell = nbformat.v4.new_code_cell("figure")
    assert alternative(outcome, cell) == "Sweep mine, k_S 10, 1000; init content, style."
