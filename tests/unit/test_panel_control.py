"""The panel's controls of styles, masks, colour and smoothness: what they give, show and store."""

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import nstlab as lab
from nstlab.images import load_mask, sample_pictures
from nstlab.widgets import panel
from nstlab.widgets.painting import masks_for, opacity, pixels_of
from nstlab.widgets.pictures import colour_thumbnails
from tests.unit.test_panel import SHALLOW, click, send, with_values
from tests.unit.test_panel_branches import exported

ALL = {"style": "swirl,waves", "style_weights": "2,1", "colour": "matched", "k_TV": 0.5, "tv": "l2"}
ALL |= {"padding": "replicate", "content_masks": "astronaut-figure,astronaut-ground"}


@pytest.fixture
def bench(tmp_path):
    return with_values(panel(out=tmp_path / "out"), size=48, iterations=3, **SHALLOW)


@pytest.fixture
def two(bench):
    """The panel after a click on the button that adds a style, which is then waves."""
    bench.controls["style"].more.click()
    bench.controls["style"].second.value = "waves"
    return bench


def painted(bench, rows: slice, columns: slice = slice(None)) -> np.ndarray:
    """Paint as the browser does: a part of the picture is in. Returns the mask's pixels (h, w)."""
    brush = bench.controls["content_masks"].brush
    width, height = brush.shape
    alpha = np.zeros((height, width), dtype=np.uint8)
    alpha[rows, columns] = 255
    brush.set_state({"mask": memoryview(png(alpha))})
    return alpha


def png(alpha: np.ndarray) -> bytes:
    """What a canvas gives: white, as opaque as the mask is in."""
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([np.full((*alpha.shape, 3), 255, np.uint8), alpha])).save(buffer, format="PNG")
    return buffer.getvalue()


# styles


def test_a_second_style_comes_and_goes_with_its_slider(bench):
    style, proportions = bench.controls["style"], bench.controls["style_weights"]
    assert bench.settings.style == "swirl" and bench.settings.style_weights is None
    assert style.second not in style.children and proportions.layout.display == "none"
    style.more.click()
    assert style.second in style.children and proportions.children == (proportions.slider,)
    style.second.value = "waves"
    assert bench.settings.style == ("swirl", "waves") and bench.settings.style_weights is None
    assert proportions.slider.names == ["swirl", "waves"]
    proportions.slider.share = 0.3
    assert bench.settings.style_weights == (0.3, 0.7) and bench.message == ""
    style.first.value = "dots"
    assert bench.settings.style == ("dots", "waves") and bench.settings.proportions == (0.3, 0.7)
    proportions.slider.share = 0.5
    assert bench.settings == lab.Settings(style="dots,waves", size=48, iterations=3, **SHALLOW)
    proportions.slider.share = 0.9
    style.more.click()
    assert bench.settings.style == "dots" and bench.settings.style_weights is None
    assert style.second not in style.children and proportions.layout.display == "none"


def test_the_proportion_changes_what_is_shown_of_the_colours(two):
    before = two.controls["colour"].thumbnails
    two.controls["style_weights"].slider.share = 0.9
    assert two.controls["colour"].thumbnails != before


def test_a_second_style_can_be_uploaded_and_a_wrong_path_is_put_back(two, tmp_path):
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "night.png")
    send(two.controls["style"].second, "night.png", (tmp_path / "night.png").read_bytes())
    first, second = two.settings.style
    assert first == "swirl" and "uploads/night-" in second and second in two.controls["style"].second.thumbnails
    two.controls["style"].second.value = "/nowhere/x.png"
    assert "/nowhere/x.png" in two.message and two.settings.style == (first, second)
    assert two.controls["style"].second.value == second


def test_more_than_two_styles_are_kept_and_are_text(bench):
    given = lab.Settings(style="swirl,waves,dots", style_weights="2,1,3", content_masks="none,astronaut-figure,none")
    bench.load(given)
    assert bench.settings == given and bench.message.startswith("3 styles") and bench.message.endswith("as text.")
    style = bench.controls["style"]
    assert style.text.value == "swirl,waves,dots" and style.first not in style.children
    assert bench.controls["style_weights"].text.value == "2,1,3"
    assert bench.controls["content_masks"].text.value == "none,astronaut-figure,none"
    bench.controls["style_weights"].text.value = "1,1,many"
    assert "style_weights" in bench.message and "many" in bench.message
    bench.controls["style_weights"].text.value = "1,1,0"
    assert bench.settings.style_weights == (1, 1, 0) and bench.message == ""
    style.text.value = "swirl, ink"
    assert style.second.value == "ink" and bench.settings.style == ("swirl", "ink") and bench.message == ""


@pytest.mark.parametrize(
    "changes",
    [
        ALL,
        {"style": "swirl,swirl", "style_weights": "0.5,0.5"},
        {"style": "ink,waves", "style_weights": "0,3", "style_layer_weights": "1:1:0:0:0,0:0:1:1:1"},
        {"content_masks": "astronaut-figure", "colour": "recombined", "style": "ink"},
        {"style": "ink,waves", "content_masks": "none,astronaut-figure", "colour": "luminance"},
        {"style": "ink,waves", "content_masks": "astronaut-figure,none", "k_TV": 1e-3},
    ],
)
def test_settings_that_are_loaded_are_read_as_they_were(bench, changes):
    given = lab.Settings(size=64, **changes)
    bench.load(given)
    assert bench.settings == given and bench.message == ""
    again = panel(out=bench.out)
    for name, control in bench.controls.items():
        again.controls[name].value = control.value  # as a cell does
    assert again.settings == given


def test_masks_of_the_styles_follow_their_number(two):
    two.controls["style_masks"].value = "none,/nowhere/mask.png"
    assert "/nowhere/mask.png" in two.message
    two.controls["style_masks"].value = ""
    two.controls["style"].more.click()
    two.controls["style_masks"].value = str(sample_pictures("mask")["astronaut-figure"])
    two.controls["style"].more.click()
    assert two.settings.style_masks == (str(sample_pictures("mask")["astronaut-figure"]), None)


# masks


def test_a_painted_mask_is_stored_by_its_content_and_used(bench):
    alpha = painted(bench, slice(0, 200))
    (path,) = bench.settings.content_masks
    assert Path(path).parent == bench.out / "uploads" and Path(path).name.startswith("astronaut-mask-")
    assert np.array_equal(pixels_of(path), alpha) and bench.message == ""
    t = load_mask(path, (48, 48))
    assert t[0, 0, :18].min() == 1 and t[0, 0, 20:].max() == 0
    assert "39 % of the picture" in bench.controls["content_masks"].brush.note
    painted(bench, slice(100, 300))
    assert bench.settings.content_masks != (path,)
    painted(bench, slice(0, 200))
    assert bench.settings.content_masks == (path,)  # the same mask is the same file
    bench.controls["content_masks"].brush.set_state({"mask": memoryview(b"")})
    assert bench.settings.content_masks is None and Path(path).is_file()


def test_the_second_style_is_where_the_first_is_not_or_everywhere(two):
    painter = two.controls["content_masks"]
    alpha = painted(two, slice(0, 200))
    first, second = two.settings.content_masks
    assert np.array_equal(pixels_of(second), 255 - alpha) and painter.brush.elsewhere
    painter.second.value = "everywhere"
    assert two.settings.content_masks == (first, None) and not painter.brush.elsewhere
    painter.second.value = "elsewhere"
    assert two.settings.content_masks == (first, second)
    two.controls["style"].more.click()
    assert two.settings.content_masks == (first,)
    two.controls["style"].more.click()
    assert two.settings.content_masks == (first, second) and two.message == ""


def test_a_mask_that_leaves_the_second_style_no_place_is_refused(two):
    painted(two, slice(0, 200))
    before, shown = two.settings, two.controls["content_masks"].brush.mask
    painted(two, slice(None))
    assert "nothing is left for the second style" in two.message and two.settings == before
    assert np.array_equal(opacity(two.controls["content_masks"].brush.mask), opacity(shown))


def test_a_mask_of_its_own_is_kept_while_the_first_is_painted(bench):
    own = str(sample_pictures("mask")["astronaut-ground"])
    bench.load(bench.settings.with_(style="swirl,waves", content_masks=("astronaut-ground", own)))
    painter = bench.controls["content_masks"]
    assert painter.second.value == "own" and len(painter.brush.other) > 0
    painted(bench, slice(0, 99))
    assert bench.settings.content_masks[1] == own
    painter.second.value = "elsewhere"
    assert bench.settings.content_masks[1] != own and "own" not in [name for _, name in painter.second.options]


def test_sample_masks_are_those_of_the_content(bench):
    painter = bench.controls["content_masks"]
    assert painter.samples.options == ["astronaut-figure", "astronaut-ground"]
    click(painter.samples, "astronaut-ground")
    assert bench.settings.content_masks == ("astronaut-ground",) and len(painter.brush.mask) > 0
    with_values(bench, content="coffee")
    assert bench.settings.content_masks is None and painter.samples not in painter.children
    with_values(bench, content="astronaut")
    assert bench.settings.content_masks == ("astronaut-ground",)
    assert list(masks_for("chelsea")) == ["chelsea-cat", "chelsea-ground"]
    own = str(sample_pictures("content")["astronaut"])  # a path is no sample's name
    assert masks_for(own) == {}


def test_a_mask_cannot_be_painted_while_a_run_is_in_hand(bench):
    bench.step()
    bench.wait(300)
    assert bench.state == "paused" and bench.controls["content_masks"].brush.disabled
    painted(bench, slice(0, 200))
    assert bench.run.settings.content_masks is None is bench.settings.content_masks and "stop the run" in bench.message
    assert bench.controls["content_masks"].brush.mask == b""


def test_a_full_disk_is_one_line_and_the_mask_stays(bench, monkeypatch):
    from nstlab.widgets import pictures

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write_whole", full)
    painted(bench, slice(0, 200))
    assert bench.message == "the mask could not be stored: No space left on device"
    assert bench.settings.content_masks is None and bench.controls["content_masks"].brush.mask == b""


# colour and smoothness


def test_colour_is_a_choice_of_pictures_that_differ(bench):
    colour = bench.controls["colour"]
    assert colour.options == ["style", "matched", "luminance", "recombined"] == list(colour.thumbnails)
    assert len(set(colour.thumbnails.values())) == 4 and set(colour.meanings) == set(colour.captions)
    before = colour.thumbnails
    with_values(bench, colour="luminance", style="waves")
    assert bench.settings.colour == "luminance" and colour.thumbnails != before
    assert colour.thumbnails == colour_thumbnails(bench.settings)


def test_smoothness_is_a_number(bench):
    with_values(bench, k_TV=0.25, tv="l2")
    assert bench.settings.k_TV == 0.25 and bench.settings.tv == "l2"
    with_values(bench, k_TV=-1)
    assert bench.settings.k_TV == 0


def test_every_setting_of_control_is_in_the_panel(bench):
    def all_in(widget):
        yield widget
        for child in getattr(widget, "children", ()):
            yield from all_in(child)

    shown = list(all_in(bench))
    for name, control in bench.controls.items():
        assert control in shown, name


# all of it


def test_a_run_of_all_is_the_run_of_everywhere_and_so_are_its_exports(bench, tmp_path):
    bench.load(lab.Settings(size=48, iterations=3, device="cpu", **SHALLOW, **ALL))
    painted(bench, slice(0, 200))
    bench.start()
    bench.wait(300)
    assert bench.state == "finished", bench.message
    settings = bench.shown
    assert settings.style_weights == (2, 1) and settings.content_masks[1].endswith(".png")
    texts = exported(bench)
    words = shlex.split(texts["papermill"])
    given = {words[i + 1]: words[i + 2] for i in range(3, len(words), 3)}
    del given["out"]
    ids = {lab.Run(settings).id, lab.Run(lab.Settings.from_text({"size": "48", **given})).id}
    ids.add(lab.Run(eval(texts["settings"], {"lab": lab})).id)
    words = shlex.split(texts["command"])
    pairs = {words[i + 1].partition("=")[0]: words[i + 1].partition("=")[2] for i in range(6, len(words) - 2, 2)}
    assert words[2::2][:2] == ["--content", "--style"]
    ids.add(lab.Run(lab.Settings.from_text({"content": words[3], "style": words[5], **pairs})).id)
    assert len(ids) == 1
    plan = yaml.safe_load(texts["sweep"])
    assert plan["fixed"]["style"] == ["swirl", "waves"] and plan["fixed"]["k_TV"] == 0.5
    point = lab.Settings(**{"size": 48} | plan["fixed"], k_S=settings.k_S, init=settings.init)
    assert lab.Run(point).id in ids

    folder = bench.run.folder
    bench.load(lab.Settings(size=48))
    bench.view.folds["gallery"].value = True
    caption = bench.gallery.choice.captions[str(folder)]
    assert "swirl × waves" in caption and "/" not in caption
    click(bench.gallery.choice, str(folder))
    assert bench.settings.with_(device="cpu") == lab.read_settings(folder)
    assert bench.display.viewer.caption == "iteration 3"


def test_a_run_that_began_with_a_picture_is_loaded(bench, tmp_path):
    lab.save_image(lab.load_image("waves", 48), tmp_path / "start.png")
    bench.load(bench.settings.with_(init=str(tmp_path / "start.png")))
    init = bench.controls["init"]
    assert bench.settings.init == init.value == str(tmp_path / "start.png") and init.value in init.thumbnails
    with_values(bench, init="black")
    assert bench.settings.init == "black" and str(tmp_path / "start.png") in init.options
