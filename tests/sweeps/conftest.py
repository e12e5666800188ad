"""Sweeps in processes of their own, which tests kill and interrupt."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
import yaml

PARAMETERS = """
content = "astronaut"
style = "swirl"
size = 48
k_S = 1000.0
style_loss = "gram"
network = "vgg19"
init = "content"
iterations = 8
seed = 0
device = "cpu"
out = None
fail_at = None  # the k_S whose notebook raises
pause = 0.0  # seconds after each iteration
"""
BODY = """
import contextlib
import time
import nstlab as lab
from nstlab.runs import writer

writer.CHECKPOINT_SECONDS = 0.2  # so that there is something to go on from
settings = lab.Settings(**{name: value for name, value in globals().items() if name in lab.Settings.model_fields})
if fail_at == k_S:
    raise ValueError("the notebook has a fault")
run = lab.Run(settings, out=out)
if pause:
    steps = run.steps
    def slow():
        with contextlib.closing(steps()) as computed:
            for step in computed:
                time.sleep(pause)
                yield step
    run.steps = slow
run.advance()
"""


def write_notebook(path: Path) -> Path:
    """A notebook of one run, as small as one can be."""
    cells = [
        nbformat.v4.new_code_cell(PARAMETERS.strip(), metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(BODY.strip()),
    ]
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def write_sweep(folder: Path, name: str = "two_axes", grid: dict | None = None, **fixed) -> Path:
    """A sweep's file: two axes, four points."""
    notebook = folder / "point.ipynb"
    if not notebook.exists():
        write_notebook(notebook)
    grid = grid or {"k_S": [10.0, 1000.0], "init": ["white_noise", "content"]}
    path = folder / f"{name}.yaml"
    content = {"name": "two_axes", "notebook": str(notebook), "fixed": fixed, "grid": grid}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


class Sweep:
    """`nstlab sweep` in a process group of its own, as a terminal has it."""

    def __init__(self, file: Path, out: Path, *words: str) -> None:
        self.out, self.log = out, file.with_suffix(f".{time.time_ns()}.log")
        command = [sys.executable, "-m", "nstlab", "sweep", str(file), "--out", str(out), *words]
        environment = os.environ | {"COLUMNS": "200"}
        environment.pop("OMP_NUM_THREADS", None)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment
            )
        self.seen: set[psutil.Process] = set()

    @property
    def said(self) -> str:
        return self.log.read_text()

    def processes(self) -> list[psutil.Process]:
        """Every process under it, now; all that were ever seen are kept in `seen`."""
        try:
            now = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            now = []
        self.seen |= set(now)
        return now

    def kernels(self) -> list[psutil.Process]:
        return [process for process in self.processes() if is_kernel(process)]

    def until_computing(self, rows: int = 3, runs: int = 1, timeout: float = 300) -> list[Path]:
        """Wait until so many runs have so many rows of history in this command's time; gives their folders."""
        began, before = time.time(), {path: len(path.read_bytes()) for path in self.out.glob("*/history.csv")}
        while time.time() - began < timeout and self.process.poll() is None:
            self.processes()
            paths = [path for path in self.out.glob("*/history.csv") if len(path.read_bytes()) != before.get(path)]
            busy = [path.parent for path in paths if path.read_bytes().count(b"\n") > rows]
            if len(busy) >= runs:
                return busy
            time.sleep(0.05)
        raise AssertionError(f"nothing was computed:\n{self.said}")

    def wait(self, timeout: float = 600) -> int:
        until = time.time() + timeout
        while self.process.poll() is None and time.time() < until:
            self.processes()
            time.sleep(0.1)
        assert self.process.poll() is not None, f"it does not end:\n{self.said}"
        return self.process.returncode

    def left_behind(self, seconds: float = 20) -> list[psutil.Process]:
        """Those of its processes that still live some seconds later."""
        return psutil.wait_procs(list(self.seen), timeout=seconds)[1]

    def kill(self) -> None:
        for process in [*self.processes(), *self.seen]:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def is_kernel(process: psutil.Process) -> bool:
    return "ipykernel_launcher" in " ".join(command_of(process))


def table_of(out: Path) -> pd.DataFrame:
    """The sweep's table without what may differ between two ways to it: the seconds."""
    table = pd.read_csv(out / "sweeps" / "two_axes" / "table.csv", keep_default_na=False)
    return table.drop(columns=["seconds", "notebook_seconds"])


@pytest.fixture
def sweep(tmp_path):
    """A function that starts a sweep; nothing of it outlives the test."""
    begun = []

    def start(file: Path, *words: str, out: Path = tmp_path / "out") -> Sweep:
        begun.append(Sweep(file, out, *words))
        return begun[-1]

    yield start
    for each in begun:
        each.kill()
