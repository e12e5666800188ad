"""Other tools' command lines: their losses, as their sources have them, equal ours up to one factor."""

import shlex
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import mse_loss, pad

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.optimise import set_up
from nstlab.other_tools import TOOLS, default_weights, like

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Pictures of 64 x 64, and a wide one."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, sample in (("content", "astronaut"), ("first", "swirl"), ("second", "waves"), ("start", "coffee")):
        square = lab.initial_value("style", torch.zeros(1, 3, 64, 64), lab.load_image(sample, 128))
        lab.save_image(square, folder / f"{name}.png")
    Image.open(folder / "content.png").crop((0, 0, 64, 48)).save(folder / "wide.png")
    return folder


class Case:
    """A command line, our objective for it, and a picture somewhere else than at the start, in grey levels."""

    def __init__(self, command: str, **changed):
        self.likeness = like(command)
        self.settings = self.likeness.settings.with_(device="cpu", **changed)
        self.objective, x = set_up(self.settings)
        self.net = self.objective.net
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        self.x = (x.detach() + 20 * noise).requires_grad_()
        pictures = self.objective.pictures[-1]
        self.content, *self.styles = (self.net.prepare(p) for p in (pictures.content, *pictures.styles))

    def activations(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.net(x, [*self.settings.content_layers, *self.settings.style_layers])

    def gradient(self) -> torch.Tensor:
        return torch.autograd.grad(self.objective(self.x)["total"], self.x)[0]


def differ(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


# neural-style and neural-style-pt


def neural_style_loss(case, blend, content_layers, style_layers, content_weight, style_weight):
    """nn.ContentLoss and nn.StyleLoss: Grams over all elements, the target blended from the styles."""

    def G(activation):
        F = activation.flatten(2)[0]
        return F @ F.T / F.numel()

    found = case.activations(case.x)
    with torch.no_grad():
        P, *A = (case.activations(picture) for picture in (case.content, *case.styles))
    loss = sum(content_weight * mse_loss(found[l], P[l]) for l in content_layers)
    for l in style_layers:
        target = sum(share / sum(blend) * G(of_style[l]) for share, of_style in zip(blend, A, strict=True))
        loss = loss + style_weight * mse_loss(G(found[l]), target)
    return loss


def lua_variation_gradient(x):
    """nn.TVLoss:updateGradInput, which leaves out the last row and column."""
    gradient = torch.zeros_like(x)
    across, down = x[:, :, :-1, :-1] - x[:, :, :-1, 1:], x[:, :, :-1, :-1] - x[:, :, 1:, :-1]
    gradient[:, :, :-1, :-1] += across + down
    gradient[:, :, :-1, 1:] -= across
    gradient[:, :, 1:, :-1] -= down
    return gradient


NEURAL_STYLE = {
    "defaults, without variation": ("", [1], ["relu4_2"], STYLE, 5, 100),
    "content alone": ("-style_weight 0", [1], ["relu4_2"], STYLE, 5, 0),
    "style alone": ("-content_weight 0", [1], [], STYLE, 1, 100),
    "two styles": ("-style_image {first},{second}", [1, 1], ["relu4_2"], STYLE, 5, 100),
    "blended": ("-style_image {first},{second} -style_blend_weights 3,7", [3, 7], ["relu4_2"], STYLE, 5, 100),
    "other layers and weights": (
        "-content_layers relu3_2,relu4_2 -style_layers relu1_2,relu3_1 -content_weight 2 -style_weight 700",
        [1], ["relu3_2", "relu4_2"], ["relu1_2", "relu3_1"], 2, 700,
    ),
    "average pooling": ("-pooling avg", [1], ["relu4_2"], STYLE, 5, 100),
    "a smaller style": ("-style_scale 0.75", [1], ["relu4_2"], STYLE, 5, 100),
}  # fmt: skip


@pytest.mark.parametrize("script", ["th neural_style.lua", "python neural_style.py"])
@pytest.mark.parametrize("name", NEURAL_STYLE)
def test_neural_styles_losses(folder, script, name):
    options, *formula = NEURAL_STYLE[name]
    options = options.format(first=folder / "first.png", second=folder / "second.png")
    content, style = folder / "content.png", folder / "first.png"
    pictures = f"-content_image {content} -style_image {style} -image_size 64"
    case = Case(f"{script} {pictures} -tv_weight 0 {options}")
    theirs = torch.autograd.grad(neural_style_loss(case, *formula), case.x)[0]
    factor = formula[3] * max(len(formula[1]), 1)  # the content weight, for each layer of our mean
    assert differ(theirs, factor * case.gradient()) < 1e-4


@pytest.mark.parametrize("name", ["content", "wide"])
def test_neural_styles_variation(folder, name):
    """Sums over pixels; alone, so that the other terms hide nothing. H(W - 1) is not W(H - 1) in a wide picture."""
    options = f"-content_image {folder / name}.png -style_image {folder / 'first.png'} -image_size 64 "
    options += "-content_weight 0 -style_weight 0 -tv_weight 0.5"
    case = Case(f"th neural_style.lua {options}")
    height, width = case.x.shape[2:]
    bound = 1e-5 + abs(width - height) / (width * height)
    theirs = 0.5 * lua_variation_gradient(case.x.detach())
    assert differ(case.gradient()[:, :, :-1, :-1], theirs[:, :, :-1, :-1]) < bound
    case = Case(f"python neural_style.py {options}")
    across, down = case.x[:, :, :, 1:] - case.x[:, :, :, :-1], case.x[:, :, 1:] - case.x[:, :, :-1]
    theirs = 0.5 * (across.abs().sum() + down.abs().sum())
    assert case.objective(case.x)["total"].item() == pytest.approx(theirs.item(), rel=bound)


def test_neural_styles_other_options(folder):
    content, style, start = (folder / f"{name}.png" for name in ("content", "first", "start"))
    pictures = f"-content_image {content} -style_image {style} "
    random = like(f"th neural_style.lua {pictures}").settings
    assert (random.size, random.init, random.iterations, random.history_size) == (512, "mean", 1000, 100)
    assert like(f"th neural_style.lua {pictures} -init image").settings.init == "content"
    options = f"-init image -init_image {start} -original_colors 1 -optimizer adam -gpu c -seed 7 -save_iter 20"
    found = like(f"python neural_style.py {pictures} {options}").settings
    assert (found.init, found.colour, found.device) == (str(start), "recombined", "cpu")
    assert (found.optimizer, found.learning_rate, found.seed, found.frame_every) == ("adam", 1.0, 7, 20)
    assert like(f"th neural_style.lua {pictures} -optimizer adam").settings.learning_rate == 10.0
    assert like(f"python neural_style.py {pictures} -model_file my/vgg.pth").settings.weights.endswith("my/vgg.pth")
    together = like(f"python neural_style.py -style_image {folder} -content_image {content} -tv_weight 0").settings
    assert {Path(name).name for name in together.styles} == {path.name for path in folder.iterdir()}


# pastiche, by its own class and its own parser

PASTICHE = {
    "defaults": ("", 0.01),
    "two styles": ("--styles {first} {second} ", 0.01),
    "two styles with weights": ("--styles {first} {second} --style-weights 0.7 0.2", 0.01),
    "a weight for one of two styles": ("--styles {first} {second} --style-weights 0.9", 0.01),
    "layers' weights": ("--style-layer-weights 0.002 0.001 0 0.0003 0.00001", 0.01),
    "one weight for all layers": ("--style-layer-weights 0.0005", 0.01),
    "variation": ("--tv-weight 30", 0.01),
    "content weights": ("--content-weight 3 --content-layer-weights 0.05", 0.15),
    "other layers": (
        "--content-layers block3_relu2 block4_conv2 --style-layers block1_conv2 block2_pool block3_relu1", 0.02,
    ),
    "average pooling": ("--pooling avg", 0.01),
    "all of it": (
        "--styles {first} {second} --style-weights 2 1 --style-layer-weights 0.004 0.0001 --tv-weight 9 "
        "--content-weight 0.5", 0.005,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PASTICHE)
def test_pastiches_loss(folder, name):
    from pastiche.pastiche import PasticheArtist, _parse_args

    options, factor = PASTICHE[name]
    options = options.format(first=folder / "first.png", second=folder / "second.png")
    styles = "" if "--styles" in options else f"--styles {folder / 'first.png'}"
    fixed = f"-c {folder / 'content.png'} -o x.png -d cpu --init {folder / 'start.png'} --size-pixels 4096"
    command = f"pastiche {fixed} {styles} {options}"
    asked = vars(_parse_args(shlex.split(command)))
    taken = ("styles", "content", "pooling", "optimizer", "random_init", "init", "device", "content_layers")
    taken += ("style_layers", "content_layer_weights", "style_layer_weights", "content_weight", "style_weights")
    artist = PasticheArtist(**{name: asked[name] for name in (*taken, "tv_weight", "size_pixels", "size")})
    case = Case(command)
    assert (case.settings.size, case.settings.style_size) == (64, None)
    start = case.x.detach() * 0 + case.net.prepare(case.objective.pictures[-1].init)
    for x in (start, case.x.detach()):
        artist.pastiche = x.flip(1)  # BGR
        assert factor * float(case.objective(x)["total"]) == pytest.approx(float(artist._calc_loss()), rel=1e-4)


def test_pastiches_other_options(folder):
    command = f"pastiche -c {folder / 'wide.png'} -s {folder / 'first.png'} -o x.png"
    found = like(command).settings
    assert (found.size, found.style_size) == (577, 500)  # 250000 pixels of 4:3, and as many of a square
    assert (found.init, found.iterations, found.history_size) == ("content", 1000, 100)
    sized = like(f"{command} --size 300 --style-size 200 --preserve-color --random-init --seed 3").settings
    assert (sized.size, sized.style_size, sized.colour, sized.init) == (300, 200, "matched", "mean")
    assert like(f"{command} --optimizer adam").settings.learning_rate == 1.0
    assert any("--supplemental-device" in note for note in like(f"{command} --supplemental-device cpu 9").notes)


# Gatys' notebook


def test_gatys_notebooks_loss(folder):
    """loss_fns with their weights: 1e3/n² times the MSE of Grams over positions; content's MSE."""
    case = Case(
        f"NeuralStyleTransfer.ipynb -p img_names {folder / 'first.png'},{folder / 'content.png'} -p img_size 64"
    )
    found = case.activations(case.x)
    with torch.no_grad():
        P, A = case.activations(case.content), case.activations(case.styles[0])

    def G(activation):
        F = activation.flatten(2)
        return torch.bmm(F, F.transpose(1, 2)) / F.shape[2]

    loss = mse_loss(found["relu4_2"], P["relu4_2"])
    for l, n in zip(STYLE, (64, 128, 256, 512, 512), strict=True):
        loss = loss + 1e3 / n**2 * mse_loss(G(found[l]), G(A[l]))
    assert float(case.objective(case.x)["total"]) == pytest.approx(float(loss), rel=1e-5)
    assert differ(torch.autograd.grad(loss, case.x)[0], case.gradient()) < 1e-4


def test_gatys_notebooks_variables(folder):
    names = f"-p img_names \"['{folder / 'first.png'}', '{folder / 'wide.png'}']\""
    found = like(f"papermill NeuralStyleTransfer.ipynb out.ipynb {names}")
    assert (found.settings.size, found.settings.style_size) == (682, 512)  # 512 is the shorter side
    assert any("--set size=1066 --set iterations=200" in note for note in found.notes)  # the second pass at 800
    layers = (
        "-p style_layers \"['r11','p2']\" -p style_weights '[0.5, 0.25]' -p content_layers r31 -p content_weights 2"
    )
    found = like(f"NeuralStyleTransfer.ipynb {names} {layers}").settings
    assert (found.style_layers, found.content_layers) == (("relu1_1", "pool2"), ("relu3_1",))
    assert (found.k_S, found.style_layer_weights) == (0.25 * 64**2, (1.0, 2.0))  # 0.25 · 128² over 0.5 · 64²


# gordicaleksa


def vgg_with_relus_in_place(net):
    """models/definitions/vgg_nets.py: slices up to relu1_1, relu2_1, relu3_1, relu4_1, conv4_2, relu5_1."""
    modules = []
    for layer in net.layers[:30]:
        if layer.kind == "conv":
            W, b = getattr(net, f"{layer.name}_weight"), getattr(net, f"{layer.name}_bias")
            conv = torch.nn.Conv2d(W.shape[1], W.shape[0], 3, padding=1)
            conv.weight.data, conv.bias.data = W, b
            modules.append(conv)
        else:
            modules.append(torch.nn.ReLU(inplace=True) if layer.kind == "relu" else torch.nn.MaxPool2d(2))
    ends = (0, 2, 7, 12, 21, 22, 30)
    return [torch.nn.Sequential(*modules[a:b]).requires_grad_(False) for a, b in pairwise(ends)]


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ("", (1e5, 3e4, 1e0)),
        ("--tv_weight 0", (1e5, 3e4, 0)),
        ("--style_weight 0 --tv_weight 0", (1e5, 0, 0)),
        ("--content_weight 7 --style_weight 0 --tv_weight 5", (7, 0, 5)),
    ],
)
def test_gordicaleksas_loss(folder, options, weights):
    """build_loss with utils.gram_matrix and utils.total_variation, on a network whose ReLUs write in place."""
    pictures = f"--content_img_name {folder / 'content.png'} --style_img_name {folder / 'first.png'} --height 64"
    case = Case(f"python neural_style_transfer.py {pictures} {options}", weights="original-8bit", weights_format="auto")
    slices = vgg_with_relus_in_place(case.net)

    def maps(x):
        found = []
        for part in slices:
            x = part(x)
            found.append(x)
        return found

    def G(activation):
        _, ch, h, w = activation.shape
        F = activation.view(1, ch, h * w)
        return F.bmm(F.transpose(1, 2)) / (ch * h * w)

    with torch.no_grad():
        P, A = maps(case.content), maps(case.styles[0])
    found = maps(case.x)
    styles = [i for i in range(6) if i != 4]
    content = mse_loss(P[4], found[4])
    style = sum(mse_loss(G(A[i])[0], G(found[i])[0], reduction="sum") for i in styles) / 5
    x = case.x
    tv = (x[:, :, :, :-1] - x[:, :, :, 1:]).abs().sum() + (x[:, :, :-1] - x[:, :, 1:]).abs().sum()
    loss = weights[0] * content + weights[1] * style + weights[2] * tv
    assert weights[0] * float(case.objective(x)["total"]) == pytest.approx(float(loss), rel=1e-4)
    assert differ(torch.autograd.grad(loss, x)[0], weights[0] * case.gradient()) < 1e-3


def test_gordicaleksas_other_options(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    command = f"python neural_style_transfer.py --content_img_name {folder / 'wide.png'} "
    command += f"--style_img_name {folder / 'first.png'}"
    found = like(command)
    assert (found.settings.size, found.settings.style_size) == (533, 400)  # 400 is the height of 4:3
    assert (found.settings.iterations, found.settings.weights) == (1000, "torchvision")
    assert any("fed with pixels from 0 to 255" in note for note in found.notes)
    file = tmp_path / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    found = like(f"{command} --optimizer adam --init_method random --model vgg16")
    assert (found.settings.weights, found.settings.weights_format) == (str(file), "grey")  # RGB minus the mean
    assert (found.settings.iterations, found.settings.learning_rate) == (3000, 10.0)
    assert any(note.startswith("--model vgg16") for note in found.notes)
    theirs = tmp_path / "data" / "content-images"
    theirs.mkdir(parents=True)
    Image.new("RGB", (40, 40)).save(theirs / "mine.jpg")
    assert like(f"python {tmp_path}/neural_style_transfer.py --content_img_name mine.jpg").settings.content == str(
        theirs / "mine.jpg"
    )


# crowsonkb


def root(S: torch.Tensor) -> torch.Tensor:
    λ, V = torch.linalg.eigh(S)
    return (V * λ.clamp_min(0).sqrt()) @ V.T


def test_crowsonkbs_losses(folder):
    """ContentLossMSE and StyleLossW2 (its ε left out), on activations in the network's own scale, s times smaller."""
    case = Case(
        f"style_transfer {folder / 'content.png'} {folder / 'first.png'} -s 64 -ms 64 -tw 0", weights="original-8bit"
    )
    s = 255 * 0.226

    def moments(activation):
        F = activation.double().flatten(2)[0] / s
        mean = F.mean(1)
        return mean, F @ F.T / F.shape[1] - torch.outer(mean, mean)

    with torch.no_grad():
        found, P, A = (case.activations(picture) for picture in (case.x, case.content, case.styles[0]))
        loss = 0.015 * float(mse_loss(found["relu4_2"] / s, P["relu4_2"] / s))
        for l, weight in zip(STYLE, (256, 64, 16, 4, 1), strict=True):
            (mean, cov), (target_mean, target_cov) = moments(found[l]), moments(A[l])
            cov_root = root(target_cov)
            between = torch.diagonal(target_cov + cov - 2 * root(cov_root @ cov @ cov_root)).mean()
            loss += weight / 341 * float((mean - target_mean).square().mean() + between)
        ours = float(case.objective(case.x)["total"])
    assert 0.015 / s**2 * ours == pytest.approx(loss, rel=1e-4)


def test_crowsonkbs_variation_is_ours_where_colours_change_slowly(folder):
    case = Case(f"style_transfer {folder / 'content.png'} {folder / 'first.png'} -s 64 -ms 64", weights="original-8bit")
    n = 128
    wave = torch.cos(torch.pi * (torch.arange(n) + 0.5) / n)  # level at the borders
    picture = (0.5 + 0.2 * wave[None] + 0.25 * wave[:, None] * wave[None].square()).expand(1, 3, n, n)
    x = pad(picture, (1, 1, 1, 1), "replicate")
    inner, right, left, all_but_first = slice(1, -1), slice(2, None), slice(None, -1), slice(1, None)
    theirs = (x[..., inner, right] - x[..., inner, inner]).square().mean() / 3
    theirs += (x[..., right, inner] - x[..., inner, inner]).square().mean() / 3
    theirs += (x[..., all_but_first, all_but_first] - x[..., left, left]).square().mean() / 12
    theirs += (x[..., all_but_first, left] - x[..., left, all_but_first]).square().mean() / 12
    ours = case.objective.terms_of((64, 64))["tv"].of_picture(case.net.prepare(picture), {})
    s = 255 * 0.226
    assert 0.015 / s**2 * case.settings.k_TV * float(ours) == pytest.approx(2 * 2 * float(theirs), rel=4 / n)


def test_crowsonkbs_other_options(folder):
    command = f"style_transfer {folder / 'content.png'} {folder / 'first.png'} "
    found = like(command)
    settings = found.settings
    assert (settings.size, settings.style_size, settings.scales) == (512, None, 3)
    assert settings.iterations == 1000 + 4 * 500  # at 128, 181, 256, 362, 512
    assert settings.iterations - 2 * settings.scale_iterations == 500  # at 512, in both
    assert settings.learning_rate == pytest.approx(5.1)
    for words in ("128, 181, 256, 362, 512", "first.png is smaller than 512 pixels"):
        assert any(words in note for note in found.notes)
    fixed = like(f"{command} --style-size 64")
    assert (fixed.settings.style_size, fixed.settings.scales) == (64, 2)
    assert any(note.startswith("--style-size 64") for note in fixed.notes)
    assert like(f"{command} -s 300+").settings.size == 300  # a square
    wide = like(f"style_transfer {folder / 'wide.png'} {folder / 'first.png'} -s 300+").settings
    assert wide.size == 346  # a width of 300·√(4/3)
    two = like(f"{command} {folder / 'second.png'} -sw 3 1 --init uniform --optimizer lbfgs --pooling l2")
    assert (two.settings.proportions, two.settings.init) == ((0.75, 0.25), "white_noise")
    assert (two.settings.optimizer, two.settings.history_size) == ("lbfgs", 10)
    for words in ("one Gaussian", "--pooling l2", "--random-seed"):
        assert any(words in note for note in two.notes)


# what is not known, and the table


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("python neural_stile.py -style_image a.jpg", "did you mean 'neural_style.py'"),
        ("", "unknown tool"),
        ("python 'neural_style.py", "No closing quotation"),
        ("python neural_style.py -style_wieght 3", "did you mean '-style_weight'"),
        ("python neural_style.py -style_weight much", "invalid number value: 'much'"),
        ("python neural_style.py -style_weight nan", "invalid number value: 'nan'"),
        ("python neural_style.py -style_scale inf", "invalid number value"),
        ("python neural_style.py -init noise", "invalid choice: 'noise'"),
        ("python neural_style.py -style_blend_weights 1,x", "write numbers"),
        ("python neural_style.py -image_size -5", "size = -5"),
        ("python neural_style.py -content_weight -1", "k_S = -100"),
        ("th neural_style.lua -content_layers relu4_9", "unknown layer 'relu4_9'"),
        ("pastiche -s a.jpg", "--content"),
        ("pastiche -c a.jpg -s b.jpg --size-pixels -4", "size = 1"),
        ("pastiche -c a.jpg -s b.jpg --style-layers block9_relu1", "invalid choice"),
        ("style_transfer a.jpg", "styles"),
        ("style_transfer a.jpg b.jpg -s big", "--end-scale big"),
        ("style_transfer a.jpg b.jpg -s 0", "size = 1"),
        ("NeuralStyleTransfer.ipynb -p img_size", "needs a name and a value"),
        ("NeuralStyleTransfer.ipynb -p img_sise 9", "did you mean '--img_size'"),
        ("NeuralStyleTransfer.ipynb -p style_layers r11,r99", "unknown layer of Gatys' notebook 'r99'"),
        ("NeuralStyleTransfer.ipynb -p style_layers r11", "2 style_weights for 1 style_layers"),
        ("NeuralStyleTransfer.ipynb -p img_names a.jpg", "give two"),
        ("NeuralStyleTransfer.ipynb -p img_size 0", "size = 0"),
    ],
)
def test_what_is_wrong_is_one_line(command, words):
    if "r11" in command and "r99" not in command:
        command += " -p style_weights 1,2"
    with pytest.raises(RequestError) as raised:
        like(command)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_tool_that_its_script_does_not_name(folder):
    pictures = f"-content_image {folder / 'content.png'} -style_image {folder / 'first.png'}"
    plain = like(f"th neural_style.lua {pictures}")
    assert like(f"th mine.lua {pictures}", "neural-style") == plain
    assert like(pictures, "neural-style") == plain
    assert like(f"python neural_style.py {pictures}", "neural-style") == plain
    with pytest.raises(RequestError, match="did you mean 'pastiche'"):
        like(pictures, "pastishe")


def test_what_has_no_counterpart_is_named():
    options = (
        "-normalize_gradients -backend cudnn -output_image me.png -proto_file x -model_file alexnet.caffemodel -gpu 0,1"
    )
    notes = like(f"th neural_style.lua {options}").notes
    for option in ("-normalize_gradients:", "-backend cudnn:", "-output_image me.png:", "-proto_file x:"):
        assert any(note.startswith(option) for note in notes)
    for option in ("-model_file alexnet.caffemodel:", "-gpu 0,1:", "examples/inputs/tubingen.jpg cannot be read"):
        assert any(note.startswith(option) for note in notes)
    assert not any(note.startswith("-backend nn") for note in like("th neural_style.lua -backend nn").notes)


def test_every_option_is_read_or_has_a_reason_and_every_default_is_valid():
    for tool in TOOLS.values():
        source = Path(sys.modules[tool.translate.__module__].__file__).read_text()
        for option in tool.options:
            assert option.aside or f"o.{option.name}" in source, f"{tool.name}: {option.names}"
            assert option.choices is None or option.several or option.default in option.choices


def test_the_table_of_default_weights():
    """The paper's, from its equations; the others in closed form."""
    table = default_weights(content_features=512, content_positions=100)
    N = np.array([64, 128, 256, 512, 512])
    expected = {
        "the paper (Gatys et al. 2016), β/α = 10³": 1e3 * N**2 / (10 * 512 * 100),
        "Gatys' notebook; pastiche": [1000] * 5,
        "neural-style; neural-style-pt": [20] * 5,
        "gordicaleksa": 0.06 * N**2,
        "pystiche (torchvision's weights)": 200 * N**2,
    }
    assert list(table) == list(expected)
    for name, weights in expected.items():
        assert np.allclose(table[name], weights)


# the command


def run_command(monkeypatch, *words: str) -> int:
    from nstlab.commands import main

    monkeypatch.setattr(sys, "argv", ["nstlab", *words])
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


def test_the_command_prints_a_command_and_names_the_rest(folder, monkeypatch, capsys):
    command = f"python neural_style.py -style_image {folder / 'first.png'},{folder / 'second.png'} "
    command += f"-content_image {folder / 'content.png'} -style_weight 500 -tv_weight 0 -backend cudnn"
    assert run_command(monkeypatch, "like", command) == 0
    said = capsys.readouterr()
    words = shlex.split(said.out)
    texts = dict(word.split("=", 1) for word in words if "=" in word)
    texts |= {name: words[words.index(f"--{name}") + 1] for name in ("content", "style")}
    assert lab.Settings.from_text(texts) == like(command).settings
    assert lab.Settings.from_text(texts).k_S == 100
    assert "nstlab: -backend cudnn" in said.err
    assert run_command(monkeypatch, "like", "foo") == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1


def test_the_command_runs_it(folder, monkeypatch, capsys, tmp_path):
    command = f"pastiche -c {folder / 'content.png'} -s {folder / 'first.png'} -o x.png --num-steps 2 -d cpu --size 48"
    words = ("like", command, "--run", "--out", str(tmp_path), "--set", "style_size=48")
    assert run_command(monkeypatch, *words) == 0
    said = capsys.readouterr().out
    assert "computed 2 iterations" in said
    (picture,) = tmp_path.glob("*/result.png")
    assert lab.read_settings(picture) == like(command).settings.with_(style_size=48).of_picture(2)


def test_weights_are_downloaded_only_with_a_yes(folder, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    command = f"style_transfer {folder / 'content.png'} {folder / 'first.png'}"
    assert run_command(monkeypatch, "like", command, "--run", "--out", str(tmp_path / "out")) == 2
    assert "crowsonkb has weights=torchvision, which must be downloaded (550 MB): add --yes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
