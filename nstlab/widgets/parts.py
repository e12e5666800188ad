"""The panel's and the explorer's own controls, which ipywidgets lacks. Their JavaScript is in front/."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets as t

FRONT = Path(__file__).parent / "front"


def front(name: str) -> str:
    """The JavaScript of a part, with what the parts share."""
    return "\n".join((FRONT / file).read_text(encoding="utf-8") for file in ("shared.js", f"{name}.js"))


class _Part(anywidget.AnyWidget):
    label = t.Unicode().tag(sync=True)
    help = t.Unicode("").tag(sync=True)  # not `tooltip`: with one, ipywidgets asks for a `description`
    disabled = t.Bool(False).tag(sync=True)


class _ReceivesFiles(_Part):
    """A part on which a file can be dropped; it calls `on_file(name, bytes)`.

    A file arrives in parts of 2 MB, since the websocket silently drops messages of more than 10 MiB.
    """

    def __init__(self, **values: Any) -> None:
        self.on_file: Callable[[str, bytes], None] = lambda name, data: None
        self.on_refusal: Callable[[str], None] = lambda message: None
        self.on_choice: Callable[[str], None] = lambda name: None
        self.on_pin: Callable[[bool], None] = lambda wanted: None
        self._received: list[bytes] = []
        super().__init__(**values)
        self.on_msg(self._receive)

    def _receive(self, _: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        if message.get("kind") == "refused":
            self.on_refusal(f"{message['name']} has {message['size'] / 2**20:.0f} MB; the limit is 100 MB")
        elif message.get("kind") in ("pin", "unpin"):
            self.on_pin(message["kind"] == "pin")
        elif message.get("kind") == "chosen":
            self.on_choice(message["name"])
        elif message.get("kind") == "upload":
            if message["part"] == 0:
                self._received = []
            self._received.append(bytes(buffers[0]))
            if len(self._received) == message["parts"]:
                data, self._received = b"".join(self._received), []
                self.on_file(Path(message["name"]).name, data)


class PictureChoice(_ReceivesFiles):
    """One of several named pictures, as thumbnails; `value` is a name or a path, `options` the names offered.

    `on_choice(name)` is called at every click on a tile, also on the one that is chosen already.
    """

    _esm = front("choice")
    value = t.Unicode().tag(sync=True)
    options = t.List(t.Unicode()).tag(sync=True)
    thumbnails = t.Dict().tag(sync=True)  # name -> data URL
    captions = t.Dict().tag(sync=True)
    meanings = t.Dict().tag(sync=True)  # what a short caption stands for
    columns = t.Int(6).tag(sync=True)
    captioned = t.Bool(False).tag(sync=True)
    accepts_files = t.Bool(False).tag(sync=True)


class LogNumber(_Part):
    """A number from 0 up, on a log slider from min to max; typed, it may lie outside of these.

    Anything else that is typed goes to `on_refusal`, as a line that says so.
    """

    def __init__(self, **values: Any) -> None:
        self.on_refusal: Callable[[str], None] = lambda message: None
        super().__init__(**values)
        self.on_msg(self._refuse)

    def _refuse(self, _: Any, message: dict[str, Any], buffers: list[Any]) -> None:
        if message.get("kind") == "nonsense":
            self.on_refusal(f"{message['text']!r} is no number from 0 up: {self.value:g} stays")

    _esm = front("number")
    value = t.Float(1.0, min=0).tag(sync=True)
    min = t.Float(1e-2).tag(sync=True)
    max = t.Float(1e7).tag(sync=True)
    ends = t.List(t.Unicode()).tag(sync=True)
    marks = t.List(t.Float()).tag(sync=True)  # values with a tick and a number under the slider


class Proportion(_Part):
    """How much the first of two styles counts; `share` is from 0 to 1, `names` are those of both."""

    _esm = front("proportion")
    share = t.Float(0.5, min=0, max=1).tag(sync=True)
    names = t.List(t.Unicode()).tag(sync=True)


class Picture(_Part):
    """An encoded picture; `label` says in words what it shows."""

    _esm = front("picture")
    value = t.Bytes(b"").tag(sync=True)


class Brush(_Part):
    """A mask that is painted over a picture, by pointer or by keys.

    picture: an encoded one; shape: width and height of the mask. mask and other: PNGs, white and as opaque as the mask
    is there, or b"" for no mask; `other` is the second style's, which may instead be elsewhere: where the first is not.
    names: those of the styles; note: what is painted, in words.
    """

    _esm = front("mask")
    picture = t.Bytes(b"").tag(sync=True)
    shape = t.List(t.Int(), [1, 1]).tag(sync=True)
    mask = t.Bytes(b"").tag(sync=True, from_json=lambda value, _: bytes(value), echo_update=False)
    other = t.Bytes(b"").tag(sync=True)
    elsewhere = t.Bool(False).tag(sync=True)
    names = t.List(t.Unicode()).tag(sync=True)
    note = t.Unicode("").tag(sync=True)


class LayerChoice(_Part):
    """Some of a network's layers; `value` lists them in the network's order."""

    _esm = front("layers")
    value = t.List(t.Unicode()).tag(sync=True)
    options = t.List(t.Unicode()).tag(sync=True)


class Viewer(_ReceivesFiles):
    """The picture in the middle; all pictures are encoded ones.

    view: picture, divider, blink or together. divider and blink compare with the pinned picture, or else the content;
    `on_pin(wanted)` is called when the user pins what is shown, or no longer.
    """

    _esm = front("viewer")
    result_picture = t.Bytes(b"").tag(sync=True)
    content_picture = t.Bytes(b"").tag(sync=True)
    style_picture = t.Bytes(b"").tag(sync=True)  # `style` alone has a meaning in ipywidgets
    shape = t.List(t.Int(), [1, 1]).tag(sync=True)  # width, height
    caption = t.Unicode("").tag(sync=True)
    pinned_picture = t.Bytes(b"").tag(sync=True)
    pinned_caption = t.Unicode("").tag(sync=True)
    view = t.Enum(("picture", "divider", "blink", "together"), "picture").tag(sync=True)
    zoomed = t.Bool(False).tag(sync=True)


class Scrubber(_Part):
    """The stored frames; `index` is the one shown, -1 the newest picture."""

    _esm = front("scrubber")
    frames = t.List(t.Int()).tag(sync=True)
    index = t.Int(-1).tag(sync=True)


class Place(_Part):
    """A picture with boxes drawn on it; `point` is the pixel (row, column) last clicked or reached by arrow keys."""

    _esm = front("place")
    png = t.Bytes().tag(sync=True)
    size = t.List([1, 1]).tag(sync=True)  # rows, columns of the picture
    point = t.List([0, 0]).tag(sync=True)
    boxes = t.List().tag(sync=True)  # [top, left, bottom, right, colour, name]
    caption = t.Unicode().tag(sync=True)
    side = t.Int(360).tag(sync=True)  # the longer one on the screen where there is room, in CSS pixels


class FeatureTable(_Part):
    """Rows of features to click on; `chosen` is [layer, feature], the one last clicked.

    A row is {layers, field, features}, with `says` in place of buttons for its layers; features are
    [number, text, percent of the bar, what it says under the pointer] each. Those of a conv and its relu, in one row,
    belong to the one that is chosen, or else to the relu.
    """

    _esm = front("features")
    rows = t.List().tag(sync=True)
    heads = t.List(t.Unicode(), ["", "", ""]).tag(sync=True)  # of the columns
    chosen = t.List(["", 0]).tag(sync=True)
    colours = t.Dict().tag(sync=True)  # of the boxes, by layer


class TextToTake(_Part):
    """A text with a button that copies it; with a file name in `file`, also one that saves it."""

    _esm = front("text")
    value = t.Unicode("").tag(sync=True)
    file = t.Unicode("").tag(sync=True)


def data_url(jpeg: bytes) -> str:
    """A JPEG as a data URL."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
