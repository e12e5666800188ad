"""The panel without a browser: what its controls do, and that its runs are the runs of everywhere."""

import io
import re
import shlex
import time
from threading import RLock
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import nstlab as lab
from nstlab import decoding
from nstlab.images import save_image
from nstlab.network import weights
from nstlab.optimise import INITIAL_VALUES, Step, forecast
from nstlab.storage import home
from nstlab.widgets import Panel, panel, workbench, worker
from nstlab.widgets import display as display_module
from nstlab.widgets.curves import loss_curves
from nstlab.widgets.display import PICTURE_SECONDS, Display
from nstlab.widgets.export import command_line, sweep

SHALLOW = {"content_layers": ["relu2_1"], "style_layers": ["relu1_1", "relu2_1"], "weights": "random"}


@pytest.fixture
def bench(tmp_path) -> Panel:
    """A panel whose runs take a second."""
    return with_values(panel(out=tmp_path / "out"), size=48, iterations=8, **SHALLOW)


def with_values(bench: Panel, **values) -> Panel:
    for name, value in values.items():
        bench.controls[name].value = value
    return bench


def test_settings_from_a_picture_download_nothing(bench, tmp_path, monkeypatch):
    """Only the user starts a download, with Start."""
    monkeypatch.setattr(weights, "torchvisions_file", lambda network: tmp_path / "nothing.pth")
    monkeypatch.setattr(weights, "_download", lambda network: pytest.fail("downloaded"))
    save_image(torch.rand(1, 3, 48, 48), tmp_path / "theirs.png", lab.Settings(size=48, weights="torchvision"))
    bench._on_dropped("theirs.png", (tmp_path / "theirs.png").read_bytes())
    assert bench.message.startswith(
        "Loaded the settings from theirs.png. The weights torchvision are not here yet: Start"
    )
    assert bench.controls["weights"].value == "torchvision" and bench.state == "idle"


def until(bench: Panel, state: str, seconds: float = 300) -> None:
    began = time.monotonic()
    while bench.state != state:
        assert time.monotonic() - began < seconds, (bench.state, bench.message)
        time.sleep(0.005)


def same_run(run: lab.Run, other: lab.Run, kept: set[int] = frozenset()) -> None:
    """The same bytes, the seconds apart; kept: frames that only `run` has, because it was complete there once."""
    assert run.id == other.id and run.frames == sorted(kept | set(other.frames))
    for name in ["result.png", *(f"frames/{k:06d}.png" for k in other.stored_frames())]:
        assert (run.folder / name).read_bytes() == (other.folder / name).read_bytes(), name
    assert run.history.drop(columns="seconds").equals(other.history.drop(columns="seconds"))


def held_at(bench: Panel, iteration: int):
    """Slow the panel's steps down, so that a test can act at an iteration."""
    real = bench.worker.on_step
    reached = []

    def on_step(run, step):
        real(run, step)
        if step.iteration == iteration:
            reached.append(step)
            began = time.monotonic()
            while bench.state == "running" and bench.worker._k_S is None and time.monotonic() - began < 300:
                time.sleep(0.005)

    bench.worker.on_step = on_step
    return reached


def wait_for(reached: list) -> None:
    began = time.monotonic()
    while not reached:
        assert time.monotonic() - began < 300
        time.sleep(0.005)


def paused_at(bench: Panel, iteration: int) -> None:
    """Start the run and pause it at an iteration."""
    reached = held_at(bench, iteration)
    bench.start()
    wait_for(reached)
    bench.pause()
    until(bench, "paused")


def test_every_setting_has_a_control_with_a_label_and_a_description(bench):
    assert set(bench.controls) == set(lab.Settings.model_fields) - {"k_S_changes"}
    for name, control in bench.controls.items():
        assert getattr(control, "label", "") or control.description, name
        words = getattr(control, "help", "") or control.tooltip
        assert lab.Settings.model_fields[name].description in words
    assert bench.controls["init"].options == list(INITIAL_VALUES)
    assert set(bench.controls["init"].thumbnails) == set(INITIAL_VALUES)


def test_the_defaults_are_those_of_settings(tmp_path):
    assert panel(out=tmp_path).settings == lab.Settings()
    assert not list(tmp_path.iterdir())  # looking at it stores nothing


def test_a_run_of_the_panel_is_the_run_of_everywhere(bench, tmp_path):
    bench.start()
    bench.wait(300)
    assert bench.state == "finished", bench.message
    same_run(bench.run, lab.Run(bench.settings, tmp_path / "other").advance(progress=False))
    assert bench.display.scrubber.frames == [0, 1, 2, 5, 8]


def test_pause_resume_step_and_stop(bench, tmp_path):
    paused_at(bench, 3)
    assert bench.run.iteration == 3 and bench.view.buttons["start"].description == "Resume"
    assert bench.controls["size"].disabled and not bench.controls["k_S"].disabled
    bench.step()
    until(bench, "paused")
    bench.wait(300)
    assert bench.run.iteration == 4
    bench.stop()
    until(bench, "stopped")
    assert not bench.controls["size"].disabled and bench.view.buttons["stop"].disabled
    bench.start()
    bench.wait(300)
    assert bench.state == "finished"
    same_run(bench.run, lab.Run(bench.settings, tmp_path / "other").advance(progress=False))


def test_steps_from_the_beginning(bench):
    """The initial value is there before the first: each step is a new picture."""
    for iteration in (1, 2, 3):
        before = bench.display.viewer.result_picture
        bench.step()
        bench.wait(300)
        assert (bench.state, bench.run.iteration) == ("paused", iteration)
        assert bench.display.viewer.result_picture != before


def test_what_is_stored_already_is_said_and_shown(bench):
    bench.start()
    bench.wait(300)
    bench.start()
    bench.wait(300)
    assert "is stored already" in bench.message and bench.state == "finished"


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_k_S_changed_while_it_runs(bench, tmp_path, optimizer):
    """From the present picture with the new weight: another run, whose bytes are those from scratch."""
    with_values(bench, optimizer=optimizer)
    before = lab.Run(bench.settings, bench.out)
    reached = held_at(bench, 4)
    bench.start()
    wait_for(reached)
    bench.controls["k_S"].value = 5.0
    bench.wait(300)
    assert bench.state == "finished", bench.message
    assert bench.settings.k_S_changes == ((4, 5.0),) and bench.settings.k_S == 1000
    assert bench.controls["k_S"].value == 5.0 and bench.run.id != before.id and before.iteration == 4
    same_run(bench.run, lab.Run(bench.settings, tmp_path / "other").advance(progress=False))
    assert [row[0] for row in bench.display.rows] == list(range(9))
    bench.controls["k_S"].value = 70.0  # at rest it is a wish for a new run
    assert bench.settings.k_S_changes == () and bench.settings.k_S == 70
    assert bench.display.iteration == 8 and "Start paints anew" in bench.message  # the painting stays in sight
    bench.controls["k_S"].value = 5.0
    assert bench.settings.k_S_changes == ((4, 5.0),) and bench.run.complete and bench.message == ""


def test_k_S_changed_while_paused_and_back_again(bench):
    paused_at(bench, 3)
    first = bench.run.id
    bench.controls["k_S"].value = 5.0
    assert bench.settings.k_S_changes == ((3, 5.0),)
    assert bench.message == "k_S 5: heard, from iteration 3." and "k_S 5" in bench.display.curves.value
    bench.controls["k_S"].value = 6.0
    assert bench.settings.k_S_changes == ((3, 6.0),)
    assert len(bench.display.rows) == 4 and len(list(bench.out.glob("*/run.json"))) == 1  # nothing is stored yet
    bench.controls["k_S"].value = 1000.0
    assert bench.settings.k_S_changes == () and bench.run.id == first
    bench.start()
    bench.wait(300)
    assert bench.state == "finished" and bench.run.id == first


def test_a_change_resumes_to_the_bit(tmp_path):
    settings = lab.Settings(size=48, iterations=9, k_S_changes="3:10,6:2000", device="cpu", **SHALLOW)
    whole = lab.Run(settings, tmp_path / "a").advance(progress=False)
    for iterations in (2, 3, 5, 6, 9):
        run = lab.Run(settings.with_(iterations=iterations), tmp_path / "b").advance(progress=False)
    same_run(run, whole, kept={3, 6})
    history = whole.history
    assert history["total"][6] == pytest.approx(history["content"][6] + 2000 * history["style"][6], rel=1e-6)
    assert history["total"][5] == pytest.approx(history["content"][5] + 10 * history["style"][5], rel=1e-6)
    assert lab.read_settings(whole.folder / "frames" / "000002.png").k_S_changes == ()
    assert lab.read_settings(whole.folder / "frames" / "000005.png").k_S_changes == ((3, 10.0),)


@pytest.mark.parametrize("changes", ["0:3", "5:1,4:2", "4:1,4:2", "4", "4:x", "4:-1", "4:inf"])
def test_wrong_changes_are_refused_in_one_line(changes):
    with pytest.raises(lab.RequestError, match="k_S_changes") as caught:
        lab.Settings(k_S_changes=changes)
    assert "\n" not in str(caught.value)


def test_a_picture_that_is_not_there(bench):
    bench.controls["content"].value = "/nowhere/cat.jpg"
    assert "/nowhere/cat.jpg" in bench.message and "\n" not in bench.message
    assert bench.controls["content"].value == "astronaut"
    bench.controls["style"].value = "waves"
    assert bench.message == "" and bench.settings.style == "waves"


def test_a_value_out_of_range_is_said(bench):
    bench.controls["learning_rate"].value = "fast"
    assert "learning_rate" in bench.message
    bench.start()
    assert bench.state == "idle" and "learning_rate" in bench.message
    bench.controls["learning_rate"].value = "0.5"
    assert bench.message == "" and bench.settings.learning_rate == 0.5


def test_the_status_tells_the_tiles_of_a_long_iteration(bench, monkeypatch):
    monkeypatch.setattr(workbench, "STATUS_SECONDS", -1.0)
    told = []
    show = bench.view.show_status
    monkeypatch.setattr(bench.view, "show_status", lambda *args: (show(*args), told.append(bench.view.status.value)))
    with_values(bench, tile="16", iterations=1)
    bench.start()
    bench.wait(60)
    assert bench.state == "finished", bench.message
    assert any(re.search(r"tile \d+ of \d+", line) for line in told) and "tile" not in bench.view.status.value


def test_gates_are_typed_painted_and_exported(bench):
    bench.controls["gates"].value = "relu9_1:3"
    assert "did you mean" in bench.message
    bench.controls["gates"].value = "relu1_1: 5, 3"
    with_values(bench, iterations=1)
    bench.start()
    bench.wait(60)
    assert bench.state == "finished" and bench.worker.run.settings.gates == "relu1_1:3,5", bench.message
    assert "gates=relu1_1:3,5" in bench.worker.run.settings.command


def test_stop_does_not_wait_for_the_end_of_a_long_iteration(bench, monkeypatch):
    monkeypatch.setattr(worker, "PATIENCE", -1.0)  # every iteration counts as long
    told = []

    def tell(done, of):
        told.append((done, of))
        if [done for done, _ in told].count(2) == 3:  # in the third iteration
            bench.stop()

    monkeypatch.setattr(bench.worker, "on_tile", tell)
    with_values(bench, tile="16", iterations=30)
    bench.start()
    bench.wait(60)
    done, of = told[-1]
    assert bench.state == "stopped" and done == 2 < of, bench.message
    monkeypatch.undo()
    bench.controls["iterations"].value = 3
    bench.start()
    bench.wait(60)
    assert bench.state == "finished" and bench.worker.run.stored == 3, bench.message


def send(part, name: str, data: bytes, size: int = 1000) -> None:
    """As the browser does: a file in parts."""
    pieces = [data[i : i + size] for i in range(0, len(data), size)] or [b""]
    for i, piece in enumerate(pieces):
        message = {"kind": "upload", "name": name, "part": i, "parts": len(pieces)}
        part._handle_custom_msg(message, [memoryview(piece)])


def test_upload(bench, picture):
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    with open(picture(pixels, "my cat.png"), "rb") as file:
        send(bench.controls["content"], "../my cat.png", file.read())
    path = bench.controls["content"].value
    assert path.startswith(str(bench.out / "uploads" / "my_cat-")) and bench.message == ""
    assert lab.load_image(bench.settings.content, size=None).shape == (1, 3, 50, 60)
    assert path in bench.controls["content"].thumbnails


def jpeg_of(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (200, 90, 20)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["from the clipboard", "photo.heic", "photo.png"])
def test_an_upload_is_known_by_what_is_in_it(bench, name):
    send(bench.controls["content"], name, jpeg_of(90, 60))
    assert bench.message == "" and bench.settings.content.endswith(".jpg")
    assert lab.load_image(bench.settings.content, size=None).shape == (1, 3, 60, 90)


def test_an_upload_is_judged_at_the_runs_size(bench, monkeypatch):
    """A JPEG with too many pixels is shrunk while it is read, if the run is small enough for that."""
    monkeypatch.setattr(decoding, "LARGE", 500_000)
    monkeypatch.setattr(decoding, "MOST_PIXELS", 1_500_000)
    data = jpeg_of(1600, 1200)
    bench.controls["size"].value = 1600
    send(bench.controls["content"], "huge.jpg", data, size=len(data))
    assert "huge.jpg" in bench.message and "1,500,000" in bench.message and bench.settings.content == "astronaut"
    bench.controls["size"].value = 64
    send(bench.controls["content"], "huge.jpg", data, size=len(data))
    assert bench.message == "" and "huge-" in bench.settings.content


@pytest.mark.parametrize(("name", "data"), [("notes.png", b"no picture"), ("a.txt", b"x"), ("empty.png", b"")])
def test_an_upload_that_is_no_picture(bench, name, data):
    send(bench.controls["content"], name, data)
    assert name in bench.message and "\n" not in bench.message and bench.settings.content == "astronaut"
    assert not (bench.out / "uploads").exists()


def test_a_dropped_result_sets_all_controls(bench, tmp_path):
    settings = lab.Settings(content="chelsea", style="waves", size=64, k_S=30, init="white_noise", pooling="average")
    save_image(torch.rand(1, 3, 40, 64), tmp_path / "result.png", settings)
    send(bench.display.viewer, "result.png", (tmp_path / "result.png").read_bytes())
    assert bench.settings == settings and "result.png" in bench.message
    save_image(torch.rand(1, 3, 40, 64), tmp_path / "plain.png")
    send(bench.display.viewer, "plain.png", (tmp_path / "plain.png").read_bytes())
    assert "plain.png" in bench.message and "on its tiles" in bench.message and bench.settings == settings


def click(choice, name: str) -> None:
    """As the browser does when a tile is clicked."""
    choice.value = name
    choice._handle_custom_msg({"kind": "chosen", "name": name}, [])


def test_gallery(bench):
    reached = held_at(bench, 2)
    bench.start()
    wait_for(reached)
    bench.controls["k_S"].value = 5.0
    bench.wait(300)
    folder = bench.run.folder
    with_values(bench, init="black", size=64, k_S=3.0)
    bench.view.folds["gallery"].value = True
    choice = bench.gallery.choice
    assert str(folder) in choice.options and len(choice.options) == 2
    assert "k_S 1000 → 5" in choice.captions[str(folder)] and "iteration 8" in choice.captions[str(folder)]
    click(choice, str(folder))
    assert bench.message == "" and bench.settings.k_S_changes == ((2, 5.0),) and bench.settings.size == 48
    assert bench.run.folder == folder and bench.display.viewer.caption == "iteration 8"
    bench.display.scrubber.index = 1
    assert bench.display.viewer.caption == "iteration 1"
    bench.controls["k_S"].value = 3.0
    click(choice, str(folder))  # the tile that is chosen already
    assert bench.run.folder == folder and bench.display.viewer.caption == "iteration 8"


def test_a_full_disk_is_one_line_and_the_panel_goes_on(bench, monkeypatch):
    from nstlab.runs import writer

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "save_image", full)
        bench.start()
        bench.wait(300)
        assert bench.state == "failed" and "disk is full" in bench.message and "\n" not in bench.message
    bench.start()
    bench.wait(300)
    assert bench.state == "finished", bench.message


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")]
)
def test_no_memory_is_one_line_and_the_panel_goes_on(bench, monkeypatch, error):
    from nstlab.widgets import worker

    def too_much(_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(worker, "set_up", too_much)
        bench.start()
        bench.wait(300)
        assert bench.state == "failed" and "memory" in bench.message and "\n" not in bench.message
    bench.start()
    bench.wait(300)
    assert bench.state == "finished", bench.message


def test_a_run_that_another_process_computes(bench):
    run = lab.Run(bench.settings, bench.out)
    with run.locked():
        bench.start()
        bench.wait(300)
    assert bench.state == "failed" and "another process" in bench.message


@pytest.mark.parametrize("changes", [{}, {"k_S": 0.05, "init": "white_noise"}, {"style_layer_weights": "balanced"}])
def test_the_command_line_names_the_same_run(bench, changes):
    bench.load(lab.Settings(size=48, iterations=8, k_S_changes="3:10.5", **SHALLOW, **changes))
    words = shlex.split(command_line(bench.settings))
    assert words[:3] == ["papermill", str(home() / "notebooks" / "04_vanilla_transfer.ipynb"), "OUT.ipynb"]
    given = {words[i + 1]: words[i + 2] for i in range(3, len(words), 3)}
    assert "content" not in given
    assert lab.Run(lab.Settings.from_text({"size": "48", **given})).id == lab.Run(bench.settings).id


def test_the_sweep_is_yaml_with_the_grid(bench):
    with_values(bench, k_S=0.003, content="chelsea")
    plan = yaml.safe_load(sweep(bench.settings, ["k_S", "init"]))
    assert plan["notebook"] == "04_vanilla_transfer.ipynb" and list(plan["grid"]) == ["k_S", "init"]
    assert plan["grid"]["k_S"] == [3e-5, 3e-4, 3e-3, 3e-2, 3e-1] and plan["grid"]["init"] == list(INITIAL_VALUES)
    fixed = plan["fixed"]
    assert fixed["content"] == "chelsea" and "k_S" not in fixed and "init" not in fixed
    points = [lab.Settings(**fixed, k_S=k_S, init=init) for k_S in plan["grid"]["k_S"] for init in plan["grid"]["init"]]
    assert len(points) == 35 and points[0].style_layers == ("relu1_1", "relu2_1")


@pytest.mark.parametrize("size", [32, 512])
def test_pictures_come_at_most_five_a_second_and_below_a_megabyte(tmp_path, monkeypatch, size):
    now = [0.0]
    monkeypatch.setattr(display_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    display = Display(RLock())
    noise = torch.rand(1, 3, size, size)  # nothing compresses worse
    losses = {"total": 2.0, "content": 1.0, "style": 1.0}
    shown = []
    display.viewer.observe(lambda change: shown.append(now[0]), "result_picture")
    run = lab.Run(lab.Settings(size=size), tmp_path)
    for iteration in range(100):
        display.step(run, Step(iteration, noise.roll(iteration, 3), losses))
        now[0] += 0.05
    assert min(np.diff(shown)) > PICTURE_SECONDS - 1e-9
    assert display.sent / now[0] < 1e6
    assert len(shown) > (18 if size == 32 else 4)


def test_curves_leave_out_what_a_log_scale_cannot_show():
    losses = [{"total": t, "content": 0.0, "style": 1.0, "relu1_1": 1.0} for t in (10.0, 3.0, float("nan"))]
    drawn = loss_curves(list(enumerate(losses)), lab.Settings())
    assert drawn.count("<svg") == 2 and "nan" not in drawn
    assert "<svg" not in loss_curves([], lab.Settings())
    many = [(k, {"total": 1.0 + k, "content": 1.0, "style": 1.0, "relu1_1": 2.0}) for k in range(5000)]
    assert len(loss_curves(many, lab.Settings())) < 20_000


def test_forecast_grows_with_the_work():
    small, large = (forecast(lab.Settings(size=s), s, s, rate=1e11) for s in (128, 256))
    assert large.seconds == pytest.approx(4 * small.seconds) and large.memory > small.memory
    assert forecast(lab.Settings(), 256, 256, 1e11, stored=300).total == 0
    assert "an iteration" in str(small)


@pytest.mark.gpu
def test_on_a_gpu(tmp_path):
    bench = with_values(panel(out=tmp_path), size=96, iterations=20)
    assert tuple(value for _, value in bench.controls["device"].options)[:3] == ("auto", "cpu", "cuda")
    bench.start()
    bench.wait(300)
    assert bench.state == "finished", bench.message
    assert bench.run.manifest["machine"]["device"] == "cuda"
    same_run(bench.run, lab.Run(bench.settings, tmp_path / "other").advance(progress=False))
