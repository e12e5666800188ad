import itertools

import pytest
import torch

import nstlab as lab
from nstlab.errors import RunError
from nstlab.optimise import INITIAL_VALUES, LBFGS, make_optimizer, set_up, steps
from nstlab.settings import Settings


def test_steps_are_numbered_and_carry_the_losses_of_their_picture(small):
    settings = Settings(**small, iterations=3)
    objective, _ = set_up(settings)
    done = list(lab.transfer(settings))
    assert [step.iteration for step in done] == [0, 1, 2, 3]
    for step in done:
        losses = {name: float(value) for name, value in objective(objective.net.prepare(step.image)).items()}
        assert step.losses == pytest.approx(losses, rel=1e-4, abs=1e-2)
        assert step.losses["style"] == pytest.approx(sum(step.losses[name] for name in settings.style_layers), rel=1e-5)
        assert step.losses["total"] == pytest.approx(step.losses["content"] + 1000 * step.losses["style"], rel=1e-5)


def test_a_step_is_a_copy(small):
    first, second = itertools.islice(lab.transfer(Settings(**small)), 2)
    assert not torch.equal(first.image, second.image)


@pytest.mark.parametrize("init", INITIAL_VALUES)
@pytest.mark.parametrize("k_S", [0.01, 1e7])
def test_every_initial_value_descends_whatever_k_S(small, init, k_S):
    """From flat pictures the loss curves downwards at first; a raw gradient step there reaches 10³²."""
    totals = [step.losses["total"] for step in lab.transfer(Settings(**small, init=init, k_S=k_S, iterations=14))]
    assert max(totals) < 3 * totals[0]
    assert totals[-1] < 0.9 * totals[0]


def test_the_first_step_moves_pixels_by_a_grey_level_on_average(small):
    first, second = itertools.islice(lab.transfer(Settings(**small, init="white_noise")), 2)
    assert 255 * (second.image - first.image).abs().mean() == pytest.approx(1, rel=1e-3)


def test_lbfgs_on_a_quadratic_reaches_its_minimum():
    target = torch.linspace(-3, 4, 12)
    x = torch.zeros(12, requires_grad=True)
    optimizer = LBFGS(x, 1.0, 20)
    for _ in range(30):
        optimizer.zero_grad()
        loss = ((x - target).square() * torch.arange(1, 13)).sum()
        loss.backward()
        optimizer.step(lambda loss=loss: loss)
    assert torch.allclose(x.detach(), target, atol=1e-4)


def test_the_picture_is_not_clamped_while_it_is_optimised(small):
    last = list(lab.transfer(Settings(**small, optimizer="adam", learning_rate=60, iterations=4)))[-1]
    assert last.image.max() > 1


def test_divergence_names_the_iteration(small):
    settings = Settings(**small, k_S=1e12, learning_rate=1000, optimizer="adam")
    objective, x = set_up(settings)

    def explode(x, weights):
        losses = objective(x, weights)
        return {name: value * (float("nan") if bool((x - start).any()) else 1) for name, value in losses.items()}

    start = x.detach().clone()
    explode.net, explode.shape_at = objective.net, objective.shape_at
    with pytest.raises(RunError, match="not finite at iteration 1: lower learning_rate or k_S"):
        list(steps(explode, x, make_optimizer(x, settings), settings))


def test_reconstruction_is_a_transfer_with_one_term(small):
    settings = Settings(**small, init="white_noise", content_layers=("relu1_1",), style_layers=(), iterations=100)
    *_, last = lab.transfer(settings)
    error = (last.image - lab.load_image("astronaut", 48)).square().mean()
    assert -10 * error.log10() > 23  # dB: only a working reconstruction from relu1_1 comes so near


def test_with_only_style_the_content_picture_does_not_matter(small):
    settings = Settings(**small, init="white", content_layers=(), iterations=3)
    other = settings.with_(content="coffee", size=48)
    one, two = (list(lab.transfer(s))[-1] for s in (settings, other))
    assert one.losses["content"] == two.losses["content"] == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(small):
    one, other = (list(lab.transfer(Settings(**small | {"device": d}, iterations=5)))[-1] for d in ("cpu", "cuda"))
    assert one.losses["total"] == pytest.approx(other.losses["total"], rel=0.02)


def test_coarse_to_fine_starts_small_and_ends_at_size(small):
    settings = Settings(**small | {"size": 160, "style": "astronaut"}, scales=3, scale_iterations=2, iterations=5)
    done = list(lab.transfer(settings))
    assert [step.image.shape[2] for step in done] == [40, 40, 80, 80, 160, 160]
    objective, _ = set_up(settings.with_(scales=1))
    last = {name: float(value) for name, value in objective(objective.net.prepare(done[-1].image)).items()}
    assert done[-1].losses == pytest.approx(last, rel=1e-3)  # judged by the full-size pictures


def test_a_larger_picture_is_the_smaller_one_enlarged(small):
    settings = Settings(**small | {"size": 96}, scales=2, scale_iterations=1, iterations=1)
    first, second = lab.transfer(settings)
    shrunk = torch.nn.functional.interpolate(second.image, first.image.shape[2:], mode="area")
    assert 255 * (shrunk - first.image).abs().mean() < 6  # one update lies between them
