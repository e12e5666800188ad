"""The panel's one history: what is shown, exported, stored and computed stay the same thing."""

import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

import nstlab as lab
from nstlab.widgets import panel, workbench
from tests.unit.test_panel import SHALLOW, held_at, paused_at, wait_for, with_values


@pytest.fixture
def bench(tmp_path):
    return with_values(panel(out=tmp_path / "out"), size=48, iterations=8, **SHALLOW)


@pytest.fixture
def branched(bench):
    """A run to 6 of 8 iterations whose k_S was changed on the way, at rest."""
    reached = held_at(bench, 3)
    bench.start()
    wait_for(reached)
    with_values(bench, k_S=5.0)
    bench.wait(300)
    assert bench.state == "finished", bench.message
    return bench


def exported(bench) -> dict[str, str]:
    """What the exports say now."""
    bench.view.folds["sweep"].value = True
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.name.startswith("exports"):
            thread.join(60)
    return {name: part.value for name, part in bench.view.exports.items()}


def on_screen(bench) -> bytes:
    """The bytes of the stored picture that is on the screen."""
    return bench.display.run.frame_path(bench.display.iteration).read_bytes()


def painted_by(settings: lab.Settings, out: Path) -> bytes:
    return lab.Run(settings, out).advance(progress=False).picture.read_bytes()


def test_each_export_gives_the_picture_on_the_screen(branched, tmp_path):
    """At the end, at an earlier frame, and after k_S was moved without a start."""
    for index, moved in ((2, None), (-1, None), (-1, 77.0)):
        branched.display.scrubber.index = index
        if moved:
            with_values(branched, k_S=moved)
        texts = exported(branched)
        expected = painted_by(branched.shown, tmp_path / f"expected{index}{moved}")
        if index == 2:
            assert branched.display.iteration == 2 and expected == on_screen(branched)
        assert painted_by(eval(texts["settings"], {"lab": lab}), tmp_path / f"python{index}{moved}") == expected
        sweep = yaml.safe_load(texts["sweep"])
        assert sweep["fixed"]["iterations"] == branched.display.iteration
        words = shlex.split(texts["papermill"])
        given = {words[i + 1]: words[i + 2] for i in range(3, len(words), 3)}
        assert given.pop("out") == str(branched.out) and Path(words[1]).is_file()
        assert (
            painted_by(lab.Settings.from_text({"size": "48", **given}), tmp_path / f"papermill{index}{moved}")
            == expected
        )
    words = shlex.split(texts["command"])
    assert words[-2:] == ["--out", str(branched.out)]
    words[-1] = str(tmp_path / "command")
    done = subprocess.run([sys.executable, "-m", *words[:1], *words[1:]], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (picture,) = (tmp_path / "command").glob("*/result.png")
    assert picture.read_bytes() == expected


def test_exports_stay_true_after_a_gallery_load_and_a_refused_path(branched):
    first = exported(branched)
    with_values(branched, content="/nowhere.png")
    assert exported(branched)["settings"] == first["settings"]
    branched.load(lab.Settings(content="coffee", size=64, k_S=3, init="black"))
    assert "coffee" in exported(branched)["settings"] and "init='black'" in exported(branched)["settings"]
    branched._on_gallery(str(next(branched.out.glob("*/run.json")).parent))
    assert "coffee" not in exported(branched)["settings"]


def test_k_S_moved_while_it_runs_keeps_the_curves_and_says_from_where(bench):
    reached = held_at(bench, 4)
    bench.start()
    wait_for(reached)
    seen = []
    bench.view.message.observe(lambda change: seen.append(bench.message), "value")
    with_values(bench, k_S=5.0)
    bench.wait(300)
    assert seen[:2] == ["k_S 5: heard, for the next iteration.", "k_S 5: heard, from iteration 4."]
    assert [row[0] for row in bench.display.rows] == list(range(9))
    assert bench.display.curves.value.count('class="mark"') >= 2 and "5 from 4" in bench.view.identity.value


def test_resume_takes_over_what_was_painted_before_the_change(bench, monkeypatch):
    paused_at(bench, 3)
    with_values(bench, k_S=5.0)
    computed = []
    real = bench.worker.on_step
    bench.worker.on_step = lambda run, step: (computed.append(step.iteration), real(run, step))
    bench.stop()
    bench.start()
    bench.wait(300)
    assert computed == [4, 5, 6, 7, 8] and bench.settings.k_S_changes == ((3, 5.0),)


def test_a_setting_moved_and_moved_back_finds_the_branch(branched):
    with_values(branched, init="black")
    assert branched.settings.k_S_changes == ()
    with_values(branched, init="content")
    assert branched.settings.k_S_changes == ((3, 5.0),) and branched.run.complete


def test_the_scrubbers_last_stop_is_the_newest_iteration(bench):
    paused_at(bench, 4)
    assert bench.display.scrubber.frames == [0, 1, 2, 4] and bench.display.iteration == 4


def test_every_order_of_iterations_shows_the_picture_that_is_asked_for(bench, tmp_path):
    for iterations in (7, 3, 7, 3, 4):  # 3 and 4 are painted again
        with_values(bench, iterations=iterations)
        bench.start()
        bench.wait(300)
        alone = lab.Run(bench.settings, tmp_path / f"alone{iterations}").advance(progress=False)
        assert bench.display.iteration == iterations == bench.display.rows[-1][0] == bench.display.scrubber.frames[-1]
        assert bench.run.picture.read_bytes() == alone.picture.read_bytes()


def test_typed_nonsense_is_said(bench):
    bench.controls["k_S"]._handle_custom_msg({"kind": "nonsense", "text": "much"}, [])
    assert bench.message == "'much' is no number from 0 up: 1000 stays"


def test_a_control_set_while_a_run_is_computed_is_put_back(bench):
    reached = held_at(bench, 2)
    bench.start()
    wait_for(reached)
    with_values(bench, size=64)
    assert bench.controls["size"].value == 48 and "stop the run first" in bench.message
    bench.stop()
    bench.wait(300)


def test_the_cell_run_again_shows_the_panel_whose_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(workbench, "this_cell", lambda: "cell-1")
    bench = with_values(panel(out=tmp_path), size=48, iterations=8, **SHALLOW)
    assert panel(out=tmp_path) is not bench  # nothing is in hand
    reached = held_at(bench, 2)
    bench.start()
    wait_for(reached)
    assert panel(out=tmp_path) is bench and panel(out=tmp_path / "other") is not bench
    monkeypatch.setattr(workbench, "this_cell", lambda: "cell-2")
    other = panel(out=tmp_path)
    assert other is not bench
    (row,) = other.view.others.children
    assert bench.run.folder.name in row.children[0].value
    with_values(other, size=48, iterations=8, **SHALLOW)
    other.start()
    assert "another panel of this kernel" in other.message
    row.children[1].click()
    bench.wait(300)
    assert bench.state == "stopped" and not other.view.others.children
