import pytest
import torch

import nstlab as lab
from nstlab.images import Pictures
from nstlab.optimise import Objective, layer_weights, make_optimizer, set_up, steps
from nstlab.settings import Settings


def test_gram_is_blind_to_positions(net, noise):
    F = net(net.prepare(noise), keep=["relu3_1"])["relu3_1"]
    shuffled = F.flatten(2)[:, :, torch.randperm(F.shape[2] * F.shape[3])].view_as(F)
    assert torch.allclose(lab.gram(F), lab.gram(shuffled), rtol=1e-4)
    assert not torch.allclose(F, shuffled)


def test_gram_is_covariance_plus_means(noise):
    F = noise.double()
    mean = F.flatten(2)[0].mean(1)
    covariance = torch.cov(F.flatten(2)[0], correction=0)
    assert torch.allclose(lab.gram(F), covariance + mean.outer(mean))


def test_style_loss_is_mmd_with_the_quadratic_kernel():
    """‖G_F - G_S‖² = E k(f, f') - 2 E k(f, s) + E k(s, s') with k = (x·y)² (Li et al. 2017), unequal sizes too."""
    draw = torch.Generator().manual_seed(0)
    f, s = (torch.rand(1, 7, *size, generator=draw, dtype=torch.float64) for size in ((5, 6), (4, 9)))

    def kernel(a, b):
        return (a.flatten(2)[0].T @ b.flatten(2)[0]).square().mean()

    mmd = kernel(f, f) - 2 * kernel(f, s) + kernel(s, s)
    squared = (lab.gram(f) - lab.gram(s)).square().sum()
    assert torch.allclose(squared, mmd)
    assert torch.allclose(lab.style_loss(lab.gram(f), lab.gram(s)), mmd / 7**4)


def test_zero_at_the_target(net):
    """From the content picture the content loss and its gradient are exactly 0; likewise for style."""
    picture = lab.load_image("astronaut", 48)
    objective = Objective(net, Pictures(picture, (picture,)), Settings())
    x = net.prepare(picture).requires_grad_()
    losses = objective(x)
    assert losses["total"] == 0
    losses["content"].backward()
    assert not x.grad.any()


def test_terms_can_be_left_out(net, noise):
    content, style = noise, noise.flip(1)
    x = net.prepare(torch.rand_like(noise))
    no_style = Objective(net, Pictures(content, (style,)), Settings(style_layers=()))(x)
    no_content = Objective(net, Pictures(content, (style,)), Settings(content_layers=()))(x)
    both = Objective(net, Pictures(content, (style,)), Settings())(x)
    assert no_style["style"] == 0
    assert no_content["content"] == 0
    assert torch.allclose(both["total"], no_style["total"] + no_content["total"])


def test_several_content_layers_are_averaged(net, noise):
    x = net.prepare(torch.rand_like(noise))

    def content(*layers):
        return Objective(net, Pictures(noise, (noise,)), Settings(content_layers=layers))(x)["content"]

    assert torch.allclose(content("relu1_1", "relu2_1"), (content("relu1_1") + content("relu2_1")) / 2)


def test_balanced_weights_make_layers_count_the_same_and_keep_the_sum():
    grams = [torch.eye(4) * 8, torch.ones(9, 9)]
    weights = layer_weights("balanced", grams)
    strengths = [float((A / len(A)).square().mean()) for A in grams]
    weighted = [w * strength for w, strength in zip(weights, strengths, strict=True)]
    assert weighted[0] == pytest.approx(weighted[1])
    assert sum(weighted) == pytest.approx(sum(strengths))
    assert layer_weights((3, 4), grams) == (3, 4)
    assert layer_weights(None, grams) == (1, 1)


def test_gradient_against_finite_differences(random_net, noise):
    """Central differences in float64 at random pixels and along a random direction."""
    settings = Settings(k_S=10.0)
    content, style = noise.double(), noise.double().flip(2).pow(2)
    objective = Objective(random_net, Pictures(content, (style,)), settings)
    draw = torch.Generator().manual_seed(3)
    x = random_net.prepare(torch.rand(content.shape, generator=draw, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(x)["total"], x)
    epsilon = 1e-4
    for _ in range(4):
        direction = torch.randn(x.shape, generator=draw, dtype=torch.float64)
        with torch.no_grad():
            up, down = (objective(x + sign * epsilon * direction)["total"] for sign in (1, -1))
        expected = (up - down) / (2 * epsilon)
        assert torch.allclose((gradient * direction).sum(), expected, rtol=1e-6)


def test_agrees_with_pastiche(tmp_path, net):
    """A picture's loss is pastiche's own, times 100, with its defaults."""
    from pastiche.pastiche import PasticheArtist

    paths = {}
    for name, style in (("astronaut", "swirl"), ("coffee", "waves")):
        picture = lab.initial_value("style", lab.load_image("astronaut", 64), lab.load_image(name, 128))
        paths[name] = str(tmp_path / f"{name}.png")
        lab.save_image(picture, paths[name])
        picture = lab.initial_value("style", picture, lab.load_image(style, 128))
        paths[style] = str(tmp_path / f"{style}.png")
        lab.save_image(picture, paths[style])
    for content, style, image in (("astronaut", "swirl", "coffee"), ("coffee", "waves", "swirl")):
        artist = PasticheArtist(paths[content], [paths[style]], device="cpu", init=paths[image], size=64)
        pictures = Pictures(lab.load_image(paths[content], 64), (lab.load_image(paths[style], 64),))
        objective = Objective(net, pictures, Settings())
        ours = objective(net.prepare(lab.load_image(paths[image], 64)))["total"]
        assert float(ours) == pytest.approx(100 * artist.loss, rel=1e-4)


@pytest.mark.parametrize("factor", [8.0, 0.25])
def test_adam_without_eps_takes_the_same_path_whatever_the_losss_scale(factor):
    """Scaling (k_S, k_C) together by a power of two changes nothing, bit for bit."""
    settings = Settings(size=48, optimizer="adam", init="white_noise", device="cpu")

    def path(scale):
        objective, x = set_up(settings)
        optimizer = make_optimizer(x, settings)
        optimizer.param_groups[0]["eps"] = 0.0

        def scaled(x, weights):
            return {name: scale * value for name, value in objective(x, weights).items()}

        scaled.shown, scaled.shape_at = objective.shown, objective.shape_at
        return [step.image for step in steps(scaled, x, optimizer, settings.with_(iterations=6))]

    for one, other in zip(path(1.0), path(factor), strict=True):
        assert torch.equal(one, other)
