"""Figures that move, from a file without a kernel and in JupyterLab: pointer, keys, a narrow screen, no JavaScript."""

import pytest
from axe_playwright_python.sync_playwright import Axe

import nstlab as lab
from nstlab import sweeps, widgets
from nstlab.widgets import moving
from tests.browser.conftest import SCREENSHOTS

PAGE = "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Figures</title></head><body>{}</body></html>"
CELL = """\
from nstlab import sweeps, widgets
table, pictures = sweeps.stored_results("style_weight")
widgets.by_sliders({"k_S": list(table["k_S"])}, {(k,): p for k, p in zip(table["k_S"], pictures)}, "By k_S")"""


@pytest.fixture(scope="module")
def page_of_figures(tmp_path_factory, net):
    """One figure of each kind, as a file."""
    table, pictures = sweeps.stored_results("style_weight")
    labels = [f"k_S = {k:g}" for k in table["k_S"]]
    points = list(zip(table["loss_content"], table["loss_style"], strict=True))
    figures = [
        widgets.by_sliders({"k_S": labels}, {(k,): p for k, p in zip(labels, pictures, strict=True)}, "Sliders"),
        widgets.divided(dict(zip(labels, pictures, strict=True)), "Divider"),
        widgets.on_curve(points, labels, pictures, "content loss", "style loss", "Curve"),
        widgets.seen_from(net, lab.load_image("astronaut", 96), ("relu1_2", "relu3_2"), title="Places"),
    ]
    states = [{n: getattr(f, n) for n in (*f.trait_names(sync=True), "_esm", "_css")} for f in figures]
    html = "\n".join(moving.as_html(state, figure.sprite) for state, figure in zip(states, figures, strict=True))
    path = tmp_path_factory.mktemp("moving") / "figures.html"
    path.write_text(PAGE.format(html), encoding="utf-8")
    return path


@pytest.fixture
def opened(page_of_figures, chromium):
    """A function that opens the page at a width, with or without JavaScript; nothing may fail or ask a network."""
    contexts, faults = [], []

    def open_it(width=1200, javascript=True):
        contexts.append(chromium.new_context(viewport={"width": width, "height": 900}, java_script_enabled=javascript))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda request: faults.append(request.url) if request.url.startswith("http") else None)
        page.goto(page_of_figures.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not faults


def shown(figure) -> str:
    """What a figure's first canvas shows, as a data URL."""
    return figure.locator("canvas").first.evaluate("canvas => canvas.toDataURL()")


def test_keys_move_every_kind(opened):
    page = opened()
    figures = page.locator(".nst-moving")
    assert figures.count() == 4 and page.locator(".nst-sprite:visible").count() == 0
    said = [".nst-said", "canvas", ".nst-said", ".nst-said"]
    for number, where in enumerate(said):
        figure = figures.nth(number)
        before, text = shown(figure), figure.locator(where).first.get_attribute("aria-label") or figure.inner_text()
        handle = figure.locator("input[type=range], canvas[tabindex]").first
        handle.focus()
        page.keyboard.press("ArrowLeft")
        page.wait_for_timeout(50)
        after = figure.locator(where).first.get_attribute("aria-label") or figure.inner_text()
        assert shown(figure) != before, number
        assert after != text or number == 1, number  # the divider's line has moved, its pictures are the same
    figures.nth(1).locator("select").first.select_option(label="k_S = 1000")
    assert "k_S = 1000" in figures.nth(1).locator("canvas").get_attribute("aria-label")


def test_the_pointer_moves_what_can_be_pointed_at(opened):
    page = opened()
    curve, places, divider = (page.locator(".nst-moving").nth(k) for k in (2, 3, 1))
    curve.locator("circle").first.click()
    assert curve.locator(".nst-said").inner_text().startswith("k_S = 0.01: content loss ")
    box = places.locator("canvas").first.bounding_box()
    places.locator("canvas").first.click(position={"x": 3, "y": box["height"] - 3})
    assert places.locator(".nst-said").inner_text() == "row 93, column 3"
    before = shown(divider)
    divider.locator("canvas").click(position={"x": 20, "y": 20})
    assert shown(divider) != before and divider.locator("output").first.inner_text() in ("4 %", "5 %")


@pytest.mark.parametrize("width", [1200, 400])
def test_they_fit_and_can_be_read_by_everybody(opened, width):
    page = opened(width)
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    assert not [fault for fault in found if fault["impact"] in ("serious", "critical")], found
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"moving-{width}.png", full_page=True)


def test_without_javascript_all_pictures_are_there(opened):
    page = opened(javascript=False)
    assert page.locator(".nst-sprite:visible").count() == 4 and page.locator(".nst-moving").count() == 0


def test_in_jupyterlab_it_is_the_same(notebook):
    page = notebook([CELL])
    page.run_all()
    range_ = page.locator(".nst-moving input[type=range]")
    range_.wait_for()
    said = page.locator(".nst-moving .nst-said")
    page.wait_until(lambda: said.inner_text() == "k_S 10", what="the picture in the middle")
    range_.focus()
    page.page.keyboard.press("ArrowRight")
    page.wait_until(lambda: said.inner_text() == "k_S 100", what="the next picture")
    page.screenshot("moving-jupyterlab", ".nst-moving")
