"""Names and texts that would act if a page took them for markup: in a folder, a PNG, a sweep. Nothing acts."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import nstlab as lab
from nstlab import sweeps
from nstlab.sweeps.notebook import write_mark
from nstlab.sweeps.outcome import write_as_run, write_outcome
from nstlab.sweeps.report import write_contact_sheets, write_report

MARKUP = "<img src=x onerror=alert(1)>"
PANEL = """\
import nstlab as lab
from nstlab import sweeps
bench = lab.panel()
bench"""


@contextmanager
def no_dialog(page):
    """What a script from the files would open, or leave in the page."""
    opened = []
    page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    yield
    page.wait_for_timeout(500)
    assert opened == []


def hostile_picture(folder: Path) -> Path:
    path = folder / f"{MARKUP}`{MARKUP}`.png"
    shutil.copy(lab.sample_pictures()["astronaut"], folder / "plain.jpg")
    lab.save_image(lab.load_image(folder / "plain.jpg", 64), path)
    return path


def hostile_runs(folder: Path, picture: Path) -> list[lab.Run]:
    """Two runs of a picture with such a name, one with a column of such a name."""
    settings = lab.Settings(content=str(picture), size=48, iterations=2, device="cpu")
    found = [lab.Run(settings.with_(k_S=k_S), folder).advance(progress=False) for k_S in (10, 1000)]
    history = found[0].folder / "history.csv"
    history.write_text(history.read_text().replace("relu1_1", MARKUP))
    renamed = found[0].folder.with_name(f"{MARKUP}-{found[0].id}")
    found[0].folder.rename(renamed)
    manifest = renamed / "run.json"
    manifest.write_text(manifest.read_text().replace('"complete"', f'"{MARKUP}"'))
    return found


def test_a_hostile_folder_and_a_hostile_picture_in_the_panel(notebook, jupyter, tmp_path):
    runs = hostile_runs(jupyter.home / "out", hostile_picture(tmp_path))
    page = notebook([PANEL])
    with no_dialog(page.page):
        page.run_all()
        page.locator(".nst-fold-gallery").click()
        tiles = page.locator(".nst-gallery [role=radio]")
        page.wait_until(lambda: tiles.count() >= 2, "the stored runs")
        for number in range(2):
            tiles.nth(number).click()
            page.wait_until(lambda number=number: tiles.nth(number).get_attribute("aria-checked") == "true")
        png = runs[1].folder / "result.png"
        page.run(f"bench._on_dropped({MARKUP + '.png'!r}, open({str(png)!r}, 'rb').read())")
        page.run(f"bench.say({MARKUP!r}); bench.display.run = None")
        losses = {"total": 2.0, "content": 1.0, "style": 1.0, MARKUP: 1.0}
        page.run(
            "from nstlab.widgets.curves import loss_curves; "
            f"bench.display.curves.value = loss_curves([(0, {losses})], bench.settings)"
        )
    assert MARKUP in page.locator(".nst-legend").last.inner_text()  # it is seen, as text
    page.screenshot("hostile-panel")


@pytest.fixture
def hostile_sweep(tmp_path):
    """A sweep over two pictures of such names, under such a name, with its sheet and its report."""
    pictures = [str(hostile_picture(tmp_path)), "coffee"]
    file = tmp_path / "sweep.yaml"
    fixed = "{style: swirl, size: 48, iterations: 2, device: cpu}"
    grid = f"{{content: [{pictures[0]!r}, coffee], k_S: [10, 1000]}}"
    file.write_text(f"name: {MARKUP!r}\nnotebook: 04_vanilla_transfer.ipynb\nfixed: {fixed}\ngrid: {grid}\n")
    plan = sweeps.make_plan(file, out=tmp_path / "out")
    for point in plan.points:
        point.run.advance(progress=False)
        write_mark(point.run.folder, plan.notebook.name, point.others, 2)
    plan.folder.mkdir(parents=True)
    write_as_run(plan, {"workers": 1, "threads": torch.get_num_threads()})
    write_outcome(plan, {})
    return sweeps.load(plan.folder)


def test_the_report_of_a_hostile_sweep(hostile_sweep, chromium):
    (sheet,) = write_contact_sheets(hostile_sweep)
    assert sheet.stat().st_size > 10_000
    report = write_report(hostile_sweep)
    page = chromium.new_page()
    with no_dialog(page):
        page.goto(report.as_uri())
        assert MARKUP in page.inner_text("body")
    page.close()


def test_notebook_10_of_a_hostile_sweep(hostile_sweep, notebook):
    write_contact_sheets(hostile_sweep)
    root = Path(__file__).parents[2]
    page = notebook(root / "notebooks" / "10_reading_a_sweep.ipynb")
    with no_dialog(page.page):
        source = f"sweep, same, out = {hostile_sweep.name!r}, 12.0, {str(hostile_sweep.out)!r}"
        page.page.evaluate(
            """(source) => {
                const cells = window.jupyterapp.shell.currentWidget.content.model.sharedModel.cells;
                cells.find((cell) => cell.getMetadata().tags?.includes('parameters')).setSource(source);
            }""",
            source,
        )
        page.run_all()
