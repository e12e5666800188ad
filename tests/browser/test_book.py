"""The book, built from small parameters, in a real browser, from a file, without a kernel or a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.browser.conftest import ROOT, SCREENSHOTS

BUILD = [sys.executable, str(ROOT / "docs" / "book" / "make_book.py"), "--small", "--only", "00,01,02"]
PAGES = {"00_start_here": 4, "01_a_sequence_of_functions": 4, "02_activations_layer_by_layer": 10}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small book: three notebooks, one of them with widgets."""
    folder = tmp_path_factory.mktemp("book")
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    environment |= {"PYTHONPATH": str(ROOT), "NSTLAB_HOME": str(ROOT)}
    first = subprocess.run([*BUILD, "--folder", str(folder)], env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "WARNING" not in first.stderr, first.stderr
    again = subprocess.run([*BUILD, "--folder", str(folder)], env=environment, capture_output=True, text=True)
    assert again.stdout.count("kept from an earlier build") == len(PAGES), again.stdout
    return folder


@pytest.fixture
def open_page(book, chromium):
    """A function that opens a page of the book; afterwards: nothing was asked of a network."""
    asked, contexts = [], []

    def open_it(name: str, width: int = 1400):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 1000}, color_scheme="light"))
        page = contexts[-1].new_page()
        page.on("request", lambda request: asked.append(request.url))
        name, _, query = name.partition("?")
        page.goto(f"{(book / 'site' / name).as_uri()}?{query}", wait_until="load")
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]


def loaded(page, selector: str) -> int:
    """How many pictures have arrived and have a size."""
    return page.locator(selector).evaluate_all("all => all.filter(i => i.complete && i.naturalWidth > 40).length")


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1400, 400])
def test_a_page_has_its_figures_and_fits(open_page, name, width):
    page = open_page(f"{name}.html", width)
    assert loaded(page, ".cell_output img") >= PAGES[name]
    said = page.locator(".cell_output img:not(.nst-stand-in img)").evaluate_all("all => all.map(i => i.alt)")
    assert all(" " in text and "/" not in text.split(" ")[0] for text in said), said
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("math").count() == 0 or page.locator("math").first.bounding_box()["height"] > 5
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"book-{name}-{width}.png")


def test_the_front_page_leads_to_every_chapter(open_page):
    page = open_page("index.html")
    assert loaded(page, "article img") == 2  # the first picture and the gallery
    for name in PAGES:
        assert page.locator(f"article a[href='{name}.html']").count() == 1
        assert page.locator(f"nav a[href='{name}.html']").count() >= 1
    page.locator("article table a").first.click()
    page.wait_for_url("**/00_start_here.html")


def test_widgets_have_a_static_picture_in_their_place(open_page):
    page = open_page("02_activations_layer_by_layer.html")
    assert page.locator(".nst-stand-in").count() == 2  # the slider's page and the explorer
    assert loaded(page, ".nst-stand-in img") >= 1


def test_a_figure_moves(open_page):
    """Notebook 02's picture to click on; its still is hidden."""
    page = open_page("02_activations_layer_by_layer.html", 400)
    picture = page.locator(".nst-moving canvas").first
    before = page.locator(".nst-moving .nst-said").inner_text()
    picture.focus()
    page.keyboard.press("ArrowUp")
    assert page.locator(".nst-moving .nst-said").inner_text() != before
    assert page.locator(".nst-moving td").count() == 15 and not page.locator(".nst-sprite").is_visible()


@pytest.mark.parametrize("name", ["index", *PAGES])
def test_everybody_can_read_it(open_page, name):
    """Contrast, names and roles, by axe-core: nothing serious."""
    found = Axe().run(open_page(f"{name}.html")).response["violations"]
    assert not [fault for fault in found if fault["impact"] in ("serious", "critical")], found


def test_search_finds_a_word_from_a_file(open_page):
    page = open_page("search.html?q=receptive")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    found = page.locator("#search-results li a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert any(link.startswith("01_a_sequence_of_functions") for link in found)
