"""Gates: text, network, run. A gated network is the network whose features were changed, and nothing else."""

import json

import pytest
import torch

import nstlab as lab
from nstlab import dissect
from nstlab.errors import RequestError
from nstlab.gates import gates_as_text, parse_gates
from nstlab.images import read_settings
from nstlab.network import Network, load_network, load_vgg19
from nstlab.optimise import TiledObjective, set_up
from nstlab.settings import Settings

READ = ("relu1_1", "relu3_1", "relu4_2")


@pytest.fixture(scope="module")
def net():
    return load_vgg19(device="cpu")


@pytest.fixture(scope="module")
def x(net):
    return net.prepare(lab.load_image("astronaut", 64))


def gradient(net, x, layer="relu4_2"):
    x = x.clone().requires_grad_()
    net(x, keep=[layer])[layer].square().mean().backward()
    return x.grad


@pytest.mark.parametrize("gates", ["relu3_1:2=1,5=1", {"relu1_1": torch.ones(64), "relu3_1": torch.ones(256)}])
def test_gates_of_one_are_the_network_itself(net, x, gates):
    gated = net.gated(gates)
    before, after = net(x, keep=READ), gated(x, keep=READ)
    assert all(torch.equal(before[name], after[name]) for name in READ)
    assert torch.equal(gradient(net, x), gradient(gated, x))


@pytest.mark.parametrize("convolution", ["auto", "plain"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_follows_sees_the_changed_features(x, convolution, precision):
    """relu3_1 changed by hand and handed to the functions behind it."""
    net = load_vgg19(device="cpu", convolution=convolution, precision=precision)
    F = net(x, keep=["relu3_1"])["relu3_1"].clone()
    F[:, 7], F[:, 9], F[:, 30] = 0, 0.5 * F[:, 9], F[:, 30].mean()
    gated = net.gated("relu3_1:7,9=0.5,30=mean")
    found = gated(x, keep=["relu3_1", "relu4_2"])
    closely = {"rtol": 2e-2, "atol": 2.0} if precision == "bfloat16" else {"rtol": 1e-4, "atol": 1e-3}
    assert torch.allclose(found["relu3_1"], F, **closely)
    (_, behind), *_ = net.activations(F, keep=["relu4_2"], after="relu3_1")
    assert torch.allclose(found["relu4_2"], behind, **closely)
    assert not torch.allclose(net(x, keep=["relu4_2"])["relu4_2"], behind, **closely)


@pytest.mark.parametrize("layer", ["conv1_2", "relu1_2", "pool1"])
def test_a_gate_before_within_and_behind_what_is_computed_together(net, x, layer):
    factors = torch.linspace(-1, 2, 64)
    gated = net.gated({layer: factors})
    F = net(x, keep=[layer])[layer] * factors.view(1, -1, 1, 1)
    (_, behind), *_ = net.activations(F, keep=["relu2_1"], after=layer)
    assert torch.allclose(gated(x, keep=["relu2_1"])["relu2_1"], behind, rtol=1e-4, atol=1e-3)
    fast, plain = (gradient(each, x, "relu2_1") for each in (gated, gated.plain()))
    assert (fast - plain).norm() < 0.03 * plain.norm()  # rounding decides some maxima and zeros, as without gates


def test_gates_add_up_and_replace_by_layer(net, x):
    both = net.gated("relu1_1:3").gated("relu3_1:5")
    found = both(x, keep=READ)
    assert not found["relu1_1"][:, 3].any() and not found["relu3_1"][:, 5].any()
    again = both.gated({"relu1_1": {}})
    assert again(x, keep=["relu1_1"])["relu1_1"][:, 3].any() and "relu3_1" in again.gates
    assert not net.gates


def test_any_network_has_gates():
    net = load_network("efficientnet-lite0", "random", device="cpu").gated("block1_1:2")
    F = net(net.prepare(torch.rand(1, 3, 64, 64)), keep=["block1_1", "head"])
    assert not F["block1_1"][:, 2].any() and F["head"].any()
    own = Network({"a": torch.nn.Identity(), "b": lambda x: x + 1}, scale=2.0).gated({"a": [0], "b": {1: "mean"}})
    made = own(torch.arange(12.0).view(1, 3, 2, 2), keep=["b"])["b"]
    assert made[0, 0].tolist() == [[2, 2], [2, 2]] and made[0, 1].tolist() == [[7.5, 7.5], [7.5, 7.5]]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("relu4_1:512", "features 0 to 511"),
        ("relu9_1:3", "did you mean"),
        ("relu4_1", "write layer:feature"),
        ("nothing.json", "the path of a file"),
        ("relu4_1:a", "a feature is a number"),
        ("relu4_1:5-3", "write layer:feature"),
        ("relu4_1:1-999999999", "write layer:feature"),
        ("relu4_1:1=x", "a factor or mean"),
        ("relu4_1:1=nan", "between -1000 and 1000"),
        ("relu4_1:1;relu4_1:2", "stands there twice"),
        ({"relu4_1": 5}, "write layer:feature"),
        ({"relu4_1": {True: 0}}, "a feature is a number"),
        (7, "write layer:feature"),
    ],
)
def test_what_gates_may_not_be_is_one_line(written, said):
    with pytest.raises(RequestError, match=said) as error:
        Settings(gates=written)
    assert "\n" not in str(error.value)


def test_the_same_gates_are_the_same_settings(tmp_path):
    canonical = "relu1_1:3=0.5;relu4_1:12-14,40=mean"
    (tmp_path / "gates.json").write_text(json.dumps(parse_gates(canonical)))
    (tmp_path / "gates.txt").write_text(f"{canonical}\n")
    ways = [" relu4_1: 40=mean,12,13,14=0 ; relu1_1:3=.50,4=1", parse_gates(canonical)]
    ways += [str(tmp_path / "gates.json"), str(tmp_path / "gates.txt")]
    assert {Settings(gates=way).gates for way in ways} == {canonical}
    assert Settings.from_text({"gates": canonical}).gates == canonical
    assert gates_as_text(parse_gates(canonical)) == canonical
    assert Settings(gates="relu4_1:3=1").changed() == {} == Settings(gates="").changed()


@pytest.mark.parametrize("content", ["{", '{"relu4_1": ', "\0", "x" * 1_000_001, '{"relu4_1": {"1": []}}'])
def test_a_file_without_gates_is_one_line(tmp_path, content):
    (tmp_path / "gates.json").write_text(content)
    with pytest.raises(RequestError) as error:
        Settings(gates=str(tmp_path / "gates.json"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"reduction": "magnitude", "amount": 0.5}, "reduction"),
        ({"tile": 64, "gates": "relu1_1:3=mean"}, "tile"),
        ({"tile": 64, "gates": "first:3"}, "tile"),
    ],
)
def test_what_gates_do_not_go_with(others, said):
    with pytest.raises(RequestError, match=said):
        Settings(**({"gates": "relu4_1:3"} | others))


def test_a_run_is_gated_and_survives(tmp_path):
    """Killed in the middle or not, the same bytes; another run than without; its PNG knows its gates."""
    settings = Settings(size=48, iterations=4, gates="relu3_1:0-127=0", device="cpu")
    whole = lab.Run(settings.with_(gates=None), tmp_path).advance(progress=False)
    gated = lab.Run(settings, tmp_path).advance(progress=False)
    lab.Run(settings.with_(iterations=2), tmp_path / "other").advance(progress=False)
    again = lab.Run(settings, tmp_path / "other").advance(progress=False)
    assert gated.id != whole.id and again.picture.read_bytes() == gated.picture.read_bytes()
    assert gated.history["relu3_1"].iloc[0] < 0.6 * whole.history["relu3_1"].iloc[0]  # half its features are silent
    assert gated.history["relu2_1"].iloc[0] == whole.history["relu2_1"].iloc[0]
    assert read_settings(gated.picture).gates == "relu3_1:0-127"


def test_gates_chosen_by_what_they_carry(tmp_path):
    """The first ones are the ranking's; run.json says which; the style loses more of its demand than by the last."""
    settings = Settings(size=48, iterations=1, k_S=10, device="cpu")
    found = {}
    for gates in (None, "first:40", "last:40", "random:40", "first:8@relu4_1"):
        run = lab.Run(settings.with_(gates=gates), tmp_path).advance(progress=False)
        stored = json.loads((run.folder / "run.json").read_text())["network"].get("gates")
        found[gates] = run.history["style"].iloc[0], parse_gates(stored) if stored else {}
    counts = {gates: sum(map(len, named.values())) for gates, (_, named) in found.items()}
    assert counts == {None: 0, "first:40": 40, "last:40": 40, "random:40": 40, "first:8@relu4_1": 8}
    assert list(found["first:8@relu4_1"][1]) == ["relu4_1"]
    assert (
        found["first:40"][0]
        < 0.6 * found["random:40"][0]
        < found["last:40"][0]
        == pytest.approx(found[None][0], rel=1e-3)
    )
    objective, x = set_up(settings)
    ranking = dissect.ranked(dissect.gate_derivatives(objective, x))
    named = {(layer, feature) for layer, features in found["first:40"][1].items() for feature in features}
    assert named == set(ranking[:40])
    again = set_up(settings.with_(gates=gates_as_text(found["first:40"][1])))[0](x)
    assert again["style"].item() == pytest.approx(found["first:40"][0], rel=1e-5)


@pytest.mark.parametrize(
    ("gates", "said"),
    [("first:9@relu9_1", "did you mean"), ("first:99999", "there are 1472"), ("first:x", "a feature is")],
)
def test_what_cannot_be_chosen_is_one_line(gates, said):
    with pytest.raises(RequestError, match=said):
        Settings(gates=gates)


def test_gates_in_tiles():
    settings = Settings(size=80, gates="relu1_1:3;relu2_2:0-30=2;relu4_1:12", k_S=10, device="cpu", convolution="plain")
    found = []
    for tile in (None, 48):
        objective, x = set_up(settings.with_(tile=tile))
        assert isinstance(objective, TiledObjective) == (tile is not None)
        losses = objective(x)
        losses["total"].backward()
        found.append((losses["total"].item(), x.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert (found[0][1] - found[1][1]).norm() < 1e-3 * found[0][1].norm()


def test_a_reduced_network_has_no_gates(net):
    reduced = net.plain()
    reduced.channel_weights = {"conv1_1": torch.ones(64)}
    with pytest.raises(RequestError, match="lost channels"):
        reduced.gated("relu1_1:3")
