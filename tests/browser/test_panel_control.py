"""Two styles, their proportion, colours and masks by pointer and by keys, as a person meets them."""

import hashlib
import shlex

import numpy as np
import yaml

import nstlab as lab
from nstlab.widgets.painting import pixels_of
from tests.browser.test_panel import CELL, SQUEEZED, UNNAMED, look, open_panel, press, until_status

INKED = """() => {
    const board = document.querySelector('.nst-board');
    const pixels = board.getContext('2d').getImageData(0, 0, board.width, board.height).data;
    const found = [0, 0];
    for (let i = 0; i < pixels.length; i += 4) if (pixels[i + 3] > 127) found[pixels[i + 1] < 128 ? 0 : 1]++;
    return found.map((count) => count / (board.width * board.height));
}"""  # the parts of the picture in the first style's colour and in the second's


def masks(page) -> list[str]:
    """The files of the masks, as the settings have them."""
    return page.run("print(*(bench.settings.content_masks or ()), sep=chr(10))").split()


def changed(page, before: list[str]) -> list[str]:
    page.wait_until(lambda: masks(page) != before, what="another mask")
    return masks(page)


def drag(page, selector: str, *points: tuple[float, float]) -> None:
    """From one point to the next, each in parts of the element's width and height."""
    part = page.locator(selector)
    part.scroll_into_view_if_needed()
    box = part.bounding_box()
    (x, y), *others = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in points]
    page.page.mouse.move(x, y)
    page.page.mouse.down()
    for x, y in others:
        page.page.mouse.move(x, y, steps=8)
    page.page.mouse.up()


def test_two_styles_a_mask_and_the_contents_colours(notebook):
    page = open_panel(notebook, iterations=3)
    page.locator("button", has_text="Add a second style").click()
    second = page.locator(".nst-set-style .nst-choice").nth(1)
    second.locator("[data-name=waves]").click()
    slider = ".nst-set-style_weights input[type=range]"
    drag(page, slider, (0.5, 0.5), (0.25, 0.5))
    page.wait_until(lambda: page.run("bench.settings.style_weights"), what="the proportion")  # None shows nothing
    assert page.run("bench.settings.style") == "('swirl', 'waves')"
    share = float(page.run("print(bench.settings.style_weights[0])"))
    assert 0.2 <= share <= 0.3
    page.locator(".nst-set-style_weights .nst-ends", has_text=f"swirl {100 * share:.0f} %").wait_for()
    page.locator(slider).press("ArrowRight")
    page.wait_until(lambda: float(page.run("print(bench.settings.style_weights[0])")) > share, what="an arrow key")

    page.locator(".nst-fold-control").click()
    page.locator(".nst-set-colour [data-name=recombined]").click()
    field = page.locator(".nst-set-k_TV input")
    field.fill("0.001")
    field.press("Enter")

    page.locator(".nst-fold-masks").click()
    assert "in use" not in page.locator(".nst-fold-masks").inner_text()
    easel = page.locator(".nst-easel")
    easel.scroll_into_view_if_needed()
    drag(page, ".nst-easel", (0.2, 0.2), (0.8, 0.2), (0.8, 0.4))  # by the pointer
    by_pointer = changed(page, [])
    first, rest = (pixels_of(mask) for mask in by_pointer)
    height, width = first.shape
    assert np.array_equal(rest, 255 - first)
    at = [first[round(y * height), round(x * width)] for x, y in ((0.5, 0.2), (0.8, 0.4), (0.2, 0.7))]
    assert at == [255, 255, 0]
    inside, elsewhere = page.page.evaluate(INKED)
    assert abs(inside - (first > 127).mean()) < 0.01 and abs(inside + elsewhere - 1) < 0.01
    page.locator(".nst-fold-masks", has_text="in use").wait_for()
    look(page, "panel-control-pointer")

    easel.focus()  # by the keys: from where the pointer left the brush, down and to the left
    for _ in range(6):
        page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("+")
    page.page.keyboard.down("Space")
    for _ in range(8):
        page.page.keyboard.press("ArrowLeft")
    page.page.keyboard.up("Space")
    by_keys = changed(page, by_pointer)
    more = pixels_of(by_keys[0])
    assert (more >= first).all() and (more > 127).mean() > (first > 127).mean() + 0.02
    for _ in range(4):
        page.page.keyboard.press("-")
    page.locator("[data-mode=erase]").click()
    easel.focus()
    page.page.keyboard.press("Space")
    less = pixels_of(changed(page, by_keys)[0])
    assert (less <= more).all() and (less < more).any()
    before = masks(page)
    page.locator(".nst-brush button", has_text="Invert").click()
    inverted = changed(page, before)
    assert np.array_equal(pixels_of(inverted[0]), 255 - less) and inverted[0] == before[1]
    page.locator(".nst-brush button", has_text="Clear").click()
    assert changed(page, inverted) == [] and page.page.evaluate(INKED) == [0, 0]
    page.locator(".nst-set-content_masks [data-name=astronaut-figure]").click()
    sample = changed(page, [])
    assert sample[0] == "astronaut-figure"
    page.wait_until(lambda: sum(page.page.evaluate(INKED)) > 0.99, what="the sample mask over the picture")
    page.locator("[data-mode=add]").click()
    drag(page, ".nst-easel", (0.1, 0.1), (0.2, 0.1))
    painted = changed(page, sample)

    assert page.page.evaluate(UNNAMED) == []
    page.locator(".nst-fold-sweep").click()
    for dark in (False, True):
        page.theme("JupyterLab Dark" if dark else "JupyterLab Light")
        for width in (800, 1280, 1800):
            page.page.set_viewport_size({"width": width, "height": 1700})
            page.page.wait_for_timeout(300)
            assert page.page.evaluate(SQUEEZED) == []
            look(page, f"panel-control-{width}-{'dark' if dark else 'light'}")

    press(page, "start")
    until_status(page, "Finished")
    folder = page.home / "out" / page.run("print(bench.run.folder.name)").strip()
    settings = lab.read_settings(folder)
    assert settings.style == ("swirl", "waves") and share < settings.style_weights[0] < 0.4
    assert list(settings.content_masks) == painted and settings.colour == "recombined" and settings.k_TV == 0.001
    page.locator(".nst-text", has_text="-p content_masks").wait_for()
    texts = page.locator(".nst-text pre")
    words = shlex.split(texts.nth(0).inner_text())
    given = {words[i + 1]: words[i + 2] for i in range(3, len(words), 3)}
    assert lab.Run(lab.Settings.from_text({"size": "64", **given}), page.home / "out").id == lab.Run.open(folder).id
    assert yaml.safe_load(texts.nth(3).inner_text())["fixed"]["content_masks"] == painted

    page.save()
    page.page.reload()  # what is painted is still there
    page.wait_for_kernel()
    page.locator(".nst-fold-masks").wait_for()
    page.wait_until(lambda: sum(page.page.evaluate(INKED)) > 0.99, what="the mask after a reload")
    page.locator("button", has_text="Only the first style").click()
    page.wait_until(lambda: page.run("bench.settings.style") == "'swirl'", what="one style")
    assert len(masks(page)) == 1 and page.locator(slider).count() == 0
    page.locator(".nst-fold-gallery").click()
    page.locator(f".nst-gallery [role=radio][data-name$='{folder.name}']").click()
    page.wait_until(lambda: masks(page) == painted, what="the run's settings again")
    page.locator(".nst-set-style_weights .nst-ends", has_text="swirl").wait_for()

    three = "style='swirl,waves,dots', style_weights='3,2,1', content_masks='none,astronaut-figure,none'"
    page.run(f"bench.load(bench.settings.with_({three}))")
    page.locator(".nst-message", has_text="3 styles").wait_for()
    assert page.locator(".nst-set-style input").input_value() == "swirl,waves,dots"
    assert page.locator(".nst-set-style_weights input").input_value() == "3,2,1"
    assert page.locator(".nst-set-content_masks input").input_value() == "none,astronaut-figure,none"
    look(page, "panel-control-three")
    assert page.page.evaluate(UNNAMED) == [] and page.page.evaluate(SQUEEZED) == []
    assert not page.console


MINE = """
from torch import nn
from nstlab import Network, StyleLoss

means = StyleLoss(lambda F, seed: F.mean((0, 2, 3)), lambda a, b: (a - b).square().mean(), 1)


def tiny():
    return Network({"filters": nn.Sequential(nn.Conv2d(3, 32, 5, padding=2), nn.ReLU()), "half": nn.AvgPool2d(2)})


def broken(F, P):
    return (F - missing).mean()
"""


def test_a_loss_and_a_network_from_a_new_file(notebook):
    """The panel offers what a file beside the notebook has, paints with it, and says whose mistake a mistake is."""
    page = notebook([f"%%writefile mine.py{MINE}", CELL.format(iterations=3)])
    page.run_all()
    page.locator(".nst-set-style [aria-checked=true]").wait_for()
    page.locator(".nst-fold-network").click()

    def choose(setting: str, value: str) -> None:
        field = page.locator(f".nst-set-{setting} input")
        offered = field.evaluate("(input) => [...input.list.options].map((option) => option.value)")
        assert value in offered
        field.fill(value)
        field.press("Enter")

    choose("style_loss", "mine.py:means")
    choose("network", "mine.py:tiny")
    look(page, "panel-own")
    press(page, "start")
    until_status(page, "Finished")
    folder = page.home / "out" / page.run("print(bench.run.folder.name)").strip()
    code = lab.Run.open(folder).manifest["sha256"]
    assert code["style_loss"] == code["network"] == hashlib.sha256(MINE.lstrip().encode()).hexdigest()
    choose("content_loss", "mine.py:broken")
    until_status(page, "Ready")
    press(page, "start")
    line = 1 + MINE.lstrip().splitlines().index("    return (F - missing).mean()")
    page.locator(".nst-message", has_text=f"mine.py, line {line}: NameError").wait_for()
