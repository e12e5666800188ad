"""A process that is killed, or a disk that fails, at every moment at which a run touches the disk."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

import nstlab as lab
from nstlab import optimise
from nstlab.runs import writer

from .harness import Fault, Kind

SETTINGS = {"style": "waves", "size": 40, "device": "cpu", "content_layers": ("relu1_1",), "style_layers": ("relu1_1",)}
BEGUN, WANTED = 2, 4
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")


class Killed(BaseException):
    """The process is no more."""


class Disk:
    """Counts the calls that change a folder; at the one that is armed it fails, or everything ends."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.calls = 0
        self.at: int | None = None
        self.mode = "kill"
        sys.addaudithook(self._heard)

    @contextmanager
    def armed(self, folder: Path, at: int | None, mode: str) -> Iterator[None]:
        self.folder, self.calls, self.at, self.mode = folder, 0, at, mode
        try:
            yield
        finally:
            self.folder = None

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or not (event in CHANGES or (event == "open" and self._writes(arguments))):
            return
        if not str(arguments[0]).startswith(str(self.folder)):
            return
        self.calls += 1
        if self.at is not None and (self.calls - 1 == self.at or (self.mode == "kill" and self.calls - 1 > self.at)):
            if self.mode == "kill":
                raise Killed  # and whatever tidies up afterwards is dead, too
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))

    @staticmethod
    def _writes(arguments: tuple[Any, ...]) -> bool:
        path, mode, flags = arguments
        return isinstance(path, (str, os.PathLike)) and bool(
            (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or (mode and set(mode) & set("wax+"))
        )


_disk: list[Disk] = []  # audit hooks stay for ever, so there is one


@dataclass
class Stage:
    """A run that has reached BEGUN, what it must become at WANTED, and how many calls each way there takes."""

    begun: Path
    expected: dict[str, bytes]
    settings: lab.Settings
    ready: tuple[Any, torch.Tensor]
    calls: int


def files_of(folder: Path) -> dict[str, bytes]:
    """What must be equal between two ways to the same run."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    found["history.csv"] = "\n".join(",".join(row[:1] + row[2:]) for row in rows).encode()
    return found


def advance(stage: Stage, out: Path) -> lab.Run:
    """As Run.advance, with a checkpoint at every step and without loading the network anew."""
    objective, x = stage.ready
    run = lab.Run(stage.settings, out)
    with mock.patch.object(writer, "CHECKPOINT_SECONDS", 0.0), mock.patch.object(writer, "CHECKPOINT_FRACTION", 1e9):
        list(run.steps((objective, x.detach().clone().requires_grad_())))
    return run


def prepare(folder: Path) -> Stage:
    if not _disk:
        _disk.append(Disk())
    settings = lab.Settings(**SETTINGS, iterations=WANTED)
    ready = optimise.set_up(settings)
    stage = Stage(folder / "begun", {}, settings.with_(iterations=BEGUN), ready, 0)
    advance(stage, stage.begun)
    stage.settings = settings
    straight = advance(stage, folder / "straight")
    stage.expected = files_of(straight.folder)
    shutil.copytree(stage.begun, folder / "counted")
    with _disk[0].armed(folder / "counted", None, "count"):
        advance(stage, folder / "counted")
        stage.calls = _disk[0].calls
    return stage


def every(stage: Stage) -> int:
    """Each call, killed or failed; and then each pair of one with one in the next life."""
    return 2 * stage.calls + 4 * stage.calls**2


def moments(stage: Stage, number: int) -> list[tuple[str, int]]:
    """(mode, call) of the first life, and of the second if there is one."""
    modes, n = ("kill", "fail"), stage.calls
    if number < 2 * n:
        return [(modes[number // n], number % n)]
    number, call = divmod(number - 2 * n, n)
    number, other = divmod(number, n)
    return [(modes[number // 2], other), (modes[number % 2], call)]


def attempt(stage: Stage, _: random.Random, number: int, folder: Path) -> None:
    out = folder / "out"
    shutil.copytree(stage.begun, out)
    for mode, call in moments(stage, number):
        with _disk[0].armed(out, call, mode):
            try:
                advance(stage, out)
            except Killed:
                pass
            except lab.RunError as error:
                if "the disk is full" not in str(error):
                    raise Fault(f"{mode} at {call}: {error}") from None
        _claims_are_true(stage, out, f"after {mode} at {call}")
    run = advance(stage, out)
    if not run.complete or files_of(run.folder) != stage.expected:
        raise Fault(f"{moments(stage, number)}: it came to another end")
    left = [path.name for path in run.folder.rglob("*") if ".part" in path.name or "damaged" in path.name]
    if left or len(list(run.folder.glob("checkpoint*"))) > 2:
        raise Fault(f"{moments(stage, number)}: left behind: {left}")


def _claims_are_true(stage: Stage, out: Path, when: str) -> None:
    run = lab.Run(stage.settings, out)
    if run.complete and files_of(run.folder) != stage.expected:
        raise Fault(f"{when}: it says that it is complete, and is not")


KIND = Kind("kills", prepare, attempt, every)
