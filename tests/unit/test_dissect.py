"""What dissect says of a layer, against the truth: gradients, constructed tensors, planted patterns."""

import copy
import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

import nstlab as lab
from nstlab import dissect
from nstlab.errors import RequestError
from nstlab.network import VGG19
from nstlab.network.weights import Weights, convolutions
from nstlab.optimise import set_up


@pytest.fixture(scope="module")
def net():
    return lab.load_vgg19(device="cpu")


@pytest.fixture(scope="module")
def astronaut():
    return lab.load_image("astronaut", size=96)


@pytest.fixture(scope="module")
def transparent():
    """A VGG19 of two features a layer, all weights positive, average pooling: every pixel that can count does."""
    tensors, inputs = {}, 3
    for name, _, _ in convolutions():
        tensors[f"{name}.weight"] = torch.full((2, inputs, 3, 3), 0.2, dtype=torch.float64)
        tensors[f"{name}.bias"] = torch.zeros(2, dtype=torch.float64)
        inputs = 2
    return VGG19(Weights(tensors, (0.0, 0.0, 0.0), "made up"), pooling="average").double()


@pytest.mark.parametrize("height, width", [(97, 131), (64, 64), (95, 63)])
def test_receptive_box_is_the_support_of_the_gradient(transparent, height, width):
    image = torch.rand(1, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    for layer in transparent.layers:
        rows, columns = layer.size(height, width)
        for row, column in {(0, 0), (rows - 1, columns - 1), (0, columns // 2), (rows // 2, columns // 2)}:
            gradient = dissect.pixel_gradient(transparent, image, layer.name, row, column)[0].abs().sum(0)
            seen_rows, seen_columns = (torch.nonzero(gradient.amax(dim)).flatten() for dim in (1, 0))
            box = dissect.receptive_box(layer, row, column, height, width)
            assert (box.top, box.bottom) == (seen_rows[0], seen_rows[-1] + 1), (layer.name, row)
            assert (box.left, box.right) == (seen_columns[0], seen_columns[-1] + 1), (layer.name, column)
            assert torch.count_nonzero(box.cut(gradient[None, None])) == torch.count_nonzero(gradient)


def test_with_max_pooling_the_gradient_stays_within_the_box(net, astronaut):
    for name in ("conv1_1", "relu3_1", "pool4"):
        gradient = dissect.pixel_gradient(net, astronaut, name, 2, 3).clone()
        box = dissect.receptive_box(net.layer(name), 2, 3, 96, 96)
        assert gradient.abs().sum() > 0
        box.cut(gradient).zero_()
        assert gradient.abs().sum() == 0


def test_positions_and_features_that_are_not_there_are_refused(net, astronaut):
    with pytest.raises(lab.RequestError, match=r"pool5 has positions \(0, 0\) to \(2, 2\), not \(3, 0\)"):
        dissect.receptive_box(net.layer("pool5"), 3, 0, 96, 96)
    with pytest.raises(lab.RequestError, match="features 0 to 63"):
        dissect.feature_card(net, astronaut, "conv1_1", 64)
    with pytest.raises(lab.RequestError, match="relu4_2"):
        dissect.layer_card(net, astronaut, "relu42")
    with pytest.raises(lab.RequestError, match=r"pixels \(0, 0\) to \(95, 95\)"):
        dissect.position_card(net, astronaut, 96, 0)
    with pytest.raises(lab.RequestError, match="features 0 to 511"):
        dissect.favourite(net, "relu5_1", 512)


def test_the_position_of_a_pixel_sees_that_pixel(net):
    for layer in net.layers:
        for row, column in ((0, 0), (96, 130), (50, 77)):
            i, j = dissect.position_at(layer, row, column, 97, 131)
            box = dissect.receptive_box(layer, i, j, 97, 131)
            assert box.top <= min(row, layer.size(97, 131)[0] * layer.stride - 1) < box.bottom
            assert box.left <= min(column, layer.size(97, 131)[1] * layer.stride - 1) < box.right


def test_the_loop_equals_the_network_to_the_bit(net, astronaut):
    x = net.prepare(astronaut)
    with torch.no_grad():
        whole = net(x, keep=[layer.name for layer in net.layers])
        for layer in net.layers:
            x = net.apply_layer(layer.name, x)
            assert torch.equal(x, whole[layer.name]), layer.name
    computed = dissect.activations(net, astronaut)
    assert all(torch.equal(computed[name], whole[name]) for name in whole)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_effective_rank_of_a_matrix_of_rank_k(k):
    generator = torch.Generator().manual_seed(k)
    directions = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64))[0][:, :k]
    spectrum = dissect.spectrum(7 * directions @ directions.T)
    assert spectrum.entropy_rank == pytest.approx(k)
    assert spectrum.participation_ratio == pytest.approx(k)
    assert spectrum.ninety == math.ceil(0.9 * k)
    assert spectrum.eigenvalues == pytest.approx([7.0] * k + [0.0] * (20 - k), abs=1e-9)


def test_effective_rank_of_unequal_eigenvalues_and_of_nothing():
    spectrum = dissect.spectrum(torch.diag(torch.tensor([9.0, 1.0])))
    assert spectrum.entropy_rank == pytest.approx(math.exp(-0.9 * math.log(0.9) - 0.1 * math.log(0.1)))
    assert spectrum.participation_ratio == pytest.approx(100 / 82)
    assert spectrum.ninety == 1
    assert dissect.spectrum(torch.zeros(4, 4)).entropy_rank == 0


def test_statistics_of_a_known_tensor():
    activation = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]]]])
    assert dissect.zeros(activation) == 5 / 8
    table = dissect.feature_statistics(activation)
    assert table["mean"].tolist() == [2.0, 0.0]
    assert table["maximum"].tolist() == [5.0, 0.0]
    assert table["zeros"].tolist() == [0.25, 1.0]
    assert table["deviation"].tolist() == pytest.approx([math.sqrt((4 + 1 + 0 + 9) / 4), 0.0])


def test_angles_of_known_features():
    row = torch.tensor([1.0, 0.0, 2.0])
    activation = torch.stack([row, 3 * row, torch.tensor([0.0, 5.0, 0.0]), torch.zeros(3)])[None, :, None]
    assert dissect.angle_to_others(activation, 0).tolist() == pytest.approx([0, 0, 90, 90], abs=0.05)


def test_dead_features_are_those_that_no_picture_brings_above_0(transparent):
    """Positive weights and no biases: ten times as bright is ten times as high, and a bias sets the height to reach."""
    net = copy.deepcopy(transparent)
    dark, bright = (torch.full((1, 3, 32, 32), grey, dtype=torch.float64) for grey in (0.1, 1.0))
    reached = float(net(net.prepare(dark), keep=["conv2_1"])["conv2_1"].max())
    net.conv2_1_bias.copy_(torch.tensor([-1e9, -2 * reached]))  # out of reach, and between dark and bright
    assert dissect.dead_features(transparent, [dark], "relu2_1") == []
    assert dissect.dead_features(net, [dark], "relu2_1") == [0, 1]
    assert dissect.dead_features(net, [dark, bright], "relu2_1") == [0]
    assert dissect.dead_features(net, [dark, bright], "relu2_2") == []


def test_dead_features_of_a_real_network(net, astronaut):
    crippled = copy.deepcopy(net)
    crippled.conv2_1_bias[[5, 77]] = -1e6
    dead, more = (dissect.dead_features(n, [astronaut], "relu2_1") for n in (net, crippled))
    highest = dissect.activations(net, astronaut)["relu2_1"].amax((0, 2, 3))
    assert dead == [feature for feature in range(128) if highest[feature] == 0]
    assert more == sorted({*dead, 5, 77}) and not {5, 77} & set(dead)


@pytest.mark.parametrize("name", ["relu1_2", "relu2_2", "relu3_1"])
def test_top_patches_find_a_planted_pattern(net, name):
    generator = torch.Generator().manual_seed(3)
    image = torch.full((1, 3, 96, 96), 0.5)
    pattern = torch.rand(1, 3, 12, 12, generator=generator)
    image[:, :, 60:72, 20:32] = pattern
    computed = dissect.activations(net, image)[name]
    layer = net.layer(name)
    margin = 40 // layer.stride  # the zero border excites features too: look for one that likes the pattern
    inner = computed[0, :, margin // 2 : -margin // 2, margin // 4 : -margin // 2]
    flat = computed[0, :, computed.shape[2] // 4, computed.shape[3] * 3 // 4]
    feature = int((inner.amax((1, 2)) / computed[0].amax((1, 2)).clamp_min(1) - flat.sign()).argmax())
    best = dissect.top_patches(layer, computed, image, feature, count=1)[0]
    assert best.value == float(computed[0, feature].max())
    assert best.box.top < 72 and best.box.bottom > 60 and best.box.left < 32 and best.box.right > 20
    assert torch.equal(best.pixels, image[:, :, best.box.top : best.box.bottom, best.box.left : best.box.right])


def test_top_patches_are_apart_and_above_zero(net, astronaut):
    computed = dissect.activations(net, astronaut)["relu2_2"]
    layer = net.layer("relu2_2")
    patches = dissect.top_patches(layer, computed, astronaut, 5, count=6)
    values = [patch.value for patch in patches]
    assert values == sorted(values, reverse=True) and min(values) > 0
    for i, a in enumerate(patches):
        for b in patches[:i]:
            assert max(abs(a.row - b.row), abs(a.column - b.column)) >= layer.receptive_field // (2 * layer.stride)
    assert dissect.top_patches(layer, torch.zeros_like(computed), astronaut, 5) == []


def test_every_layer_has_a_card_that_agrees_with_the_activation(net):
    image = lab.load_image("astronaut", size=64)
    computed = dissect.activations(net, image)
    cards = list(dissect.layer_cards(net, image))
    assert [card.layer.name for card in cards] == list(computed)
    for card in cards:
        activation = computed[card.layer.name]
        assert card.size == tuple(activation.shape[2:]) == card.layer.size(64, 64)
        assert card.zeros == dissect.zeros(activation)
        assert torch.equal(card.maps[0], activation[0, card.features[0]])
        rows, columns = (side // 8 for side in card.size)
        inside = activation[0, :, rows : card.size[0] - rows, columns : card.size[1] - columns].flatten(1)
        deviation = inside.std(1, correction=0)
        assert float(deviation[card.features[0]]) == pytest.approx(float(deviation.max()))
        largest = float(lab.gram(activation).diagonal().max())
        assert float(card.gram[0, 0]) == pytest.approx(largest)
        assert 0.97 < card.histogram.after.sum() <= 1.0001
    alone = dissect.layer_card(net, image, "relu3_1")
    assert torch.equal(alone.maps, next(card for card in cards if card.layer.name == "relu3_1").maps)


def test_gradients_can_be_taken_between_two_cards(net):
    for _ in dissect.layer_cards(net, torch.rand(1, 3, 32, 32), ["conv1_1", "relu1_1"]):
        assert torch.is_grad_enabled()


def test_the_spectrum_is_the_same_from_the_smaller_matrix():
    generator = torch.Generator().manual_seed(5)
    for shape in ((1, 12, 3, 2), (1, 4, 5, 5)):
        activation = torch.randn(shape, generator=generator, dtype=torch.float64)
        small, whole = dissect.spectrum_of(activation), dissect.spectrum(lab.gram(activation))
        assert small.eigenvalues == pytest.approx(whole.eigenvalues, abs=1e-9)
        assert small.entropy_rank == pytest.approx(whole.entropy_rank) and small.ninety == whole.ninety


def test_a_comparison_names_the_feature_that_differs(net, astronaut):
    same = dissect.compare_layer(net, astronaut, astronaut, "relu2_1")
    assert np.abs(same.contrast).max() == 0
    red = torch.zeros(1, 3, 64, 64)
    red[:, 0] = 1
    differ = dissect.compare_layer(net, red, red.flip(1), "relu1_1", count=3)
    for feature in differ.features:
        difference = differ.means[feature, 0] - differ.means[feature, 1]
        assert np.sign(difference) == np.sign(differ.contrast[feature])
    assert np.abs(differ.contrast[differ.features[0]]) == np.abs(differ.contrast).max()


def test_a_position_card_names_the_strongest_features(net, astronaut):
    computed = dissect.activations(net, astronaut)
    card = dissect.position_card(net, astronaut, 40, 50, computed)
    again = dissect.position_card(net, astronaut, 40, 50)
    assert card.excited == again.excited
    i, j = card.positions["relu3_1"]
    assert (i, j) == (10, 12)
    values = computed["relu3_1"][0, :, i, j]
    feature, value, share = card.excited["relu3_1"][0]
    assert value == float(values.max()) == float(values[feature])
    assert share == pytest.approx(value / float(computed["relu3_1"][0, feature].max()))


def test_a_feature_card_has_the_kernels_themselves(net, astronaut):
    card = dissect.feature_card(net, astronaut, "relu1_1", 7)
    assert torch.equal(card.kernels, net.conv1_1_weight[7])
    deep = dissect.feature_card(net, astronaut, "conv3_1", 7)
    assert torch.equal(deep.kernels[0], net.conv3_1_weight[7, deep.inputs[0]])
    assert len(dissect.feature_card(net, astronaut, "pool2", 7).kernels) == 0
    angles = [angle for _, angle in deep.nearest]
    assert angles == sorted(angles) and 7 not in dict(deep.nearest)


def test_psnr_and_similarity(astronaut):
    noise = torch.rand(astronaut.shape, generator=torch.Generator().manual_seed(0))
    ours = dissect.psnr(noise, astronaut)
    assert ours == pytest.approx(peak_signal_noise_ratio(astronaut.numpy(), noise.numpy(), data_range=1))
    assert dissect.psnr(astronaut, astronaut) == math.inf
    assert dissect.similarity(astronaut, astronaut) == pytest.approx(1)
    assert dissect.similarity(noise, astronaut) < 0.1


def test_a_content_reconstruction_from_relu1_1_brings_the_picture_back(tmp_path):
    settings = dissect.content_reconstruction("astronaut", "relu1_1", size=48, iterations=200)
    found = dissect.reconstruct(settings, out=tmp_path)
    assert found.psnr > 25  # white noise has about 8 dB
    assert found.left < 1e-4 and found.ssim > 0.9
    assert found.run.folder.parent == tmp_path and len(found.losses) == 201
    longer = dissect.reconstruct(settings.with_(iterations=210), out=tmp_path)  # goes on, the same run
    assert longer.run.folder == found.run.folder and len(longer.losses) == 211


def test_a_style_reconstruction_matches_the_grams_and_not_the_pixels(tmp_path):
    settings = dissect.style_reconstruction("swirl", ["relu1_1", "relu2_1"], size=48, iterations=40)
    found = dissect.reconstruct(settings, out=tmp_path)
    assert found.left < 0.01
    assert found.psnr < 20


def test_a_favourite_excites_its_feature_more_than_a_photograph(net, astronaut):
    image, activations = dissect.favourite(net, "relu2_1", 5, size=48, iterations=25)
    assert image.min() >= 0 and image.max() <= 1
    with torch.no_grad():
        ours, photograph = (net(net.prepare(t), keep=["conv2_1"])["conv2_1"][0, 5].mean() for t in (image, astronaut))
    assert ours > photograph and activations[-1] > activations[0]
    again, _ = dissect.favourite(net, "relu2_1", 5, size=48, iterations=25)
    assert torch.equal(image, again)


def test_gradient_shares_add_up():
    objective, x = set_up(lab.Settings(size=48, init="average", k_S=100, style="astronaut", content="swirl"))
    table = dissect.gradient_shares(objective, x)
    assert list(table.index) == ["content", "relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"]
    assert table["share"].sum() == pytest.approx(1)
    assert table["projection"].sum() == pytest.approx(1)
    total = objective(x)["total"]
    (whole,) = torch.autograd.grad(total, x)
    assert abs(float(whole.norm())) <= table["norm"].sum() * 1.0001
    objective, x = set_up(lab.Settings(size=48, init="content"))
    assert dissect.gradient_shares(objective, x)["norm"]["content"] == 0  # at the content, its loss is least


def test_gradient_shares_along_a_transfer_are_those_of_its_unclamped_pictures():
    settings = lab.Settings(size=48, iterations=3, init="white")
    table, image = dissect.gradient_shares_along(settings, [0, 2, 3])
    assert sorted(set(table["iteration"])) == [0, 2, 3]
    assert table.groupby("iteration")["projection"].sum().tolist() == pytest.approx([1.0] * 3)
    last = list(lab.transfer(settings))[-1].image
    assert torch.equal(image, last) and last.max() > 1  # white has nowhere to go that can be shown
    objective, _ = set_up(settings)
    of_last = table[table["iteration"] == 3]["norm"].tolist()
    of_picture = dissect.gradient_shares(objective, objective.net.prepare(last))["norm"].tolist()
    assert of_last == pytest.approx(of_picture, rel=1e-3)  # to [0, 1] and back rounds, which flips a ReLU or two
    for impossible in ([], [4], [-1, 2]):
        with pytest.raises(lab.RequestError, match="between 0 and 3"):
            dissect.gradient_shares_along(settings, impossible)


def test_gradient_shares_after_a_change_of_k_S_are_those_of_the_new_one():
    layers = {"content_layers": ["relu2_1"], "style_layers": ["relu1_1", "relu2_1"]}
    settings = lab.Settings(size=48, iterations=4, init="average", device="cpu", k_S=1000, k_S_changes="2:5", **layers)
    table, _ = dissect.gradient_shares_along(settings, [1, 2, 4])
    pictures = {step.iteration: step.image for step in lab.transfer(settings)}
    objective, _ = set_up(settings)
    for iteration, k_S in ((1, 1000), (2, 5), (4, 5)):
        x = objective.net.prepare(pictures[iteration]).requires_grad_()
        losses = objective(x)
        parts = [losses["content"], k_S * losses["relu1_1"], k_S * losses["relu2_1"]]
        g = [torch.autograd.grad(part, x, retain_graph=True)[0].flatten().double() for part in parts]
        norms, whole = [float(part.norm()) for part in g], sum(g)
        found = table[table["iteration"] == iteration].set_index("term")
        assert list(found.index) == ["content", "relu1_1", "relu2_1"]
        assert found["norm"].tolist() == pytest.approx(norms, rel=1e-4)
        assert found["share"].tolist() == pytest.approx([norm / sum(norms) for norm in norms], rel=1e-4)
        projections = [float(part @ whole / (whole @ whole)) for part in g]
        assert found["projection"].tolist() == pytest.approx(projections, rel=1e-3, abs=1e-4)


def test_what_a_feature_likes_least_lowers_it(net):
    _, most = dissect.favourite(net, "relu2_1", 5, size=32, iterations=15)
    _, least = dissect.favourite(net, "relu2_1", 5, size=32, iterations=15, negative=True)
    assert least[-1] < min(0, least[0]) < most[-1]


def test_several_features_and_directions(net):
    """A direction along one feature is that feature; two together excite both more than a favourite of one alone."""
    alone, _ = dissect.favourite(net, "relu2_1", 5, size=32, iterations=10)
    along, _ = dissect.favourite(net, "relu2_1", 3 * torch.eye(128)[5], size=32, iterations=10)
    assert torch.allclose(alone, along, atol=0.02)
    both, _ = dissect.favourite(net, "relu2_1", (5, 9), size=32, iterations=15)
    one, _ = dissect.favourite(net, "relu2_1", 5, size=32, iterations=15)

    def mean_of(image, feature):
        return float(net(net.prepare(image), keep=["conv2_1"])["conv2_1"][0, feature].mean())

    assert mean_of(both, 9) > mean_of(one, 9) and mean_of(both, 5) > 0
    for wrong in (torch.zeros(128), torch.ones(5)):
        with pytest.raises(RequestError, match="a direction in relu2_1 has 128 numbers"):
            dissect.favourite(net, "relu2_1", wrong)


def test_several_favourites_differ(net):
    def likeness(one, other):
        G, A = (lab.gram(net(net.prepare(image), keep=["relu3_1"])["relu3_1"]) for image in (one, other))
        return float((G * A).sum() / (G.norm() * A.norm()))

    asked = {"size": 32, "iterations": 25}
    first, second = dissect.favourites(net, "relu3_1", 7, count=2, **asked)
    by_chance, _ = dissect.favourite(net, "relu3_1", 7, seed=1, **asked)
    assert likeness(first, second) < likeness(first, by_chance)


def test_the_best_patches_of_several_pictures(net):
    images = {name: lab.load_image(name, size) for name, size in (("astronaut", 64), ("swirl", 96), ("brick", 48))}
    found = dissect.best_patches(net, images, "relu2_1", 5, count=5)
    values = [patch.value for _, patch in found]
    assert values == sorted(values, reverse=True) and len(found) == 5
    highest = {
        name: float(net(net.prepare(image), keep=["relu2_1"])["relu2_1"][0, 5].max()) for name, image in images.items()
    }
    assert found[0][0] == max(highest, key=highest.get) and values[0] == pytest.approx(max(highest.values()))
    for name, patch in found:
        assert torch.equal(patch.pixels, patch.box.cut(images[name]))
