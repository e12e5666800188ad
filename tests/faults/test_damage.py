"""What is damaged is named and set aside; the end is the same to the bit."""

import json
import pickle
import shutil

import pytest
import torch

import nstlab as lab
from nstlab import runs
from nstlab.checkpoints import LATEST, PREVIOUS

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
        patch.setattr(runs, "CHECKPOINT_SECONDS", 1e9)  # none on the way, however slow the machine
        for iterations in (3, 6):
            run = lab.Run(settings.with_(iterations=iterations), out / "begun").advance(progress=False)
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
        assert files_of(folder) == expected
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
    elif how == "of a newer format" and path.suffix == ".pt":
        torch.save(torch.load(path, weights_only=True) | {"format": 99}, path)
    elif how == "of a newer format" and path.suffix == ".json":
        path.write_text(json.dumps(json.loads(data) | {"format": 99}))
    elif how == "of a newer format":
        path.write_text(path.read_text().replace("seconds", "hours"))


HOWS = ["empty", "truncated", "garbage", "a flipped bit", "of a newer format"]


@pytest.mark.parametrize("how", [*HOWS, "malicious"])
def test_the_checkpoint_before_it_serves(begun, caplog, how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, carry_on = begun
    damage(folder / LATEST, how)
    carry_on()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "\n" not in line and LATEST in line and "the one before it serves (iteration 3)" in line
    assert (folder / f"{LATEST}.damaged-1").exists()
    assert not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize("how", ["empty", "truncated"])
def test_without_a_checkpoint_it_starts_again(begun, caplog, how):
    folder, carry_on = begun
    damage(folder / LATEST, how)
    damage(folder / PREVIOUS, how)
    carry_on()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2 and all("the run starts again" in line for line in lines)


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


def test_another_runs_checkpoint_is_refused(begun, caplog, tmp_path):
    folder, carry_on = begun
    other = lab.Run(lab.Settings(**SETTINGS, iterations=6, k_S=5), tmp_path / "other").advance(progress=False)
    shutil.copy(other.folder / LATEST, folder / LATEST)
    carry_on()
    assert f"it belongs to run {other.id}" in caplog.text


def test_a_complete_run_whose_files_are_damaged_is_mended(begun, caplog):
    """Asked for no more than is stored, too."""
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
