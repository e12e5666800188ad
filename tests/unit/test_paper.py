"""The article that is made of notebook 14: what is left out of it, its figures' captions, its references."""

import base64
import io

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from pybtex.database import parse_file

from nstlab import course
from nstlab.errors import RequestError
from nstlab.storage import home
from nstlab.sweeps.page import as_html


@pytest.fixture(scope="module")
def make_paper(load_script):
    """docs/paper/make_paper.py as a module."""
    return load_script("docs/paper/make_paper.py")


@pytest.fixture(scope="module")
def works():
    return parse_file(home() / "docs" / "paper" / "references.bib")


def figure(source):
    """A cell that has shown a figure."""
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    shown = new_output("display_data", {"image/png": base64.b64encode(data.getvalue()).decode()})
    return new_code_cell(source, outputs=[new_output("stream", text="talk"), shown])


def test_an_article_is_the_notebook_without_what_only_a_course_needs(make_paper, works):
    predict = new_markdown_cell("**Predict before you look**", metadata={"tags": ["course"]})
    seen = new_output("display_data", {"text/markdown": "It fell, as Efron (1987) would say."})
    cells = [
        new_markdown_cell("# 14 · Results\n\nAfter Gatys, Ecker & Bethge (2016); $k_S$ is 1."),
        predict,
        figure("# Figure: Two lines,\n# of Han, Mao & Dally 2016.\nplot()"),
        new_code_cell("x = 1"),
        new_code_cell("say()", outputs=[seen]),
    ]
    page = BeautifulSoup(as_html(make_paper.article(new_notebook(cells=cells), works), code=False), "html.parser")
    text = " ".join(page.get_text(" ").split())
    assert page.h1.get_text().startswith("Results") and page.title.get_text() == "Results"
    assert "Predict" not in text and "plot()" not in text and "talk" not in text and "x = 1" not in text
    assert page.img["alt"] == "Two lines, of Han, Mao & Dally 2016."
    assert "Figure 1. Two lines, of Han, Mao & Dally 2016 ." in text
    cited = [p["id"] for p in page.select(".nst-references p")]
    assert cited == ["efron1987", "gatys2016", "han2016"]
    assert {link["href"] for link in page.select("a[href^='#']")} >= {f"#{key}" for key in cited}
    assert page.find("math") is not None


def test_a_work_or_a_caption_that_is_missing_is_named(make_paper, works):
    with pytest.raises(RequestError, match=r"Nobody & Else 1999 is cited, but references\.bib has no such work"):
        make_paper.article(new_notebook(cells=[new_markdown_cell("# T\n\nAs in Nobody & Else (1999).")]), works)
    with pytest.raises(RequestError, match="figure 1 has no caption"):
        make_paper.article(new_notebook(cells=[new_markdown_cell("# T"), figure("plot()")]), works)


def test_the_short_name_of_a_work(make_paper, works):
    names = {key: make_paper.short_name(entry) for key, entry in works.entries.items()}
    assert names["gatys2016"] == "Gatys, Ecker & Bethge 2016" and names["paszke2017"] == "Paszke et al. 2017"
    assert len(set(names.values())) == len(names)


def test_every_figure_of_notebook_14_has_a_caption_and_every_work_an_entry(make_paper, works):
    (chapter,) = (c for c in course.chapters() if c.number == "14")
    book = nbformat.read(chapter.path, as_version=4)
    cited = {}
    for cell in book.cells:
        make_paper.cite(cell.source, works, cited)
        if "plots." in cell.source and cell.cell_type == "code" and "import" not in cell.source:
            assert make_paper.CAPTION.match(cell.source), cell.source
    assert set(cited) >= {"gatys2016", "efron1987", "holm1979", "gedeon1991", "han2016"}
