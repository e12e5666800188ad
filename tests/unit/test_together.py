"""Several transfers in one batch: each is what it is alone."""

import itertools
import math
import signal
import time
from collections import Counter

import filelock
import pandas as pd
import pytest
import torch

import nstlab as lab
from nstlab.errors import RequestError, RunError
from nstlab.optimise import Descent, Objective, load_network, losses_together, make_optimizer, network_in_common, set_up
from nstlab.runs import together, writer
from nstlab.settings import Settings
from nstlab.sweeps import command, make_plan
from nstlab.sweeps.batches import advance_in_batches, batches

VARIED = {
    "k_S": {"k_S": 3.0},
    "style": {"style": "waves", "style_size": 64},
    "white noise": {"init": "white_noise", "seed": 3},
    "Adam": {"optimizer": "adam"},
    "luminance": {"colour": "luminance"},
    "smooth": {"k_TV": 10.0},
    "a loss": {"style_loss": "sliced_wasserstein", "content_loss": "l1"},
    "layers": {"style_layers": "relu1_1,conv2_1", "content_layers": "relu3_1,relu1_2"},
    "two styles": {"style": "swirl,glass", "style_weights": "1,3"},
    "another k_S from 2 on": {"k_S_changes": ((2, 100.0),)},
}


def descents_of(several: list[Settings], dtype: torch.dtype = torch.float32) -> list[Descent]:
    found: list[Descent] = []
    net = load_network(several[0]).to(dtype)
    for settings in several:
        objective, x = set_up(settings, net=net)
        found.append(Descent(objective, x, make_optimizer(x, settings), settings))
    return found


def steps_of(descents: list[Descent], count: int) -> list[list[lab.Step]]:
    """The next steps of each, computed together."""
    rounds = []
    for _ in range(count):
        found = losses_together(descents)
        rounds.append([descent.step(losses) for descent, losses in zip(descents, found, strict=True)])
    return [list(steps) for steps in zip(*rounds, strict=True)]


def check_alike(
    several: list[Settings], dtype: torch.dtype = torch.float64, rel: float = 1e-9, later: float = 1e-6
) -> None:
    """The first losses and gradients agree but for rounding, `rel`; later ones as nearly as the optimiser lets them.

    In double precision, where rounding hardly ever decides which of two activations is larger.
    """
    together, alone = descents_of(several, dtype), descents_of(several, dtype)
    for iteration in range(several[0].iterations + 1):
        found = losses_together(together)
        for descent, other, losses in zip(together, alone, found, strict=True):
            (expected,) = losses_together([other])
            within = rel if iteration == 0 else later
            assert losses == pytest.approx(expected, rel=within, abs=0.01 if rel > 1e-6 else 1e-9)
            if iteration == 0:
                assert (descent.x.grad - other.x.grad).norm() < within * other.x.grad.norm()
            step, expected = descent.step(losses), other.step(expected)
            assert step.iteration == expected.iteration and step.picture.shape == expected.picture.shape
            assert 255 * (step.picture - expected.picture).abs().mean() < max(later, 0.001)  # grey levels


def test_each_is_what_it_is_alone_but_for_rounding(small):
    check_alike([Settings(**small | other, iterations=4) for other in VARIED.values()])


def test_on_the_fast_path_too(small):
    """Alone each takes it, in a batch none."""
    several = [Settings(**small, k_S=k_S, iterations=2) for k_S in (1.0, 30.0, 1000.0)]
    check_alike(several, torch.float32, rel=0.03, later=0.05)


@pytest.mark.parametrize(
    "network",
    [
        {"network": "vgg16", "weights": "random"},
        {"pooling": "average", "gates": "relu2_1:0-9,12=0.5"},
        {"padding": "replicate", "convolution": "plain"},
        {"network": "efficientnet-lite0"},
    ],
    ids=lambda network: next(iter(network.values())),
)
def test_with_other_networks_too(small, network):
    check_alike([Settings(**small, **network, k_S=k_S, iterations=2) for k_S in (1.0, 100.0, 1000.0)])


def test_losses_and_gradients_in_half_precision(small):
    several = [Settings(**small, precision="bfloat16", k_S=k_S) for k_S in (1.0, 100.0)]
    both = descents_of(several)
    for descent, losses, settings in zip(both, losses_together(both), several, strict=True):
        (alone,) = descents_of([settings])
        (expected,) = losses_together([alone])
        assert losses["total"] == pytest.approx(expected["total"], rel=0.02)
        a, b = descent.x.grad.flatten(), alone.x.grad.flatten()
        assert (a @ b) / (a.norm() * b.norm()) > 0.98


def test_alone_of_its_shape_it_is_the_same_to_the_bit(small):
    """As on the fast path, in a batch with others that are not."""
    wide = Settings(**small | {"content": "chelsea"}, iterations=3)
    _, _, steps = steps_of(descents_of([Settings(**small), Settings(**small, k_S=3), wide]), 4)
    for step, alone in zip(steps, lab.transfer(wide), strict=True):
        assert torch.equal(step.image, alone.image) and step.losses == alone.losses


def test_coarse_to_fine_at_different_iterations(small):
    """One has its full size already, the others not yet."""
    given = small | {"size": 64, "scales": 2, "init": "white_noise"}
    check_alike([Settings(**given, scale_iterations=n, iterations=4) for n in (1, 2, 3)])


def test_what_has_a_network_in_common(small, tmp_path):
    plain = Settings(**small)
    for other in ({"k_S": 1.0}, {"content": "chelsea", "size": 96}, {"optimizer": "adam"}, {"style_layers": "conv1_1"}):
        assert network_in_common(plain.with_(**other)) == network_in_common(plain)
    for other in ({"network": "vgg16"}, {"pooling": "average"}, {"gates": "relu1_1:3"}, {"precision": "bfloat16"}):
        assert network_in_common(plain.with_(**other)) != network_in_common(plain)
    for alone in ({"reduction": "magnitude", "amount": 0.5}, {"tile": 128}, {"gates": "first:10"}):
        assert network_in_common(plain.with_(**alone)) is None
    mine = tmp_path / "mine.py"
    mine.write_text("def cubic(F, P):\n    return (F - P).abs().pow(3).mean()\n")
    assert network_in_common(plain.with_(content_loss=f"{mine}:cubic")) is None


@pytest.fixture
def runs(small, tmp_path):
    """A function that makes three runs in a folder; the second needs fewer iterations."""

    def make(folder: str = "out", more: int = 0) -> list[lab.Run]:
        given = ((1.0, 6), (30.0, 4), (1000.0, 6))
        several = [Settings(**small, k_S=k_S, iterations=n + more) for k_S, n in given]
        return [lab.Run(settings, tmp_path / folder) for settings in several]

    return make


def contents(run: lab.Run) -> tuple:
    """What must come out the same."""
    return run.history.drop(columns="seconds").to_csv(), run.picture.read_bytes(), tuple(run.frames)


def test_runs_are_stored_as_if_each_were_alone(runs):
    several, alone = runs(), [run.advance(progress=False) for run in runs("alone")]
    assert lab.advance_together(several, progress=False) == {}
    for run, other in zip(several, alone, strict=True):
        assert run.complete and run.manifest["status"] == "complete" and run.frames == other.frames
        assert run.manifest["machine"]["batch"] == 3 and "batch" not in other.manifest["machine"]
        history, expected = (each.history.drop(columns="seconds") for each in (run, other))
        pd.testing.assert_frame_equal(history, expected, rtol=0.05, atol=0.01)
        assert not (run.folder / "checkpoint.previous.pt").exists()
    assert lab.advance_together(several) == lab.advance_together([]) == {}
    longer = runs(more=2)
    assert lab.advance_together(longer, progress=False) == {} and all(run.complete for run in longer)
    assert [run.resumed_from for run in longer] == [6, 4, 6]


def test_their_seconds_are_shared(runs):
    """So that they add up to what the batch took, not to three times that."""
    began = time.perf_counter()
    lab.advance_together(several := runs(), progress=False)
    assert 0 < sum(run.history["seconds"].iloc[-1] for run in several) < time.perf_counter() - began


@pytest.mark.parametrize("pressed_at", [1, 4])
def test_ctrl_c_stores_all_of_them_and_they_go_on_to_the_same_bytes(runs, monkeypatch, pressed_at):
    whole = runs("whole")
    lab.advance_together(whole, progress=False)
    calls = itertools.count()

    def pressed(descents):
        if next(calls) == pressed_at:
            signal.raise_signal(signal.SIGINT)
        return losses_together(descents)

    several = runs()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(together, "losses_together", pressed)
        lab.advance_together(several, progress=False)
    assert [run.stored for run in several] == [pressed_at] * 3
    assert [run.manifest["status"] for run in several] == ["stopped", "complete" if pressed_at == 4 else "stopped"] + [
        "stopped"
    ]
    left = [run for run in several if not run.complete]
    if len(left) == 3:  # or else the rest is another batch, with other last bits
        assert lab.advance_together(several, progress=False) == {}
        assert list(map(contents, several)) == list(map(contents, whole))
    else:
        assert lab.advance_together(several, progress=False) == {} and all(run.complete for run in several)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_an_error_within_a_pass_stores_nothing_that_is_ahead(runs, monkeypatch, error):
    """Some pictures have moved already: what is stored must not be that. They go on from the iteration before."""
    monkeypatch.setattr(writer, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(writer, "CHECKPOINT_FRACTION", math.inf)  # so that each iteration is stored
    whole, calls, losses = runs("whole"), itertools.count(), Objective.losses
    lab.advance_together(whole, progress=False)

    def fail(*given):
        if next(calls) == 7:  # of the second picture, in the third pass
            raise error
        return losses(*given)

    several = runs()
    with monkeypatch.context() as patched:
        patched.setattr(Objective, "losses", fail)
        with pytest.raises(RunError if error is MemoryError else error) as raised:
            lab.advance_together(several, progress=False)
    assert error is not MemoryError or "out of memory with 3 transfers in one batch" in str(raised.value)
    assert [run.stored for run in several] == [1, 1, 1]
    assert lab.advance_together(several, progress=False) == {}
    assert list(map(contents, several)) == list(map(contents, whole))


@pytest.fixture
def infinite(monkeypatch):
    """The loss of whatever has k_S = 100 is infinite from its second iteration on."""
    counts, losses = Counter(), Objective.losses

    def of(objective, *given):
        found = losses(objective, *given)
        counts[objective] += 1
        return found | {"total": found["total"] * (math.inf if counts[objective] > 1 else 1)}

    monkeypatch.setattr(
        Objective, "losses", lambda self, *given: (of if self.settings.k_S == 100 else losses)(self, *given)
    )


def test_one_that_fails_does_not_stop_the_others(runs, small, tmp_path, infinite):
    steep = lab.Run(Settings(**small, k_S=100, iterations=5), tmp_path / "out")
    held, *others = runs()
    held.folder.mkdir(parents=True)
    with filelock.FileLock(held.folder / "lock"):
        failed = lab.advance_together([steep, held, *others], progress=False)
    assert set(failed) == {steep.id, held.id}
    assert "the loss is not finite at iteration 1" in failed[steep.id] and "by another process" in failed[held.id]
    assert steep.manifest["status"].startswith("failed: the loss is not finite")
    assert all(run.complete for run in others)


def test_only_a_picture_is_missing(runs):
    """It is computed again, as `advance` does."""
    lab.advance_together(several := runs(), progress=False)
    fewer = [lab.Run(run.settings.with_(iterations=3), run.folder.parent) for run in several]
    assert not any(run.complete for run in fewer)
    assert lab.advance_together(fewer, progress=False) == {}
    assert all(run.complete and run.iteration == 3 for run in fewer) and several[0].complete


def test_a_change_of_k_S_goes_on_from_the_run_without_it(runs):
    lab.advance_together(several := runs(), progress=False)
    changed = [lab.Run(run.settings.with_k_S_from(6, 5.0).with_(iterations=8), run.folder.parent) for run in several]
    lab.advance_together([changed[0], changed[2]], progress=False)
    assert [changed[i].resumed_from for i in (0, 2)] == [6, 6]


def test_what_cannot_go_together_is_refused_before_anything_is_written(runs, small, tmp_path, monkeypatch):
    first, *_ = runs()
    for other in ({"pooling": "average"}, {"reduction": "magnitude", "amount": 0.5}):
        with pytest.raises(RequestError, match="only runs with the same device and network go together"):
            lab.advance_together([first, lab.Run(Settings(**small, **other), tmp_path / "out")])
    monkeypatch.setattr("nstlab.optimise.together.memory_free", lambda device: 0.6e9)
    large = [lab.Run(Settings(**small | {"size": 512}, k_S=k), tmp_path / "out") for k in (1, 2, 3, 4)]
    with pytest.raises(RequestError, match=r"4 transfers in one batch take about [\d.]+ GB .*: take at most 1 "):
        lab.advance_together(large)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def plan(tmp_path):
    """A function that plans a sweep of six points of 48 pixels with two networks."""

    def make(**fixed):
        path = tmp_path / "sweep.yaml"
        grid = "{k_S: [1, 10, 100], pooling: [max, average]}"
        values = {"content": "astronaut", "style": "swirl", "size": 48, "iterations": 2, "device": "cpu"} | fixed
        path.write_text(f"notebook: 04_vanilla_transfer.ipynb\nfixed: {values}\ngrid: {grid}\n")
        return make_plan(path, out=tmp_path / "out")

    return make


def test_a_sweeps_points_in_batches_of_one_network_each(plan, capsys):
    points = plan().points
    for most, knob, expected in ((2, "k_S", [[1, 10], [1, 10]]), (8, "pooling", [["max"] * 3, ["average"] * 3])):
        assert [[point.values[knob] for point in part] for part in batches(points, most)] == expected
    points[0].run.advance(progress=False)
    assert sorted(len(part) for part in batches(points, 8)) == [2, 3]
    assert advance_in_batches(points, 8) is False and all(point.run.complete for point in points)
    said = capsys.readouterr().out
    assert "batch     1 of 2: 3 points" in said and "batch     2 of 2: 2 points" in said
    assert "a CPU takes as long for runs together as for one after the other" in said
    assert batches(points, 8) == []


def test_a_point_that_fails_in_its_batch_is_named(plan, capsys, infinite):
    assert advance_in_batches(plan().points, 3) is False
    said = capsys.readouterr().out
    for pooling in ("max", "average"):
        assert f"          k_S=100 pooling={pooling}: the loss is not finite at iteration 1" in said
    assert said.count("not finite") == 2


def test_ctrl_c_in_a_batch_ends_the_sweep(plan, monkeypatch, tmp_path, capsys):
    """Without any worker; what is stored is in the table, and the same command goes on."""
    monkeypatch.setattr("nstlab.sweeps.batches.advance_together", lambda runs: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr("nstlab.sweeps.command.run_points", None)
    monkeypatch.setattr("nstlab.sweeps.command._seconds", lambda *given: 1.0)
    plan()
    assert command.sweep(str(tmp_path / "sweep.yaml"), {}, tmp_path / "out", together=2) == 130
    assert "stopped with 0 of 6 points done; the same command resumes" in capsys.readouterr().err
    with pytest.raises(RequestError, match="--together computes on this machine"):
        command.sweep(str(tmp_path / "sweep.yaml"), {}, tmp_path / "out", scheduler="tcp://no:1", together=2)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_on_cuda_each_is_what_it_is_alone(small, precision):
    given = small | {"device": "cuda", "precision": precision, "iterations": 2}
    within = {"rel": 0.03, "later": 0.05} if precision == "float32" else {"rel": 0.1, "later": 0.1}
    check_alike([Settings(**given, k_S=k_S) for k_S in (1, 30, 900)], torch.float32, **within)
