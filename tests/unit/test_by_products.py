"""A Gram's gradient that the layer below adds up itself: the same numbers, from fewer large tensors."""

import weakref

import pytest
import torch

import nstlab as lab
from nstlab.images import Pictures
from nstlab.network import convolution, has_wide_vectors, load_vgg19
from nstlab.network.fused import ConvolveRelu
from nstlab.optimise import Objective, gram, style_loss
from nstlab.settings import Settings

PRECISIONS = ["float32", "bfloat16"]


def objective_of(precision: str, **changed) -> tuple[Objective, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    content, style, x = (torch.rand(1, 3, 50, 66, generator=draw) for _ in range(3))
    net = load_vgg19("random", device="cpu", precision=precision)
    settings = Settings(size=66, precision=precision, **changed)
    return Objective(net, Pictures(content, (style,)), settings), net.prepare(x).requires_grad_()


def gradient_of(loss: torch.Tensor, x: torch.Tensor, **options) -> torch.Tensor:
    return torch.autograd.grad(loss, x, **options)[0]


def in_strips(monkeypatch) -> None:
    """Even small pictures are computed strip by strip."""
    monkeypatch.setattr(convolution, "WHOLE", 0)
    monkeypatch.setattr(convolution, "IN_STRIP", 2**14)


@pytest.mark.parametrize("strips", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layers", [("relu1_1", "relu2_1", "relu3_1", "relu4_1"), ("relu1_1",), ("conv2_1", "pool1")])
def test_the_gradient_is_that_of_grams_which_hand_back_their_own(monkeypatch, layers, precision, strips):
    if strips:
        in_strips(monkeypatch)
    objective, x = objective_of(precision, style_layers=layers)
    found = gradient_of(objective(x)["total"], x)
    activations = objective.net.activations
    monkeypatch.setattr(objective.net, "activations", lambda x, keep, as_computed: activations(x, keep))
    expected = gradient_of(objective(x)["total"], x)
    bound = 0.02 if precision == "bfloat16" else 1e-5  # in bfloat16 sums are rounded in another order
    assert float((found - expected).norm() / expected.norm()) < bound


def test_what_one_part_of_the_loss_leaves_is_not_found_by_another():
    """Evaluation asks one graph for the gradients of several losses."""
    objective, x = objective_of("float32")
    losses = objective(x)
    for part in ("style", "relu3_1", "content", "style"):
        alone = gradient_of(objective(x)[part], x)
        assert torch.equal(gradient_of(losses[part], x, retain_graph=True), alone), part


@pytest.mark.parametrize("wide", [True, False])
def test_an_activation_that_others_ask_for_has_its_gram_in_its_gradient(monkeypatch, wide):
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: wide)
    net = load_vgg19("random", device="cpu")
    x = net.prepare(torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(5))).requires_grad_()
    F = net(x, keep=["relu2_1"])["relu2_1"]
    leaf = F.detach().requires_grad_()
    by_activation, expected = (gradient_of(style_loss(gram(a), torch.zeros(128, 128)), a) for a in (F, leaf))
    assert expected.any() and torch.equal(by_activation, expected)


@pytest.mark.skipif(not has_wide_vectors(), reason="without vectors of 512 bits nothing is computed strip by strip")
@pytest.mark.parametrize("strips", [True, False])
def test_the_widest_activation_is_not_kept_but_computed_again(monkeypatch, strips):
    """relu1_1 has 64 features, the picture 3: at 1024 pixels it would be 268 MB until the end of backward."""
    if strips:
        in_strips(monkeypatch)
    kept = []
    apply = ConvolveRelu.apply

    def seen(*arguments: object) -> torch.Tensor:
        y = apply(*arguments)
        kept.append(weakref.ref(y.untyped_storage()))
        return y

    monkeypatch.setattr(ConvolveRelu, "apply", seen)
    objective, x = objective_of("float32", content_layers="relu4_1", style_layers=("relu1_1", "relu2_1"))
    kept.clear()
    losses = objective(x)
    assert (kept[0]() is None) == strips
    losses["total"].backward()


@pytest.mark.parametrize("size", [(60, 300), (9, 7)])
def test_rows_of_a_result_are_those_of_the_whole(size):
    draw = torch.Generator().manual_seed(5)
    x, weight, bias = (torch.randn(*shape, generator=draw) for shape in ((1, 3, *size), (32, 3, 3, 3), (32,)))
    kernels = convolution.Kernels(weight, bias)
    whole = kernels(x, relu=True)
    for rows in (slice(0, 5), slice(3, size[0] - 2), slice(size[0] - 4, size[0])):
        assert torch.allclose(kernels.rows(x, rows, relu=True), whole[:, :, rows], atol=1e-5)


def test_a_gram_of_halves_is_added_up_in_float32():
    F = torch.rand(1, 64, 200, 300, generator=torch.Generator().manual_seed(5)).bfloat16()
    truth = gram(F.double())
    for order in (torch.channels_last, torch.contiguous_format):
        found = lab.gram(F.contiguous(memory_format=order))
        assert found.dtype == torch.float32 and float((found - truth).norm() / truth.norm()) < 1e-5
