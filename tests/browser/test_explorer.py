"""The explorer as a person meets it: in JupyterLab, in Chromium."""

import time

CELL = """\
from nstlab.widgets.exploring import explorer
tool = explorer("astronaut", "swirl", size={size})
tool"""


def open_explorer(notebook, size=256, **options):
    page = notebook([CELL.format(size=size)], **options)
    page.run_all()
    page.locator(".nst-explorer-features td").first.wait_for()
    page.wait_until(lambda: card(page).startswith("blob:"), what="the feature's card")
    page.page.wait_for_timeout(500)  # the kernel's last messages
    return page


def card(page) -> str:
    return page.locator(".nst-explorer-card img").get_attribute("src") or ""


def caption(page, which=0) -> str:
    return page.locator(".nst-picture figcaption").nth(which).inner_text()


def table(page) -> str:
    return page.locator(".nst-explorer-features").inner_text()


def click(page, row: float, column: float, which=0) -> float:
    """Click on a picture, at fractions of its height and width; seconds until the table has changed."""
    canvas, before = page.locator(".nst-picture canvas").nth(which), table(page)
    box = canvas.bounding_box()
    began = time.monotonic()
    canvas.click(position={"x": column * box["width"], "y": row * box["height"]})
    page.page.wait_for_function(
        "(before) => document.querySelector('.nst-explorer-features').innerText !== before", arg=before, polling=10
    )
    return time.monotonic() - began


def test_a_click_shows_what_the_place_excites(notebook):
    page = open_explorer(notebook, height=1300)
    page.screenshot("explorer-start")
    seconds = [click(page, row, column) for row, column in ((0.2, 0.45), (0.7, 0.3), (0.9, 0.9), (0.25, 0.75))]
    print(f"seconds from click to table: {sorted(seconds)}")  # 0.05 to 0.17 at 256 pixels; a busy machine adds to it
    assert "row 6" in caption(page) and "column 19" in caption(page)
    assert all(layer in table(page) for layer in ("conv1_1", "relu3_2", "pool5"))
    assert page.run("tool.pictures['astronaut'].point").startswith("[6")
    page.screenshot("explorer-clicked")

    before = card(page)
    page.locator("[data-feature^=relu4_2-]").first.click()
    page.wait_until(lambda: card(page) != before, what="another card")
    page.wait_until(lambda: page.locator(".nst-explorer-layer select").input_value() == "relu4_2", what="the layer")
    page.locator("[data-feature^=relu4_2-][aria-pressed=true]").first.wait_for()
    page.screenshot("explorer-feature")

    before = card(page)
    page.locator(".nst-explorer-layer select").select_option("relu1_1")
    page.wait_until(lambda: card(page) != before, what="the layer's card")
    assert "relu1_1" in page.run("tool.controls['layer'].value")

    before = card(page)
    click(page, 0.5, 0.5, which=1)
    assert "swirl" in page.run("tool.current")
    page.wait_until(lambda: card(page) != before, what="the other picture's card")
    page.screenshot("explorer-style")
    assert page.run("tool.controls['status'].value") in ("", "''")


def test_it_works_from_the_keyboard_and_says_what_is_wrong(notebook):
    page = open_explorer(notebook, size=64, width=1000, dark=True)
    assert "row 32, column 32" in caption(page)
    page.locator(".nst-picture canvas").first.focus()
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("ArrowRight")
    page.wait_until(lambda: "row 36, column 36" in caption(page), what="the new place")
    for _ in range(20):
        page.page.keyboard.press("ArrowDown")
    page.wait_until(lambda: "row 63, column 36" in caption(page), what="the border")
    page.screenshot("explorer-dark")
    assert "features 0 to 63, not 99" in page.run(
        "try:\n    tool.choose('conv1_1', 99)\nexcept Exception as error:\n    print(error)"
    )


CUT_OFF = """() => [...document.querySelectorAll('.nst-explorer *')].filter(part => part.clientWidth
  && part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).overflowX !== 'visible'
  && !part.matches('input, select')).map(part => part.className + ': ' + part.scrollWidth)"""


def test_rows_favourites_and_neighbours(notebook):
    """A row for conv and relu of a layer; nothing is cut off; a favourite is painted; a neighbour is a click away."""
    page = open_explorer(notebook, size=96, width=1400, height=1300)
    rows = page.locator(".nst-explorer-features tbody tr")
    assert rows.count() == 21  # 16 convolutions, each with its relu, and 5 poolings
    assert "conv3_2" in rows.nth(7).inner_text() and "relu3_2" in rows.nth(7).inner_text()
    assert page.page.evaluate(CUT_OFF) == []

    page.locator(".nst-explorer-features [data-layer=conv3_2]").click()
    page.wait_until(lambda: page.locator(".nst-explorer-layer select").input_value() == "conv3_2")
    page.locator(".nst-explorer-neighbours [data-feature^=conv3_2-]").first.click()
    page.wait_until(
        lambda: page.locator(".nst-explorer-neighbours [aria-pressed=true]").count() == 0, what="a neighbour"
    )
    chosen = page.run("tool.controls['feature'].value")
    assert chosen.isdigit()

    page.run("tool.choose('relu1_2', 3); tool.controls['likes'].iterations = 12")
    page.locator(".nst-explorer-likes button").click()
    page.locator(".nst-explorer-likes", has_text="Its favourite picture").wait_for(timeout=60_000)
    page.locator(".nst-explorer-likes img[src^='blob:']").wait_for(timeout=60_000)  # it comes in a message of its own
    page.screenshot("explorer-1400")
    page.run("tool.choose('relu1_2', 4)")
    page.wait_until(lambda: not page.locator(".nst-explorer-likes img").is_visible(), what="another feature")
    page.run("tool.choose('relu1_2', 3)")
    page.wait_until(lambda: page.locator(".nst-explorer-likes img").is_visible(), what="the finished picture again")

    page.page.set_viewport_size({"width": 800, "height": 1300})
    page.page.wait_for_timeout(500)
    page.screenshot("explorer-800")
    assert page.page.evaluate(CUT_OFF) == []


def test_a_style_loses_its_strokes(notebook):
    """Features off by click and by text, undone; the bars follow, and a short painting shows what is left."""
    page = open_explorer(notebook, size=96, width=1400, height=1500)
    page.run("tool.choose('relu1_1', 5); tool.controls['switches'].repainting.iterations = 8")
    told = page.locator(".nst-switches-left")
    page.locator(".nst-switches button", has_text="Switch relu1_1 #5 off").click()
    told.get_by_text("1 feature is off").wait_for()
    gates = page.locator(".nst-switches-left input")
    page.wait_until(lambda: gates.input_value() == "relu1_1:5", what="the features that are off, as text")
    gates.fill("first:50")
    gates.press("Enter")
    told.get_by_text("50 features are off").wait_for()
    page.locator(".nst-switches button", has_text="Paint without them").click()
    page.locator(".nst-switches .nst-on-demand", has_text="of the style is missing").wait_for(timeout=60_000)
    page.locator(".nst-switches").scroll_into_view_if_needed()
    page.screenshot("explorer-switches", ".nst-switches")
    page.locator(".nst-switches button", has_text="Undo").click()
    told.get_by_text("1 feature is off").wait_for()
    page.page.set_viewport_size({"width": 800, "height": 1300})
    page.page.wait_for_timeout(500)
    assert page.page.evaluate(CUT_OFF) == []
