import pytest
import torch

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.network.weights import ORIGINAL_MEAN
from nstlab.optimise import INITIAL_VALUES


@pytest.fixture
def pair(noise):
    return noise, lab.load_image("swirl", 64)


@pytest.mark.parametrize("name", INITIAL_VALUES)
def test_the_contents_shape_and_unit(name, pair):
    initial = lab.initial_value(name, *pair)
    assert initial.shape == pair[0].shape
    assert initial.min() >= 0
    assert initial.max() <= 1


def test_white_noise_is_uniform_and_from_the_seed(pair):
    one = lab.initial_value("white_noise", *pair, seed=7)
    assert torch.equal(one, lab.initial_value("white_noise", *pair, seed=7))
    assert not torch.equal(one, lab.initial_value("white_noise", *pair, seed=8))
    assert one.mean() == pytest.approx(0.5, abs=0.02)
    assert one.var() == pytest.approx(1 / 12, abs=0.005)
    channels = one.flatten(2)[0]
    assert torch.corrcoef(channels).sub(torch.eye(3)).abs().max() < 0.06


def test_white_black_content(pair):
    assert torch.equal(lab.initial_value("white", *pair), torch.ones_like(pair[0]))
    assert torch.equal(lab.initial_value("black", *pair), torch.zeros_like(pair[0]))
    assert torch.equal(lab.initial_value("content", *pair), pair[0])


def test_mean_is_exactly_zero_in_network_units(pair, net):
    mean = lab.initial_value("mean", *pair, mean=net.mean)
    assert torch.equal(net.prepare(mean), torch.zeros_like(mean))
    assert torch.equal(lab.initial_value("mean", *pair), mean)
    assert tuple(mean[0, :, 0, 0].tolist()) == pytest.approx(ORIGINAL_MEAN)


def test_style_covers_and_is_cut_at_the_centre():
    content = torch.zeros(1, 3, 40, 80)
    style = torch.zeros(1, 3, 80, 80)
    style[:, :, 20:60] = 1  # the middle rows, which are what is left
    assert torch.equal(lab.initial_value("style", content, style), torch.ones_like(content))
    same = torch.rand(1, 3, 40, 80)
    assert torch.equal(lab.initial_value("style", content, same), same)


def test_average_commutes_with_preparing(pair, net):
    average = net.prepare(lab.initial_value("average", *pair))
    of_prepared = (net.prepare(pair[0]) + net.prepare(lab.initial_value("style", *pair))) / 2
    assert torch.allclose(average, of_prepared, atol=1e-4)


def test_unknown(pair):
    with pytest.raises(RequestError, match="did you mean 'white_noise'"):
        lab.initial_value("whitenoise", *pair)
