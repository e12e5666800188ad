"""CKA keeps what it should not notice apart from what it should, and groups that were planted are found."""

import numpy as np
import pytest
import torch

import nstlab as lab
from nstlab import dissect
from nstlab.errors import RequestError
from nstlab.network import Network
from nstlab.settings import Settings

DRAW = torch.Generator().manual_seed(0)


def noise(features, side=12):
    return torch.randn(1, features, side, side, generator=DRAW, dtype=torch.float64)


def rotated(F):
    Q, _ = torch.linalg.qr(torch.randn(F.shape[1], F.shape[1], generator=DRAW, dtype=F.dtype))
    return torch.einsum("nm,bmhw->bnhw", Q, F)


@pytest.mark.parametrize("features", [3, 12, 500])  # fewer than positions, and more
def test_cka_is_one_with_itself_rotated_scaled_and_moved(features):
    F = noise(features)
    for same in (F, rotated(F), -7 * F, F + 3):
        assert dissect.cka(F, same) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("few", "many"), [(3, 500), (500, 500), (40, 40)])
def test_cka_of_independent_noise_is_about_zero_however_many_features(few, many):
    found = [dissect.cka(noise(few), noise(many)) for _ in range(20)]
    assert abs(np.mean(found)) < 0.03 and max(map(abs, found)) < 0.2


def test_cka_is_that_of_its_definition():
    """The unbiased estimator written out, with kernels (Song et al. 2012, eq. 5)."""
    F, K = noise(5, 6), noise(7, 6)
    K[:, :3] += F[:, :3]

    def hsic(a, b):
        a, b = (x.flatten(2)[0].T @ x.flatten(2)[0] for x in (a, b))
        a, b, M = a - torch.diag(a.diag()), b - torch.diag(b.diag()), len(a)
        one = torch.ones(M, dtype=a.dtype)
        whole = torch.trace(a @ b) + (one @ a @ one) * (one @ b @ one) / ((M - 1) * (M - 2))
        return (whole - 2 / (M - 2) * (one @ a @ b @ one)) / (M * (M - 3))

    expected = hsic(F, K) / (hsic(F, F) * hsic(K, K)).sqrt()
    assert dissect.cka(F, K) == pytest.approx(float(expected), rel=1e-9) and 0.1 < float(expected) < 0.9
    turned = [x[:, :5].flatten(2).transpose(1, 2).unsqueeze(3) for x in (F, K)]  # features where positions were
    expected = hsic(*turned) / (hsic(turned[0], turned[0]) * hsic(turned[1], turned[1])).sqrt()
    assert dissect.gram_cka(lab.gram(F), lab.gram(K[:, :5])) == pytest.approx(float(expected), rel=1e-6)


def test_gram_cka_does_not_see_where_things_are():
    F = noise(30).relu()
    shuffled = F.flatten(2)[:, :, torch.randperm(144, generator=DRAW)].view_as(F)
    assert dissect.gram_cka(lab.gram(F), 5 * lab.gram(shuffled)) == pytest.approx(1, abs=1e-9)
    assert dissect.cka(F, shuffled) < 0.3  # which sees it
    apart = [dissect.gram_cka(lab.gram(noise(30)), lab.gram(noise(30))) for _ in range(20)]
    assert abs(np.mean(apart)) < 0.1


def test_too_few_examples_and_silent_layers():
    with pytest.raises(RequestError, match="at least 4 examples"):
        dissect.cka(noise(5, 1), noise(5, 1))
    assert np.isnan(dissect.cka(torch.zeros(1, 3, 4, 4), noise(3, 4)))


def test_layers_pictures_and_networks():
    net, image = lab.load_vgg19(device="cpu"), lab.load_image("astronaut", 64)
    layers = ["relu1_1", "relu2_1", "relu3_1"]
    within = dissect.layer_similarity(net, image, layers)
    assert np.diag(within) == pytest.approx(1) and np.allclose(within, within.T)
    assert within.loc["relu2_1", "relu3_1"] > within.loc["relu1_1", "relu3_1"]  # neighbours are more alike
    across = dissect.layer_similarity(net, image, layers, other=lab.load_vgg19("random", device="cpu"))
    assert (np.diag(across) < 0.9).all()
    pictures = {"a": image, "turned": image.flip(3), "bricks": lab.load_image("brick", 96)}
    between = dissect.picture_similarity(net, pictures, "relu2_1")
    assert between.loc["a", "turned"] > 0.9 > between.loc["a", "bricks"]


def planted(count=3, features=12, side=8):
    """A network that shows its input's channels, and activations that are sums of groups."""
    what = torch.zeros(count, features)
    for group in range(count):
        what[group, group * 4 : group * 4 + 4] = torch.tensor([4.0, 3.0, 2.0, 1.0])
    where = torch.rand(count, side * side, generator=DRAW) * (torch.rand(count, side * side, generator=DRAW) > 0.4)
    where *= torch.tensor([3.0, 2.0, 1.0]).view(3, 1)
    F = (what.T @ where).view(1, features, side, side).float()
    net = Network(
        {"shown": lambda x: F.to(x) if x.shape[2] == side else x.mean(1, keepdim=True).expand(-1, 12, -1, -1)}
    )
    return net, what / what.sum(1, keepdim=True), where


def test_planted_groups_are_found():
    net, what, where = planted()
    image = torch.rand(1, 3, 8, 8, generator=DRAW)
    groups = dissect.feature_groups(net, image, "shown", count=3)
    assert groups.explained > 0.999 and len(groups) == 3
    assert groups.what == pytest.approx(what.numpy(), abs=0.02)  # in order of their strength
    assert groups.features(1, 2) == [4, 5]
    found = groups.where(net, image).reshape(3, -1)
    assert all(np.corrcoef(found[k], where[k])[0, 1] > 0.999 for k in range(3))
    gates = groups.gates(net, image, {0: 0.0, 2: 2.0})
    assert Settings(gates={"relu1_1": dissect_gates(gates)}).gates == "relu1_1:0-3,8-11=2"
    with pytest.raises(RequestError, match="groups 0 to 2, not 3"):
        groups.gates(net, image, {3: 0.0})


def dissect_gates(text):
    """The gates of the one layer in a text."""
    return text.split(":", 1)[1]


def test_groups_of_a_painting_and_what_cannot_be_factorised():
    net, image = lab.load_vgg19(device="cpu"), lab.load_image("swirl", 64)
    groups = dissect.feature_groups(net, image, "relu3_1", count=4)
    assert 0.2 < groups.explained < 1 and groups.what.sum(1) == pytest.approx(1)
    strengths = groups.where(net, image).sum((1, 2))
    assert (np.diff(strengths) <= 0).all() and (groups.where(net, lab.load_image("chelsea", 64)) >= 0).all()
    again = dissect.feature_groups(net, image, "relu3_1", count=4)
    assert np.array_equal(groups.what, again.what)
    with pytest.raises(RequestError, match="choose a relu layer"):
        dissect.feature_groups(net, image, "conv3_1")
    with pytest.raises(RequestError, match="between 1 and"):
        dissect.feature_groups(net, image, "relu3_1", count=5000)
