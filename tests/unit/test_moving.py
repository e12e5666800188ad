"""Figures that move: what they hold, and the page that is made of them."""

import base64
import io
import json

import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

import nstlab as lab
from nstlab import widgets
from nstlab.errors import RequestError
from nstlab.widgets import moving


def flat(level, height=20, width=30):
    return torch.full((1, 3, height, width), level)


def saved(figure):
    """A figure's state and sprite as a notebook saves them."""
    return {name: getattr(figure, name) for name in (*figure.trait_names(sync=True), "_esm", "_css")}, figure.sprite


def tile(figure, number):
    """The mean of one tile of a figure's sprite."""
    sheet = Image.open(io.BytesIO(figure.sprite))
    (width, height), row, column = figure.tile, number // figure.columns, number % figure.columns
    part = sheet.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
    return part.convert("L").resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)) / 255


def test_sliders_have_a_picture_for_each_combination():
    pictures = {(k, i): flat(0.1 * k + 0.01 * i) for k in (1, 5) for i in range(6)}
    figure = widgets.by_sliders({"k_S": [1, 5], "iteration": list(range(6))}, pictures, "t")
    for number, key in enumerate(pictures):
        assert tile(figure, number) == pytest.approx(0.1 * key[0] + 0.01 * key[1], abs=0.02)
    assert figure.content["captions"][7] == "k_S 5, iteration 1" and figure.tile == [30, 20]
    with pytest.raises(RequestError, match="no picture for 5, 3"):
        widgets.by_sliders({"k_S": [1, 5], "iteration": [3]}, {(1, 3): flat(0)})


def test_pictures_are_of_one_shape_and_made_smaller_if_there_are_many():
    with pytest.raises(RequestError, match="of one shape, not of 2"):
        widgets.divided({"a": flat(0), "b": flat(0, 21)})
    noise = torch.rand(1, 3, 900, 900)
    figure = widgets.divided({str(k): noise for k in range(12)})
    assert figure.tile == [707, 707] and len(figure.sprite) < 4e6


def test_places_say_what_the_cards_say(net):
    picture = lab.load_image("astronaut", 64)
    figure = widgets.seen_from(net, picture, ("relu1_1", "relu3_1"), across=4)
    layers = {layer["name"]: layer for layer in figure.content["layers"]}
    assert (figure.content["rows"], figure.content["columns"]) == (4, 4) and len(layers["relu1_1"]["boxes"]) == 16
    number = 2 * 4 + 1
    card = lab.dissect.position_card(net, picture, int(2.5 * 16), int(1.5 * 16))
    box = card.boxes["relu3_1"]
    assert layers["relu3_1"]["boxes"][number] == [box.top, box.left, box.bottom, box.right]
    assert layers["relu3_1"]["features"][number].startswith(f"#{card.excited['relu3_1'][0][0]} (")


def test_a_page_holds_the_figure_and_a_still_one():
    figure = widgets.on_curve([(1, 10), (3, 2)], ["<b>", "y"], [flat(0.2), flat(0.8)], "x", "y", "a title")
    state, sprite = saved(figure)
    assert moving.is_moving(state) and not moving.is_moving({"kind": "x", "tile": 1})
    page = BeautifulSoup(moving.as_html(state, sprite), "html.parser")
    assert page.img["alt"] == figure.alt and page.img["src"].startswith("data:image/jpeg;base64,")
    held = json.loads(page.find("script", type="application/json").string)
    assert held["content"]["points"][0]["label"] == "<b>" and "<b>" not in str(page.find("script", type="module"))
    assert "export default" not in str(page) and "http://www.w3.org/2000/svg" in str(page)
    buffers = [{"path": ["other"], "data": ""}, {"path": ["sprite"], "data": base64.b64encode(sprite).decode()}]
    assert moving.saved_sprite(buffers) == sprite
