"""What users of the panel met over hours: keys, narrow windows, comparing, cells run again, kernels that go."""

from tests.browser.test_panel import PIXELS, iteration, look, open_panel, press, type_k_S, until_status

SHOWN = "() => getComputedStyle(document.querySelector('.nst-before')).display !== 'none'"


def caption(page) -> str:
    return page.locator(".nst-caption").inner_text()


def test_keys_stay_in_the_panel_and_a_narrow_window_has_picture_and_slider(notebook):
    page = open_panel(notebook, iterations=6, width=800)
    cells = len(page.cells())
    for part in (
        "button.nst-start",
        ".nst-set-k_S input[type=range]",
        ".nst-set-size input",
        "button[data-view=blink]",
    ):
        page.locator(part).focus()
        for key in "ddaab":
            page.page.keyboard.press(key)
    assert len(page.cells()) == cells
    names = [
        page.locator(f".nst-set-{kind} .nst-file button").get_attribute("aria-label") for kind in ("content", "style")
    ]
    assert names == ["Upload a picture as content", "Upload a picture as style"]
    for dark in (False, True):
        page.theme("JupyterLab Dark" if dark else "JupyterLab Light")
        look(page, f"panel-800-{'dark' if dark else 'light'}")
    canvas, slider = (page.locator(part).bounding_box() for part in (".nst-canvas", ".nst-set-k_S input[type=range]"))
    assert canvas["y"] < slider["y"] + slider["height"] and slider["y"] + slider["height"] - canvas["y"] < 700
    type_k_S(page, "plenty")
    page.locator(".nst-message", has_text="'plenty' is no number").wait_for()
    assert page.locator(".nst-set-k_S input[type=text]").input_value() == "1000"
    page.locator("button.nst-start").focus()
    page.screenshot("panel-focus")


def test_any_two_pictures_are_compared(notebook):
    page = open_panel(notebook, iterations=4)
    page.run("bench.controls['k_S'].value = 777.0")  # no other test's run
    press(page, "start")
    until_status(page, "Finished")
    first, folder = page.page.evaluate(PIXELS), page.run("print(bench.run.folder.name)").strip()
    page.locator("button", has_text="Pin").click()
    page.locator("button", has_text="Unpin").wait_for()
    page.locator(".nst-set-init [data-name=black]").click()
    press(page, "start")
    page.wait_until(lambda: "Finished" in page.locator(".nst-status").inner_text() and caption(page) == "iteration 4")
    page.locator("button[data-view=divider]").click()
    which = page.locator(".nst-which")
    page.wait_until(lambda: which.inner_text().endswith("◂ ▸ iteration 4"), what="the names of both")
    pinned = page.page.evaluate(PIXELS.replace(".nst-result", ".nst-before"))
    assert pinned == first != page.page.evaluate(PIXELS)
    look(page, "panel-pinned")
    page.locator("button[data-view=blink]").click()
    seen = set()
    page.wait_until(lambda: seen.add(page.page.evaluate(SHOWN)) or seen == {True, False}, what="both in turns")
    page.locator("button", has_text="Unpin").click()
    page.wait_until(
        lambda: page.page.evaluate(PIXELS.replace(".nst-result", ".nst-before")) != first, what="the content"
    )
    page.locator(".nst-fold-gallery").click()
    page.locator(f".nst-gallery [role=radio][data-name$='{folder}']").click()
    page.wait_until(lambda: page.page.evaluate(PIXELS) == first, what="the first run again")
    box = page.locator(".nst-canvas").bounding_box()
    assert box["y"] + box["height"] > 0, "the picture is in view"


def test_a_cell_run_again_a_saved_notebook_and_a_kernel_that_is_gone(notebook):
    page = open_panel(notebook)
    press(page, "start")
    page.wait_until(lambda: iteration(page) >= 3, what="iteration 3")
    page.run_all()  # the cell, again
    page.wait_until(lambda: iteration(page) > 3, what="the run that goes on")
    press(page, "pause")
    until_status(page, "Paused")
    painted = caption(page)
    assert page.locator(".nst-still").count() == 1 and not page.locator(".nst-still").is_visible()
    page.wait_until(lambda: painted in page.locator(".nst-still").text_content(), what="the still picture")
    page.save()
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.locator(".nst-lost").wait_for(state="visible")
    assert page.locator(".nst-bar").evaluate("bar => bar.inert")
    look(page, "panel-gone")
    page.page.reload()
    still = page.locator(".nst-still img")
    still.wait_for(state="visible")
    page.page.wait_for_timeout(3000)
    missed = page.page.get_by_text("model not found")
    assert still.is_visible() and not any(missed.nth(i).is_visible() for i in range(missed.count()))
    page.screenshot("panel-saved")
