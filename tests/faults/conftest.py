"""Runs in processes of their own, which tests kill, starve and run into each other."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Collection
from pathlib import Path

import pytest

from nstlab.runs.writer import is_frame

SETTINGS = {"size": 48, "device": "cpu"}


def files_of(folder: Path, kept: Collection[int] = ()) -> dict[str, bytes]:
    """What must be equal between two ways to the same run: pictures' bytes, and the history but for `seconds`.

    kept: iterations at which one of them was complete on its way, and so has their frames beside those of both.
    """
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.png")}
    for iteration in kept:
        if not is_frame(iteration):
            found.pop(f"frames/{iteration:06d}.png", None)
    rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    found["history.csv"] = "\n".join(",".join(row[:1] + row[2:]) for row in rows).encode()
    return found


@pytest.fixture
def start(tmp_path):
    """A function that starts a Python process with the given code; all are killed at the end."""
    processes = []

    def begin(code: str, **options) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            **options,
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        process.kill()
        process.communicate()
