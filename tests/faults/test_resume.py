"""However a run comes to its end, its bytes are the same."""

import random
import shutil
import time

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nstlab as lab
from nstlab.optimise import INITIAL_VALUES
from nstlab.runs import run as run_module
from nstlab.runs import writer

from .conftest import SETTINGS, files_of


def advance(out, iterations, **values):
    return lab.Run(lab.Settings(**SETTINGS | values, iterations=iterations), out).advance(progress=False)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_0_to_60_is_0_to_25_to_60(tmp_path, optimizer):
    straight = advance(tmp_path / "a", 60, optimizer=optimizer, frame_every=13)
    advance(tmp_path / "b", 25, optimizer=optimizer, frame_every=13)
    resumed = advance(tmp_path / "b", 60, optimizer=optimizer, frame_every=13)
    assert files_of(straight.folder) == files_of(resumed.folder)
    assert straight.frames == [0, 1, 2, 5, 10, 13, 20, 26, 39, 50, 52]
    assert list(resumed.history["iteration"]) == list(range(61))


@pytest.mark.parametrize("init", INITIAL_VALUES)
def test_every_initial_value_resumes(tmp_path, init):
    straight = advance(tmp_path / "a", 9, init=init)
    advance(tmp_path / "b", 4, init=init)
    assert files_of(straight.folder) == files_of(advance(tmp_path / "b", 9, init=init).folder)


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_coarse_to_fine_resumes_on_either_side_of_the_enlargement(tmp_path, stop):
    values = {"size": 96, "scales": 2, "scale_iterations": 3}
    straight = advance(tmp_path / "a", 6, **values)
    advance(tmp_path / "b", stop, **values)
    assert files_of(straight.folder) == files_of(advance(tmp_path / "b", 6, **values).folder)


@given(
    stops=st.lists(st.integers(0, 11), max_size=3),
    init=st.sampled_from(list(INITIAL_VALUES)),
    optimizer=st.sampled_from(("lbfgs", "adam")),
    k_S=st.sampled_from((0.0, 1.0, 1e6)),
    pooling=st.sampled_from(("max", "average")),
    history_size=st.sampled_from((1, 3, 20)),
    layers=st.sampled_from((("relu1_1",), ("relu2_1", "relu3_1"))),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_stops_and_settings(tmp_path, stops, layers, **values):
    for name in "ab":
        shutil.rmtree(tmp_path / name, ignore_errors=True)
    values |= {"style_layers": layers, "content_layers": ("relu2_2",)}
    straight = advance(tmp_path / "a", 12, **values)
    for stop in [*stops, 12]:
        resumed = advance(tmp_path / "b", stop, **values)
    assert files_of(straight.folder) == files_of(resumed.folder)


def test_the_same_settings_twice_give_the_same_bytes(tmp_path):
    one, other = (advance(tmp_path / name, 6) for name in "ab")
    assert files_of(one.folder) == files_of(other.folder)
    assert one.id == other.id


def test_asking_for_no_more_than_is_stored_returns_at_once(tmp_path, monkeypatch):
    run = advance(tmp_path, 8)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    monkeypatch.setattr(run_module, "set_up", lambda settings: pytest.fail("computed again"))
    for iterations in (8, 2, 0):
        assert advance(tmp_path, iterations).iteration == iterations
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}


def test_closing_the_generator_stores_where_it_stopped(tmp_path):
    straight = advance(tmp_path / "a", 10)
    run = lab.Run(straight.settings, tmp_path / "b")
    for step in (computed := run.steps()):
        if step.iteration == 4:
            computed.close()
    assert run.iteration == 4
    assert run.manifest["status"] == "stopped"
    assert files_of(straight.folder) == files_of(run.advance(progress=False).folder)


RUN = """
    import nstlab as lab
    from nstlab.runs import writer
    writer.CHECKPOINT_SECONDS, writer.CHECKPOINT_SHARE = 0.0, 1e9  # a checkpoint at every step: many to be killed in
    settings = lab.Settings(size=48, device="cpu", iterations={iterations}, optimizer="{optimizer}")
    run = lab.Run(settings, "{out}")
    print("ready", flush=True)
    run.advance(progress=False)
    print("done", flush=True)
"""


def rows(out) -> int:
    """How many rows the one run in `out` has."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("*/history.csv"))


def wait_until(process, condition) -> None:
    """Until the condition holds or the process has ended."""
    while process.poll() is None and not condition():
        time.sleep(0.001)


@pytest.mark.parametrize(("optimizer", "kills"), [("lbfgs", 14), ("adam", 8)])
def test_killed_at_random_moments(tmp_path, start, optimizer, kills):
    """SIGKILL, 22 times in all: every other one at a random moment, the others while a checkpoint is written."""
    iterations, out = 60, tmp_path / "b"
    straight = advance(tmp_path / "a", iterations, optimizer=optimizer)
    chance = random.Random(1)
    code = RUN.format(iterations=iterations, optimizer=optimizer, out=out)
    killed = writing = 0
    while killed < kills:
        process = start(code)
        assert process.stdout.readline() == "ready\n"
        enough = rows(out) + chance.randint(1, 6)
        wait_until(process, lambda enough=enough: rows(out) >= enough)
        if killed % 2:
            time.sleep(chance.uniform(0, 0.1))
        else:
            wait_until(process, lambda: list(out.glob("*/.checkpoint*.part")))
        process.kill()
        if "done" in process.communicate()[0]:
            shutil.rmtree(out)  # it was quicker: begin again
            continue
        killed += 1
        writing += bool(list(out.glob("*/.checkpoint*.part")))
    assert writing > 0, "no kill fell into the writing of a checkpoint"
    process = start(code)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    (folder,) = out.iterdir()
    assert files_of(straight.folder) == files_of(folder)


def test_the_history_can_be_read_while_the_run_goes_on(tmp_path):
    run = lab.Run(lab.Settings(**SETTINGS, iterations=5), tmp_path)
    for step in run.steps():
        table = pd.read_csv(run.folder / "history.csv")
        assert list(table["iteration"]) == list(range(step.iteration + 1))
        assert table["total"].iloc[-1] == step.losses["total"]
        assert set(table.columns) == {"iteration", "seconds", "total", "content", "style", *run.settings.style_layers}
        assert table["seconds"].is_monotonic_increasing


def test_iterations_frames_and_device_do_not_change_the_id_but_bytes_do(tmp_path, monkeypatch):
    base = lab.Run(lab.Settings(**SETTINGS), tmp_path)
    same = [{"iterations": 7}, {"frame_every": 3}, {"learning_rate": 1.0}, {"style_size": 48}]
    same += [{"style_layer_weights": (1, 1, 1, 1, 1)}]
    other = [{"k_S": 2}, {"seed": 1}, {"learning_rate": 0.5}, {"content": "coffee"}, {"weights": "random"}]
    for values in same:
        assert lab.Run(lab.Settings(**SETTINGS | values), tmp_path).id == base.id, values
    for values in other:
        assert lab.Run(lab.Settings(**SETTINGS | values), tmp_path).id != base.id, values
    copy = tmp_path / "astronaut.png"
    shutil.copy(lab.sample_pictures()["astronaut"], copy)
    moved = lab.Run(lab.Settings(**SETTINGS | {"content": str(copy)}), tmp_path)
    assert (moved.id, moved.folder) == (base.id, base.folder)


@pytest.mark.parametrize("name", ["../../evil.png", "a b;$(c).png", "x" * 200 + ".png", "..png", "ü.png"])
def test_a_name_never_leads_out_of_out(tmp_path, name):
    path = tmp_path / "deep" / "er" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(lab.sample_pictures()["astronaut"], path)
    run = lab.Run(lab.Settings(**SETTINGS | {"content": str(path)}), tmp_path / "out")
    assert run.folder.parent == tmp_path / "out"
    assert len(run.folder.name) < 120
    assert run.folder.name.isascii()


def test_a_frame_that_is_not_stored_names_the_nearest(tmp_path):
    run = advance(tmp_path, 8)
    assert run.frame(5).shape == run.result.shape
    assert torch.equal(run.frame(8), run.result)
    with pytest.raises(lab.RequestError, match="nearest are 2, 5"):
        run.frame(4)


def test_checkpoints_are_bounded_and_cheap(tmp_path):
    """At most two of 2·history_size + 5 pictures each, whatever the number of iterations; one of a complete run."""
    run = advance(tmp_path, 40, history_size=5)
    picture = 3 * 48 * 48 * 4
    assert [path.name for path in run.folder.glob("checkpoint*")] == ["checkpoint.pt"]
    for step in (computed := lab.Run(run.settings.with_(iterations=50), tmp_path).steps()):
        if step.iteration == 45:
            computed.close()
    sizes = [path.stat().st_size for path in run.folder.glob("checkpoint*")]
    assert len(sizes) == 2
    assert max(sizes) < (2 * 5 + 5) * picture + 30_000
    assert writer.CHECKPOINT_SHARE < 0.1  # the wait after a checkpoint is its cost over this share
