"""Sweeps through real kernels, real Dask workers and schedulers, and real signals."""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import nbformat
import pandas as pd
import psutil
import pytest
import yaml
from PIL import Image

import nstlab as lab
from nstlab import metrics, sweeps
from nstlab.runs.checkpoints import read_checkpoint
from nstlab.storage import home

from .conftest import Sweep, command_of, is_kernel, table_of, write_sweep

SLOW = {"pause": 0.6}  # seconds an iteration: time to see a point at work before it is done
SLOWER = {"pause": 2.0}  # where two points must be seen at work at once


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of runs of a sweep of two axes to which nothing happens, and what it said."""
    folder = tmp_path_factory.mktemp("undisturbed")
    sweep = Sweep(write_sweep(folder), folder / "out")
    try:
        assert sweep.wait() == 0, sweep.said
        assert not sweep.left_behind()
    finally:
        sweep.kill()
    return folder / "out", sweep.said


def same_results(out, other) -> None:
    """Tables equal but for the seconds and what only paces the notebook; pictures equal to the byte."""
    one, two = (table_of(folder).drop(columns=["pause", "fail_at"]) for folder in (out, other))
    pd.testing.assert_frame_equal(one, two)
    for path in one["path"]:
        assert (out / path / "result.png").read_bytes() == (other / path / "result.png").read_bytes()


def test_what_a_sweep_leaves(undisturbed):
    out, said = undisturbed
    assert "2 workers on this machine" in said and "dashboard http://127.0.0.1" in said
    assert "4 of 4 points are done" in said and "unknown parameter" not in said
    folder = out / "sweeps" / "two_axes"
    table = table_of(out)
    assert list(table["state"]) == ["done"] * 4 and list(table["iteration"]) == [8] * 4
    alike = [
        metrics.similarity(lab.load_image(out / path, None), lab.load_image("astronaut", 48))
        for path in table["picture"]
    ]
    assert list(table["ssim_content"]) == pytest.approx(alike, abs=1e-4)
    assert len(pd.read_csv(folder / "failures.csv")) == 0
    assert Image.open(folder / "contact_sheet.png").size[0] > 600
    for path in table["path"]:
        executed = nbformat.read(out / path / "notebook.ipynb", as_version=4)
        assert [cell.execution_count for cell in executed.cells] == [1, 2, 3]  # papermill's own cell among them
        assert lab.Run.open(out / path).manifest["machine"]["threads"] == 1
        assert not list((out / path).glob(".*"))
    made_with = yaml.safe_load((folder / "sweep.yaml").read_text())["made_with"]
    assert made_with["threads"] == 1 and made_with["torch"]


def test_a_sweep_that_is_done_does_nothing(undisturbed, tmp_path, sweep):
    out, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/*.*")}
    again = sweep(write_sweep(tmp_path), out=out)
    assert again.wait() == 0
    assert "all of them are done; nothing to run" in again.said and "dask" not in again.said
    assert {path: path.stat().st_mtime_ns for path in out.glob("*/*.*")} == before


def test_a_worker_that_is_killed_costs_nothing(undisturbed, tmp_path, sweep):
    disturbed = sweep(write_sweep(tmp_path, **SLOW))
    disturbed.until_computing(rows=3)
    kernel = disturbed.kernels()[0]
    worker = kernel.parent()
    worker.send_signal(signal.SIGKILL)
    assert not psutil.wait_procs([kernel], timeout=20)[1], "the kernel outlived its worker"
    assert disturbed.wait() == 0, disturbed.said
    assert "a worker died" in disturbed.said and "resumes at iteration" in disturbed.said
    assert not disturbed.left_behind()
    same_results(undisturbed[0], tmp_path / "out")


def test_a_failing_point_does_not_stop_the_others(tmp_path, sweep):
    grid = {"k_S": [10.0, 1000.0]}
    failing = sweep(write_sweep(tmp_path, grid=grid, fail_at=10.0, iterations=2))
    assert failing.wait() == 1
    last = failing.said.splitlines()[-1]
    assert last.startswith("nstlab: 1 of 2 points failed") and "the notebook has a fault" in last
    assert "Traceback" not in failing.said
    failures = pd.read_csv(tmp_path / "out" / "sweeps" / "two_axes" / "failures.csv")
    assert list(failures["k_S"]) == [10] and "ValueError: the notebook has a fault" in failures["error"][0]
    assert "ValueError" in (tmp_path / "out" / failures["notebook"][0]).read_text()  # its copy shows where
    assert list(table_of(tmp_path / "out")["state"]) == ["failed", "done"]


def test_runs_together_before_their_notebooks(undisturbed, tmp_path, sweep):
    """All of them in one batch; their notebooks find them complete."""
    batch = sweep(write_sweep(tmp_path), "--together", "4")
    assert batch.wait() == 0, batch.said
    assert "batch     1 of 1: 4 points" in batch.said and "4 of 4 points are done" in batch.said
    alone, table = table_of(undisturbed[0]), table_of(batch.out)
    assert list(table["state"]) == ["done"] * 4 and list(table["run"]) == list(alone["run"])
    assert list(table["loss_total"]) == pytest.approx(list(alone["loss_total"]), rel=0.01)
    machines = [lab.Run.open(batch.out / path).manifest["machine"] for path in table["path"]]
    assert {machine["batch"] for machine in machines} == {4}, "a notebook computed its run again"


def test_a_wider_grid_runs_only_what_is_new_and_more_iterations_extend_all(undisturbed, tmp_path, sweep):
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    history = {path: path.read_bytes() for path in out.glob("*/history.csv")}
    wider = sweep(write_sweep(tmp_path, grid={"k_S": [10.0, 1000.0, 100.0], "init": ["content"]}))
    assert wider.wait() == 0, wider.said
    assert "2 done, 0 started, 1 new" in wider.said
    assert {path: path.read_bytes() for path in history} == history
    further = sweep(write_sweep(tmp_path, grid={"k_S": [10.0, 1000.0]}), "--set", "iterations=11")
    assert further.wait() == 0, further.said
    assert "0 done, 2 started, 0 new" in further.said
    for path in table_of(out)["path"]:  # it went on from where it was
        assert (out / path / "history.csv").read_bytes().startswith(history[out / path / "history.csv"])
        assert lab.Run.open(out / path).iteration == 11
    before = table_of(out)
    back = sweep(write_sweep(tmp_path, grid={"k_S": [10.0, 1000.0]}), "--set", "iterations=8")
    assert back.wait() == 0, back.said
    assert "all of them are done" in back.said
    outcome = sweeps.load("two_axes", out)
    for _, row in outcome.table.iterrows():
        assert outcome.run(row).iteration == 8 and outcome.run(row).stored == 11
    for (_, row), (_, later) in zip(table_of(out).iterrows(), before.iterrows(), strict=True):
        history = pd.read_csv(out / row["path"] / "history.csv")  # the loss and the picture of one iteration
        assert row["loss_total"] == history["total"][8] != later["loss_total"] == history["total"][11]
        for shown, iteration in ((row, 8), (later, 11)):
            assert shown["iteration"] == iteration
            assert lab.read_settings(out / shown["picture"]).iterations == iteration


def test_ctrl_c_once_stores_every_running_point(undisturbed, tmp_path, sweep):
    interrupted = sweep(write_sweep(tmp_path, **SLOWER))
    busy = interrupted.until_computing(rows=3, runs=2)
    os.killpg(interrupted.process.pid, signal.SIGINT)  # as a terminal does it: every process gets it
    assert interrupted.wait() == 130, interrupted.said
    assert "the same command resumes" in interrupted.said.splitlines()[-1]
    assert "Traceback" not in interrupted.said
    assert not interrupted.left_behind()
    for folder in busy:
        run = lab.Run.open(folder)
        assert run.manifest["status"] == "stopped" and run.iteration == len(run.history) - 1 < 8
    assert "done" not in list(table_of(tmp_path / "out")["state"])
    again = sweep(write_sweep(tmp_path))
    assert again.wait() == 0, again.said
    assert "0 done, 2 started, 2 new" in again.said
    same_results(undisturbed[0], tmp_path / "out")


def test_ctrl_c_twice_stops_at_once(tmp_path, sweep):
    interrupted = sweep(write_sweep(tmp_path, pause=3600.0))
    busy = interrupted.until_computing(rows=1)
    os.killpg(interrupted.process.pid, signal.SIGINT)
    time.sleep(1)
    assert interrupted.process.poll() is None  # it waits for the iteration's end
    os.killpg(interrupted.process.pid, signal.SIGINT)
    assert interrupted.wait() == 130, interrupted.said  # long before the iteration's end
    assert not interrupted.left_behind()
    assert lab.Run.open(busy[0]).manifest  # what is stored can be read


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Cluster:
    """A Dask scheduler and two workers that somebody else started."""

    def __init__(self, folder, allowed_failures=3):
        self.environment = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": str(allowed_failures)}
        self.address = f"tcp://127.0.0.1:{free_port()}"
        words = ["scheduler", "--host", self.address, "--no-dashboard"]
        self.scheduler = self._start(words, folder)
        words = ["worker", self.address, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"]
        self.workers = self._start([*words, "--local-directory", str(folder / "w")], folder)

    def _start(self, words, folder):
        command = [sys.executable, "-m", "dask", *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=folder, env=self.environment, **quiet)

    def kernels(self):
        return [process for process in psutil.Process(self.workers.pid).children(recursive=True) if is_kernel(process)]

    def close(self):
        family = psutil.Process(self.workers.pid).children(recursive=True) if self.workers.poll() is None else []
        for process in (self.scheduler, self.workers):
            process.kill()
            process.wait()
        for process in psutil.wait_procs(family, timeout=5)[1]:
            process.kill()


def test_a_scheduler_by_address_and_its_loss(undisturbed, tmp_path, sweep):
    cluster = Cluster(tmp_path)
    try:
        lost = sweep(write_sweep(tmp_path, **SLOWER), "--scheduler", cluster.address)
        lost.until_computing(rows=2)
        cluster.scheduler.kill()
        assert lost.wait() == 1
        last = lost.said.splitlines()[-1]
        assert last.startswith("nstlab: the scheduler at tcp://") and "the same command resumes" in last
        assert "Traceback" not in lost.said
        assert "missing" in list(table_of(tmp_path / "out")["state"])
    finally:
        cluster.close()
    cluster = Cluster(tmp_path)
    try:
        again = sweep(write_sweep(tmp_path), "--scheduler", cluster.address)
        assert again.wait() == 0, again.said
        assert cluster.address in again.said and not cluster.kernels()
    finally:
        cluster.close()
    same_results(undisturbed[0], tmp_path / "out")


def test_no_scheduler_at_the_address(tmp_path, sweep):
    refused = sweep(write_sweep(tmp_path), "--scheduler", f"tcp://127.0.0.1:{free_port()}")
    assert refused.wait() == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1" in refused.said.splitlines()[-1]


def test_a_misspelt_name_is_one_line_each_and_starts_nothing(tmp_path, sweep):
    wrong = sweep(write_sweep(tmp_path, grid={"k_s": [1.0], "init": ["content", "blue"]}, itrations=3))
    assert wrong.wait() == 2
    lines = wrong.said.splitlines()
    assert len(lines) == 2 and all(line.startswith("nstlab: ") for line in lines)
    assert not (tmp_path / "out").exists()


MINE = """
from torch import nn
from nstlab import Network, StyleLoss

means = StyleLoss(lambda F, seed: F.mean((0, 2, 3)), lambda a, b: (a - b).square().mean(), 1)


def darker(result, content, style):
    return (content - result).mean()


def tiny():
    filters = nn.Sequential(nn.Conv2d(3, 32, 5, padding=2), nn.ReLU())
    return Network({"filters": filters, "half": nn.AvgPool2d(2)})
"""


def test_a_loss_a_network_and_a_judge_of_ones_own(tmp_path, sweep):
    """From a file beside the sweep's, on two workers; its hash is in the manifest and in every PNG. No checkpoint is
    kept, since the sweep asks for none.
    """
    (tmp_path / "mine.py").write_text(MINE)
    file = write_sweep(tmp_path, style_loss="mine.py:means", network="mine.py:tiny", iterations=3)
    content = yaml.safe_load(file.read_text()) | {"evaluate": ["ssim", "mine.py:darker"], "checkpoints": False}
    file.write_text(yaml.safe_dump(content))
    computed = sweep(file)
    assert computed.wait() == 0, computed.said
    digest = hashlib.sha256(MINE.encode()).hexdigest()
    table = table_of(computed.out)
    assert list(table["state"]) == ["done"] * 4 and table["eval_darker"].notna().all()
    for path in table["path"]:
        run = lab.Run.open(computed.out / path)
        assert {run.manifest["sha256"][name] for name in ("style_loss", "network")} == {digest}
        pictures = list(run.folder.rglob("*.png"))
        assert pictures and all(digest in Image.open(png).info["nstlab-code"] for png in pictures)
        assert run.complete and not list(run.folder.glob("checkpoint*"))


def test_two_commands_on_one_sweep(tmp_path, sweep):
    first = sweep(write_sweep(tmp_path, pause=3600.0))
    first.until_computing(rows=1)
    second = sweep(write_sweep(tmp_path, pause=3600.0))
    assert second.wait() == 2
    assert "is being computed by another `nstlab sweep`" in second.said.splitlines()[-1]


def test_a_sweep_can_be_read_again(undisturbed):
    outcome = sweeps.load("two_axes", undisturbed[0])
    assert len(outcome.table) == 4 and list(outcome.axes) == ["k_S", "init"]
    assert outcome.run(outcome.table.iloc[0]).iteration == 8
    assert all(picture.shape == (1, 3, 48, 48) for picture in outcome.pictures())
    snapshot = read_checkpoint(outcome.run(outcome.table.iloc[0]).folder, outcome.table["run"][0])
    assert snapshot.iteration == 8


def test_ctrl_c_while_the_workers_start(tmp_path, sweep):
    """Every process of the terminal hears it; the workers, not yet ready to, must not say so."""
    interrupted = sweep(write_sweep(tmp_path, **SLOW))
    began = time.monotonic()
    while not [process for process in interrupted.processes() if "spawn_main" in " ".join(command_of(process))]:
        assert time.monotonic() - began < 120 and interrupted.process.poll() is None, interrupted.said
        time.sleep(0.005)
    os.killpg(interrupted.process.pid, signal.SIGINT)
    assert interrupted.wait() == 130, interrupted.said
    assert "Traceback" not in interrupted.said and "Nanny" not in interrupted.said
    assert "the same command resumes" in interrupted.said.splitlines()[-1]
    assert not interrupted.left_behind()


def test_two_sweeps_that_share_their_points(undisturbed, tmp_path, sweep):
    """One computes, the other waits for what it asks for, too; both end well."""
    one = sweep(write_sweep(tmp_path, name="one"))
    other = tmp_path / "other.yaml"
    other.write_text((tmp_path / "one.yaml").read_text().replace("name: two_axes", "name: other"))
    two = sweep(other)
    assert (one.wait(), two.wait()) == (0, 0), one.said + two.said
    same_results(undisturbed[0], tmp_path / "out")
    assert "4 of 4 points are done" in one.said and "4 of 4 points are done" in two.said


def test_a_scheduler_without_workers_is_named_and_left_at_once(tmp_path, sweep):
    address = f"tcp://127.0.0.1:{free_port()}"
    words = [sys.executable, "-m", "dask", "scheduler", "--host", address, "--no-dashboard"]
    scheduler = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        waiting = sweep(write_sweep(tmp_path), "--scheduler", address)
        began = time.monotonic()
        while "the scheduler has no workers" not in waiting.said:
            assert time.monotonic() - began < 120 and waiting.process.poll() is None, waiting.said
            time.sleep(0.1)
        os.killpg(waiting.process.pid, signal.SIGINT)
        assert waiting.wait(timeout=30) == 130
        assert "0 of 4 points done" in waiting.said.splitlines()[-1]
    finally:
        scheduler.kill()
        scheduler.wait()


def kill_after_rows(cluster: Cluster, path, rows: int) -> None:
    """Kill the worker whose kernel computes, once its history has so many rows more; as a job that has run out."""
    wanted = path.read_bytes().count(b"\n") + rows if path.is_file() else rows
    began = time.monotonic()
    while not (path.is_file() and path.read_bytes().count(b"\n") >= wanted and cluster.kernels()):
        assert time.monotonic() - began < 120
        time.sleep(0.02)
    cluster.kernels()[0].parent().kill()


def test_a_point_that_gets_further_in_every_life_is_never_given_up(tmp_path, sweep):
    """Dask is told to give a task up after its second worker's death; this one loses three."""
    cluster = Cluster(tmp_path, allowed_failures=1)
    try:
        grid = {"k_S": [10.0]}
        dying = sweep(write_sweep(tmp_path, grid=grid, pause=0.3, iterations=20), "--scheduler", cluster.address)
        dying.until_computing(rows=2)
        (history,) = (tmp_path / "out").glob("*/history.csv")
        for _ in range(3):
            kill_after_rows(cluster, history, 3)
        assert dying.wait() == 0, dying.said
        assert "its workers died" in dying.said and "1 of 1 points are done" in dying.said
    finally:
        cluster.close()


def test_readmes_recipe_for_a_cluster(tmp_path, sweep):
    """As it is written, but that its jobs are processes here and few."""
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed: pip install dask-jobqueue")
    (code,) = re.findall(r"```python\n(from dask_jobqueue.*?)```", (home() / "README.md").read_text(), re.S)
    code = code.replace(
        "from dask_jobqueue import SLURMCluster", "from dask_jobqueue.local import LocalCluster as SLURMCluster"
    )
    code = code.replace("25", "1").replace("cores=4, processes=4", "cores=2, processes=2")
    script = tmp_path / "cluster.py"
    script.write_text(code)
    words = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    cluster = subprocess.Popen([sys.executable, script], text=True, cwd=tmp_path, start_new_session=True, **words)
    try:
        address = cluster.stdout.readline().strip()
        assert address.startswith("tcp://"), cluster.communicate()[1]
        computed = sweep(write_sweep(tmp_path, grid={"k_S": [10.0, 1000.0]}, iterations=3), "--scheduler", address)
        assert computed.wait() == 0, computed.said
        assert "2 of 2 points are done" in computed.said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(cluster.pid, signal.SIGKILL)
        cluster.communicate()
