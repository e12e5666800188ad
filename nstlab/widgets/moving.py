"""Figures that move: sliders over stored pictures, a divider, a curve of pictures, a picture to click on.

They hold all that they can show, so they need no kernel: JupyterLab draws them as widgets, and `as_html` puts the same
front end into a page that opens from a file.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import anywidget
import torch
import traitlets as t
from PIL import Image
from torch.nn.functional import interpolate

from nstlab import dissect, plots
from nstlab.errors import RequestError
from nstlab.images import tiled
from nstlab.network import Network
from nstlab.terminal import number as in_digits
from nstlab.widgets.parts import FRONT, data_url, front

COLUMNS = 8  # tiles per row of the sprite
QUALITY = 84
MOST_PIXELS = 6_000_000  # of all pictures of a figure together, about 2 MB: above that they are made smaller


class MovingFigure(anywidget.AnyWidget):
    """A figure whose pictures are tiles of one JPEG; kind: sliders, divider, curve or places.

    sprite: the JPEG, `columns` tiles in a row; tile: width and height of one; content: what its kind needs (the
    functions below make it); alt: what is to be seen, in words.
    """

    _esm = front("moving")
    _css = (FRONT / "moving.css").read_text(encoding="utf-8")
    kind = t.Unicode().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    alt = t.Unicode().tag(sync=True)
    sprite = t.Bytes().tag(sync=True)
    columns = t.Int(1).tag(sync=True)
    tile = t.List(t.Int(), [1, 1]).tag(sync=True)
    content = t.Dict().tag(sync=True)


def by_sliders(
    axes: Mapping[str, Sequence[Any]], pictures: Mapping[tuple[Any, ...], torch.Tensor], title: str = ""
) -> MovingFigure:
    """One picture at a time, with a slider for each axis.

    axes: name -> its values in order; pictures: a value of each axis -> (1, 3, H, W) in [0, 1], all of one shape.
    Raises RequestError if one is missing.
    """
    texts = {name: [plots.value_label(value).replace("\n", " ") for value in values] for name, values in axes.items()}
    keys = list(itertools.product(*axes.values()))
    missing = [key for key in keys if key not in pictures]
    if missing:
        raise RequestError(f"no picture for {', '.join(map(str, missing[0]))}")
    shown = itertools.product(*texts.values())
    captions = [", ".join(f"{name} {text}" for name, text in zip(axes, words, strict=True)) for words in shown]
    content = {
        "axes": [{"name": name, "values": values} for name, values in texts.items()],
        "captions": captions,
        "start": [len(values) // 2 for values in texts.values()],
    }
    alt = f"Pictures by {' and '.join(axes)}: from {captions[0]} to {captions[-1]}."
    return _figure("sliders", title, alt, [pictures[key] for key in keys], content)


def divided(pictures: Mapping[str, torch.Tensor], title: str = "", start: Sequence[str] = ()) -> MovingFigure:
    """Two of several pictures, on both sides of a line that can be dragged; start: the names of the first two.

    pictures: name -> (1, 3, H, W) in [0, 1], at least two, all of one shape.
    """
    names = list(pictures)
    chosen = [names.index(name) for name in start] or [0, len(names) - 1]
    alt = f"Two at a time, divided by a line: {', '.join(names)}."
    return _figure("divider", title, alt, list(pictures.values()), {"names": names, "start": chosen})


def on_curve(
    points: Sequence[tuple[float, float]],
    labels: Sequence[str],
    pictures: Sequence[torch.Tensor],
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> MovingFigure:
    """A curve of points (x, y), both positive and on log scales, each with its label and its picture.

    pictures: (1, 3, H, W) in [0, 1], all of one shape.
    """
    told = [
        {"x": x, "y": y, "label": label, "caption": f"{label}: {xlabel} {in_digits(x)}, {ylabel} {in_digits(y)}"}
        for (x, y), label in zip(points, labels, strict=True)
    ]
    content = {"points": told, "xlabel": xlabel, "ylabel": ylabel, "start": len(told) // 2}
    alt = f"{ylabel} against {xlabel}, each point a picture: {', '.join(labels)}."
    return _figure("curve", title, alt, pictures, content)


def seen_from(
    net: Network,
    picture: torch.Tensor,
    layers: Sequence[str],
    activations: Mapping[str, torch.Tensor] | None = None,
    across: int = 16,
    title: str = "",
) -> MovingFigure:
    """A picture to click on: what each layer sees at that place, and its strongest features there.

    picture: (1, 3, H, W) in [0, 1]; activations: as from `dissect.activations`, if there are some; across: how many
    places the longer side has.
    """
    computed = activations if activations is not None else dissect.activations(net, picture)
    computed = {name: computed[name] for name in layers}
    height, width = picture.shape[2:]
    rows, columns = (max(1, round(across * side / max(height, width))) for side in (height, width))
    cards = [
        dissect.position_card(
            net, picture, int((i + 0.5) * height / rows), int((j + 0.5) * width / columns), computed, 3
        )
        for i in range(rows)
        for j in range(columns)
    ]
    told = []
    for name, colour in zip(layers, plots.box_colours(len(layers)), strict=True):
        boxes = [[box.top, box.left, box.bottom, box.right] for box in (card.boxes[name] for card in cards)]
        features = [
            ", ".join(f"#{feature} ({share:.0%})" for feature, _, share in card.excited[name]) for card in cards
        ]
        told.append({"name": name, "colour": colour, "boxes": boxes, "features": features})
    content = {"rows": rows, "columns": columns, "layers": told, "start": [rows // 2, columns // 2]}
    alt = f"A picture, and what {', '.join(layers)} see at one place of it, with their strongest features."
    return _figure("places", title, alt, [picture], content)


def _figure(kind: str, title: str, alt: str, pictures: Sequence[torch.Tensor], content: dict[str, Any]) -> MovingFigure:
    """Raises RequestError for pictures of several shapes."""
    shapes = {tuple(picture.shape[2:]) for picture in pictures}
    if len(shapes) != 1:
        raise RequestError(f"a figure that moves needs pictures of one shape, not of {len(shapes)}")
    ((height, width),) = shapes
    if kind != "places" and (scale := (MOST_PIXELS / (len(pictures) * height * width)) ** 0.5) < 1:
        height, width = (max(1, round(scale * side)) for side in (height, width))
        pictures = [interpolate(picture, (height, width), mode="area") for picture in pictures]
    columns = min(COLUMNS, len(pictures))
    data = io.BytesIO()
    Image.fromarray(tiled(pictures, columns)).save(data, "JPEG", quality=QUALITY)
    parts = {"sprite": data.getvalue(), "columns": columns, "tile": [width, height], "content": content}
    return MovingFigure(kind=kind, title=title, alt=alt, **parts)


def as_html(state: Mapping[str, Any], sprite: bytes) -> str:
    """A moving figure as HTML that needs neither kernel nor network; without JavaScript all its pictures are shown.

    state: the widget's, as a notebook saves it; sprite: its JPEG.
    """
    kept = {name: state[name] for name in ("kind", "title", "columns", "tile", "content")}
    data = json.dumps(kept).replace("<", "\\u003c")
    still = f'<img class="nst-sprite" src="{data_url(sprite)}" alt="{html.escape(state["alt"])}">'
    module = state["_esm"].replace("export default", "const front =")
    return f"""<div class="nst-moving-place"><style>{state["_css"]}</style>{still}
<script type="module">
{module}
for (const place of document.querySelectorAll(".nst-moving-place:not([data-shown])")) {{
  place.dataset.shown = true;
  const sprite = place.querySelector(".nst-sprite");
  const state = JSON.parse(place.querySelector("script[type='application/json']").textContent);
  state.sprite = sprite.src;
  sprite.hidden = true;
  front.render({{ model: {{ get: (name) => state[name] }}, el: place }});
}}
</script><script type="application/json">{data}</script></div>"""


def is_moving(state: Mapping[str, Any]) -> bool:
    """Whether a widget's saved state is a moving figure's."""
    return {"kind", "tile", "content", "alt", "_esm"} <= set(state)


def saved_sprite(buffers: Sequence[Mapping[str, Any]]) -> bytes:
    """The JPEG among the buffers that a notebook saves with a moving figure's state."""
    return next(base64.b64decode(buffer["data"]) for buffer in buffers if buffer["path"] == ["sprite"])
