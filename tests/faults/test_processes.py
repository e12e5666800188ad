"""Two processes, full disks, folders that cannot be written, Ctrl-C, and the command line's exit codes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import nstlab as lab
from nstlab.__main__ import main
from nstlab.network import weights

from .conftest import SETTINGS, files_of

NSTLAB = [sys.executable, "-m", "nstlab"]


def nstlab(*words, **options):
    return subprocess.run([*NSTLAB, *map(str, words)], capture_output=True, text=True, **options)


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text and text.startswith("nstlab: ")


SLOW = """
    import time
    import nstlab as lab
    run = lab.Run(lab.Settings(size=48, device="cpu", iterations=5), "{out}")
    for step in run.steps():
        print("step", flush=True)
        time.sleep(60)
"""


def test_the_second_process_is_refused_in_one_line(tmp_path, start):
    first = start(SLOW.format(out=tmp_path / "out"))
    assert first.stdout.readline() == "step\n"
    second = nstlab("run", "--set", "size=48", "--set", "iterations=5", "--out", tmp_path / "out")
    assert second.returncode == 2
    assert one_line(second.stderr)
    assert "is being computed by another process" in second.stderr
    run = lab.Run(lab.Settings(**SETTINGS, iterations=5), tmp_path / "out")
    with pytest.raises(lab.RequestError, match="another process"):
        run.advance(progress=False)
    first.kill()
    first.wait()
    assert run.advance(progress=False).iteration == 5  # the lock of a killed process is free


def test_two_runs_in_one_process(tmp_path):
    settings = lab.Settings(**SETTINGS, iterations=5)
    computed = lab.Run(settings, tmp_path).steps()
    next(computed)
    with pytest.raises(lab.RequestError, match="another process"):
        lab.Run(settings, tmp_path).advance(progress=False)
    computed.close()


FULL = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    import nstlab as lab
    from nstlab.runs import writer
    writer.CHECKPOINT_SECONDS = 0.0
    run = lab.Run(lab.Settings(size=48, device="cpu", iterations=40), "{out}")
    computed = run.steps()
    for step in computed:
        if step.iteration == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # a checkpoint is larger
"""


def test_a_file_that_cannot_be_written_stops_the_run_in_one_line(tmp_path, start):
    """A size limit stands for a full disk: the write fails half way."""
    straight = lab.Run(lab.Settings(**SETTINGS, iterations=40), tmp_path / "a").advance(progress=False)
    process = start(FULL.format(out=tmp_path / "b"))
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "RunError: " in errors.splitlines()[-1]
    assert "what was stored before stays" in errors.splitlines()[-1]
    run = lab.Run(straight.settings, tmp_path / "b")
    assert len(run.history) >= 7 and run.frame(5).shape == run.result.shape  # what was stored can be read
    assert not list(run.folder.glob(".*.part"))
    assert files_of(run.advance(progress=False).folder) == files_of(straight.folder)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting a small disk needs root on Linux")
def test_a_full_disk_stops_the_run_in_one_line(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("this container may not mount a small disk; the size limit's test stands for it")
    try:
        result = nstlab("run", "--set", "size=48", "--set", "iterations=40", "--set", "frame_every=1", "--out", disk)
        assert result.returncode == 1
        assert "the disk is full" in result.stderr
        assert one_line(result.stderr.splitlines()[-1] + "\n")
        run = lab.Run(lab.Settings(**SETTINGS, iterations=40), disk)
        assert len(run.history) > 3
        assert run.frame(2).shape == (1, 3, 48, 48)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="only root can become somebody else")
def test_an_out_that_cannot_be_written_is_refused_before_the_first_iteration(tmp_path, start):
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o555)
    process = start(
        f"""
        import nstlab as lab, os, sys
        run = lab.Run(lab.Settings(size=48, device="cpu", iterations=5), "{tmp_path / "out"}")
        from nstlab import optimise
        optimise.make_optimizer(optimise.set_up(run.settings)[1], run.settings)  # read what only root may
        os.setgid(65534)
        os.setuid(65534)
        sys.argv = ["nstlab"]
        try:
            next(run.steps())
        except lab.RequestError as error:
            print(error)
        """
    )
    output, errors = process.communicate()
    assert "cannot be written" in output and "choose another folder with --out" in output, errors
    assert output.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())


def test_out_is_a_file(tmp_path):
    (tmp_path / "out").write_text("")
    result = nstlab("run", "--set", "size=48", "--set", "iterations=2", "--out", tmp_path / "out")
    assert result.returncode == 2
    assert one_line(result.stderr)


def test_ctrl_c_loses_nothing(tmp_path):
    words = ["run", "--set", "size=48", "--set", "iterations=100000", "--out", str(tmp_path)]
    process = subprocess.Popen([*NSTLAB, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    waited = time.monotonic() + 300
    while not list(tmp_path.glob("*/frames/000002.png")):
        assert time.monotonic() < waited
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "the same command resumes from there" in errors.splitlines()[-1]
    (folder,) = tmp_path.iterdir()
    run = lab.Run.open(folder)
    assert list(run.history["iteration"]) == list(range(run.iteration + 1))
    assert run.result.shape == (1, 3, 48, 48)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "--set", "k_s=3"],
        ["run", "--set", "k_S=-3"],
        ["run", "--set", "k_S"],
        ["run", "--content", "nothing.png"],
        ["run", "--content", "astronut"],
        ["run", "--set", "style_layers=relu9_9"],
        ["run", "--set", "weights=nothing.pth"],
        ["run", "--from", "nothing.json"],
        ["run", "--notebook", "nothing.ipynb"],
        ["run", "--no-such-option"],
        ["show", "nothing.png"],
        ["layers", "--weights", "nothing"],
        ["dance"],
    ],
    ids=" ".join,
)
def test_a_wrong_request_is_one_line_exit_2_and_nothing_written(tmp_path, words, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    out = ["--out", str(tmp_path / "out")] if words[0] == "run" else []
    monkeypatch.setattr(sys, "argv", ["nstlab", *words, *out])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_run_says_what_it_did_and_show_tells_how_to_make_it_again(tmp_path):
    words = ["run", "--set", "size=48", "--set", "style_layers=relu1_1,relu2_1", "--out", tmp_path / "out"]
    words += ["--set", "style_layer_weights=1,0.5", "--set", "k_S_changes=1:300,2:0.125"]
    for iterations, said in (
        (3, "computed 3 iterations"),
        (5, "from iteration 3 to 5"),
        (2, "nothing to do: 5 iterations"),
    ):
        result = nstlab(*words, "--set", f"iterations={iterations}")
        assert result.returncode == 0, result.stderr
        assert said in result.stdout
    (folder,) = (tmp_path / "out").iterdir()
    listed = nstlab("runs", "--out", tmp_path / "out").stdout
    assert lab.Run.open(folder).id in listed and "complete" in listed and "1000→0.125" in listed

    shown = nstlab("show", folder / "result.png")
    command = shown.stdout.splitlines()[-1]
    assert "style_layers" in shown.stdout and command.startswith("nstlab run ")
    again = subprocess.run(
        f"{sys.executable} -m {command} --out {tmp_path / 'again'}", shell=True, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / folder.name / "result.png").read_bytes() == (folder / "result.png").read_bytes()

    source = folder / "run.json"
    again = nstlab("run", "--from", source, "--set", "style_layer_weights=1,0.5", "--out", tmp_path / "third")
    assert again.returncode == 0, again.stderr
    assert files_of(tmp_path / "third" / folder.name) == files_of(folder, kept=[3])


def test_settings_from_a_picture_start_no_download_without_a_yes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "torchvisions_file", lambda network: tmp_path / "nothing.pth")
    lab.save_image(torch.rand(1, 3, 48, 48), tmp_path / "theirs.png", lab.Settings(size=48, weights="torchvision"))

    def download(network):
        raise lab.RunError("downloading")

    monkeypatch.setattr(weights, "_download", download)
    for words, code, said in (([], 2, "add --yes, or --set weights=original-8bit"), (["--yes"], 1, "downloading")):
        command = ["nstlab", "run", "--from", str(tmp_path / "theirs.png"), "--out", str(tmp_path / "out"), *words]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == code and said in capsys.readouterr().err


def test_prune_says_what_it_would_free_and_asks(tmp_path):
    settings = lab.Settings(**SETTINGS, iterations=4)
    run = lab.Run(settings, tmp_path).advance(progress=False)
    expected = files_of(run.folder)
    unfinished = lab.Run(settings.with_(k_S=5), tmp_path)
    for step in (computed := unfinished.steps()):
        if step.iteration == 2:
            computed.close()
    (run.folder / "checkpoint.previous.pt").write_bytes(bytes(2_000_000))  # of a time when they were kept
    (run.folder / "history.csv.damaged-1").write_bytes(bytes(1000))
    for name in (".result.png.0a.part", ".run.json.0b.part"):
        (run.folder / name).write_bytes(bytes(1000))
    os.utime(run.folder / ".result.png.0a.part", (0, 0))
    (run.folder / "notes.txt").write_text("mine")

    def prune(*words, answer=""):
        return nstlab("prune", "--out", tmp_path, *words, input=answer)

    asked = prune(answer="n\n")
    assert "2.0 MB  1 x earlier checkpoint" in asked.stdout and "Remove these 3 files (2.0 MB)?" in asked.stdout
    assert "nothing was removed" in asked.stdout and (run.folder / "checkpoint.previous.pt").exists()
    assert prune().returncode == 130  # nobody there to ask
    assert "removed: 2.0 MB are free" in prune(answer="y\n").stdout
    assert sorted(path.name for path in run.folder.iterdir()) == [
        ".run.json.0b.part", "checkpoint.pt", "frames", "history.csv", "lock", "notes.txt", "result.png", "run.json"
    ]  # fmt: skip
    assert "1 x last checkpoint" in prune("--checkpoints", "--yes").stdout
    assert "nothing can be removed" in prune("--checkpoints").stdout
    assert run.complete and files_of(run.folder) == expected and (unfinished.folder / "checkpoint.pt").exists()
    picture, frames = (run.folder / "result.png").read_bytes(), unfinished.stored_frames()
    assert "3 x frame on the way" in prune("--frames", "--yes").stdout
    assert run.frames == [4] and run.complete and (run.folder / "result.png").read_bytes() == picture
    assert unfinished.stored_frames() == frames  # a run in progress loses nothing
    assert "nothing can be removed" in prune("--frames").stdout


def test_runs_and_show_survive_a_damaged_manifest(tmp_path):
    run = lab.Run(lab.Settings(**SETTINGS, iterations=2), tmp_path).advance(progress=False)
    (run.folder / "run.json").write_text("{")
    listed = nstlab("runs", "--out", tmp_path)
    assert listed.returncode == 0 and "unreadable" in listed.stdout
    assert nstlab("show", run.folder).returncode == 2


def test_layers_and_doctor():
    assert nstlab("layers").stdout.count("\n") == 39
    doctor = nstlab("doctor", "--sizes", "48")
    assert doctor.returncode == 0 and "as expected  True" in doctor.stdout
    assert re.search(
        r"size +48 +[\d.]+ s an iteration( \([\d.]+ with precision=bfloat16\))?, [\d.]+ GB"
        r"( \([\d.]+ with convolution=lean\))?, convolutions: \d+ x ",
        doctor.stdout,
    )


def test_clean_out_keeps_the_folders(tmp_path):
    if sys.platform == "win32":
        pytest.skip("make is not expected on Windows")
    run = lab.Run(lab.Settings(**SETTINGS, iterations=1), tmp_path / "out").advance(progress=False)
    (tmp_path / "out" / ".gitkeep").touch()
    makefile = Path(__file__).parents[2] / "Makefile"
    subprocess.run(["make", "-f", str(makefile), "clean-out"], cwd=tmp_path, check=True, capture_output=True)
    assert run.folder.is_dir() and (tmp_path / "out" / ".gitkeep").exists()
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == [".gitkeep"]
