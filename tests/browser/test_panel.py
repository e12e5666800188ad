"""The panel as a person meets it: in JupyterLab, in Chromium."""

import re
import subprocess
import sys

import numpy as np
import yaml
from PIL import Image

import nstlab as lab
from nstlab.optimise import INITIAL_VALUES

CELL = """\
from nstlab.widgets import panel
bench = panel()
bench.controls["size"].value = 64
bench.controls["iterations"].value = {iterations}
bench"""
PIXELS = """async () => {
    const image = document.querySelector('.nst-result'), canvas = document.createElement('canvas');
    for (let tries = 0; tries < 50; tries++)  // a new picture that comes meanwhile makes decode() fail
        if (await image.decode().then(() => true, () => new Promise((then) => setTimeout(then, 40)))) break;
    [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
    const context = canvas.getContext('2d');
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data.reduce((sum, v, i) => (sum * 31 + v) % 1e9, 7);
}"""
UNNAMED = """() => [...document.querySelectorAll('.nst button, .nst input, .nst select')].filter((part) => {
    if (part.type === 'file') return false;
    const label = part.labels?.[0]?.innerText || part.getAttribute('aria-label') || part.innerText;
    const about = part.title || part.labels?.[0]?.title || part.closest('[title]')?.title || label;
    return !label?.trim() || !about?.trim();
}).map((part) => part.outerHTML.slice(0, 200))"""
SQUEEZED = """() => [...document.querySelectorAll('.nst button, .nst input, .nst select, .nst img')].filter((part) => {
    const box = part.getBoundingClientRect();
    return part.checkVisibility() && (box.width < 12 || box.height < 12 || box.right > innerWidth);
}).map((part) => part.outerHTML.slice(0, 200))"""

COUNT_BYTES = """
window.received = 0;
window.WebSocket = class extends WebSocket {
    constructor(...given) {
        super(...given);
        this.addEventListener("message", (event) => (window.received += event.data.byteLength ?? event.data.length));
    }
};
"""
FAST_STEPS = """
import time, torch
from nstlab import Step
picture = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 516, 516), 5, 1)  # as coarse as a painting
class Stored:
    id, frames, settings = "fast", [], bench.settings
bench.display.run = Stored
began, k = time.monotonic(), 0
while time.monotonic() - began < 5:
    losses = {"total": 2.0, "content": 1.0, "style": 1.0, "relu1_1": 1.0}
    bench.display.step(Stored, Step(k, picture.roll(k, 3), losses))
    k += 1
    time.sleep(0.01)
print(k, bench.display.sent)
"""


def open_panel(notebook, iterations: int = 2000, **options):
    page = notebook([CELL.format(iterations=iterations)], **options)
    page.run_all()
    page.locator(".nst-set-style [aria-checked=true]").wait_for()
    return page


def look(page, name: str) -> None:
    """A screenshot with the panel at the top, to be looked at by a person."""
    page.page.evaluate("() => document.querySelector('.nst').scrollIntoView()")
    page.screenshot(name)


def status(page) -> str:
    return page.locator(".nst-status").inner_text()


def iteration(page) -> int:
    found = re.search(r"iteration (\d+)", status(page))
    return int(found[1]) if found else -1


def until_status(page, word: str) -> float:
    return page.wait_until(lambda: word in status(page), what=f"{word!r} in the status ({status(page)!r})")


def press(page, name: str) -> None:
    page.locator(f"button.nst-{name}").click()


def type_k_S(page, text: str) -> None:
    field = page.locator(".nst-set-k_S input[type=text]")
    field.fill(text)
    field.press("Enter")


def test_a_session(notebook):
    """From the first look to a stored run: choose, start, drag, run a cell, pause, resume, stop, look back."""
    page = open_panel(notebook)
    until_status(page, "an iteration")  # the forecast
    look(page, "panel-idle")

    page.locator(".nst-set-content [data-name=chelsea]").click()
    page.locator(".nst-set-style [data-name=waves]").click()
    seen = set()
    for name in INITIAL_VALUES:
        page.locator(f".nst-set-init [data-name={name}]").click()
        words = name.replace("_", " ")
        caption = f"initial: {words}"
        page.wait_until(lambda text=caption: page.locator(".nst-caption").inner_text() == text, what=caption)
        page.wait_until(lambda: page.page.evaluate(PIXELS) not in seen, what=f"the picture of {caption}")
        seen.add(page.page.evaluate(PIXELS))
    page.locator(".nst-set-init [data-name=content]").click()

    slider = page.locator(".nst-set-k_S input[type=range]")
    box = slider.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + box["height"] / 2)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=8)
    page.page.mouse.up()
    page.wait_until(lambda: float(page.run("print(bench.controls['k_S'].value)")) > 1e5, what="k_S by the mouse")
    slider.press("ArrowLeft")
    type_k_S(page, "300")
    page.wait_until(lambda: page.run("bench.settings.k_S") == "300.0", what="k_S as typed")

    press(page, "start")
    until_status(page, "Painting")
    page.wait_until(lambda: iteration(page) >= 4, what="iteration 4")
    first = page.page.evaluate(PIXELS)
    assert page.run("6 * 7") == "42"  # the kernel is free
    page.wait_until(lambda: page.page.evaluate(PIXELS) != first, what="another picture")
    look(page, "panel-running")

    type_k_S(page, "20000")  # goes on from the present picture, as another run
    at = iteration(page)
    page.wait_until(lambda: iteration(page) >= at + 3, what="three more iterations")

    pace = float(page.run("print(bench._pace())"))
    press(page, "pause")
    took = until_status(page, "Paused")
    print(f"pause after {took:.2f} s, an iteration takes {pace:.2f} s")  # tests/unit counts the iterations
    look(page, "panel-paused")
    at = iteration(page)
    assert "20000 from" in page.locator(".nst-side dl").inner_text()
    assert page.run("[k for _, k in bench.settings.k_S_changes]") == "[20000.0]"
    press(page, "step")
    page.wait_until(lambda: iteration(page) == at + 1 and "Paused" in status(page), what="one step")
    press(page, "start")  # now says Resume
    page.wait_until(lambda: iteration(page) >= at + 4, what="resumed")
    press(page, "stop")
    until_status(page, "Stopped")
    assert int(page.run("print(bench.run.iteration)")) == iteration(page)

    scrubber = page.locator(".nst-scrubber input")
    last = page.page.evaluate(PIXELS)
    scrubber.press("Home")
    page.wait_until(lambda: page.locator(".nst-caption").inner_text() == "iteration 0", what="the first frame")
    page.wait_until(lambda: page.page.evaluate(PIXELS) != last, what="its picture")
    page.locator(".nst-scrubber button", has_text="▶").click()
    end = f"iteration {page.run('bench.run.frames[-1]')}"  # a frame on the way is there for a moment only
    page.wait_until(lambda: page.locator(".nst-caption").inner_text() == end, what=f"playing to {end}")
    page.wait_until(lambda: page.page.evaluate(PIXELS) == last, what="the newest picture again")
    assert page.locator(".nst-scrubber button", has_text="Newest").is_disabled()
    scrubber.press("Home")
    page.locator(".nst-scrubber button", has_text="Newest").click()
    page.wait_until(lambda: page.page.evaluate(PIXELS) == last, what="the newest picture by its button")

    page.locator("button[data-view=divider]").click()
    divider = page.locator(".nst-divider")
    box = divider.bounding_box()
    page.page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + 20)
    cut = page.page.evaluate("() => document.querySelector('.nst-canvas').style.getPropertyValue('--cut')")
    assert abs(float(cut.rstrip("%")) - 25) < 4
    look(page, "panel-divider")
    page.locator("button[data-view=together]").click()
    page.wait_until(lambda: page.locator(".nst-stage img:visible").count() == 3, what="three pictures")
    look(page, "panel-together")
    page.locator("button[data-view=picture]").click()
    page.locator(".nst-viewbar button", has_text="100 %").click()
    page.wait_until(lambda: abs(page.locator(".nst-canvas").bounding_box()["width"] - 64) < 1, what="64 pixels")
    assert not page.console


def test_files_and_errors(notebook, tmp_path):
    """Uploads, dropped results, errors: one clear line each, and the panel stays usable."""
    page = open_panel(notebook, iterations=3)
    message = page.locator(".nst-message")
    picture, text = tmp_path / "my picture.png", tmp_path / "notes.png"
    pixels = np.random.default_rng(0).integers(0, 255, (2000, 2000, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture)
    assert picture.stat().st_size > 11 * 2**20  # more than a websocket message holds
    text.write_text("not a picture")

    page.locator(".nst-set-content input[type=file]").set_input_files(text)
    message.get_by_text("notes.png").wait_for()
    assert "\n" not in message.inner_text().strip()
    look(page, "panel-error")
    assert page.run("bench.settings.content") == "'astronaut'"

    page.locator(".nst-set-content input[type=file]").set_input_files(picture)
    page.locator(".nst-set-content .nst-chosen", has_text="my_picture").wait_for()
    assert message.inner_text() == ""
    press(page, "start")
    until_status(page, "Finished")

    field = page.locator(".nst-set-style .nst-path")
    field.fill("/nowhere/style.jpg")
    field.press("Enter")
    message.get_by_text("/nowhere/style.jpg").wait_for()
    page.locator(".nst-set-style [data-name=dots]").click()
    page.wait_until(lambda: message.inner_text() == "", what="the message goes")

    settings = lab.Settings(content="coffee", style="mosaic", size=96, k_S=12, init="black")
    lab.save_image(lab.load_image("coffee", 96), tmp_path / "result.png", settings)
    data = list((tmp_path / "result.png").read_bytes())
    page.page.evaluate(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], 'result.png', {type: 'image/png'}));
            const stage = document.querySelector('.nst-stage');
            for (const type of ['dragover', 'drop'])
                stage.dispatchEvent(new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}));
        }""",
        data,
    )
    page.locator(".nst-set-init [data-name=black][aria-checked=true]").wait_for()
    assert page.locator(".nst-set-k_S input[type=text]").input_value() == "12"
    assert page.run("bench.settings.size, bench.settings.style") == "(96, 'mosaic')"

    page.locator(".nst-fold-gallery").click()
    page.locator(".nst-gallery [role=radio]", has_text="my_picture").click()
    page.wait_until(lambda: page.run("bench.settings.size") == "64", what="the run from the gallery")
    page.wait_until(lambda: page.locator(".nst-caption").inner_text() == "iteration 3", what="its picture")
    page.locator(".nst-gallery").scroll_into_view_if_needed()
    page.screenshot("panel-gallery")


def test_from_play_to_sweep(notebook, tmp_path):
    """What the buttons copy is a sweep that `nstlab sweep` takes, and a command line with what differs."""
    page = open_panel(notebook)
    type_k_S(page, "50")
    page.locator(".nst-set-content [data-name=coffee]").click()
    page.locator(".nst-fold-sweep").click()
    page.locator(".nst-axes label", has_text="pooling").click()
    page.locator(".nst-text", has_text="pooling: [max, average]").wait_for()
    page.locator(".nst-text", has_text="content: coffee").wait_for()
    page.locator("button", has_text="Copy sweep").click()
    page.locator("button", has_text="Copied").wait_for()
    copied = page.page.evaluate("() => navigator.clipboard.readText()")
    plan = yaml.safe_load(copied)
    assert plan["grid"]["k_S"] == [0.5, 5, 50, 500, 5000] and len(plan["grid"]["init"]) == 7
    assert plan["grid"]["pooling"] == ["max", "average"] and plan["fixed"]["size"] == 64
    (tmp_path / "copied.yaml").write_text(copied)
    words = [sys.executable, "-m", "nstlab", "sweep", str(tmp_path / "copied.yaml"), "--dry-run"]
    dry = subprocess.run([*words, "--out", str(tmp_path / "out")], capture_output=True, text=True)
    assert dry.returncode == 0 and "70 points" in dry.stdout, dry.stdout + dry.stderr
    page.locator("button", has_text="Copy papermill").click()
    page.locator("button", has_text="Copied").first.wait_for()
    page.wait_until(
        lambda: "-p k_S 50" in page.page.evaluate("() => navigator.clipboard.readText()"), what="the papermill command"
    )
    page.locator(".nst-below").scroll_into_view_if_needed()
    page.screenshot("panel-sweep")


def test_reload_and_lost_kernel(notebook):
    """A reload shows the run going on; a killed kernel leaves a run that Start takes up again."""
    page = open_panel(notebook)
    press(page, "start")
    page.wait_until(lambda: iteration(page) >= 3, what="iteration 3")
    page.save()
    page.page.reload()
    page.wait_for_kernel()
    page.locator(".nst-status").wait_for()
    page.wait_until(lambda: iteration(page) >= 3, what="the status after the reload")
    at = iteration(page)
    page.wait_until(lambda: iteration(page) > at + 1, what="the run goes on")
    page.wait_until(lambda: page.page.evaluate("() => document.querySelector('.nst-result').naturalWidth") == 64)
    folder = page.home / "out" / page.run("print(bench.run.folder.name)").strip()
    page.wait_until((folder / "checkpoint.pt").is_file, what="a checkpoint")
    page.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    page.locator(".nst-lost").wait_for(state="visible")
    look(page, "panel-lost")
    page.wait_for_kernel()
    page.run_all()
    page.locator(".nst-status").get_by_text("iteration").first.wait_for()
    stored = page.wait_until(lambda: iteration(page) >= 1, what="the stored run is shown") and iteration(page)
    press(page, "start")
    page.wait_until(lambda: iteration(page) > stored, what="it goes on")
    press(page, "stop")
    until_status(page, "Stopped")
    history = page.run("bench.run.history['iteration'].tolist() == list(range(bench.run.iteration + 1))")
    assert history == "True"


def test_layout_names_and_keyboard(notebook):
    """The layout holds from 900 to 1800 pixels in both themes; everything has a name; the keyboard is enough."""
    page = open_panel(notebook, iterations=4)
    assert page.page.evaluate(UNNAMED) == []
    start = page.locator("button.nst-start")
    start.focus()
    page.page.keyboard.press("Enter")
    until_status(page, "Finished")
    page.locator(".nst-set-init [aria-checked=true]").focus()
    page.page.keyboard.press("ArrowRight")
    page.locator(".nst-set-init [data-name=style][aria-checked=true]").wait_for()
    page.locator(".nst-fold-optimiser").focus()
    page.page.keyboard.press("Space")
    page.locator(".nst-set-optimizer select").wait_for()
    page.locator(".nst-set-optimizer select").select_option("Adam")
    page.wait_until(lambda: page.run("bench.settings.optimizer") == "'adam'", what="Adam")
    for fold in ("layers", "network", "gallery", "sweep"):
        page.locator(f".nst-fold-{fold}").click()
    page.locator(".nst-set-style_layers button", has_text="relu5_1").click()
    page.wait_until(lambda: page.run("len(bench.settings.style_layers)") == "4", what="one layer less")
    page.page.wait_for_timeout(500)
    for dark in (False, True):
        page.theme("JupyterLab Dark" if dark else "JupyterLab Light")
        for width in (900, 1280, 1800):
            page.page.set_viewport_size({"width": width, "height": 1900})
            page.page.wait_for_timeout(300)
            look(page, f"panel-{width}-{'dark' if dark else 'light'}")
            assert page.page.evaluate(SQUEEZED) == []
        ground = page.page.evaluate("() => getComputedStyle(document.querySelector('.nst-path')).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 300) == dark
    assert not page.console


def test_traffic(notebook):
    """Pictures of 512 pixels that change faster than they can be sent stay below a megabyte a second."""
    page = open_panel(notebook)
    page.page.add_init_script(COUNT_BYTES)
    page.page.reload()  # so that its websocket is counted
    page.wait_for_kernel()
    page.run_all()
    page.locator(".nst-set-style [aria-checked=true]").wait_for()
    before = page.page.evaluate("() => window.received")
    steps, sent = map(int, page.run(FAST_STEPS).split())
    received = -1
    while received != (received := page.page.evaluate("() => window.received")):  # until all of it is there
        page.page.wait_for_timeout(1000)
    rate = (page.page.evaluate("() => window.received") - before) / 5
    print(f"{rate / 1e6:.2f} MB/s at 512 px; {steps} steps, {sent / 1e6:.2f} MB of pictures")
    assert steps > 50 and sent / 5 < rate < 1e6
