"""The fast convolutions against torch's own, and in float64."""

import copy
import gc
import os
import subprocess
import sys
import weakref

import pytest
import torch
from torch.nn.functional import conv2d, conv_transpose2d, max_pool2d

import nstlab as lab
from nstlab.images import Pictures
from nstlab.layers import layer_names
from nstlab.network import bfloat16_units, convolution, load_vgg19, onednn, product
from nstlab.network import winograd as fast
from nstlab.network.convolution import (
    Convolution,
    Kernels,
    algorithm,
    algorithms,
    bytes_kept,
    nnpack,
    rows_at_a_time,
    workspace,
)
from nstlab.network.fused import Convolve, ConvolveRelu, InTwoParts
from nstlab.network.onednn import can_lay_out
from nstlab.network.pooling import ConvolveReluMaxPool, ReluMaxPool
from nstlab.network.relu import greater, times, where_positive
from nstlab.network.winograd import Products, winograd
from nstlab.optimise import Objective, cover, set_up
from nstlab.settings import Settings

DRAW = torch.Generator()


@pytest.fixture(autouse=True)
def the_same_numbers_whatever_ran_before():
    """Where an activation happens to be 0 but for rounding, two gradients can differ by its whole part."""
    DRAW.manual_seed(5)


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=DRAW, dtype=dtype)


@pytest.mark.parametrize("size", [(32, 32), (97, 131), (3, 2), (1, 1), (2, 45)])
@pytest.mark.parametrize(("inputs", "outputs"), [(3, 64), (64, 3), (64, 64), (96, 20)])
def test_each_algorithm_against_float64(size, inputs, outputs):
    x, weight, bias = random(1, inputs, *size), random(outputs, inputs, 3, 3), random(outputs)
    truth = conv2d(x.double(), weight.double(), bias.double(), padding=1)
    products = Products(lambda: weight)
    found = {"chosen": Kernels(weight, bias)(x), "winograd": winograd(x, products, bias)}
    if torch._nnpack_available():
        found["nnpack"] = torch._nnpack_spatial_convolution(x, weight, bias, [1, 1], [1, 1])
    for name, y in found.items():
        assert y.shape == truth.shape
        assert float((y - truth).norm() / truth.norm()) < 1e-5, name


@pytest.mark.parametrize("at_a_time", [1, 5_000, 50_000])
@pytest.mark.parametrize("size", [(32, 32), (97, 31), (1, 1)])
def test_a_large_picture_in_strips_is_one_picture(monkeypatch, size, at_a_time):
    x, y, weight, bias = random(1, 20, *size), random(1, 20, *size), random(16, 20, 3, 3), random(16)
    monkeypatch.setattr(convolution, "AT_A_TIME", at_a_time)
    kernels = Kernels(weight, bias)
    for passes in (None, y, greater(y, 0)):
        seen = x if passes is None else x * (passes > 0)
        truth = conv2d(seen.double(), weight.double(), bias.double(), padding=1)
        assert float((kernels(x, passes) - truth).norm() / truth.norm()) < 1e-5


def test_winograd_is_exact_in_exact_arithmetic(monkeypatch):
    monkeypatch.setattr(fast, "lays_out_products", lambda: False)  # for oneDNN, which has no float64
    x, weight, bias = (random(*shape, dtype=torch.float64) for shape in ((1, 5, 11, 9), (4, 5, 3, 3), (4,)))
    found = winograd(x, Products(lambda: weight), bias)
    assert torch.allclose(found, conv2d(x, weight, bias, padding=1), atol=1e-12)


EITHER_FORM = [pytest.param(True, marks=pytest.mark.skipif(not can_lay_out(), reason="torch lays out nothing")), False]


@pytest.mark.parametrize("size", [(4, 4), (31, 66), (45, 5)])
@pytest.mark.parametrize("at_once", [1, 20, 512])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("laid_out", EITHER_FORM)
def test_winograd_in_strips_with_either_form_of_its_kernels(monkeypatch, size, at_once, laid_out, kept):
    monkeypatch.setattr(fast, "AT_ONCE", at_once)
    monkeypatch.setattr(fast, "IN_PART", 16)  # of 40 features: two whole parts and a half
    monkeypatch.setattr(fast, "lays_out_products", lambda: laid_out)
    x, weight, bias = random(1, 24, *size), random(40, 24, 3, 3), random(40)
    truth = conv2d(x.double(), weight.double(), bias.double(), padding=1)
    found = winograd(x, Products(lambda: weight), bias, kept=kept)
    assert float((found - truth).norm() / truth.norm()) < 2e-6
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_weights_are_laid_out_anew_for_another_shape():
    """oneDNN lays out 77 to 131 features in one way for 8 positions in a row, and in another way for more."""
    weight, bias = random(131, 77, 3, 3), random(131)
    for dtype, bound in ((torch.float32, 1e-5), (torch.bfloat16, 0.01)):
        kernels = Kernels(weight, bias, dtype)
        for size in ((8, 8), (30, 30), (8, 8)):
            x = random(1, 77, *size).to(dtype)
            assert relative(kernels(x), conv2d(x.float(), weight, bias, padding=1)) < bound


LAID_OUT_ONCE = """
import torch
from nstlab.network.convolution import Convolution

both = [(Convolution(torch.randn(512, C, 3, 3), torch.zeros(512), dtype), dtype) for C in (8, 512) for dtype in
        (torch.float32, torch.bfloat16)]
for threads in (1, 8, 16):  # oneDNN wants other layouts with more threads
    torch.set_num_threads(threads)
    for convolution, dtype in both:
        x = torch.randn(1, convolution.made_of[0].shape[1], 32, 32).to(dtype).to(memory_format=torch.channels_last)
        g = convolution.backward(convolution.forward(x))
        print("again", flush=True)
        for _ in range(2):
            convolution.backward(convolution.forward(x))
        print("done", flush=True)
"""


@pytest.mark.skipif(not can_lay_out(torch.bfloat16), reason="this processor, or this torch, lays out no weights")
def test_no_weights_are_laid_out_twice_with_any_number_of_threads():
    """In a process of its own, whose threads sleep, so that more of them than cores do not take long."""
    environment = os.environ | {"ONEDNN_VERBOSE": "1"}
    told = subprocess.run([sys.executable, "-c", LAID_OUT_ONCE], env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    first, *others = told.stdout.split("again")
    assert ",exec,cpu,reorder," in first and len(others) == 12
    for again in others:
        computed, _, _ = again.partition("done")
        assert computed.count(",exec,cpu,convolution,") >= 4 and ",exec,cpu,reorder," not in computed


@pytest.mark.parametrize(
    ("wide", "nnpack", "lays_out", "heavy", "large", "few"),
    [
        (True, True, True, "winograd", "winograd", "onednn"),
        (True, True, False, "onednn", "onednn", "onednn"),
        (False, True, True, "winograd", "nnpack", "onednn"),
        (False, True, False, "winograd", "nnpack", "nnpack"),
        (False, False, True, "winograd", "winograd", "onednn"),  # as on Windows
        (False, False, False, "winograd", "winograd", "onednn"),
    ],
)
def test_the_algorithm_follows_from_shape_and_processor(monkeypatch, wide, nnpack, lays_out, heavy, large, few):
    """heavy: many features at few positions; large: at many; few: of them."""
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: wide)
    monkeypatch.setattr(convolution, "nnpack", lambda: print if nnpack else None)
    monkeypatch.setattr(convolution, "can_lay_out", lambda dtype=torch.float32: lays_out)
    assert algorithm(3, 64, 256, 256) == algorithm(512, 512, 16, 16) == "onednn"
    assert algorithm(512, 512, 32, 32) == algorithm(256, 512, 32, 32) == algorithm(256, 256, 64, 64) == heavy
    assert algorithm(128, 512, 24, 24) == ("winograd" if nnpack and not wide else "onednn")
    assert algorithm(512, 512, 128, 128) == algorithm(256, 256, 128, 128) == large
    assert algorithm(64, 64, 256, 256) == few
    assert {heavy, large, few, "onednn"} == set(algorithms())


def test_nnpack_has_a_workspace_that_does_not_grow_with_the_picture(monkeypatch):
    """Strips see to that; the other algorithms have none worth counting."""
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: False)
    monkeypatch.setattr(convolution, "nnpack", lambda: print)
    found = [workspace(256, 256, side, side) for side in range(80, 1000, 40)]
    assert min(found) > 2e7 and max(found) < 2.5e8 and max(found[-3:]) < max(found)
    assert all(rows_at_a_time(256, 256, side, side) == side for side in (80, 120))
    assert workspace(3, 64, 1000, 1000) == workspace(512, 512, 32, 32) == 0
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: True)
    assert workspace(256, 256, 400, 400) == 0


ALGORITHMS = ["onednn", "winograd", "nnpack"]


@pytest.mark.parametrize("size", [(40, 32), (33, 7)])
@pytest.mark.parametrize("second", ALGORITHMS)
@pytest.mark.parametrize("first", ALGORITHMS)
def test_each_algorithm_takes_what_another_leaves(monkeypatch, first, second, size):
    """NNPACK wants the positions of a feature side by side, the others the features of a position, there and back."""
    if "nnpack" in (first, second) and not nnpack():
        pytest.skip("this torch has no NNPACK")
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: False)
    monkeypatch.setattr(convolution, "algorithm", lambda N, M, *_: first if 16 in (N, M) else second)
    weights, biases, x = [random(32, 16, 3, 3), random(20, 32, 3, 3)], [random(32), random(20)], random(1, 16, *size)
    fast, plain = (x.clone().requires_grad_() for _ in range(2))
    y = ConvolveRelu.apply(fast, Convolution(weights[0], biases[0]), True)
    z = Convolve.apply(y, Convolution(weights[1], biases[1]))
    expected = conv2d(conv2d(plain, weights[0], biases[0], padding=1).relu(), weights[1], biases[1], padding=1)
    assert relative(z, expected) < 1e-5
    for found in (z, expected):
        max_pool2d(found.relu(), 2).square().sum().backward()
    assert relative(fast.grad, plain.grad) < 1e-4
    leaf = z.detach().requires_grad_()
    pooled = ReluMaxPool.apply(leaf)
    pooled.sum().backward()
    for tensor, chosen in ((y, first), (z, second), (pooled, second), (leaf.grad, second)):
        assert tensor.is_contiguous(memory_format=convolution.layout(torch.float32, chosen))


def test_where_vectors_are_wide_channels_lie_side_by_side_to_the_end_and_back(monkeypatch):
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: True)
    both = Convolution(random(32, 16, 3, 3), random(32))
    y = ConvolveRelu.apply(random(1, 16, 40, 32).requires_grad_(), both, True)
    leaf = y.detach().requires_grad_()
    pooled = ReluMaxPool.apply(leaf)
    pooled.sum().backward()
    for tensor in (y, pooled, leaf.grad, both.backward(leaf.grad)):
        assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("function", [ReluMaxPool, ConvolveRelu])
def test_a_gradient_may_come_in_another_order(function, order):
    """As it does from a convolution by another algorithm."""
    x = random(1, 16, 12, 10).requires_grad_()
    both = Convolution(random(16, 16, 3, 3), random(16))
    y = ReluMaxPool.apply(Convolve.apply(x, both)) if function is ReluMaxPool else ConvolveRelu.apply(x, both, False)
    g = random(*y.shape)
    (expected,) = torch.autograd.grad(y, x, g, retain_graph=True)
    (found,) = torch.autograd.grad(y, x, g.contiguous(memory_format=order))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(40, 32), (33, 7), (18, 19), (3, 4), (2, 2)])
def test_strip_by_strip_is_as_in_one(monkeypatch, size, dtype):
    """A convolution with its pooling, and the gradient of one with its ReLU."""
    monkeypatch.setattr(convolution, "layout", lambda *_: torch.channels_last)
    monkeypatch.setattr(convolution, "IN_STRIP", 32 * 4 * size[1])  # four rows
    monkeypatch.setattr(convolution, "algorithm", lambda *shape: "onednn")
    x, g = random(1, 16, *size).to(dtype), random(1, 32, size[0] // 2, size[1] // 2).to(dtype)
    both = Convolution(random(32, 16, 3, 3), random(32), dtype)
    one, strips = (x.clone().to(memory_format=torch.channels_last).requires_grad_() for _ in range(2))
    expected, pooled = ReluMaxPool.apply(Convolve.apply(one, both)), ConvolveReluMaxPool.apply(strips, both)
    assert torch.allclose(pooled, expected, atol=1e-4)
    expected.backward(g)
    pooled.backward(g)
    assert torch.allclose(strips.grad, one.grad, atol=1e-3, rtol=0.02 if dtype == torch.bfloat16 else 1e-5)
    passes, upstream = greater(random(1, 32, *size), 0), random(1, 32, *size).to(dtype)
    expected = both.backward(upstream, passes)
    monkeypatch.setattr(convolution, "WHOLE", 0)
    found = both.backward(upstream, passes)
    assert relative(found, expected) < 1e-6
    assert found.is_contiguous(memory_format=torch.channels_last) or 1 in found.shape[1:]


def test_a_large_picture_has_the_gradient_of_a_network_without_strips(monkeypatch, net):
    """Whether strips are taken depends on the shape alone."""
    content, style = (random(1, 3, 50, 66).sigmoid() for _ in range(2))
    settings = Settings(size=66)
    found = {}
    for whole in (0, 2**25):
        monkeypatch.setattr(convolution, "WHOLE", whole)
        monkeypatch.setattr(convolution, "IN_STRIP", 2**15)
        objective = Objective(net, Pictures(content, (style,)), settings)
        x = net.prepare(style).requires_grad_()
        losses = objective(x)
        losses["total"].backward()
        found[whole] = float(losses["total"]), x.grad
    assert found[0][0] == pytest.approx(found[2**25][0], rel=1e-5)
    assert relative(found[0][1], found[2**25][1]) < 1e-4


def test_what_others_see_is_contiguous(net, noise):
    """`view`, which the code of others asks for, works on activations and on the picture's gradient."""
    x = net.prepare(noise).requires_grad_()
    found = net(x, keep=["relu1_1", "relu2_1", "pool2"])
    for activation in found.values():
        activation.view(activation.shape[1], -1)
    (gradient,) = torch.autograd.grad(found["pool2"].square().mean(), x)
    gradient.view(-1)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("laid_out", EITHER_FORM)
def test_one_form_of_the_kernels_serves_both_directions(monkeypatch, laid_out, kept):
    """Winograd's kernels at the reciprocal numbers are those of the gradient."""
    monkeypatch.setattr(convolution, "algorithm", lambda *shape: "winograd")
    monkeypatch.setattr(convolution, "keeps_products", lambda *shape: kept)
    monkeypatch.setattr(fast, "lays_out_products", lambda: laid_out)
    both = Convolution(random(32, 20, 3, 3), torch.zeros(32))
    x, y = random(1, 20, 13, 18), random(1, 32, 13, 18)
    forward = conv2d(x.double(), both.forward.weight.double(), padding=1)
    backward = conv_transpose2d(y.double(), both.forward.weight.double(), padding=1)
    for found, truth in ((both.forward(x), forward), (both.backward(y), backward)):
        assert float((found - truth).norm() / truth.norm()) < 2e-6
    if not laid_out and kept:  # nothing is stored twice
        assert both.backward.products.form.data_ptr() == both.forward.products.form.data_ptr()


@pytest.mark.parametrize("chosen", ["winograd", "onednn"])
@pytest.mark.parametrize("laid_out", EITHER_FORM)
def test_a_convolution_is_freed_at_once(monkeypatch, chosen, laid_out):
    """Without waiting for the garbage collector: a network's take a third of a gigabyte."""
    monkeypatch.setattr(convolution, "algorithm", lambda *shape: chosen)
    monkeypatch.setattr(fast, "lays_out_products", lambda: laid_out)
    monkeypatch.setattr(convolution, "can_lay_out", lambda dtype=torch.float32: laid_out)
    both = Convolution(random(32, 20, 3, 3), torch.zeros(32))
    both.backward(both.forward(random(1, 20, 13, 18)))
    left = [weakref.ref(of) for kernels in (both.forward, both.backward) for of in (kernels, kernels.products)]
    gc.disable()
    try:
        del both
        assert [of() for of in left] == [None] * 4
    finally:
        gc.enable()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
def test_bytes_say_where_a_relu_passes(dtype, order):
    draw = torch.Generator().manual_seed(5)
    a, b, g = (torch.randn(1, 3, 8, 10, generator=draw).to(dtype).contiguous(memory_format=order) for _ in range(3))
    a[..., 0], b[..., 0], a[..., 1], b[..., 1] = 0.0, -0.0, -0.0, 0.0
    b[..., 2:4] = a[..., 2:4]
    some, other = a[..., 1::2], b[..., 1::2]
    matters = (some > 0) | (other > 0)
    assert torch.equal(greater(some, other).bool() & matters, (some > other) & matters)
    passes = greater(a, 0)
    assert torch.equal(passes.bool(), a > 0) and passes.stride() == a.stride()
    expected = torch.where(a > 0, g, 0)
    for mask in (passes, a):
        assert torch.equal(where_positive(g, mask), expected)
    assert torch.equal(times(g, passes, out=torch.empty_like(g)), expected)


@pytest.mark.parametrize("shape", [(64, 40_000, 64), (300, 2000, 300), (3, 5, 7)])
def test_products_are_products(shape):
    n, k, m = shape
    a, b = random(n, k), random(k, m)
    transposed = b.T.contiguous().T
    truth = a.double() @ b.double()
    for found in (product(a, b), product(a, transposed), product(a.T.contiguous().T, b)):
        assert float((found - truth).norm() / truth.norm()) < 1e-6
    square = product(a, a.T)
    assert float((square - square.T).abs().max()) <= 1e-6 * float(square.abs().max())
    assert torch.equal(product(a.double(), b.double()), truth)


def test_backward_is_the_adjoint_of_forward():
    """⟨y, W x⟩ = ⟨Wᵀ y, x⟩ for the convolution without its bias."""
    convolution = Convolution(random(32, 20, 3, 3), torch.zeros(32))
    x, y = random(1, 20, 13, 18), random(1, 32, 13, 18)
    forth, back = (y * convolution.forward(x)).sum(), (convolution.backward(y) * x).sum()
    assert torch.allclose(forth, back, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (1, 3), (2, 2)])
def test_relu_and_pooling_as_torch_does_them_ties_included(size):
    values = torch.randint(-2, 3, (1, 4, *size), generator=DRAW).float()  # many equal neighbours, many zeros
    ours, theirs = (values.clone().requires_grad_() for _ in range(2))
    if min(size) < 2:
        size = (2, 4)
        ours, theirs = (torch.zeros(1, 4, *size, requires_grad=True) for _ in range(2))
    y, expected = ReluMaxPool.apply(ours), max_pool2d(theirs.relu(), 2)
    assert torch.equal(y, expected)
    g = random(*y.shape)
    y.backward(g)
    expected.backward(g)
    assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_fused_layers_have_the_bits_of_single_ones(noise, pooling):
    net = lab.load_vgg19("random", pooling=pooling, device="cpu")
    x = net.prepare(noise)
    one_by_one = net(x, keep=layer_names())
    for name in ("conv1_1", "relu1_2", "pool1", "relu4_2", "pool4", "relu5_1"):
        assert torch.equal(net(x, keep=[name])[name], one_by_one[name])


def test_fused_layers_pass_on_the_gradient_of_single_ones(net, noise):
    """The same numbers summed in the same order, whether or not the layers between are kept."""
    gradients = []
    for further in ([], ["conv1_2", "relu1_2", "pool1", "conv2_2", "relu2_2"]):
        x = net.prepare(noise).requires_grad_()
        net(x, keep=["relu3_1", *further])["relu3_1"].square().mean().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


def test_weights_that_are_changed_are_prepared_anew(noise):
    net = lab.load_vgg19("random", device="cpu")
    x = net.prepare(noise)
    before = net(x, keep=["conv1_2"])["conv1_2"]
    net.conv1_2_weight.mul_(2)
    assert torch.allclose(net(x, keep=["conv1_2"])["conv1_2"], 2 * before)


def test_a_network_that_has_computed_can_be_copied_and_stored(noise, tmp_path):
    net = lab.load_vgg19("random", device="cpu")
    x = net.prepare(noise)
    expected = net(x, keep=["conv3_2"])["conv3_2"]
    torch.save(net, tmp_path / "net.pt")
    for other in (copy.deepcopy(net), torch.load(tmp_path / "net.pt", weights_only=False)):
        assert torch.equal(other(x, keep=["conv3_2"])["conv3_2"], expected)
        other.conv3_2_weight.mul_(2)
        assert not torch.equal(other(x, keep=["conv3_2"])["conv3_2"], expected)
    assert torch.equal(net(x, keep=["conv3_2"])["conv3_2"], expected)


def test_two_pictures_at_once_are_two_pictures(noise):
    net = lab.load_vgg19("random", device="cpu")
    x = net.prepare(torch.cat([noise, noise.flip(3)]))
    both = net(x, keep=["relu2_1"])["relu2_1"]
    for i in range(2):
        assert torch.allclose(both[i : i + 1], net(x[i : i + 1], keep=["relu2_1"])["relu2_1"], rtol=1e-3, atol=1e-2)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


PAIRS = (("astronaut", "swirl"), ("chelsea", "waves"), ("coffee", "glass"), ("rocket", "hubble"))


def gradient_of(
    settings: Settings, size: tuple[int, int], dtype: torch.dtype = torch.float32, pair: tuple[str, str] = PAIRS[0]
) -> torch.Tensor:
    content, style = (cover(lab.load_image(name, 400), *size).to(dtype) for name in pair)
    chosen = {name: getattr(settings, name) for name in ("convolution", "precision", "padding")}
    net = lab.load_vgg19(device="cpu", **chosen).to(dtype)
    x = net.prepare((content + style) / 2).requires_grad_()
    Objective(net, Pictures(content, (style,)), settings)(x)["total"].backward()
    return x.grad


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
def test_the_pixel_gradient_at_an_odd_size(padding):
    """Rounding flips a ReLU or a pooling here and there, in torch's own float32 as well; no more than that."""
    truth = gradient_of(Settings(convolution="plain", padding=padding), (97, 131), torch.float64)
    assert relative(gradient_of(Settings(padding=padding), (97, 131)), truth) < 2e-3


def test_the_pixel_gradient_is_nearly_as_exact_as_torchs():
    size = (384, 384)
    truth = gradient_of(Settings(convolution="plain"), size, torch.float64)
    plain, fast = (relative(gradient_of(Settings(convolution=name), size), truth) for name in ("plain", "auto"))
    assert fast < 3 * plain


def test_the_pixel_gradient_of_several_small_pictures():
    """In the root mean square over four pictures: how much a picture's few flips weigh is a matter of luck."""
    errors = []
    for pair in PAIRS:
        truth = gradient_of(Settings(convolution="plain"), (160, 160), torch.float64, pair)
        errors.append(relative(gradient_of(Settings(), (160, 160), pair=pair), truth))
    assert sum(error**2 for error in errors) / len(errors) < 5e-3**2


def test_bfloat16_is_off_by_its_rounding_and_no_more():
    truth = gradient_of(Settings(convolution="plain"), (64, 64))
    error = relative(gradient_of(Settings(precision="bfloat16"), (64, 64)), truth)
    assert 1e-4 < error < 0.2  # 8 bits of mantissa through nine convolutions and back


@pytest.mark.parametrize("changed", [{}, {"padding": "replicate"}, {"pooling": "average"}], ids=str)
def test_in_bfloat16_every_layer_is_as_exact_as_its_numbers(changed):
    """8 bits of mantissa at each of 37 functions; what is yielded is float32."""
    x = load_vgg19(device="cpu").prepare(cover(lab.load_image("astronaut", 96), 65, 97))
    whole = load_vgg19(device="cpu", **changed)
    half = load_vgg19(device="cpu", precision="bfloat16", **changed)
    for (layer, expected), (_, found) in zip(whole.sequence(x), half.sequence(x), strict=True):
        assert found.dtype == torch.float32
        assert relative(found, expected) < (0.005 if layer.index == 1 else 0.03), layer.name


@pytest.mark.parametrize("name", ["auto", "plain"])
def test_a_processor_without_bfloat16_rounds_what_it_computes_in_float32(monkeypatch, name):
    """torch's own convolutions and products of bfloat16 take ten to two hundred times as long there."""
    for module in (convolution, onednn):
        monkeypatch.setattr(module, "has_bfloat16", lambda: False)
    types = set()

    def seen(function):
        def called(x, *others, **options):
            types.add(x.dtype)
            return function(x, *others, **options)

        return called

    monkeypatch.setattr(convolution, "conv2d", seen(convolution.conv2d))
    monkeypatch.setattr(torch, "mm", seen(torch.mm))
    found = gradient_of(Settings(precision="bfloat16", convolution=name), (48, 48))
    assert types == {torch.float32}
    assert 1e-4 < relative(found, gradient_of(Settings(convolution="plain"), (48, 48))) < 0.2
    x, weight, bias = random(1, 20, 9, 7).bfloat16(), random(8, 20, 3, 3).bfloat16(), random(8).bfloat16()
    expected = conv2d(x.float(), weight.float(), bias.float(), padding=1).bfloat16()
    assert torch.equal(convolution.convolve(x, weight, bias), expected)
    assert torch.equal(product(x[0, 0], x[0, 1].T), (x[0, 0].float() @ x[0, 1].T.float()).bfloat16())


def test_pixels_in_two_parts_are_the_pixels():
    """16 bits of mantissa; the gradient is that of their sum."""
    x = (random(1, 3, 9, 7) * 100).requires_grad_()
    parts = InTwoParts.apply(x)
    assert parts.dtype == torch.bfloat16 and parts.shape == (1, 6, 9, 7)
    assert relative(parts[:, :3].float() + parts[:, 3:].float(), x) < 2**-16
    weight = random(4, 3, 3, 3)
    y = Convolve.apply(parts, Convolution(weight, torch.zeros(4), torch.bfloat16, parts=2)).float()
    assert relative(y, conv2d(x, weight.bfloat16().float(), padding=1)) < 2**-8
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    (expected,) = torch.autograd.grad(conv2d(x, weight, padding=1).square().sum(), x)
    assert gradient.dtype == torch.float32 and relative(gradient, expected) < 0.02


def test_in_bfloat16_a_run_descends_as_in_float32():
    losses = {}
    for precision in ("float32", "bfloat16"):
        settings = Settings(size=64, iterations=30, precision=precision, device="cpu")
        losses[precision] = [step.losses["total"] for step in lab.transfer(settings)][-1]
    assert losses["bfloat16"] == pytest.approx(
        losses["float32"], rel=0.1
    )  # at 256 pixels 0.01; small pictures drift more


def test_the_processor_says_whether_it_has_bfloat16(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("flags\t\t: fpu avx512f avx512_bf16 amx_bf16 amx_tile\n")
    assert bfloat16_units(cpuinfo) == ("amx_bf16", "avx512_bf16")
    cpuinfo.write_text("Features\t: fp asimd bf16 i8mm\n")
    assert bfloat16_units(cpuinfo) == ("bf16",)
    assert bfloat16_units(tmp_path / "missing") == ()


def test_the_setting_reaches_the_network(small):
    for name in ("plain", "lean", "auto"):
        assert set_up(Settings(**small, convolution=name))[0].net.convolution == name
    assert set_up(Settings(**small))[0].net.convolution == "auto"


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("side", [24, 64])
def test_lean_convolutions_keep_no_kernels_but_the_weights(monkeypatch, wide, side):
    """With wide vectors a large picture has Winograd's products anyway, for which their kernels are made anew."""
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: wide)
    shape = (512, 512, side, side)
    winograds = side == 64 and (can_lay_out() if wide else not nnpack())
    assert algorithm(512, 512, 24, 24) == "winograd"
    assert (algorithm(*shape, lean=True) == "winograd") == winograds
    both = Convolution(random(512, 512, 3, 3) / 50, random(512), lean=True)
    for kernels in (both.forward, both.backward):
        x = random(1, 512, side, side)
        assert relative(kernels(x), conv2d(x, kernels.plain(), kernels.bias, padding=1)) < 1e-5
        assert ("products" in vars(kernels)) == winograds
        if winograds:
            assert "form" not in vars(kernels.products)
            assert bytes_kept(*shape, torch.float32, lean=True) == 0


def test_large_forms_of_kernels_are_kept_only_where_making_them_takes_long(monkeypatch):
    """Those of 512² and less, where pictures are small, and those of 256 features, which are small themselves."""
    monkeypatch.setattr(convolution, "has_wide_vectors", lambda: True)
    for found in ("can_lay_out", "lays_out_products"):
        monkeypatch.setattr(convolution, found, lambda *_: True)
    kept = {side: bytes_kept(512, 512, side // 8, side // 8, torch.float32) for side in (256, 512, 1024, 2048)}
    assert kept == {256: 32, 512: 32, 1024: 0, 2048: 0}
    assert bytes_kept(256, 256, 256, 256, torch.float32) == 32


def test_only_what_is_convolved_in_strips_is_pooled_in_strips(monkeypatch, net):
    """Winograd's tiles of 4 x 4 have strips of their own, and those of another height would cut tiles in two."""
    monkeypatch.setattr(convolution, "layout", lambda *_: torch.channels_last)
    monkeypatch.setattr(convolution, "WHOLE", 0)
    x = random(1, 64, 16, 16).requires_grad_()
    for chosen, function in (("winograd", "ReluMaxPool"), ("onednn", "ConvolveReluMaxPool")):
        monkeypatch.setattr(convolution, "algorithm", lambda *shape, chosen=chosen: chosen)
        y = net._apply_group(("conv1_2", "relu1_2", "pool1"), x, False, None)
        assert y.grad_fn.name() == f"{function}Backward"
