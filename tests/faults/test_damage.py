"""Damaged files are reported and set aside; the result is the same to the bit."""

import errno
import hashlib
import io
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch

import nstlab as lab
from nstlab.runs import writer
from nstlab.runs.checkpoints import LATEST, PREVIOUS

from .conftest import SETTINGS, files_of


class Malicious:
    def __reduce__(self):
        return (open, ("ran.txt", "w"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run stored at 6 with its checkpoint of 3 before it, and the same run straight to 9."""
    out = tmp_path_factory.mktemp("stored")
    settings = lab.Settings(**SETTINGS, iterations=9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "CHECKPOINT_SECONDS", 1e9)  # none on the way, however slow the machine
        lab.Run(settings.with_(iterations=3), out / "begun").advance(progress=False)
        run = lab.Run(settings, out / "begun")
        for step in (computed := run.steps()):
            if step.iteration == 6:
                computed.close()
    straight = lab.Run(settings, out / "straight").advance(progress=False)
    return run.folder, files_of(straight.folder)


@pytest.fixture
def begun(stored, tmp_path):
    """A copy of the stored run to damage, and a function that carries it on to 9 and compares."""
    source, expected = stored
    folder = tmp_path / source.name
    shutil.copytree(source, folder)

    def carry_on():
        run = lab.Run(lab.Settings(**SETTINGS, iterations=9), tmp_path).advance(progress=False)
        assert run.folder == folder
        assert files_of(folder, kept=[3]) == expected
        assert run.manifest["status"] == "complete"

    return folder, carry_on


def damage(path, how):
    data = path.read_bytes()
    if how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "garbage":
        path.write_bytes(b"\x80\x04 garbage" * 50)
    elif how == "a flipped bit":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    elif how == "malicious":
        path.write_bytes(pickle.dumps(Malicious()))
    elif how == "of another format" and path.suffix == ".pt":
        rewrite(path, format=0)
    elif how == "of another format" and path.suffix == ".json":
        path.write_text(json.dumps(json.loads(data) | {"format": "one"}))
    elif how == "of another format":
        path.write_text(path.read_text().replace("seconds", "hours"))


def rewrite(path, **changes):
    """A checkpoint with other content and the right hash."""
    buffer = io.BytesIO()
    torch.save(torch.load(path, weights_only=True) | changes, buffer)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


HOWS = ["empty", "truncated", "garbage", "a flipped bit", "of another format"]


@pytest.mark.parametrize("how", [*HOWS, "malicious"])
def test_the_checkpoint_before_it_serves(begun, caplog, how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, carry_on = begun
    damage(folder / LATEST, how)
    carry_on()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line and LATEST in line and "using the one before it (iteration 3)" in line
    assert (folder / f"{LATEST}.damaged-1").exists()
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize("how", ["empty", "truncated"])
def test_without_a_checkpoint_it_starts_again(begun, caplog, how):
    folder, carry_on = begun
    damage(folder / LATEST, how)
    damage(folder / PREVIOUS, how)
    carry_on()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and all("the run starts over" in line for line in lines)


@pytest.mark.parametrize("how", [how for how in HOWS if how != "a flipped bit"])
def test_a_damaged_history_is_written_again(begun, caplog, how):
    folder, carry_on = begun
    damage(folder / "history.csv", how)
    carry_on()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "history.csv" in line and "set aside" in line


@pytest.mark.parametrize("how", [how for how in HOWS if how != "a flipped bit"])
def test_a_damaged_manifest_is_written_again(begun, caplog, how):
    folder, carry_on = begun
    damage(folder / "run.json", how)
    carry_on()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "run.json" in line and "set aside" in line


def test_rows_twice_or_lost_are_noticed(begun, caplog):
    folder, carry_on = begun
    lines = (folder / "history.csv").read_text().splitlines(keepends=True)
    (folder / "history.csv").write_text("".join(lines[:4] + lines[3:]))
    carry_on()
    assert len(caplog.records) == 1


def test_a_missing_checkpoint_or_history_is_no_damage(begun, caplog):
    folder, carry_on = begun
    (folder / LATEST).unlink()
    (folder / "history.csv").unlink()
    carry_on()
    assert not caplog.records


def listing(folder):
    """Every file with its bytes, but for the lock."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


@pytest.mark.parametrize("code", ["EIO", "EACCES", "ENOMEM"])
@pytest.mark.parametrize("name", [LATEST, PREVIOUS, "history.csv", "run.json"])
def test_a_file_that_cannot_be_read_stops_the_run_and_nothing_is_touched(begun, monkeypatch, name, code):
    folder, carry_on = begun
    if name == PREVIOUS:
        damage(folder / LATEST, "truncated")
    before = listing(folder)
    real = os.open

    def failing(path, *args, **kwargs):
        if Path(path) == folder / name:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)), str(path))
        return real(path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing)
        with pytest.raises((lab.RunError, OSError)) as stopped:
            lab.Run(lab.Settings(**SETTINGS, iterations=9), folder.parent).advance(progress=False)
    assert name in str(stopped.value) and os.strerror(getattr(errno, code)) in str(stopped.value)
    assert "\n" not in str(stopped.value) and listing(folder) == before
    carry_on()


@pytest.mark.parametrize("names", [[LATEST], [LATEST, PREVIOUS], ["run.json"]], ids=" ".join)
def test_files_of_a_newer_nstlab_stop_the_run_and_nothing_is_touched(begun, names):
    folder, _ = begun
    for name in names:
        if name == "run.json":
            stored = json.loads((folder / name).read_text())
            (folder / name).write_text(json.dumps(stored | {"format": 99}))
        else:
            rewrite(folder / name, format=99)
    before = listing(folder)
    with pytest.raises(lab.RunError, match=r"was written by a newer nstlab \(format 99\): update this one"):
        lab.Run(lab.Settings(**SETTINGS, iterations=9), folder.parent).advance(progress=False)
    assert listing(folder) == before


@pytest.mark.parametrize(
    "what", ["iteration", "rows", "shape", "nan", "learning rate", "state", "history", "no tensor"]
)
def test_a_checkpoint_that_contradicts_itself_is_set_aside(begun, caplog, what):
    """With a hash that is right: somebody has altered it."""
    folder, carry_on = begun
    stored = torch.load(folder / LATEST, weights_only=True)
    optimizer = stored["optimizer"]
    changes = {
        "iteration": lambda: {"iteration": 5},
        "rows": lambda: {"history": stored["history"] + 1},
        "shape": lambda: {"image": torch.zeros(1, 3, 64, 64)},
        "nan": lambda: {"image": stored["image"] * float("nan")},
        "learning rate": lambda: {
            "optimizer": optimizer | {"param_groups": [optimizer["param_groups"][0] | {"lr": 0.5}]}
        },
        "state": lambda: {"optimizer": optimizer | {"state": {0: optimizer["state"][0] | {"d": torch.zeros(7)}}}},
        "history": lambda: {"history": torch.cat([stored["history"], stored["history"][:, :1]], 1)},
        "no tensor": lambda: {"image": "a picture"},
    }
    rewrite(folder / LATEST, **changes[what]())
    carry_on()
    assert "is set aside" in caplog.text and "using the one before it (iteration 3)" in caplog.text


def test_foreign_files_are_left_alone(begun):
    """A cloud drive's copies, a folder of that name, notes: neither read nor removed."""
    folder, _ = begun
    shutil.copy(folder / "frames" / "000005.png", folder / "frames" / "000005 (1).png")
    (folder / "frames" / "0000021.png").mkdir()
    (folder / "frames" / "000009.png").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "frames" / "999999.png").symlink_to(folder / "notes.txt")
    assert lab.Run.open(folder).frames == [0, 1, 2, 3, 5, 6]  # 3 and 6: where it was complete, and where it is
    names = {path.name for path in folder.rglob("*")}
    lab.Run(lab.Settings(**SETTINGS, iterations=8), folder.parent).advance(progress=False)
    assert (
        names <= {path.name for path in folder.rglob("*")} | {PREVIOUS} and (folder / "notes.txt").read_text() == "mine"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_nothing_is_written_through_links(begun, tmp_path):
    folder, _ = begun
    settings = lab.Settings(**SETTINGS, iterations=9)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("checkpoint.new.pt", "result.png", "history.csv.part", ".run.json.part", ".checkpoint.pt.part"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(victim)
    lab.Run(settings, tmp_path).advance(progress=False)
    assert victim.read_text() == "precious" and not (folder / "result.png").is_symlink()
    for name in ("lock", "frames", "."):
        moved = tmp_path / "elsewhere"
        path = (folder / name).resolve()
        path.rename(moved)
        path.symlink_to(moved)
        with pytest.raises(lab.RequestError, match="is a link, which nstlab does not write through"):
            lab.Run(settings.with_(iterations=12), tmp_path).advance(progress=False)
        path.unlink()
        moved.rename(path)


def test_another_runs_checkpoint_is_refused(begun, caplog, tmp_path):
    folder, carry_on = begun
    other = lab.Run(lab.Settings(**SETTINGS, iterations=6, k_S=5), tmp_path / "other").advance(progress=False)
    shutil.copy(other.folder / LATEST, folder / LATEST)
    carry_on()
    assert f"it belongs to run {other.id}" in caplog.text


def test_a_complete_run_whose_files_are_damaged_is_mended(begun, caplog):
    """Even if no more is asked for than is stored."""
    folder, _ = begun
    expected = files_of(folder)
    for name in ("history.csv", "result.png"):
        damage(folder / name, "truncated")
    lab.Run(lab.Settings(**SETTINGS, iterations=6), folder.parent).advance(progress=False)
    assert files_of(folder) == expected


def test_another_machine_is_named(begun, caplog):
    folder, carry_on = begun
    manifest = json.loads((folder / "run.json").read_text())
    manifest["machine"]["threads"] = 96
    (folder / "run.json").write_text(json.dumps(manifest))
    carry_on()
    assert "made with threads 96, this machine has" in caplog.text
