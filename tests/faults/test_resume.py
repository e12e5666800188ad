"""However a run comes to its end, its bytes are the same."""

import random
import re
import shutil
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nstlab as lab
from nstlab.__main__ import main
from nstlab.optimise import INITIAL_VALUES, set_up
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
    assert files_of(straight.folder) == files_of(resumed.folder, kept=[25])
    assert straight.frames == [0, 1, 2, 5, 10, 13, 20, 26, 39, 50, 52, 60]
    assert resumed.frames == sorted([*straight.frames, 25])
    assert list(resumed.history["iteration"]) == list(range(61))


@pytest.mark.parametrize("init", INITIAL_VALUES)
def test_every_initial_value_resumes(tmp_path, init):
    straight = advance(tmp_path / "a", 9, init=init)
    advance(tmp_path / "b", 4, init=init)
    assert files_of(straight.folder) == files_of(advance(tmp_path / "b", 9, init=init).folder, kept=[4])


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_coarse_to_fine_resumes_on_either_side_of_the_enlargement(tmp_path, stop):
    values = {"size": 96, "scales": 2, "scale_iterations": 3}
    straight = advance(tmp_path / "a", 6, **values)
    advance(tmp_path / "b", stop, **values)
    assert files_of(straight.folder) == files_of(advance(tmp_path / "b", 6, **values).folder, kept=[stop])


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
    assert files_of(straight.folder) == files_of(resumed.folder, kept=stops)


def test_the_same_settings_twice_give_the_same_bytes(tmp_path):
    one, other = (advance(tmp_path / name, 6) for name in "ab")
    assert files_of(one.folder) == files_of(other.folder)
    assert one.id == other.id


def test_without_its_checkpoint_a_complete_run_is_complete_and_more_iterations_start_over(tmp_path):
    straight, short = advance(tmp_path / "a", 9), advance(tmp_path / "b", 4)
    expected = files_of(short.folder)
    short.drop_checkpoint()
    assert not list(short.folder.glob("checkpoint*")) and short.complete and files_of(short.folder) == expected
    assert files_of(advance(tmp_path / "b", 9).folder) == files_of(straight.folder)
    unfinished = lab.Run(lab.Settings(**SETTINGS, iterations=9, k_S=5), tmp_path)
    next(computed := unfinished.steps())
    with pytest.raises(lab.RequestError, match="another process"):
        unfinished.drop_checkpoint()
    computed.close()
    unfinished.drop_checkpoint()
    assert (unfinished.folder / "checkpoint.pt").is_file()


def test_asking_for_no_more_than_is_stored_returns_at_once(tmp_path, monkeypatch):
    run = advance(tmp_path, 8)
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}
    monkeypatch.setattr(run_module, "set_up", lambda settings: pytest.fail("computed again"))
    for iterations in (8, 2, 0):
        assert advance(tmp_path, iterations).iteration == iterations
    assert before == {path: path.stat().st_mtime_ns for path in run.folder.rglob("*")}


STORED = Path(__file__).parent / "stored_run" / "astronaut-swirl-1db8eadce908"
"""Left by the code of before 2026-12 (commit f5c47a6, one thread): its iterations 0 to 4."""


def test_a_run_stored_by_earlier_code_is_the_same_run_and_goes_on(tmp_path):
    shutil.copytree(STORED, tmp_path / STORED.name)
    layers = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1", "relu2_1")}
    settings = lab.Settings(**SETTINGS | {"size": 40}, **layers, init="white_noise", history_size=4, seed=1)
    run = lab.Run(settings.with_(iterations=4), tmp_path)
    assert (run.id, run.folder) == (STORED.name[-12:], tmp_path / STORED.name)
    assert run.stored == 4 and run.complete and run.frames == [0, 1, 2, 4]
    assert run.result.shape == run.frame(1).shape == (1, 3, 40, 40)
    columns = ["iteration", "seconds", "total", "content", "style", "relu1_1", "relu2_1"]
    assert list(run.history.columns) == columns and list(run.history["iteration"]) == [0, 1, 2, 3, 4]
    weighed = run.history["content"] + 1000 * run.history["style"]
    assert run.history["total"].tolist() == pytest.approx(weighed.tolist(), rel=1e-6)

    before = {name: (STORED / name).read_bytes() for name in ("history.csv", "result.png")}
    further = lab.Run(settings.with_(iterations=8), tmp_path).advance(progress=False)
    assert further.resumed_from == 4 and further.stored == 8
    assert (further.folder / "history.csv").read_bytes().startswith(before["history.csv"])
    assert further.frame_path(4).read_bytes() == before["result.png"]
    straight = lab.Run(further.settings, tmp_path / "straight").advance(progress=False)
    # In float64 both codes agree to 1e-15. In float32 the order of their sums differs, and where that tips a ReLU or
    # a maximum of the pooling, a pixel's gradient jumps: measured 6e-4 of the loss at iteration 8. Were the optimiser's
    # memory lost at 4, the loss at 8 would be twice as high.
    losses = straight.history.columns.drop(["iteration", "seconds"])
    for row in range(9):
        assert further.history.loc[row, losses].tolist() == pytest.approx(
            straight.history.loc[row, losses].tolist(), rel=0.01
        )
    assert 255 * float((further.result - straight.result).abs().mean()) < 0.2  # grey levels; measured 0.03


ORDERS = [(3, 7, 3), (7, 3), (3, 7), (7, 3, 7)]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """Iterations -> a run of just so many, in a folder of its own."""
    return {n: advance(tmp_path_factory.mktemp(f"fresh{n}"), n) for n in (3, 7)}


def answers_as(run, fresh, order) -> None:
    """That a run answers for its settings as a fresh run of so many iterations does; the orders that led there."""
    iterations = run.settings.iterations
    assert run.stored == max(order) and run.complete and run.iteration == iterations
    assert run.picture.read_bytes() == (fresh.folder / "result.png").read_bytes()
    assert torch.equal(run.result, fresh.result) and torch.equal(run.frame(iterations), fresh.result)
    assert run.history.drop(columns="seconds").equals(fresh.history.drop(columns="seconds"))
    assert run.frames == sorted({*fresh.frames, *(n for n in order if n <= iterations)})
    for iteration in fresh.stored_frames():
        assert run.frame_path(iteration).read_bytes() == fresh.frame_path(iteration).read_bytes()
    with pytest.raises(lab.RequestError, match="no frame at iteration"):
        run.frame(iterations + 1)


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_a_run_answers_for_its_settings_in_every_order(tmp_path, fresh, order):
    for count, iterations in enumerate(order, start=1):
        run = advance(tmp_path, iterations)
        answers_as(run, fresh[iterations], order[:count])
        assert lab.Run.open(run.folder).iteration == max(order[:count])  # with no settings given, as far as it goes
    for iterations in {*order}:
        answers_as(lab.Run(run.settings.with_(iterations=iterations), tmp_path), fresh[iterations], order)


def test_what_is_computed_again_is_stored_once_and_changes_nothing_else(tmp_path, fresh, monkeypatch):
    before = files_of(advance(tmp_path, 7).folder)
    run = lab.Run(lab.Settings(**SETTINGS, iterations=3), tmp_path)
    assert not run.complete and run.frames == [0, 1, 2]
    with pytest.raises(lab.RequestError, match="no result yet"):
        run.result  # noqa: B018
    assert [step.iteration for step in run.steps()] == [0, 1, 2, 3]
    assert files_of(run.folder, kept=[3]) == before and run.resumed_from == 7
    monkeypatch.setattr(run_module, "set_up", lambda settings: pytest.fail("computed again"))
    answers_as(advance(tmp_path, 3), fresh[3], [7, 3])


def test_a_damaged_run_that_is_asked_for_less_is_mended_and_computed_from_its_start(tmp_path, fresh):
    """With the objective and the picture at hand, as the panel has them: going on has moved that picture."""
    run = advance(tmp_path, 7)
    (run.folder / "result.png").unlink()
    less = lab.Run(run.settings.with_(iterations=3), tmp_path)
    list(less.steps(set_up(less.settings)))
    answers_as(less, fresh[3], [7, 3])
    answers_as(lab.Run(run.settings, tmp_path), fresh[7], [7, 3])


def test_the_command_line_answers_for_its_iterations_in_every_order(tmp_path, fresh, monkeypatch, capsys):
    def nstlab(*words) -> str:
        monkeypatch.setattr(sys, "argv", ["nstlab", *map(str, words)])
        main()
        return capsys.readouterr().out

    for order in ORDERS:
        out = tmp_path / "-".join(map(str, order))
        for count, iterations in enumerate(order, start=1):
            said = nstlab("run", "--out", out, "--set", "size=48", "--set", f"iterations={iterations}")
            assert f"(iteration {iterations})" in said
            (picture,) = re.findall(r"^result +(.*) \(iteration", said, re.M)
            assert Path(picture).read_bytes() == (fresh[iterations].folder / "result.png").read_bytes()
            assert re.search(rf"^iterations +\*? {iterations}$", nstlab("show", picture), re.M)
            folder = nstlab("show", Path(out, fresh[3].folder.name))
            assert f"iteration {max(order[:count])}, frames 0, 1, 2" in folder


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
    writer.CHECKPOINT_SECONDS, writer.CHECKPOINT_FRACTION = 0.0, 1e9  # a checkpoint at every step: many to be killed in
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
    assert writer.CHECKPOINT_FRACTION < 0.1  # the wait after a checkpoint is its cost over this fraction
