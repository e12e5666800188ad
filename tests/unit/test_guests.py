"""A visitor's panel: what is not offered is refused before it is looked at, whatever the browser sends."""

from pathlib import Path

import pytest
from ipywidgets.widgets.widget import _instances

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.images import save_image
from nstlab.widgets import Guest, panel
from nstlab.widgets.guests import ALLOWED

LIMITS = Guest(size=64, iterations=5, megabytes=1)


@pytest.fixture
def bench(tmp_path):
    guests = panel(tmp_path / "visit", LIMITS)
    guests.controls["size"].value, guests.controls["iterations"].value = 48, 3
    return guests


@pytest.fixture
def secret(tmp_path):
    """A picture of the server's, outside of the visitor's folder."""
    path = tmp_path / "secret.png"
    save_image(lab.load_image("chelsea", 48), path)
    return str(path)


def test_a_visitor_paints(bench, tmp_path):
    bench.start()
    bench.wait(60)
    assert bench.state == "finished" and list((tmp_path / "visit").glob("astronaut-swirl-*/result.png"))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("size", 65, "size is at most 64 here"),
        ("iterations", 6, "iterations is at most 5 here"),
        ("network", "vgg16", "network cannot be changed here"),
        ("weights", "torchvision", "weights cannot be changed here"),
        ("tile", 64, "tile cannot be changed here"),
    ],
)
def test_what_is_not_offered_is_refused(bench, name, value, said):
    before = bench.controls[name].value
    bench.controls[name].value = value if isinstance(before, type(value)) else str(value)
    assert bench.message == said and bench.controls[name].value == before


def test_the_servers_files_are_not_read(bench, secret, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("raise SystemExit('imported')\ndef loss(a, b): return (a - b).square().mean()\n")
    for name, value in (("content", secret), ("init", secret), ("init", f"{code}:loss"), ("style", (secret,))):
        bench.controls[name].value = value
        assert bench.message.startswith("choose one of these pictures"), name
        assert bench.controls[name].value != value
    bench.controls["content_loss"].value = f"{code}:loss"
    assert bench.message == "content_loss cannot be changed here"


def test_an_upload_is_the_visitors(bench, secret):
    data = Path(secret).read_bytes()
    bench._on_upload(bench.controls["content"], "mine.png", data)
    assert bench.controls["content"].value.startswith(str(bench.out / "uploads")) and not bench.message
    (bench.out / "uploads" / "large").write_bytes(bytes(1_100_000))
    bench._on_upload(bench.controls["content"], "mine.png", data)
    assert bench.message.startswith("your 1 MB are full")
    bench.start()
    assert bench.state == "idle" and bench.message.startswith("your 1 MB are full")


def test_settings_in_a_picture_and_other_runs_are_refused(bench, tmp_path):
    run = lab.Run(lab.Settings(size=48, iterations=1, k_TV=10), tmp_path / "others").advance(progress=False)
    bench._on_dropped("result.png", (run.folder / "result.png").read_bytes())
    assert bench.message.startswith("k_TV cannot be changed here")
    bench._on_gallery(str(run.folder))
    assert bench.message == "that run is not in the list"
    with pytest.raises(RequestError, match="size is at most 64"):
        bench.load(lab.Settings(size=128, iterations=3))


def test_what_is_not_offered_has_no_way_from_the_browser(bench):
    for name, control in bench.controls.items():
        if hasattr(control, "comm"):
            assert (control.comm is not None) == (name in ALLOWED), name
    assert all(part.comm is None for part in bench.view.exports.values())
    for widget in list(_instances.values()):
        assert all(child.comm is not None for child in getattr(widget, "children", ()))


def test_the_app_ends_idle_visits_and_shows_no_code(load_script):
    serve = load_script("docs/app/serve.py")
    config = serve.configured(8866, "t0ken", idle=40)
    assert (config.Voila.token, config.Voila.ip, config.Voila.open_browser) == ("t0ken", "127.0.0.1", False)
    ending = config.MappingKernelManager
    assert (ending.cull_idle_timeout, ending.cull_interval, ending.cull_connected) == (40, 20, True)
    shown = config.VoilaConfiguration
    assert shown.strip_sources and not shown.show_tracebacks and shown.multi_kernel_manager_class is serve.Visitors
