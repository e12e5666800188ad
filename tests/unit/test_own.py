"""Code of one's own by `path/to/mine.py:name`: in the identity, blamed in one line, and never imported unasked."""

import pickle
import re
import shlex
import subprocess
import sys
import textwrap

import pytest

import nstlab as lab
from nstlab import own, sweeps
from nstlab.errors import RequestError, RunError
from nstlab.evaluation import METRICS, Judge, metric_of
from nstlab.optimise import check_code
from nstlab.settings import Settings
from nstlab.storage import home
from nstlab.sweeps.file import judges

MINE = """
    from pathlib import Path
    from nstlab import StyleLoss

    means = StyleLoss(lambda F, seed: F.mean((0, 2, 3)), lambda a, b: (a - b).square().mean(), 1)
    vector = StyleLoss(lambda F, seed: F.mean((0, 2, 3)), lambda a, b: a - b)
    nan = StyleLoss(lambda F, seed: F.mean((0, 2, 3)), lambda a, b: (a - b).mean() * float("nan"))
    number = 3

    def broken(F, P):
        return (F - missing).mean()

    def cubic(F, P):
        return (F - P).abs().pow(3).mean()

    def negative(content, style, seed, mean):
        return 1 - content

    def small(content, style, seed, mean):
        return content[:, :, 1:]

    def edges(result, content, style):
        return (result - content).abs().mean()

    def nothing(result, content, style):
        return None
"""
SMALL = {"size": 48, "iterations": 2, "device": "cpu", "style_layers": "relu1_1,relu2_1", "content_layers": "relu2_1"}


@pytest.fixture
def mine(tmp_path):
    """The path of a file of code; MARK is written when it is imported."""

    def write(text: str = MINE, name: str = "mine.py") -> str:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text) + f"\nopen({str(tmp_path / 'MARK')!r}, 'a').write('x')\n")
        return str(path)

    return write


def marked(tmp_path) -> bool:
    return (tmp_path / "MARK").exists()


@pytest.mark.parametrize(
    "asked",
    [{"style_loss": "means"}, {"content_loss": "cubic"}, {"init": "negative"}],
    ids=lambda asked: next(iter(asked)),
)
def test_it_paints_and_its_hash_is_everywhere(asked, mine, tmp_path):
    (name, function), file = next(iter(asked.items())), mine()
    settings = Settings(**SMALL, **{name: f"{file}:{function}"})
    run = lab.Run(settings, tmp_path / "out").advance(progress=False)
    assert run.history["total"].iloc[-1] < run.history["total"].iloc[0]
    digest = own.sha256(f"{file}:x")
    assert run.manifest["sha256"][name] == digest
    shown = subprocess.run(
        [sys.executable, "-m", "nstlab", "show", run.folder / "result.png"], capture_output=True, text=True, check=True
    ).stdout
    assert digest in shown and f"{file}:{function}" in shown


def test_the_identity_is_the_files_bytes_and_the_name(mine, tmp_path):
    def run_id(reference):
        return lab.Run(Settings(**SMALL, style_loss=reference), tmp_path).id

    first = run_id(f"{mine()}:means")
    assert run_id(f"{mine(name='copy.py')}:means") == first
    assert run_id(f"{mine()}:vector") != first
    assert run_id(f"{mine(MINE.replace('square()', 'abs()'))}:means") != first


def test_a_changed_file_is_another_run(mine, tmp_path):
    settings = Settings(**SMALL, style_loss=f"{mine()}:means")
    run = lab.Run(settings, tmp_path / "out")
    mine(MINE.replace("square()", "abs()"))
    with pytest.raises(RequestError, match="changed since"):
        run.advance(progress=False)
    again = lab.Run(settings, tmp_path / "out").advance(progress=False)
    assert again.id != run.id and again.complete


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"style_loss": "vector"}, r"mine.py: vector gave a tensor of shape \(64,\)"),
        ({"style_loss": "nan"}, "mine.py: nan gave nan"),
        ({"content_loss": "broken"}, r"mine.py, line 11: NameError: name 'missing'"),
        ({"init": "small"}, r"mine.py: small gave a tensor of shape \(1, 3, 47, 48\)"),
    ],
)
def test_what_it_does_wrong_is_its_own_in_one_line(asked, words, mine):
    file = mine()
    with pytest.raises(RunError, match=words) as raised:
        list(lab.transfer(Settings(**SMALL, **{name: f"{file}:{function}" for name, function in asked.items()})))
    assert "expected" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        (MINE, "number", "is int; expected a StyleLoss"),
        (MINE, "mean", "did you mean 'means'"),
        ("x = (1,\n", "x", "line 1: '\\(' was never closed"),
        ("\n\n1 / 0\n", "x", "line 3: ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_before_anything_runs(text, name, words, mine):
    with pytest.raises(RequestError, match=words):
        check_code(Settings(style_loss=f"{mine(text)}:{name}"))


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        lab.Run(Settings(style_loss=str(tmp_path / "no.py:x")), tmp_path)


def test_a_relative_path_is_from_where_one_stands(mine, tmp_path, monkeypatch):
    mine()
    monkeypatch.chdir(tmp_path)
    assert Settings(style_loss="mine.py:means").style_loss == f"{tmp_path / 'mine.py'}:means"


# what is only read


def painted(file: str, tmp_path):
    """The folder of a run with a style loss of one's own, as another process would have left it."""
    program = f"""
        import nstlab as lab
        settings = lab.Settings(**{SMALL}, style_loss={file + ":means"!r})
        lab.Run(settings, {str(tmp_path / "out")!r}).advance(progress=False)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True)
    (tmp_path / "MARK").unlink()
    return next((tmp_path / "out").glob("*/run.json")).parent


def test_settings_that_were_read_name_code_and_do_not_run_it(mine, tmp_path):
    folder = painted(mine(), tmp_path)
    for source in (folder, folder / "result.png", folder / "run.json"):
        settings = lab.read_settings(source)
        for those in (settings, settings.with_(k_S=3), settings.up_to(1), pickle.loads(pickle.dumps(settings))):
            with pytest.raises(RequestError, match="read it, then say"):
                list(lab.transfer(those.with_(iterations=3)))
    assert lab.Run.open(folder).history is not None
    assert not marked(tmp_path)
    lab.trust(settings.style_loss)
    assert len(list(lab.transfer(settings))) == 3
    assert marked(tmp_path)


def test_the_command_line_asks_for_trust(mine, tmp_path):
    folder = painted(mine(), tmp_path)
    command = [
        sys.executable,
        "-m",
        "nstlab",
        "run",
        "--from",
        folder / "result.png",
        "--set",
        "k_S=5",
        "--out",
        tmp_path,
    ]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 2 and "--trust" in refused.stderr and refused.stderr.count("\n") == 1
    assert not marked(tmp_path)
    assert subprocess.run([*command, "--trust"], capture_output=True).returncode == 0
    assert marked(tmp_path)


# the page


def test_the_page_on_your_own_works_as_it_stands(tmp_path, monkeypatch):
    """Each block is a file; each `nstlab run` line paints, and the sweep's file makes a plan with its judges."""
    page = (home() / "notebooks" / "your_own.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w+)\n(?:# (\S+)\n)?(.*?)^```", page, re.M | re.S)
    for _, name, text in blocks:
        if name:
            assert text.count("\n") < 20
            (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(text) for kind, _, text in blocks if kind == "sh"]
    painted = [command for command in commands if command[:2] == ["nstlab", "run"]]
    assert len(painted) == 4
    for command in painted:
        texts = dict(word.split("=", 1) for word in command if "=" in word)
        small = {name: value for name, value in SMALL.items() if "network" not in texts or "layers" not in name}
        history = [step.losses["total"] for step in lab.transfer(Settings.from_text(texts).with_(**small))]
        assert history[-1] < history[0]
    (swept,) = [command for command in commands if command[:2] == ["nstlab", "sweep"]]
    plan = sweeps.make_plan(swept[2], out=tmp_path / "out")
    assert len(plan.points) == 3
    assert (
        Judge(Settings(**SMALL)).judge(lab.load_image("astronaut", 48), metrics=judges(plan.content))["ssim_of_edges"]
        == 1
    )


# the panel


def test_the_panel_takes_code_and_refuses_what_cannot_be_used(mine, tmp_path, monkeypatch):
    file = mine()
    monkeypatch.chdir(tmp_path)
    panel = lab.panel(out=tmp_path / "out")
    assert "mine.py:means" in panel.controls["style_loss"].options
    assert "mine.py:broken" in panel.controls["content_loss"].options
    panel.load(Settings(**SMALL))
    panel.controls["style_loss"].value = "mine.py:means"
    assert panel.message == "" and panel.settings.style_loss == f"{file}:means"
    panel.controls["style_loss"].value = "mine.py:number"
    assert "is int; expected a StyleLoss" in panel.message and panel.settings.style_loss == f"{file}:means"
    panel.controls["init"].value = "mine.py:negative"
    assert panel.settings.init == f"{file}:negative"
    panel.start()
    panel.wait(60)
    assert panel.state == "finished" and panel.run.code["style_loss"] == own.sha256(f"{file}:means")


def test_the_panel_asks_before_it_runs_code_that_a_picture_names(mine, tmp_path):
    folder = painted(mine(), tmp_path)
    panel = lab.panel(out=tmp_path / "out")
    panel.load(lab.read_settings(folder / "result.png").with_(k_S=3))
    assert panel.view.trust.children and not marked(tmp_path)
    panel.start()
    panel.wait(60)
    assert panel.state == "failed" and "not you" in panel.message and not marked(tmp_path)
    panel.trust()
    assert not panel.view.trust.children
    panel.start()
    panel.wait(60)
    assert panel.state == "finished" and marked(tmp_path)


# judges


def test_a_judge_is_trusted_by_the_sweeps_file_alone(mine, tmp_path):
    with pytest.raises(RequestError, match="trust"):
        metric_of(f"{mine()}:edges")
    assert not marked(tmp_path)


def test_a_judge_is_a_number(mine):
    file = mine()
    own.trust(f"{file}:edges")
    own.trust(f"{file}:nothing")
    judge, picture = Judge(Settings(**SMALL)), lab.load_image("astronaut", 48)
    row = judge.judge(picture, metrics=dict([metric_of(f"{file}:edges"), metric_of("colour")]))
    assert row["edges"] == 0 and set(row) == {"edges", "colour"}
    with pytest.raises(RunError, match="nothing gave NoneType"):
        judge.judge(picture, metrics=dict([metric_of(f"{file}:nothing")]))
    with pytest.raises(RequestError, match="did you mean 'colour'"):
        metric_of("color")
    assert metric_of("ssim") == ("ssim", METRICS["ssim"])


def test_its_losses_may_ask_for_views(mine):
    """As most Gram matrices on the web do; on some processors the fast paths lay out activations differently."""
    text = (
        "import nstlab as lab\n"
        "def gram(F, seed):\n    f = F.view(F.shape[1], -1)\n    return f @ f.T / f.shape[1]\n"
        "style = lab.StyleLoss(gram, lambda a, b: ((a - b) / len(a)).square().mean())\n"
        "def content(F, P):\n    return (F.view(-1) - P.view(-1)).square().mean()\n"
    )
    file = mine(text)
    (step,) = lab.transfer(
        Settings(**{**SMALL, "iterations": 0}, style_loss=f"{file}:style", content_loss=f"{file}:content")
    )
    (ours,) = lab.transfer(Settings(**{**SMALL, "iterations": 0}))
    assert step.losses["total"] == pytest.approx(ours.losses["total"], rel=1e-4)
