"""A private JupyterLab and a real Chromium, for tests that see what a person sees.

    def test_explorer(notebook):
        page = notebook(["import nstlab as lab", "lab.explorer()"])   # cells, or the path of a notebook
        page.run_all()
        page.locator(".some-class").click()        # Playwright's locators; page.page is Playwright's own page
        assert "relu3_1" in page.output(1)         # the text that cell 1 has put out
        page.run("2 + 2")                          # another cell, at the end; returns its text
        page.screenshot("explorer-idle")           # out/screenshots/explorer-idle.png

The server has its own folders (settings, workspaces, `out/`), a free port on 127.0.0.1 and a token; `page.home`
is its NSTLAB_HOME, whose `data/` is the project's and whose `out/` starts empty. Without Chromium these tests
are skipped; NSTLAB_CHROMIUM names another browser than Debian's.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "out" / "screenshots"
QUIET = [
    f"--{flag}"
    for flag in ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")
    + ("disable-background-networking", "disable-component-update")
]
PATIENCE = 120  # seconds: what is waited for takes a few, and on a machine that does other things many
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},  # cells off screen exist, too
}


@dataclass(frozen=True)
class Server:
    """A JupyterLab that runs: its address, token, the folder it serves, and its NSTLAB_HOME."""

    url: str
    token: str
    folder: Path
    home: Path


@pytest.fixture(scope="session")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One private JupyterLab for all browser tests."""
    private = tmp_path_factory.mktemp("jupyter")
    served, home = private / "notebooks", private / "home"
    names = ["CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR"]
    folders = {f"JUPYTER_{name}": private / name.lower() for name in names}
    folders |= {f"JUPYTERLAB_{name}_DIR": private / f"lab_{name.lower()}" for name in ("WORKSPACES", "SETTINGS")}
    folders["IPYTHONDIR"] = private / "ipython"
    for folder in (served, home / "out", *folders.values()):
        folder.mkdir(parents=True)
    for name in ("data", "notebooks"):
        (home / name).symlink_to(ROOT / name)
    overrides = folders["JUPYTER_CONFIG_DIR"] / "labconfig" / "default_setting_overrides.json"
    overrides.parent.mkdir()
    overrides.write_text(json.dumps(OVERRIDES))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", secrets.token_hex(16), served, home)
    environment = os.environ | {name: str(folder) for name, folder in folders.items()}
    environment |= {
        "NSTLAB_HOME": str(home),
        "JUPYTER_TOKEN": server.token,
        "OMP_NUM_THREADS": "1",  # the browser needs a core, too
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser"]
    options = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={served}"]
    with (private / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log)
    try:
        _wait_for_server(server, process, private / "server.log")
        yield server
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()


def _wait_for_server(server: Server, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), urllib.request.urlopen(f"{server.url}/api?token={server.token}", timeout=2):
            return
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def chromium() -> Iterator[object]:
    """One headless Chromium; each notebook gets a fresh context in it."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = os.environ.get("NSTLAB_CHROMIUM") or shutil.which("chromium")
    if not path:
        pytest.skip("no Chromium: apt-get install chromium, or set NSTLAB_CHROMIUM")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def notebook(jupyter: Server, chromium: object) -> Iterator[Callable[..., NotebookPage]]:
    """A function that opens a notebook, given as the sources of its cells or as a path, in a fresh page."""
    opened: list[NotebookPage] = []

    def open_notebook(
        cells: Sequence[str] | Path, width: int = 1280, height: int = 900, dark: bool = False
    ) -> NotebookPage:
        name = f"{secrets.token_hex(4)}.ipynb"
        if isinstance(cells, Path):
            shutil.copy(cells, jupyter.folder / name)
        else:
            book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
            book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(book, jupyter.folder / name)
        context = chromium.new_context(viewport={"width": width, "height": height})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened.append(NotebookPage(jupyter, context.new_page(), name))
        opened[-1].open()
        opened[-1].theme("JupyterLab Dark" if dark else "JupyterLab Light")
        return opened[-1]

    yield open_notebook
    for page in opened:
        page.close()


class NotebookPage:
    """A notebook open in JupyterLab in the browser, with its kernel."""

    def __init__(self, server: Server, page: object, name: str) -> None:
        self.server, self.page, self.name = server, page, name
        self.home, self.path = server.home, server.folder / name
        self.console: list[str] = []  # what the page has written to its console as an error
        page.on("console", lambda message: self.console.append(message.text) if message.type == "error" else None)
        page.set_default_timeout(PATIENCE * 1000)

    def open(self) -> None:
        """Load the notebook and wait until its kernel is there."""
        self.page.goto(f"{self.server.url}/lab/tree/{self.name}?reset&token={self.server.token}")
        self.wait_for_kernel()

    def wait_for_kernel(self) -> None:
        self.page.wait_for_function(
            "() => /\\| Idle$/m.test(document.querySelector('#jp-main-statusbar')?.innerText ?? '')"
        )
        if self.locator("#jp-left-stack").is_visible():
            self.command("application:toggle-left-area")

    def locator(self, selector: str, **options: object) -> object:
        """Playwright's locator of a CSS selector."""
        return self.page.locator(selector, **options)

    def command(self, name: str, arguments: dict | None = None) -> object:
        """Execute one of JupyterLab's commands and wait for it."""
        return self.page.evaluate(
            "([name, args]) => window.jupyterapp.commands.execute(name, args).then(() => null)", [name, arguments or {}]
        )

    def run_all(self) -> None:
        """Run all cells from a fresh kernel; returns when they have run. An error in a cell is an AssertionError."""
        self.command("notebook:run-all-cells")
        faults = [text for cell in self.cells() for text in _errors(cell)]
        assert not faults, faults

    def run(self, source: str) -> str:
        """Append a cell, run it, and return the text it puts out; other cells and threads go on meanwhile.

        One piece of JavaScript makes the cell active and runs it: between two, a click just done may activate another.
        """
        index = self.page.evaluate(
            """async (source) => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                const cells = notebook.model.sharedModel;
                cells.insertCell(cells.cells.length, {cell_type: 'code', source});
                const index = notebook.activeCellIndex = cells.cells.length - 1;
                await window.jupyterapp.commands.execute('notebook:run-cell');
                return index;
            }""",
            source,
        )
        return self.output(index)

    def cells(self) -> list[dict]:
        """The notebook's cells as they stand in the browser, in nbformat's JSON."""
        return self.page.evaluate("() => window.jupyterapp.shell.currentWidget.model.toJSON().cells")

    def output(self, index: int) -> str:
        """All text that a cell has put out: streams, results, errors."""
        texts = []
        for output in self.cells()[index].get("outputs", []):
            texts.append(output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue") or "")
        return "".join("".join(text) for text in texts)

    def theme(self, name: str) -> None:
        """Change JupyterLab's theme: "JupyterLab Light" or "JupyterLab Dark"."""
        self.command("apputils:change-theme", {"theme": name})
        self.page.wait_for_function("(name) => document.body.dataset.jpThemeName === name", arg=name)

    def save(self) -> None:
        self.command("docmanager:save")

    def screenshot(self, name: str, selector: str | None = None) -> Path:
        """A picture of the page, or of one element, as out/screenshots/NAME.png."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        (self.locator(selector).first if selector else self.page).screenshot(path=path)
        return path

    def wait_until(self, condition: Callable[[], bool], what: str = "the condition") -> float:
        """Look until the condition holds; returns how many seconds it took. Raises AssertionError after PATIENCE."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < PATIENCE, f"{what}: not within {PATIENCE} s"
            self.page.wait_for_timeout(50)
        return time.monotonic() - began

    def close(self) -> None:
        """Shut the kernel down and close the page."""
        with suppress(Exception):
            self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.context.close()


def _errors(cell: dict) -> list[str]:
    return [
        f"{output['ename']}: {output['evalue']}"
        for output in cell.get("outputs", [])
        if output["output_type"] == "error"
    ]
