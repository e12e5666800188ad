"""The panel as an app: two visitors in Chromium, each with a kernel and a folder of their own, and no code."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from types import SimpleNamespace

import pytest

from tests.browser.conftest import ROOT

SEND_CODE = """async (path) => {
    const { kernelId } = JSON.parse(document.querySelector("#jupyter-config-data").textContent);
    const socket = new WebSocket(`ws://${location.host}/api/kernels/${kernelId}/channels`);
    const answers = [];
    socket.onmessage = (event) => answers.push(JSON.parse(event.data).header?.msg_type);
    await new Promise((opened) => (socket.onopen = opened));
    const send = (type, content) => socket.send(JSON.stringify({
        header: {msg_id: type, msg_type: type, session: "x", username: "x", version: "5.3", date: "2026-01-01"},
        parent_header: {}, metadata: {}, content, buffers: [], channel: "shell",
    }));
    send("execute_request", {code: `open(${JSON.stringify(path)}, "w")`, silent: false, store_history: false,
                             user_expressions: {}, allow_stdin: false, stop_on_error: true});
    send("kernel_info_request", {});
    const wait = () => new Promise((passed) => setTimeout(passed, 100));
    for (let k = 0; k < 100 && !answers.includes("kernel_info_reply"); k++) await wait();
    socket.close();
    return answers;
}"""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """The app with room for two."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"TMPDIR": str(folder), "NSTLAB_APP_TOKEN": "t0ken", "OMP_NUM_THREADS": "1"}
    limits = ["--port", str(port), "--visitors", "2", "--size", "64", "--iterations", "20", "--idle", "300"]
    with (folder / "log").open("wb") as log:
        command = [sys.executable, str(ROOT / "docs" / "app" / "serve.py"), *limits]
        process = subprocess.Popen(command, env=environment | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}/"
    for _ in range(300):
        try:
            urllib.request.urlopen(address, timeout=2)
            break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
    yield SimpleNamespace(url=f"{address}?token=t0ken", address=address, folder=folder)
    process.terminate()
    process.wait(30)
    assert not list(folder.glob("nstlab-app-*/visitors/*")), "what visitors stored goes with them"


def visits(app):
    return sorted(path.name for path in app.folder.glob("nstlab-app-*/visitors/*"))


def test_two_visitors(app, chromium):
    contexts = [chromium.new_context(viewport={"width": 1300, "height": 950}) for _ in range(3)]
    pages = [context.new_page() for context in contexts]
    for page in pages[:2]:
        page.set_default_timeout(90_000)
        page.goto(app.url)
        page.locator(".nst-start").wait_for()
        page.locator(".nst-set-size input").fill("40")
        page.locator(".nst-set-iterations input").fill("3")
        page.locator(".nst-set-iterations input").press("Enter")
    first, second, third = pages
    assert first.locator(".jp-CodeCell .jp-InputArea-editor").count() == 0
    assert first.locator(".nst-path:visible").count() == 0 and first.get_by_text("papermill").count() == 0

    first.locator(".nst-start").click()
    first.wait_for_function("document.querySelector('.nst-status').innerText.includes('Finished')")
    second.locator(".nst-fold-gallery").click()
    second.get_by_text("Nothing is stored yet").wait_for()  # the first one's runs are not here
    first.locator(".nst-fold-gallery").click()
    first.locator(".nst-gallery [data-name]").wait_for()

    first.locator(".nst-set-size input").fill("65")
    first.locator(".nst-set-size input").press("Enter")
    first.get_by_text("size is at most 64 here").wait_for()

    answers = first.evaluate(SEND_CODE, str(app.folder / "broken-in"))
    assert "kernel_info_reply" in answers and "execute_reply" not in answers
    assert not (app.folder / "broken-in").exists()

    assert third.goto(app.url).status == 503  # there is room for two
    assert "login" in contexts[2].new_page().goto(app.address).url or third.locator(".nst-start").count() == 0
    assert len(visits(app)) == 1  # of the one who painted
    first.close(run_before_unload=True)
    deadline = time.monotonic() + 90
    while visits(app) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not visits(app), "an ended visit leaves nothing"
    assert third.goto(app.url, timeout=90_000).status == 200
    for context in contexts:
        context.close()


def test_without_the_token_nobody_comes_in(app):
    with urllib.request.urlopen(app.address, timeout=10) as page:
        assert "/login" in page.url and "nst-start" not in page.read().decode()
    with urllib.request.urlopen(f"{app.address}api/kernels", timeout=10) as answer:
        assert "/login" in answer.url
