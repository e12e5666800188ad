"""The notebooks' exercises, done: what their answers say is what is computed with the notebooks' own parameters.

Pictures, networks, layers, weights and rates are the notebooks' own; where an answer is about a run, the picture is
smaller and the run shorter, so that all of it takes a few minutes. (An exercise that asks for an opinion is not here.)
"""

import ast

import nbformat
import numpy as np
import pytest
import torch

import nstlab as lab
from nstlab import course, dissect, evaluation
from nstlab.images import load_mask
from nstlab.metrics import angles, distances, rmse
from nstlab.optimise import matched, reduced_network, set_up
from nstlab.reduction import cost, merge
from nstlab.sweeps import notebook_parameters

CHAPTERS = {chapter.number: chapter for chapter in course.chapters()}
OWN = {number: notebook_parameters(chapter.path) for number, chapter in CHAPTERS.items()}


def settings_of(number: str, **changed) -> lab.Settings:
    """The settings that a notebook's parameters make, with some of them changed; on the CPU."""
    own = {name: value for name, value in OWN[number].items() if name in lab.Settings.model_fields}
    return lab.Settings(**own | {"device": "cpu"} | changed)


@pytest.fixture(scope="module")
def paint(tmp_path_factory):
    """A function that paints with a notebook's parameters, some of them changed, and gives the run."""
    out = tmp_path_factory.mktemp("out")
    return lambda number, **changed: lab.Run(settings_of(number, **changed), out).advance(progress=False)


@pytest.fixture(scope="module")
def reconstruct(tmp_path_factory):
    """A function that reconstructs notebook 03's picture from one layer alone, as the notebook does or otherwise."""
    out = tmp_path_factory.mktemp("reconstructions")

    def reconstructed(layer, **changed):
        own = {name: OWN["03"][name] for name in ("size", "iterations", "pooling", "weights", "seed")}
        settings = dissect.content_reconstruction(OWN["03"]["content"], layer, **own | {"device": "cpu"} | changed)
        return dissect.reconstruct(settings, out)

    return reconstructed


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    return lab.load_image(OWN["02"]["content"], OWN["02"]["size"])


@pytest.fixture(scope="module")
def seen(net, picture) -> dict[str, torch.Tensor]:
    """What notebook 02 has in its `activations`."""
    return dissect.activations(net, picture)


def test_00_2_a_thousandth_leaves_the_photograph_and_a_thousand_times_paints_what_was_painted(paint):
    k_S = OWN["00"]["k_S"]
    results = [paint("00", size=64, iterations=20, k_S=k).result for k in (k_S / 1000, k_S, k_S * 1000)]
    photograph = lab.load_image(OWN["00"]["content"], 64)
    weak, usual, strong = (rmse(result, photograph) for result in results)
    assert weak < usual / 3
    assert rmse(*results[1:]) < usual / 2 and strong < 1.5 * usual


def test_00_4_twice_the_iterations_compute_only_the_second_half(paint):
    half = paint("00", size=48, iterations=2)
    whole = paint("00", size=48, iterations=4)
    assert whole.folder == half.folder
    assert whole.history["seconds"].iloc[:3].tolist() == half.history["seconds"].tolist()


def test_01_1_where_the_numbers_of_parameters_come_from(net):
    assert net.layer("conv1_1").parameters == 64 * (3 * 3 * 3 + 1) == 1792
    assert net.layer("conv4_2").parameters == 512 * (3 * 3 * 512 + 1) == 2_359_808


def test_01_2_without_relus_and_maxima_the_network_is_linear_but_for_its_biases(random_net):
    def without_relus(x):
        for layer in random_net.layers:
            if layer.kind != "relu":
                x = random_net.apply_layer(layer.name, x)
        return x

    x, step = (50 * torch.randn(1, 3, 32, 32, dtype=torch.float64) for _ in range(2))
    once, twice = (without_relus(x + times * step) - without_relus(x) for times in (1, 2))
    assert torch.allclose(twice, 2 * once, rtol=1e-6, atol=1e-9 * float(twice.abs().max()))


def test_01_3_average_pooling_changes_the_zeros_but_not_yet_at_pool1(seen, picture):
    average = dissect.activations(lab.load_vgg19(pooling="average", device="cpu"), picture)
    assert dissect.zeros(average["pool1"]) == dissect.zeros(seen["pool1"])
    assert not torch.equal(average["pool1"], seen["pool1"])
    assert all(dissect.zeros(average[name]) != dissect.zeros(seen[name]) for name in ("pool2", "relu3_4", "relu5_4"))
    assert all(average[name].shape == seen[name].shape for name in seen)


@pytest.mark.parametrize("name", ["relu1_2", "relu2_2", "relu3_4", "relu4_4"])
def test_01_4_in_the_corner_a_little_more_than_half_of_each_side_is_left(net, name):
    size, layer = OWN["01"]["size"], net.layer(name)
    i, j = dissect.position_at(layer, 0, 0, size, size)
    box = dissect.receptive_box(layer, i, j, size, size)
    assert 0.5 < box.height / layer.receptive_field <= 0.6 and 0.5 < box.width / layer.receptive_field <= 0.6


@pytest.mark.parametrize(("name", "feature"), [("relu3_1", 211), ("relu3_2", 6)])
def test_02_1_a_feature_that_answers_to_the_border_alone(seen, name, feature):
    map_ = seen[name][0, feature]
    assert float(map_[1:-1, 1:-1].sum() / map_.sum()) < 0.1
    inside = float(map_[1:-1, 1:-1].mean())
    assert all(float(side.mean()) > 50 * inside for side in (map_[0], map_[-1], map_[:, 0], map_[:, -1]))


def test_02_1_deeper_ones_choose_their_sides(seen):
    for feature, loud in {100: {"below", "left"}, 106: {"above", "left"}}.items():
        map_ = seen["relu4_2"][0, feature]
        sides = {"above": map_[0], "below": map_[-1], "left": map_[:, 0], "right": map_[:, -1]}
        means = {side: float(values.mean()) for side, values in sides.items()}
        assert set(sorted(means, key=means.get)[-2:]) == loud
        assert float(map_[1:-1, 1:-1].sum() / map_.sum()) < 0.1


def test_02_2_a_silent_feature_wakes_up_for_another_picture(net, seen, picture):
    assert not seen["relu2_1"][0, 123].any()
    painting = lab.load_image("swirl", OWN["02"]["size"])
    assert 123 not in dissect.dead_features(net, [picture, painting], "relu2_1")
    others = [lab.load_image(name, OWN["02"]["size"]) for name in lab.sample_pictures()]
    silent = sum(123 in dissect.dead_features(net, [other], "relu2_1") for other in others)
    assert 3 <= silent < len(others) / 2


def test_02_3_upside_down_the_means_change_and_the_zeros_hardly(net, picture):
    upright, turned = (dissect.layer_card(net, image, "relu1_1") for image in (picture, picture.flip(2)))
    assert abs(turned.statistics["mean"][47] / upright.statistics["mean"][47] - 1) > 0.1
    assert abs(turned.zeros - upright.zeros) < 0.005
    assert abs(turned.spectrum.entropy_rank / upright.spectrum.entropy_rank - 1) < 0.01
    G, H = (lab.gram(net(net.prepare(image), keep=["relu1_1"])["relu1_1"]) for image in (picture, picture.flip(2)))
    assert 0.02 < float((G - H).norm() / G.norm()) < 0.1


def test_02_4_a_feature_that_is_a_multiple_of_another_can_be_merged():
    a, W = torch.rand(3, 40), torch.randn(5, 3)
    a[2] = 3 * a[0]
    selection = merge(a, W.T, 2)
    assert torch.allclose(W @ selection.stands_for.float().T @ a[selection.keep], W @ a, atol=1e-4)


def test_02_5_an_untrained_network_has_half_zeros_and_few_directions(seen, picture):
    untrained = dissect.activations(lab.load_vgg19("random", device="cpu"), picture)
    for name in ("relu3_1", "relu4_2", "relu5_1"):
        assert 0.4 < dissect.zeros(untrained[name]) < 0.6
        assert dissect.spectrum_of(untrained[name]).entropy_rank < 4.5
        assert dissect.spectrum_of(seen[name]).entropy_rank > 24
    assert dissect.zeros(seen["relu3_1"]) < dissect.zeros(seen["relu4_2"]) < dissect.zeros(seen["relu5_1"])


def test_03_2_the_gradient_of_a_maximum_reaches_one_of_four_positions(net):
    reached = {}
    for pooling in ("max", "average"):
        x = torch.rand(1, 64, 8, 8).requires_grad_()
        pooled = lab.load_vgg19(pooling=pooling, device="cpu").apply_layer("pool1", x)
        reached[pooling] = float((torch.autograd.grad(pooled.sum(), x)[0] != 0).float().mean())
    assert reached == {"max": 0.25, "average": 1.0}


@pytest.mark.parametrize("layer", ["relu2_2", "relu3_1"])
def test_03_2_but_after_few_iterations_both_are_equally_grainy(reconstruct, layer):
    maximum, average = (reconstruct(layer, pooling=pooling) for pooling in ("max", "average"))
    grain = [float(record.image.diff(dim=3).abs().mean()) for record in (maximum, average)]
    assert grain[1] == pytest.approx(grain[0], rel=0.1)
    assert abs(maximum.psnr - average.psnr) < 1


def test_03_3_without_training_early_layers_keep_more_and_later_ones_less(reconstruct):
    untrained, trained = (
        {layer: reconstruct(layer, weights=weights).psnr for layer in ("relu1_1", "relu2_2", "relu3_1")}
        for weights in ("random", OWN["03"]["weights"])
    )
    assert untrained["relu1_1"] > trained["relu1_1"] and untrained["relu2_2"] > trained["relu2_2"] + 1
    assert untrained["relu3_1"] < trained["relu3_1"] - 1


def test_03_1_more_iterations_give_an_early_layer_many_decibels_and_a_deep_one_none(reconstruct):
    gained = {}
    for layer in ("relu1_1", "relu5_1"):
        short, long = (reconstruct(layer, size=48, iterations=count) for count in (30, 120))
        gained[layer] = long.psnr - short.psnr
        assert long.losses[-1] < short.losses[-1]
    assert gained["relu1_1"] > 5 and gained["relu5_1"] < 2


def test_03_4_conv4_2_gives_no_more_than_relu4_2(reconstruct):
    before, after = (reconstruct(layer, size=64) for layer in ("conv4_2", "relu4_2"))
    assert abs(before.psnr - after.psnr) < 0.5


def test_03_5_without_relu5_1_little_changes_unless_the_weights_are_balanced(paint):
    photograph = lab.load_image(OWN["03"]["content"], 64)
    apart = {}
    for weights in (None, "balanced"):
        layers = tuple(OWN["03"]["style_layers"])
        own = {"size": 64, "iterations": 30, "content_layers": ("relu4_2",), "style_layer_weights": weights}
        all_five, four = (paint("03", style_layers=some, **own).result for some in (layers, layers[:-1]))
        apart[weights] = rmse(all_five, four) / rmse(all_five, photograph)
    assert apart[None] < 0.35 < apart["balanced"]


@pytest.fixture(scope="module")
def alone(paint):
    """Notebook 04's painting with one style layer alone, by (layer, k_S), smaller."""
    k_S = OWN["04"]["k_S"]
    asked = [("relu1_1", k_S), ("relu4_1", k_S), ("relu5_1", k_S), ("relu5_1", 1e5)]
    smaller = {"size": 96, "iterations": 30}
    return {(layer, k): paint("04", style_layers=(layer,), k_S=k, **smaller) for layer, k in asked}


def test_04_3_relu5_1_alone_does_nothing_until_its_weight_is_raised(alone):
    photograph, k_S = lab.load_image(OWN["04"]["content"], 96), OWN["04"]["k_S"]
    moved = {asked: rmse(run.result, photograph) for asked, run in alone.items()}
    assert moved["relu5_1", k_S] < 3 < moved["relu1_1", k_S] / 2
    assert moved["relu4_1", k_S] > 25 and moved["relu5_1", 1e5] > 20
    first = {layer: run.history["style"][0] for (layer, k), run in alone.items() if k == k_S}
    assert first["relu4_1"] > 1000 * first["relu5_1"]


def test_04_3_the_strokes_are_relu4_1s(alone):
    """Strokes are edges that the photograph has not: neighbouring pixels differ more."""

    def edges(image):
        return float(image.diff(dim=2).abs().mean() + image.diff(dim=3).abs().mean())

    k_S, own = OWN["04"]["k_S"], edges(lab.load_image(OWN["04"]["content"], 96))
    roughness = {asked: edges(run.result.clamp(0, 1)) / own for asked, run in alone.items()}
    assert roughness["relu1_1", k_S] < 1.1 < 1.3 < roughness["relu4_1", k_S]


def test_05_2_the_gradient_of_the_content_loss_is_zero_at_the_content_picture_alone(paint):
    content = settings_of("05", size=40)
    objective, x = set_up(content)
    first = next(step for step in lab.transfer(content) if step.iteration == 1)
    moved = objective.net.prepare(first.image).requires_grad_()
    at = [torch.autograd.grad(objective(place)["content"], place)[0] for place in (x, moved)]
    assert not at[0].any() and at[1].any()
    history = paint("05", size=40, iterations=10).history
    assert history["content"].iloc[-1] > history["content"].iloc[0]
    assert history["total"].iloc[-1] < history["total"].iloc[0]


def test_05_3_the_totals_come_apart_with_much_style_and_the_pictures_are_apart_at_both(paint):
    starts = ("white", "content", "style", "average")
    spread, apart = {}, {}
    for k_S in (0.1, 10000.0):
        runs = [paint("05", size=48, init=init, k_S=k_S) for init in starts]
        totals = [run.history["total"].iloc[-1] for run in runs]
        spread[k_S] = max(totals) / min(totals)
        apart[k_S] = distances([run.result for run in runs])[np.triu_indices(len(starts), 1)].mean()
    assert spread[10000.0] > 3 * spread[0.1]
    assert 0.8 < apart[10000.0] / apart[0.1] < 1.25


def test_05_4_flat_pictures_have_no_edge_but_excite_different_features(net):
    shown = {}
    for name, distance in {"white": 140, "black": 115}.items():
        flat = lab.initial_value(name, torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64))
        assert round(float(net.prepare(flat).square().mean().sqrt())) == distance
        shown[name] = net(net.prepare(flat), keep=["relu1_1"])["relu1_1"][0]
        assert float(shown[name][:, 8:-8, 8:-8].std((1, 2)).max()) < 1e-3  # no edge inside
        assert float((shown[name][:, 0, 8:-8] - shown[name][:, 32, 8:-8]).abs().max()) > 10  # but one all round
    white, black = (shown[name][:, 32, 32] > 0 for name in shown)
    assert (white != black).any()


def test_06_2_half_decades_are_nearly_one_picture(paint):
    results = [paint("06", size=64, k_S=k).result for k in (3.0, 10.0, 30.0)]
    photograph = lab.load_image(OWN["06"]["content"], 64)
    first, second = rmse(*results[:2]), rmse(*results[1:])
    assert second < first < min(rmse(result, photograph) for result in results) / 2


def test_06_3_a_power_of_two_multiplies_without_rounding():
    numbers = torch.rand(1000)
    assert torch.equal(numbers * 1024 / 1024, numbers)
    assert not torch.equal((numbers * 1000) / 1000, numbers)


def test_07_2_adam_at_100_jumps_and_comes_down(paint):
    own = {"size": 64, "iterations": OWN["07"]["short"]}
    totals = paint("07", **own, optimizer="adam", learning_rate=100.0).history["total"]
    assert np.isfinite(totals).all() and totals.max() > 5 * totals[0] and totals.iloc[-1] < totals[0]


def test_07_3_a_small_rate_is_not_mistaken_for_an_end(paint):
    rate = min(OWN["07"]["rates"])
    totals = paint("07", size=64, iterations=OWN["07"]["short"], optimizer="adam", learning_rate=rate).history["total"]
    assert 1 - totals.iloc[-1] / totals.iloc[-11] > 0.01


def test_07_4_at_twice_the_size_the_gradient_is_less_than_a_quarter():
    lengths, losses = [], []
    for size in (OWN["07"]["size"], 2 * OWN["07"]["size"]):
        objective, x = set_up(settings_of("07", size=size))
        total = objective(x)["total"]
        lengths.append(float(torch.autograd.grad(total, x)[0].abs().mean()))
        losses.append(float(total.detach()))
    assert losses[1] < losses[0]
    assert 1 / 15 < lengths[1] / lengths[0] < 1 / 6


def test_07_5_one_remembered_step_is_better_than_none(paint):
    own = {"size": 48, "iterations": 20}
    remembered = paint("07", **own, history_size=1).history["total"].iloc[-1]
    settings = settings_of("07", **own)
    objective, x = set_up(settings)
    (g,) = torch.autograd.grad(objective(x)["total"], x)
    for far in (0.3, 1.0, 3.0):  # grey levels in the first step
        objective, x = set_up(settings)
        optimizer = torch.optim.SGD([x], lr=far / float(g.abs().mean()))
        for _ in range(own["iterations"]):
            optimizer.zero_grad()
            objective(x)["total"].backward()
            optimizer.step()
        end = float(objective(x)["total"].detach())
        assert not end <= remembered  # one that is not finite is not better either


@pytest.fixture(scope="module")
def pair():
    """Notebook 08's settings, its two pictures and the third one."""
    settings = settings_of("08", amount=0.0, angle=None)
    names = (settings.content, settings.style, "chelsea")
    return settings, *(lab.load_image(name, settings.size) for name in names)


def test_08_1_fewer_mergers_are_more_alike_and_still_no_twins(net, pair):
    settings, content, style, _ = pair
    medians = {}
    for amount in (0.25, OWN["08"]["amount"]):
        merged = {}
        wanted = settings.with_(reduction="distinctiveness", amount=amount)
        reduced_network(net, wanted, content, style, merged)
        seen = [net(net.prepare(image), keep=settings.style_layers) for image in (content, style)]
        for name in settings.style_layers:
            F = torch.cat([activations[name].flatten(2)[0] for activations in seen], 1)
            often, θ = (F > 0).float().mean(1) >= 0.1, angles(F.double())
            medians[name, amount] = float(θ[course.typical_merger(merged["conv" + name[4:]], θ, often)])
    for name in settings.style_layers:
        assert medians[name, 0.25] < medians[name, 0.5]
    assert abs(medians["relu1_1", 0.25] - 15) < 5
    assert all(35 < medians[name, 0.25] < 65 for name in settings.style_layers if name != "relu1_1")


def test_08_2_more_pictures_to_calibrate_on_leave_less_to_learn_by_heart(net, pair):
    settings, content, style, held_out = pair
    errors = {}
    for calibration in ("pair", "samples"):
        for reduction in ("random", "contribution"):
            kept, way = {}, {"reduction": reduction, "refit": True, "amount": OWN["08"]["amount"]}
            small = reduced_network(net, settings.with_(calibration=calibration, **way), content, style, kept)
            for what, image in {"calibrated on": content, "never seen": held_out}.items():
                ours, whole = (n(n.prepare(image), keep=["relu4_1"])["relu4_1"] for n in (small, net))
                error = evaluation.relative_error(ours, whole[:, kept["conv4_1"].keep])
                errors[calibration, reduction, what] = error
    for reduction in ("random", "contribution"):
        assert errors["samples", reduction, "never seen"] < errors["pair", reduction, "never seen"]
        assert errors["samples", reduction, "calibrated on"] > errors["pair", reduction, "calibrated on"]


def test_08_3_half_of_every_layer_leaves_a_quarter_of_the_parameters(net, pair):
    settings, content, style, _ = pair
    small = reduced_network(net, settings.with_(reduction="magnitude", amount=0.5), content, style)
    assert cost(small, 96, 96).parameters / cost(net, 96, 96).parameters == pytest.approx(0.25, abs=0.002)
    assert small.conv1_1_weight.numel() / net.conv1_1_weight.numel() == 0.5


@pytest.fixture(scope="module")
def judged(paint):
    """By k_S: notebook 09's judge, and four of its cases, smaller."""

    def cases(k_S):
        smaller = {"size": 64, "iterations": 30}
        judge = evaluation.Judge(settings_of("09", k_S=k_S, **smaller))
        content, style = judge.content.picture, judge.style.picture
        results = {factor: paint("09", k_S=factor * k_S, **smaller).result for factor in (1, 1000)}
        style = lab.initial_value("style", content, style)
        return judge, {"content": content, "style": style, "good": results[1], "overdone": results[1000]}

    return {k_S: cases(k_S) for k_S in (OWN["09"]["k_S"], 0.1)}


def test_09_1_only_the_colours_do_not_notice_a_shuffle(judged):
    judge, cases = judged[OWN["09"]["k_S"]]
    order = torch.randperm(cases["style"][0, 0].numel(), generator=torch.Generator().manual_seed(0))
    shuffled = cases["style"].flatten(2)[:, :, order].view_as(cases["style"])
    before, after = judge.judge(cases["style"]), judge.judge(shuffled)
    assert [name for name in before if after[name] == pytest.approx(before[name], rel=1e-4)] == ["colour"]
    assert all(after[name] > 3 * before[name] for name in ("style_error", "style_held_out", "wasserstein", "firing"))


def test_09_2_a_shift_by_a_pixel_is_ssims_complaint(judged):
    judge, cases = judged[OWN["09"]["k_S"]]
    before, after = judge.judge(cases["good"]), judge.judge(cases["good"].roll(1, 3))
    assert after["content_ssim"] < 0.85 * before["content_ssim"]
    assert abs(after["style_error"] / before["style_error"] - 1) < 0.15


def test_09_3_with_a_weak_style_the_photograph_is_second_best(judged):
    orders = {}
    for k_S, (judge, cases) in judged.items():
        totals = {name: judge.judge(image)["full_total"] for name, image in cases.items()}
        orders[k_S] = sorted(totals, key=totals.get)
    assert orders[0.1][:2] == ["good", "content"]
    assert set(orders[OWN["09"]["k_S"]][:2]) == {"good", "overdone"}
    nearer, further = (rmse(judged[k][1]["good"], judged[k][1]["content"]) for k in (0.1, OWN["09"]["k_S"]))
    assert nearer < further / 2


def test_11_1_three_styles_without_weights_count_equally():
    settings = lab.Settings.from_text({"content": "astronaut", "style": "swirl,gilt,waves"})
    assert settings.styles == ("swirl", "gilt", "waves") and settings.proportions == (1 / 3,) * 3


def test_11_2_a_style_without_a_mask_is_painted_everywhere():
    """The second style's gradient reaches into the figure, though the first alone has it as its place."""
    settings = settings_of("11", content_masks=["astronaut-figure", "none"], style_weights=[0, 1], content_layers=[])
    objective, x = set_up(settings)
    (gradient,) = torch.autograd.grad(objective(x)["total"], x)
    figure = load_mask("astronaut-figure", x.shape[2:])
    assert (gradient * figure).abs().mean() > 0.1 * (gradient * (1 - figure)).abs().mean()


def test_11_3_outside_its_mask_a_style_leaves_the_photograph(paint):
    run = paint("11", style="swirl", content_masks="astronaut-ground")
    photograph = lab.load_image(OWN["11"]["content"], OWN["11"]["size"])
    figure = load_mask("astronaut-figure", photograph.shape[2:])
    changed = (run.result - photograph).square().mean(1, keepdim=True)
    in_figure, in_ground = (float((changed * t).sum() / t.sum()) ** 0.5 for t in (figure, 1 - figure))
    assert in_figure < in_ground / 2


def test_11_4_a_style_in_black_and_white_takes_on_a_tint():
    painting, content = (lab.load_image(name, 64) for name in ("woodcut", "astronaut"))
    grey = painting.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    colours = matched(grey, content).double().flatten(2)[0]
    assert torch.allclose(colours.mean(1), content.double().flatten(2)[0].mean(1), atol=1e-5)
    largest, second, _ = torch.linalg.eigvalsh(torch.cov(colours)).flip(0)
    assert second < 1e-6 * largest


def test_11_5_another_style_takes_the_place_of_the_first(paint):
    """From the result of one run: the longer the second goes on, the further it is from it."""
    everywhere = {"content_masks": None, "size": 64}
    first = paint("11", style="gilt", **everywhere)
    init = str(first.folder / "result.png")
    later = [paint("11", style="swirl", init=init, k_S=1000.0, iterations=n, **everywhere).result for n in (2, 40)]
    soon, long = (rmse(result, first.result) for result in later)
    assert soon < long / 2


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Notebook 12's VGG19 and a function that paints through another network at equal pull, smaller."""
    folder = tmp_path_factory.mktemp("networks")
    vgg19 = settings_of("12", size=64, iterations=40, style_layer_weights="balanced")
    source = next(cell for cell in nbformat.read(CHAPTERS["12"].path, 4).cells if cell.source.startswith("TEN_LINES"))
    ten_lines = ast.literal_eval(ast.parse(source.source).body[0].value)

    def painted(name: str = "", code: str = "", **changed) -> torch.Tensor:
        if code:
            (folder / f"{name}.py").write_text(code)
            changed["network"] = f"{folder / name}.py:make"
        settings = vgg19.with_(**changed)
        settings = settings.with_(k_S=evaluation.equal_pull(vgg19, **changed)) if changed else settings
        return lab.Run(settings, folder / "out").advance(progress=False).result

    return vgg19, ten_lines, painted


def test_12_2_more_random_filters_help_a_little(networks):
    vgg19, ten_lines, painted = networks
    judge = evaluation.Judge(vgg19)
    few, many = (
        judge.judge(painted(name, code))["style_error"]
        for name, code in (("few", ten_lines), ("many", ten_lines.replace("64, 128, 256", "256, 512, 1024")))
    )
    assert 0.6 * few < many < few


def test_12_4_by_relu1_1_random_filters_are_as_good(networks):
    vgg19, ten_lines, painted = networks
    judge = evaluation.Judge(vgg19.with_(style_layers=["relu1_1"], style_layer_weights=None))
    pictures = {"VGG19": painted(), "ten lines": painted("few", ten_lines)}
    pictures["EfficientNet-Lite0"] = painted(network="efficientnet-lite0")
    errors = {name: judge.judge(picture)["style_error"] for name, picture in pictures.items()}
    assert errors["EfficientNet-Lite0"] > 2 * max(errors["VGG19"], errors["ten lines"])


@pytest.fixture(scope="module")
def switched():
    """Notebook 13's objective, start and derivatives at both ends of a transfer, smaller; and how much is missing."""
    settings = settings_of("13", size=64, iterations=40)
    objective, x = set_up(settings)
    derivatives, _ = dissect.gate_derivatives_along(settings, [0, 40])

    def missing(**changed) -> tuple[float, float]:
        """The style loss by the whole network, as a part of the photograph's, and the content loss."""
        *_, last = lab.transfer(settings.with_(**changed))
        with torch.no_grad():
            left, whole = objective(objective.net.prepare(last.image)), objective(x)
        return float(left["style"] / whole["style"]), float(left["content"])

    first = dissect.ranked(derivatives[derivatives["iteration"] == 0])
    return first, derivatives[derivatives["iteration"] == 40], missing


def test_13_1_most_of_the_first_fifty_stay(switched):
    first, at_the_end, _ = switched
    assert 25 <= len(set(first[:50]) & set(dissect.ranked(at_the_end)[:50])) <= 45


def test_13_2_and_3_the_mean_loses_more_and_strength_acts_like_k_S(switched):
    first, _, missing = switched
    whole, content = missing()
    silent, mean = (missing(gates=f"relu1_1:0-31{gate}")[0] for gate in ("", "=mean"))
    assert whole < silent < mean
    strong = {}
    for layer, feature in first[:10]:
        strong.setdefault(layer, {})[feature] = 1.5
    more_missing, more_given_up = missing(gates=strong)
    assert more_missing > whole and more_given_up > content and missing(k_S=90.0)[1] > content


def test_13_4_the_deepest_style_layer_serves_no_content(switched):
    _, at_the_end, missing = switched
    assert not at_the_end.loc[at_the_end["layer"] == "relu5_1", "content"].any()
    by_content = dissect.ranked(at_the_end, by="content")[:50]
    assert sum(layer in ("relu1_1", "relu2_1", "relu3_1") for layer, _ in by_content) > 45
    assert missing(gates=dissect.off(by_content))[0] > 3 * missing()[0]
