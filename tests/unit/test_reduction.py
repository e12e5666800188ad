"""Smaller networks against identities: what is removed without loss must leave everything else as it was."""

import pytest
import torch

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.images import Pictures
from nstlab.layers import convolutions
from nstlab.metrics import angles
from nstlab.network import VGG19, Weights
from nstlab.network.sparse_gradients import keep_strongest, strongest
from nstlab.optimise import Objective, reduced_network, set_up
from nstlab.reduction import TECHNIQUES, cost, gate_derivatives, merge, reduced
from nstlab.reduction.codebooks import coded_bytes, huffman_bits, prune, quantise
from nstlab.reduction.shrinking import refitted
from nstlab.settings import Settings

CHANNEL_REDUCTIONS = [name for name, technique in TECHNIQUES.items() if "amount" in technique.knobs]


@pytest.fixture
def pair():
    draw = torch.Generator().manual_seed(5)
    return [torch.rand(1, 3, 64, 64, generator=draw, dtype=torch.float64) for _ in range(2)]


def network(net, pooling="max", **changes) -> VGG19:
    """A network in float64 with some tensors changed: `conv1_1_weight` and so on."""
    keys = [f"{name}.{part}" for name, _, _ in convolutions() for part in ("weight", "bias")]
    tensors = {key: changes.get(key.replace(".", "_"), getattr(net, key.replace(".", "_"))).double() for key in keys}
    return VGG19(Weights(tensors, tuple(net.mean.tolist()), "0" * 64), pooling).double()


def with_twins(net, factors=(2.0, 0.5)) -> VGG19:
    """conv2_1's channels 3 and 7 are channel 0 times a factor each."""
    W, b = net.conv2_1_weight.double().clone(), net.conv2_1_bias.double().clone()
    b += 200.0  # all are active somewhere: a silent channel would be merged as well
    for channel, factor in zip((3, 7), factors, strict=True):
        W[channel], b[channel] = factor * W[0], factor * b[0]
    return network(net, conv2_1_weight=W, conv2_1_bias=b, conv2_2_bias=net.conv2_2_bias + 200)


def with_complements(net, same_outgoing: bool) -> VGG19:
    """conv2_1's channel 3 is a constant minus channel 0, and neither is ever below 0."""
    W, b = net.conv2_1_weight.double().clone(), net.conv2_1_bias.double().clone()
    W[0] *= 1e-3
    b += 200.0
    b[0], b[3], W[3] = 50.0, 50.0, -W[0]
    V = net.conv2_2_weight.double().clone()
    if same_outgoing:
        V[:, 3] = V[:, 0]
    return network(net, conv2_1_weight=W, conv2_1_bias=b, conv2_2_weight=V, conv2_2_bias=net.conv2_2_bias + 200)


def activations(net, picture, *names):
    with torch.no_grad():
        return net(net.prepare(picture), keep=names)


def test_merging_identical_channels_changes_no_later_activation_and_no_loss(random_net, pair):
    full = with_twins(random_net)
    settings = Settings(reduction="distinctiveness", angle=1e-3, reduced_blocks=(2,))
    record = {}
    small = reduced(full, settings, pair, record=record)
    assert small.layer("conv2_1").features == 126
    assert small.channel_weights["relu2_1"].max() == pytest.approx((1 + 0.5**2 + 0.25**2) ** 0.5)  # 7, 0 by strongest
    picture = pair[0].flip(2)  # not one that it was judged by
    for name in ("relu2_2", "relu4_2", "relu5_4"):
        a, b = activations(full, picture, name)[name], activations(small, picture, name)[name]
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-9 * float(a.abs().max())), name
    plain = Settings(content_layers=("relu2_1", "relu4_2"), style_layers=("relu2_1", "relu4_1"))
    x = full.prepare(picture)
    ours, theirs = (Objective(net, Pictures(*pair), plain)(x) for net in (small, full))
    for name in theirs:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-10), name


@pytest.mark.parametrize("same_outgoing", [False, True])
def test_removing_a_complementary_pair_changes_no_later_activation_inside(random_net, pair, same_outgoing):
    """The constant moves into the next bias, which is exact but for the border of zeros."""
    full = with_complements(random_net, same_outgoing)
    record = {}
    small = reduced(full, Settings(reduction="distinctiveness", angle=1e-3, reduced_blocks=(2,)), pair, record=record)
    assert small.layer("conv2_1").features == 128 - (2 if same_outgoing else 1)  # both, where both do the same
    a, b = (activations(net, pair[1].flip(3), "conv2_2")["conv2_2"][..., 1:-1, 1:-1] for net in (full, small))
    a = a[:, record["conv2_2"].keep]
    assert torch.allclose(a, b, rtol=1e-9, atol=1e-9 * float(a.abs().max()))


def test_merging_projects_a_chain_on_the_one_that_stays():
    """Three vectors in a fan: each is its own least-squares multiple of the one that stays."""
    a = torch.tensor([[3.0, 0.0], [2.0, 0.2], [1.9, 0.4]], dtype=torch.float64)
    selection = merge(a, torch.ones(3, 1), 1)
    assert selection.keep.tolist() == [0]
    assert torch.allclose(selection.stands_for[0], a @ a[0] / (a[0] @ a[0]))
    residual = (a[2] - selection.stands_for[0, 2] * a[0]).norm() / a[2].norm()
    assert torch.allclose(residual, torch.sin(torch.deg2rad(angles(a)[0, 2])))


def test_a_silent_channel_is_merged_first():
    a = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    selection = merge(a, torch.ones(3, 1), 2)
    assert selection.keep.tolist() == [0, 1] and not selection.stands_for[:, 2].any()


@pytest.mark.parametrize("technique", [*CHANNEL_REDUCTIONS, "minimal_effort", None])
def test_nothing_removed_is_the_network_itself(net, technique):
    small = reduced(net, Settings(reduction=technique))
    assert all(torch.equal(a, b) for a, b in zip(small.buffers(), net.buffers(), strict=True))
    assert small.sha256 == net.sha256 and small.gradient_kept == 1 and not small.channel_weights


@pytest.mark.parametrize("technique", CHANNEL_REDUCTIONS)
def test_what_a_reduced_network_is_and_says_agree(net, technique):
    settings = Settings(reduction=technique, amount=0.5, size=64, device="cpu")
    objective, x = set_up(settings)
    small = objective.net
    held = {name: tensor for name, tensor in small.named_buffers() if name != "mean"}
    assert sum(tensor.numel() for tensor in held.values()) == sum(layer.parameters for layer in small.layers)
    with torch.no_grad():
        for layer, activation in small.sequence(x):
            assert activation.shape[1:] == (layer.features, *layer.size(64, 64))
            assert layer.features == net.layer(layer.name).features // 2
    ours, whole = cost(small, 64, 64), cost(net, 64, 64)
    assert ours.parameters < 0.3 * whole.parameters and ours.multiply_adds < 0.3 * whole.multiply_adds
    assert small.sha256 != net.sha256
    assert objective(x)["total"].isfinite()


def test_what_is_removed_does_nothing_is_what_zeroed_channels_do(random_net, pair):
    """Without merging, a smaller network is the full one with those channels silenced."""
    record = {}
    small = reduced(random_net, Settings(reduction="random", amount=0.3), pair, record=record)
    silenced = {}
    for name, selection in record.items():
        gone = torch.ones(selection.stands_for.shape[1], dtype=torch.bool)
        gone[selection.keep] = False
        for part in ("weight", "bias"):
            tensor = getattr(random_net, f"{name}_{part}").clone()
            tensor[gone] = 0
            silenced[f"{name}_{part}"] = tensor
    quiet = network(random_net, "average", **silenced)
    a, b = activations(quiet, pair[0], "relu4_1")["relu4_1"], activations(small, pair[0], "relu4_1")["relu4_1"]
    assert torch.allclose(a[:, record["conv4_1"].keep], b, rtol=1e-9)


def test_the_loss_of_a_random_half_is_an_unbiased_guess_at_the_whole(random_net, pair):
    """Kept channels are a sample: c = √(N/n) makes the mean over them stand for the mean over all."""
    small = reduced(random_net, Settings(reduction="random", amount=0.5, reduced_blocks=(5,)), pair)
    plain = Settings(content_layers=("conv5_1",), style_layers=("conv5_1",))
    x = random_net.prepare(pair[0].flip(2))
    ours, theirs = (Objective(net, Pictures(*pair), plain)(x) for net in (small, random_net))
    keep = (small.layer("conv5_1").features,)
    assert keep == (256,)
    assert float(ours["content"] / theirs["content"]) == pytest.approx(1, rel=0.2)
    assert float(ours["style"] / theirs["style"]) == pytest.approx(1, rel=0.3)


def test_a_refit_is_ridge_regression_around_what_was_there():
    draw = torch.Generator().manual_seed(0)
    W, b = torch.randn(4, 6, generator=draw, dtype=torch.float64), torch.randn(4, generator=draw, dtype=torch.float64)
    for positions in (3, 40):  # fewer and more than there are weights
        X = torch.randn(6, positions, generator=draw, dtype=torch.float64)
        exact = refitted(W, b, X, W @ X + b[:, None])
        assert torch.allclose(exact[0], W) and torch.allclose(exact[1], b)  # nothing to mend, nothing moves
        Y = torch.randn(4, positions, generator=draw, dtype=torch.float64)
        V, c = refitted(W, b, X, Y)
        λ = 0.03 * (X.square().sum() + positions * X.square().mean()) / positions
        residual = V @ X + c[:, None] - Y
        assert torch.allclose(residual @ X.T + λ * (V - W), torch.zeros_like(W), atol=1e-9)  # the gradient is 0


def test_a_refit_brings_the_next_layer_nearer_on_pictures_it_has_not_seen(net):
    pictures = [lab.load_image(name, 64) for name in ("astronaut", "swirl")]
    other = lab.load_image("chelsea", 64)
    errors = {}
    for refit in (False, True):
        settings = Settings(reduction="contribution", amount=0.25, refit=refit, reduced_blocks=(3,))
        small = reduced(net, settings, pictures)
        a, b = activations(net, other, "relu4_1")["relu4_1"], activations(small, other, "relu4_1")["relu4_1"]
        errors[refit] = float((a - b).square().sum() / a.square().sum())
    assert errors[True] < 0.5 * errors[False]


def test_a_gates_derivative_is_the_slope_of_the_loss(random_net):
    """Central differences in float64: scaling conv3_1's channel 4 by a gate."""
    x = random_net.prepare(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64))

    def loss(F):
        return F["relu3_2"].square().mean()

    found = gate_derivatives(random_net, x, loss)["conv3_1"][4]
    values = []
    for gate in (1 + 1e-4, 1 - 1e-4):
        W, b = random_net.conv3_1_weight.clone(), random_net.conv3_1_bias.clone()
        W[4], b[4] = gate * W[4], gate * b[4]
        gated = network(random_net, "average", conv3_1_weight=W, conv3_1_bias=b)
        values.append(float(loss(gated(x, keep=["relu3_2"]))))
    assert (values[0] - values[1]) / 2e-4 == pytest.approx(float(found), rel=1e-5)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_a_codebook_has_no_more_entries_than_its_bits_say(net, bits):
    for name, _, _ in convolutions()[:5]:
        weight = quantise(getattr(net, f"{name}_weight"), bits)
        assert len(weight.unique()) <= 2**bits
        if bits == 8:
            assert torch.equal(weight, getattr(net, f"{name}_weight"))  # the shipped weights are that already


def test_a_network_with_shared_weights_has_them_in_every_layer_and_its_biases_whole(net):
    small = reduced(net, Settings(reduction="weight_sharing", bits=1))
    assert all(len(getattr(small, f"{name}_weight").unique()) == 2 for name, _, _ in convolutions())
    assert torch.equal(small.conv3_1_bias, net.conv3_1_bias) and small.sha256 != net.sha256


def test_shared_weights_are_at_a_minimum_of_k_means(net):
    """Every weight has the nearest entry, and every entry is the mean of its weights."""
    weight = net.conv2_1_weight
    shared = quantise(weight, 3)
    entries = shared.unique()
    for entry in entries:
        assert float(weight[shared == entry].double().mean()) == pytest.approx(float(entry), rel=0.02, abs=2e-4)
    nearest = (weight.flatten()[:, None] - entries[None]).abs().min(1).values
    assert float((weight - shared).abs().flatten().sub(nearest).max()) < 1e-6


def test_pruning_takes_the_smallest_and_sharing_leaves_them_at_zero(net):
    weight = net.conv3_1_weight
    pruned = prune(weight, 0.7)
    assert int((pruned == 0).sum()) == round(0.7 * weight.numel())
    assert weight[pruned == 0].abs().max() <= weight[pruned != 0].abs().min()
    assert torch.equal(quantise(pruned, 2) == 0, pruned == 0)
    assert prune(weight, 0.0).equal(weight)


def test_the_coded_size_lies_between_the_entropy_and_one_bit_more():
    counts = [1, 2, 3, 5, 8, 13, 21]
    p = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    entropy = -float((p * p.log2()).sum())
    assert entropy <= huffman_bits(counts) / sum(counts) < entropy + 1
    one_value = torch.full((10, 1, 1, 1), 3.0)
    assert coded_bytes([one_value], [torch.zeros(2)]) == -(-(32 * 2 + 32 + 10) // 8)


def test_meprop_with_all_kept_is_plain_backward_and_otherwise_a_sparse_one(net, pair):
    sparing = reduced(net, Settings(reduction="minimal_effort", gradient_kept=0.1))
    x = net.prepare(pair[0].float()).requires_grad_()
    gradients = []
    for network_ in (net, sparing):
        F = network_(x, keep=["relu3_1"])["relu3_1"]
        gradients.append(torch.autograd.grad(F.square().mean(), x)[0])
    assert torch.equal(activations(net, pair[0].float(), "relu4_1")["relu4_1"],
                       activations(sparing, pair[0].float(), "relu4_1")["relu4_1"])  # fmt: skip
    cosine = torch.nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0)
    assert 0.05 < float(cosine) < 0.999
    z = torch.rand(1, 6, 3, 3).requires_grad_()
    (all_kept,) = torch.autograd.grad((keep_strongest(z, 1.0).sin()).sum(), z)
    (plain,) = torch.autograd.grad(z.sin().sum(), z)
    assert torch.equal(all_kept, plain)
    g = torch.randn(1, 10, 4, 4)
    assert (strongest(g, 0.3).count_nonzero(dim=1) == 3).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"reduction": "random", "amount": 1.0}, "amount"),
        ({"reduction": "random", "amount": -0.1}, "amount"),
        ({"amount": 0.5}, "needs reduction = distinctiveness or"),
        ({"reduction": "weight_sharing", "amount": 0.5}, "not weight_sharing"),
        ({"reduction": "weight_sharing", "bits": 9}, "bits"),
        ({"reduction": "weight_sharing", "bits": 0}, "bits"),
        ({"bits": 4}, "needs reduction = weight_sharing"),
        ({"reduction": "magnitude", "angle": 20}, "needs reduction = distinctiveness, not magnitude"),
        ({"reduction": "distinctiveness", "angle": 20, "amount": 0.2}, "give one of them"),
        ({"gradient_kept": 0.5}, "minimal_effort"),
        ({"reduction": "random", "amount": 0.5, "reduced_blocks": ()}, "reduced_blocks"),
        ({"reduction": "distinctivness"}, "reduction"),
    ],
)
def test_settings_that_contradict_each_other_are_refused_in_one_line(values, words):
    with pytest.raises(RequestError) as error:
        Settings(**values)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_would_empty_a_layer_or_has_too_little_to_go_by_is_refused(net):
    pictures = [lab.load_image("astronaut", 64)]
    with pytest.raises(RequestError, match="would leave conv1_1 none of its 64 channels"):
        reduced(net, Settings(reduction="random", amount=0.999), pictures)
    with pytest.raises(RequestError, match="calibration pictures are too small"):
        reduced(net, Settings(reduction="contribution", amount=0.5), [lab.load_image("astronaut", 32)])
    with pytest.raises(RequestError, match="needs pictures"):
        reduced(net, Settings(reduction="contribution", amount=0.5))


def test_a_run_with_a_reduced_network_resumes_to_the_bit_and_says_its_hash(small, tmp_path):
    values = small | {"size": 64, "reduction": "contribution", "amount": 0.5, "refit": True}
    through = lab.Run(Settings(**values, iterations=4), tmp_path / "a").advance(progress=False)
    lab.Run(Settings(**values, iterations=2), tmp_path / "b").advance(progress=False)
    resumed = lab.Run(Settings(**values, iterations=4), tmp_path / "b").advance(progress=False)
    assert torch.equal(through.result, resumed.result) and through.id == resumed.id
    assert through.history.drop(columns="seconds").equals(resumed.history.drop(columns="seconds"))
    objective, _ = set_up(through.settings)
    network_ = through.manifest["network"]
    assert network_["sha256"] == objective.net.sha256 != through.sha256["weights"]
    assert network_["features"][8] == 256 and network_["multiply_adds"] == cost(objective.net, 64, 64).multiply_adds
    other = lab.Run(Settings(**(values | {"amount": 0.4})), tmp_path / "a")
    assert other.id != through.id


def test_eight_sample_pictures_calibrate_too(net):
    content, style = lab.load_image("coffee", 64), lab.load_image("dots", 64)
    half = Settings(reduction="contribution", amount=0.5, size=64)
    pair, samples = (reduced_network(net, half.with_(calibration=c), content, style) for c in ("pair", "samples"))
    assert pair.sha256 != samples.sha256 and pair.layer("conv3_1").features == samples.layer("conv3_1").features


def test_a_layer_card_of_a_reduced_network(net):
    from nstlab import dissect

    picture = lab.load_image("astronaut", 64)
    small = reduced(net, Settings(reduction="magnitude", amount=0.75), [picture])
    assert len(dissect.layer_card(small, picture, "relu3_1").statistics) == 64
