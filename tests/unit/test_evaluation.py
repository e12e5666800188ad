"""Metrics and losses against what they must be at themselves, between two, and under what they are blind to."""

import pandas as pd
import pytest
import torch

import nstlab as lab
from nstlab import evaluation as ev
from nstlab.errors import RequestError
from nstlab.optimise import set_up
from nstlab.optimise.losses import (
    CONTENT_LOSSES,
    STYLE_LOSSES,
    firing,
    mean_std,
    mmd_gaussian_loss,
    projections,
    samples,
    sliced_wasserstein_loss,
)
from nstlab.settings import Settings

draw = torch.Generator().manual_seed(2)
ONE, OTHER = (torch.randn(1, 6, 8, 9, generator=draw, dtype=torch.float64).relu() * 10 for _ in range(2))


def loss(name, a, b, seed=0):
    of = STYLE_LOSSES[name]
    return of.loss(of.statistic(a, seed), of.statistic(b, seed))


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_a_style_loss_is_0_at_itself_and_symmetric(name):
    assert float(loss(name, ONE, ONE)) == pytest.approx(0, abs=1e-12)
    assert float(loss(name, ONE, OTHER)) > 0
    if name != "mmd_gaussian":  # whose bandwidth is the target's
        assert float(loss(name, ONE, OTHER)) == pytest.approx(float(loss(name, OTHER, ONE)))


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_a_style_loss_does_not_say_where_things_are(name):
    """Permuting positions changes nothing (the Gaussian MMD draws positions; with all of them drawn, it holds)."""
    shuffled = ONE.flatten(2)[:, :, torch.randperm(72, generator=draw)].view_as(ONE)
    assert float(loss(name, shuffled, OTHER)) == pytest.approx(float(loss(name, ONE, OTHER)), rel=1e-9)


@pytest.mark.parametrize("name", [name for name in STYLE_LOSSES if name != "binarised"])
def test_a_style_losss_gradient_is_that_of_finite_differences(name):
    """Away from ties, where sorting has a kink. (The binarised one passes another gradient on: below.)"""
    here = ONE + torch.rand(ONE.shape, generator=draw, dtype=torch.float64)
    x = here.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(name, x, OTHER), x)
    direction = torch.randn(ONE.shape, generator=draw, dtype=torch.float64)
    up, down = (float(loss(name, here + sign * 1e-6 * direction, OTHER)) for sign in (1, -1))
    assert (up - down) / 2e-6 == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


def test_binarised_passes_the_sigmoids_gradient_through():
    x = ONE.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss("binarised", x, OTHER), x)
    F = ONE.flatten(2)[0]
    B, τ, M = (F > 0).double(), F.abs().mean(), F.shape[1]
    difference = 2 * (firing(ONE) - firing(OTHER)) / 36
    s = torch.sigmoid(F / τ)
    by_hand = 2 / M * difference @ B * s * (1 - s) / τ
    assert torch.allclose(gradient.flatten(2)[0], by_hand)


def test_the_statistics_are_what_their_names_say():
    F = ONE.flatten(2)[0]
    μ, σ = mean_std(ONE)
    assert torch.allclose(μ, F.mean(1)) and torch.allclose(σ, F.std(1, correction=0), atol=1e-5)
    both = firing(ONE)[1, 4]
    assert float(both) == pytest.approx(float(((F[1] > 0) & (F[4] > 0)).double().mean()))
    assert torch.equal(samples(ONE), samples(ONE)) and torch.equal(projections(ONE, 3), projections(ONE, 3))
    assert not torch.equal(projections(ONE, 3), projections(ONE, 4))


def test_sliced_wasserstein_of_a_shift_is_its_length_along_the_directions():
    shift = torch.arange(6, dtype=torch.float64).view(1, 6, 1, 1)
    θ = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    θ = (θ / θ.norm(dim=1, keepdim=True)).double()
    expected = (θ @ shift.flatten()).square().mean()
    assert torch.allclose(loss("sliced_wasserstein", ONE + shift, ONE), expected)
    doubled = torch.cat([ONE, ONE], dim=2)  # every position twice: the same distribution on twice the positions
    a, b = projections(doubled), projections(ONE)
    assert float(sliced_wasserstein_loss(a, b)) < 0.01 * float(b.square().mean())


def test_gaussian_mmd_by_the_definition():
    x, y = samples(ONE), samples(OTHER)
    h = torch.cdist(y, y).square().mean()

    def kernel(a, b):
        return torch.exp(-torch.cdist(a, b).square() / (2 * h)).mean()

    assert torch.allclose(mmd_gaussian_loss(x, y), kernel(x, x) - 2 * kernel(x, y) + kernel(y, y))
    assert 0 <= float(mmd_gaussian_loss(x, y)) <= 2


def test_l1_and_l2_agree_where_all_differences_are_1():
    for of in CONTENT_LOSSES.values():
        assert float(of(ONE + 1, ONE)) == pytest.approx(1)
    G = torch.rand(5, 5)
    for name in ("gram", "gram_l1"):
        assert float(STYLE_LOSSES[name].loss(G + 5, G)) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("name", [*STYLE_LOSSES, "l1"])
def test_every_loss_is_0_at_its_target_and_paints(name):
    changed = {"content_loss": "l1"} if name == "l1" else {"style_loss": name}
    settings = Settings(size=48, style="astronaut", device="cpu", **changed)
    objective, x = set_up(settings)
    losses, elsewhere = objective(x), objective(torch.zeros_like(x))
    assert float(losses["content"]) == 0 and abs(float(losses["style"])) <= 1e-7 * float(elsewhere["style"])
    painted = Settings(size=48, init="average", iterations=4, device="cpu", style_layer_weights="balanced", **changed)
    painted = painted.with_(k_S=ev.equal_pull(painted, **changed) if changed else 1000)
    totals = [step.losses["total"] for step in lab.transfer(painted)]
    assert min(totals[1:]) < totals[0]


def test_metrics_are_zero_at_themselves_and_symmetric_where_they_say_so():
    a, b = (torch.rand(1, 3, 16, 20, generator=draw) for _ in range(2))
    assert ev.rmse(a, a) == ev.colour_distance(a, a) == ev.relative_error(a, a) == ev.relative_wasserstein(a, a) == 0
    assert ev.agreement(a - 0.5, a - 0.5) == 1
    assert ev.rmse(a, b) == pytest.approx(ev.rmse(b, a))
    assert ev.colour_distance(a, b) == pytest.approx(ev.colour_distance(b, a))
    assert ev.agreement(a - 0.5, b - 0.5) == ev.agreement(b - 0.5, a - 0.5)
    assert ev.rmse(torch.zeros_like(a), torch.ones_like(a)) == 255
    assert ev.relative_error(torch.zeros_like(a), a) == pytest.approx(1)
    assert ev.relative_wasserstein(torch.zeros_like(a), a) == pytest.approx(1)


def test_what_a_metric_is_blind_to():
    a = torch.rand(1, 3, 16, 20, generator=draw)
    shuffled = a.flatten(2)[:, :, torch.randperm(320, generator=draw)].view_as(a)
    assert ev.colour_distance(a, shuffled) == pytest.approx(0, abs=1e-9)
    assert ev.relative_wasserstein(shuffled, a) == pytest.approx(0, abs=1e-9)
    assert ev.agreement(3 * a, a) == 1  # how strong anything is
    assert ev.rmse(a, shuffled) > 30
    shift = 0.25 * (1 - a.max())
    assert ev.colour_distance(a + shift, a) == pytest.approx(float(shift) * 255, rel=1e-4)


def test_the_judge_on_known_cases():
    """The content has no content error, the style no style error, and all relative errors of nothing are 1."""
    settings = Settings(content="astronaut", style="coffee", size=64, device="cpu")
    settings = settings.with_(style="astronaut")
    judge = ev.Judge(settings)
    row = judge.judge(judge.content.picture, judge.content.picture)
    assert list(row) == list(ev.METRICS)
    for name in ("full_total", "content_error", "style_error", "content_held_out", "style_held_out", "wasserstein"):
        assert row[name] == 0, name
    for name in ("mmd", "firing", "colour", "rmse", "gram_distance"):
        assert row[name] == pytest.approx(0, abs=1e-9), name
    assert row["agreement"] == 1 and row["content_ssim"] == pytest.approx(1) and row["ssim"] == pytest.approx(1)
    noise = judge.judge(torch.rand(judge.content.picture.shape, generator=draw))
    assert set(row) - set(noise) == {"rmse", "ssim", "gram_distance"}
    assert noise["content_error"] > 0.5 and noise["content_ssim"] < 0.1 and noise["colour"] > 10
    with pytest.raises(RequestError, match="the content"):
        judge.judge(torch.rand(1, 3, 48, 48))


def test_the_full_trained_network_judges_whatever_painted(tmp_path):
    settings = Settings(size=64, iterations=1, device="cpu", reduction="magnitude", amount=0.75)
    run = lab.Run(settings, tmp_path).advance(progress=False)
    row = ev.evaluate(run)
    assert row == ev.evaluate(run.result, ev.unreduced(settings))
    assert ev.unreduced(Settings(weights="random")).weights == "original-8bit"
    with pytest.raises(RequestError, match="settings"):
        ev.evaluate(run.result)


def test_gradient_fidelity_is_1_with_the_network_itself_and_less_with_less_of_it(net):
    from nstlab.reduction import reduced

    settings = Settings(size=64, device="cpu", reduction="random", amount=0.5)
    assert ev.gradient_fidelity(net, net, settings) == pytest.approx(1)
    half = reduced(net, settings, [lab.load_image("astronaut", 64)])
    assert ev.gradient_fidelity(net, half, settings) < 0.9


def test_the_losses_sweep_pulls_equally():
    """The k_S in loss.yaml are what equal_pull gives, to their two or three digits."""
    import yaml

    from nstlab.storage import home

    content = yaml.safe_load((home() / "notebooks" / "sweeps" / "loss.yaml").read_text())
    settings = Settings(**content["fixed"], k_S=10)
    for point in content["points"]:
        point = dict(point)
        k_S = point.pop("k_S")
        assert ev.equal_pull(settings, **point) == pytest.approx(k_S, rel=0.03), point


@pytest.mark.parametrize(
    ("name", "wanted"), [("reduction", ("weights", "random")), ("loss", ("style_loss", "mean_std"))]
)
def test_a_stored_row_comes_out_again(name, wanted, tmp_path):
    """One of the cheaper rows, computed anew as the sweep's file says.

    The bound is wide for another thread count or processor: last bits grow over 60 iterations of L-BFGS.
    """
    from nstlab import sweeps

    table, pictures = sweeps.stored_results(name)
    plan = sweeps.make_plan(name, out=tmp_path)
    assert len(table) == len(plan.points) == len(pictures)
    k = next(i for i, p in enumerate(plan.points) if getattr(p.settings, wanted[0]) == wanted[1])
    stored, settings = table.iloc[k], plan.points[k].settings
    assert stored[wanted[0]] == wanted[1]
    run = plan.points[k].run.advance(progress=False)
    row = ev.evaluate(run)
    for metric in ("content_error", "style_error", "wasserstein", "colour", "content_ssim"):
        assert row[metric] == pytest.approx(stored[f"eval_{metric}"], rel=0.1, abs=0.02), metric
    assert run.history["total"].iloc[-1] == pytest.approx(stored["loss_total"], rel=0.1)
    assert run.manifest["network"]["multiply_adds"] == stored["network_multiply_adds"]
    assert ev.rmse(run.result, pictures[k]) < 25 and pictures[k].shape == run.result.shape
    assert settings.size == 96 and isinstance(table, pd.DataFrame)
