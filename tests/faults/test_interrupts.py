"""Ctrl-C at moments when it used to print internal errors of Python or torch."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import nstlab as lab
from nstlab.interrupts import noted_interrupts, uninterrupted

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are those of POSIX")

TWICE = """
    import os, sys, time
    import nstlab as lab
    from nstlab.runs import checkpoints, writer
    writer.CHECKPOINT_SECONDS = 0.0
    real = checkpoints.torch.save

    def slow(value, file):
        print("writing", flush=True)
        class Slow:
            flush = file.flush
            def write(self, data):
                time.sleep(0.02)
                return file.write(data)
        real(value, Slow())

    checkpoints.torch.save = slow
    try:
        lab.Run(lab.Settings(size=48, device="cpu", iterations=1000), "{out}").advance(progress=False)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_twice_while_a_checkpoint_is_written(tmp_path, start):
    process = start(TWICE.format(out=tmp_path / "out"))
    while process.stdout.readline() != "writing\n":
        assert process.poll() is None
    for _ in range(2):
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=120)
    assert output.splitlines()[-1] == "interrupted" and errors == ""
    (folder,) = (tmp_path / "out").iterdir()
    assert lab.Run(lab.Settings(size=48, device="cpu", iterations=3), tmp_path / "out").advance(False).folder == folder


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells how far the imports are")
@pytest.mark.parametrize(
    "words", [["runs"], ["run", "--set", "size=48"], ["sweep", "smoke", "--dry-run"]], ids=" ".join
)
@pytest.mark.parametrize("loaded", ["libtorch_cpu", "_multiarray_umath"])
def test_ctrl_c_while_the_command_is_being_loaded_is_one_line(tmp_path, words, loaded):
    command = [sys.executable, "-m", "nstlab", *words, "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and loaded not in maps.read_text():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "nstlab: interrupted\n")
    assert not (tmp_path / "out").exists()


def test_noted_interrupts_act_after_their_number():
    with pytest.raises(KeyboardInterrupt), noted_interrupts(patience=2) as presses:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
    assert len(presses) == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_uninterrupted_gives_the_interrupt_at_its_end():
    done = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        done.append("all of it")
    assert done == ["all of it"]
