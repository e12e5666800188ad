"""A picture in tiles has the loss and the gradient of the whole picture, whatever the tiles and the settings."""

import re
import signal

import pytest
import torch

import nstlab as lab
from nstlab.errors import RequestError
from nstlab.images import Pictures
from nstlab.network import load_vgg19
from nstlab.optimise import (
    Objective,
    TiledObjective,
    cover,
    make_optimizer,
    memory_needed,
    reduced_network,
    set_up,
    steps,
    with_tile,
)
from nstlab.optimise.tiles import segments_of
from nstlab.runs import run as run_module
from nstlab.runs.writer import is_frame
from nstlab.settings import Settings
from nstlab.widgets.pictures import for_screen

SHAPE = (49, 67)
DEEP = {"content_layers": ("relu4_2",), "style_layers": ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")}
LEFT = torch.zeros(1, 1, *SHAPE)
LEFT[..., :25] = 1
SOFT = torch.linspace(0.1, 1, SHAPE[1]).expand(1, 1, *SHAPE)


def pictures_of(settings, shape, masks=()):
    content, *styles = (
        cover(lab.load_image(name, 160), *side).double()
        for name, side in ((settings.content, shape), *((name, (90, 70)) for name in settings.styles))
    )
    return Pictures(content, tuple(styles), content_masks=tuple(masks))


def both(settings, shape=SHAPE, masks=()):
    """Losses and gradient, whole and in tiles, in float64 by torch's own functions."""
    build = {"pooling": settings.pooling, "padding": settings.padding}
    pictures = pictures_of(settings, shape, masks)
    net = load_vgg19(device="cpu", convolution="plain", **build)
    if settings.reduction:
        net = reduced_network(net, settings, pictures.content.float(), pictures.styles[0].float())
    net = net.double()
    start = net.prepare((pictures.content + cover(pictures.styles[0], *shape)) / 2)
    found = []
    for make in (Objective, TiledObjective):
        x = start.clone().requires_grad_()
        losses = make(net, pictures, settings)(x)
        losses["total"].backward()
        found.append(({name: loss.item() for name, loss in losses.items()}, x.grad))
    return found


@pytest.mark.parametrize(
    ("tile", "shape"),
    [(32, SHAPE), (32, (48, 64)), (16, SHAPE), (33, (35, 67)), (48, (20, 97)), (67, SHAPE)],
)
def test_any_tile_and_any_size(tile, shape):
    """Tiles that divide nothing, that are much smaller than what relu5_1 sees (156 pixels around), and one alone."""
    (whole, gradient), (tiled, of_tiles) = both(Settings(tile=tile), shape)
    assert list(tiled) == list(whole) and tiled == pytest.approx(whole, rel=1e-12)
    assert (of_tiles - gradient).abs().max() < 1e-12 * gradient.abs().max()  # and so at no seam


@pytest.mark.parametrize(
    "changed",
    [
        {"pooling": "average"},
        {"padding": "replicate"},
        {"colour": "luminance", "k_TV": 3.0, "tv": "l2"},
        {"style": ("swirl", "waves"), "style_weights": (2, 1)},
        {"style_loss": "gram_l1", "content_loss": "l1"},
        {"style_loss": "mean_std"},
        {"style_loss": "binarised", "style_layers": ("conv2_1", "relu4_1")},
        {"style_loss": "gaussian_w2", "style_layers": ("relu1_1", "relu3_1")},
        {"style_layers": ("relu1_1", "pool2", "conv3_1"), "content_layers": ("conv2_2", "pool3")},
        {"content_layers": ()},
        {"style_layers": ()},
        {"style_layer_weights": "balanced"},
        {"reduction": "magnitude", "amount": 0.5},
    ],
    ids=str,
)
def test_whatever_the_settings(changed):
    (whole, gradient), (tiled, of_tiles) = both(Settings(tile=32, **changed))
    assert tiled == pytest.approx(whole, rel=1e-9)
    assert (of_tiles - gradient).abs().max() < 1e-9 * gradient.abs().max()


@pytest.mark.parametrize("style_loss", ["gram", "mean_std"])
def test_with_masks(style_loss):
    """A style in one half, another everywhere by degrees; some tiles have nothing of the first."""
    settings = Settings(tile=32, style=("swirl", "waves"), style_loss=style_loss)
    (whole, gradient), (tiled, of_tiles) = both(settings, masks=(LEFT, SOFT))
    assert tiled == pytest.approx(whole, rel=1e-11)
    assert (of_tiles - gradient).abs().max() < 1e-11 * gradient.abs().max()


def test_in_float32_it_is_as_exact_as_the_whole_picture():
    """Rounding flips a ReLU or a pooling here and there; see test_convolution."""
    (_, truth), _ = both(Settings(tile=32))
    errors = []
    for make in (Objective, TiledObjective):
        pictures = Pictures(*(p if isinstance(p, tuple) else p.float() for p in _parts(Settings(tile=32))))
        net = load_vgg19(device="cpu")
        x = net.prepare((pictures.content + cover(pictures.styles[0], *SHAPE)) / 2).requires_grad_()
        make(net, pictures, Settings(tile=32))(x)["total"].backward()
        errors.append(float((x.grad - truth).norm() / truth.norm()))
    assert errors[1] < max(3 * errors[0], 2e-3)


def _parts(settings):
    pictures = pictures_of(settings, SHAPE)
    return pictures.content, tuple(style.float() for style in pictures.styles)


def test_segments_see_what_their_convolutions_see():
    net = load_vgg19("random", device="cpu")
    for segment in segments_of(net, DEEP["style_layers"]):
        reach = sum(1 for name in net.names[_index(net, segment.start) : _index(net, segment.end)] if "conv" in name)
        assert segment.before == segment.behind == reach


def _index(net, name):
    return net.names.index(name) + 1 if name else 0


@pytest.mark.parametrize(("shape", "side"), [(SHAPE, 32), ((1, 2), 16), ((64, 64), 64), ((33, 33), 32)])
def test_tiles_own_every_position_once(shape, side):
    for segment in segments_of(load_vgg19("random", device="cpu"), DEEP["style_layers"]):
        for stride in {1, segment.stride}:
            owned = torch.zeros(1, 1, shape[0] // stride, shape[1] // stride)
            for tile in segment.tiles(shape, side):
                owned[:, :, *tile.place(stride)] += 1
            assert bool((owned == 1).all()), (segment, stride)


def test_a_run_in_tiles_ends_where_the_whole_one_does(tmp_path):
    shared = {"size": 80, "iterations": 5, "device": "cpu"}
    whole, tiled = (lab.Run(Settings(**shared, tile=tile), tmp_path).advance(progress=False) for tile in (None, 48))
    assert whole.id != tiled.id
    assert tiled.history["total"].tolist()[:2] == pytest.approx(whole.history["total"].tolist()[:2], rel=1e-4)
    assert tiled.history["total"].iloc[-1] == pytest.approx(whole.history["total"].iloc[-1], rel=0.05)
    lab.Run(Settings(**shared, tile=48).with_(iterations=2), tmp_path / "other").advance(progress=False)
    again = lab.Run(Settings(**shared, tile=48), tmp_path / "other").advance(progress=False)
    assert again.picture.read_bytes() == tiled.picture.read_bytes()  # stopped and resumed


@pytest.mark.parametrize("tile", [64, 32])
def test_coarse_to_fine_only_the_large_size_is_tiled(tile):
    """The smaller one fits into a tile of 64; or it takes no more memory whole than the large one in tiles of 32."""
    counted = []
    settings = Settings(size=96, scales=2, scale_iterations=1, iterations=2, tile=tile, device="cpu")
    objective, x = set_up(settings)
    objective.on_tile = lambda done, of: counted.append((done, of))
    shapes = [tuple(step.image.shape[2:]) for step in steps(objective, x, make_optimizer(x, settings), settings)]
    assert shapes == [(48, 48), (96, 96), (96, 96)]
    (of,) = {of for _, of in counted}
    assert [done for done, _ in counted] == [*range(1, of + 1)] * 2


def test_progress_and_ctrl_c_between_tiles(tmp_path, monkeypatch, capfd):
    made = lab.Run(Settings(size=64, iterations=3, tile=32, device="cpu"), tmp_path)
    made.advance()
    assert re.search(r"tile \d+ of \d+", capfd.readouterr().err)
    longer = lab.Run(made.settings.with_(iterations=6), tmp_path)
    monkeypatch.setattr(run_module, "PATIENCE", -1.0)
    steps = longer.steps

    def pressed(*args):
        for step in steps(*args):
            if step.iteration == 4:
                signal.raise_signal(signal.SIGINT)
            yield step

    monkeypatch.setattr(longer, "steps", pressed)
    with pytest.raises(KeyboardInterrupt):
        longer.advance(progress=False)
    monkeypatch.undo()
    finished = lab.Run(made.settings.with_(iterations=6), tmp_path).advance(progress=False)
    undisturbed = lab.Run(made.settings.with_(iterations=6), tmp_path / "other").advance(progress=False)
    assert finished.picture.read_bytes() == undisturbed.picture.read_bytes()


def test_what_is_stored_and_sent_of_a_large_picture_stays_small():
    kept = [iteration for iteration in range(301) if is_frame(iteration, large=True)]
    assert kept == [0, 10, 100] and is_frame(7, every=7, large=True)
    poster = torch.rand(1, 3, 300, 4096)
    assert for_screen(poster).shape == (1, 3, 150, 2048) and for_screen(poster[..., :2000]).shape[3] == 2000
    assert torch.allclose(for_screen(poster), torch.nn.functional.avg_pool2d(poster, 2))


@pytest.mark.parametrize("style_loss", ["mmd_gaussian", "sliced_wasserstein"])
def test_what_cannot_be_added_up_is_one_line(style_loss, tmp_path):
    with pytest.raises(RequestError, match=f"style_loss={style_loss} sorts or samples positions"):
        lab.Run(Settings(size=64, tile=32, style_loss=style_loss, device="cpu"), tmp_path).advance(progress=False)
    assert not list(tmp_path.glob("*/run.json"))


def test_what_tile_may_be():
    for wrong in ("8", "big", "-64"):
        with pytest.raises(RequestError, match="tile"):
            Settings.from_text({"tile": wrong})
    assert Settings.from_text({"tile": "512"}).tile == 512 and Settings.from_text({"tile": "auto"}).tile == "auto"
    with pytest.raises(RequestError, match="it needs network = vgg19 or vgg16"):
        Settings(network="efficientnet-lite0", tile=64)


def test_auto_is_the_largest_tile_that_memory_allows(monkeypatch):
    monkeypatch.setattr("nstlab.optimise.memory.BASE_MEMORY", 0.3e9)  # of a torch without CUDA
    poster = {"size": 4096, "optimizer": "adam", "tile": "auto", "device": "cpu"}
    chosen = [with_tile(Settings(**poster, memory=memory), 4096, 4096) for memory in (7, 10, 100)]
    assert [settings.tile for settings in chosen] == sorted({c.tile for c in chosen[:2]}) + [None]
    for settings in chosen:
        assert memory_needed(settings, 4096, 4096) <= 1e9 * settings.memory
    for changed, less in (({}, ""), ({"optimizer": "lbfgs"}, "; optimizer=adam or a smaller history_size takes less")):
        with pytest.raises(RequestError, match=rf"in tiles of 128 pixels, which is more than memory=2{less}$"):
            with_tile(Settings(**poster | changed, memory=2), 4096, 4096)


def test_a_picture_in_tiles_is_convolved_in_less_memory(small):
    """As convolution=lean does it, unless another one is asked for; at 48 pixels a tile of 64 is the picture."""
    for changed, used in (
        ({"tile": 32}, "lean"),
        ({"tile": 64}, "auto"),
        ({"tile": 32, "convolution": "plain"}, "plain"),
    ):
        settings = Settings(**small | changed)
        assert set_up(settings)[0].net.convolution == used
        assert settings.convolution == changed.get("convolution", "auto")
    in_tiles = Settings(size=1024, tile=512, device="cpu")
    lean = in_tiles.with_(convolution="lean")
    assert memory_needed(in_tiles, 1024, 1024) == memory_needed(lean, 1024, 1024)


def test_auto_belongs_to_the_run_as_the_number_that_it_is(tmp_path):
    run = lab.Run(Settings(size=64, tile="auto", memory=1000, device="cpu"), tmp_path)
    assert run.settings.tile is None and run.id == lab.Run(Settings(size=64, device="cpu"), tmp_path).id
