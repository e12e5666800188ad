"""Masks painted over the content picture: where each style is painted."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ipywidgets as w
import numpy as np
import traitlets as t
from PIL import Image

from nstlab.decoding import decode, shape_of
from nstlab.errors import RequestError
from nstlab.images import find_picture, load_image, load_mask, resized, sample_pictures
from nstlab.values import as_text, split_names
from nstlab.widgets.parts import Brush, PictureChoice
from nstlab.widgets.pictures import jpeg, keep_upload, thumbnail
from nstlab.widgets.styles import FEW

SIDE = 512  # pixels of the longer side of a mask that is painted
SECOND = {"elsewhere": "where the first is not", "everywhere": "everywhere"}
"""Where the second style can be, once there is a mask for the first."""


class Painter(w.VBox):
    """Where in the content each style is painted. `value` is a mask's path or name for each style (None: everywhere).

    The first style's mask is painted with a brush or is a sample; the second's is where the first is not, or
    everywhere, or a picture of its own if it was loaded so. With more than two styles, masks are text. What is
    painted is stored in out/uploads at each stroke, named by its content; nothing is removed there.
    """

    value = t.Tuple(allow_none=True, default_value=None)
    content = t.Unicode("")
    styles = t.Tuple(default_value=("",))
    disabled = t.Bool(False)

    def __init__(self, label: str, help: str) -> None:
        self.label, self.help = label, help
        self.out: Path | None = None
        self.on_refusal: Callable[[str], None] = lambda message: None
        self._kept: dict[str, tuple[str | None, ...] | None] = {}  # content -> its masks
        self._arranging = False
        self.brush = Brush(label=label, help=help)
        about = "where the second style is painted"
        self.second = w.Dropdown(description="second style", tooltip=about, options=_options(SECOND))
        self.samples = PictureChoice(label="Sample masks", help="masks that come with this picture", columns=6)
        self.text = w.Text(description="content masks", tooltip=help, placeholder="none", continuous_update=False)
        self.text.add_class("nst-wide")
        self.choice = w.Box([self.second]).add_class("nst-fields")
        self.fields = w.Box([self.text]).add_class("nst-fields")
        super().__init__()
        self.brush.observe(self._on_stroke, "mask")
        self.second.observe(self._on_second, "value")
        self.text.observe(self._on_text, "value")
        self.samples.on_choice = self._on_sample
        self.observe(self._show_content, "content")
        self.observe(self._arrange, ["value", "content", "styles", "disabled"])
        self._arrange()

    def follow(self, content: str, styles: tuple[str, ...]) -> None:
        """Another content or other styles were chosen: each content keeps its own masks, each style has one."""
        value = self.value
        if content != self.content:
            self._kept[self.content] = value
            value = self._kept.get(content)
        self.content, self.styles = content, styles
        if value is not None and len(value) != len(styles):
            value = self._with_first(value[0])
        self.value = value

    def _with_first(self, first: str | None) -> tuple[str | None, ...] | None:
        """The masks of all styles, if this is the first's. Raises RequestError, OSError."""
        others: list[str | None] = [None] * (len(self.styles) - 1)
        if len(self.styles) == FEW and self.second.value == "own":
            others = [(*(self.value or ()), None, None)[1]]
        elif len(self.styles) == FEW and self.second.value == "elsewhere" and first is not None:
            pixels = 255 - pixels_of(first)
            if not pixels.any():
                raise RequestError("the mask covers all of the picture: nothing is left for the second style")
            others = [self._keep(pixels)]
        masks = (first, *others)
        return masks if any(masks) else None

    def _keep(self, pixels: np.ndarray) -> str:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="PNG")
        return str(keep_upload(f"{Path(self.content).stem}-mask.png", buffer.getvalue(), self.out, SIDE))

    def _change(self, first: Callable[[], str | None]) -> None:
        """Another mask for the first style; what cannot be is said in one line, and the masks stay."""
        try:
            self.value = self._with_first(first())
        except RequestError as error:
            self.on_refusal(str(error))
        except OSError as error:
            self.on_refusal(f"the mask could not be stored: {error.strerror or error}")
        self._arrange()

    def _on_stroke(self, change: Any) -> None:
        if not self._arranging:
            data = change["new"]
            self._change(lambda: self._keep(opacity(data)) if data else None)

    def _on_sample(self, name: str) -> None:
        self._change(lambda: name)

    def _on_second(self, _: Any) -> None:
        if not self._arranging and self.value is not None:
            self._change(lambda: self.value[0])

    def _on_text(self, change: Any) -> None:
        if not self._arranging:
            names = split_names(change["new"].strip())
            names = (names,) if isinstance(names, str) else names
            self.value = tuple(None if name == "none" else name for name in names if name) or None

    def _show_content(self, _: Any) -> None:
        """The picture to paint on, and the sample masks for it; a picture that cannot be read is not shown."""
        try:
            picture = load_image(self.content, SIDE, smallest=1)
            offered = {name: thumbnail(path) for name, path in masks_for(self.content).items()}
        except (RequestError, OSError):
            return
        with self.brush.hold_sync():
            self.brush.shape, self.brush.picture = [picture.shape[3], picture.shape[2]], jpeg(picture)
        self.samples.thumbnails, self.samples.options = offered, list(offered)

    def _arrange(self, _: Any = None) -> None:
        """Show the value."""
        self._arranging = True
        try:
            few, masks = len(self.styles) <= FEW, self.value or (None,) * len(self.styles)
            if few:
                self._draw(masks)
            self.samples.value = masks[0] if masks[0] in self.samples.options else ""
            self.text.value = "" if self.value is None else as_text(self.value)
            for part in (self.brush, self.second, self.samples, self.text):
                part.disabled = self.disabled
        finally:
            self._arranging = False
        two = [self.choice] if len(self.styles) == FEW else []
        samples = [self.samples] if self.samples.options else []
        self.children = [self.brush, *two, *samples] if few else [self.fields]

    def _draw(self, masks: tuple[str | None, ...]) -> None:
        """The masks over the picture, and which of SECOND they are; one that cannot be read is not drawn."""
        first, other = (_pixels_or_none(mask) for mask in (*masks, None)[:FEW])
        second = self.second.value if self.second.value in SECOND else "elsewhere"
        if len(masks) == FEW and any(masks):
            second = _second(first, other)
        self.second.options = _options(SECOND | ({"own": "its own mask"} if second == "own" else {}))
        self.second.value = second
        with self.brush.hold_sync():
            self.brush.elsewhere = len(masks) == FEW and self.second.value == "elsewhere"
            self.brush.other = self._as_opacity(other) if self.second.value == "own" else b""
            if first is None or not np.array_equal(self._fitted(first), opacity(self.brush.mask)):
                self.brush.mask = self._as_opacity(first)
            self.brush.names = [Path(name).stem for name in self.styles]
            self.brush.note = self._note(first, other)

    def _note(self, first: np.ndarray | None, other: np.ndarray | None) -> str:
        if first is None and other is None:
            return "No mask: painted everywhere. Paint where the first style should be."
        parts = zip(self.styles, (first, other), strict=False)
        return " · ".join(f"{Path(name).stem}: {_extent(pixels)}" for name, pixels in parts)

    def _fitted(self, pixels: np.ndarray) -> np.ndarray:
        """A mask's pixels (h, w) at the size at which it is painted."""
        width, height = self.brush.shape
        if pixels.shape == (height, width):
            return pixels
        return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))

    def _as_opacity(self, pixels: np.ndarray | None) -> bytes:
        """A mask as the browser's canvas takes it: a white PNG, as opaque as the mask is white."""
        if pixels is None:
            return b""
        alpha = self._fitted(pixels)
        buffer = io.BytesIO()
        white = Image.fromarray(np.full_like(alpha, 255))
        Image.merge("LA", (white, Image.fromarray(alpha))).save(buffer, format="PNG")
        return buffer.getvalue()


def opacity(data: bytes) -> np.ndarray | None:
    """How opaque a PNG is, (h, w) bytes; None without one."""
    return np.array(Image.open(io.BytesIO(data), formats=("PNG",)).getchannel("A")) if data else None


def pixels_of(mask: str) -> np.ndarray:
    """A mask's grey levels, (h, w) bytes; 255 is in. Raises RequestError if it cannot be read."""
    return np.array(decode(find_picture(mask, "mask"), None, "black").convert("L"))


def masks_for(content: str) -> dict[str, Path]:
    """The sample masks for a content picture: those named after it, and those of its proportions named after none.

    >>> list(masks_for("rocket"))
    ['rocket-sky', 'rocket-ground']
    """
    width, height = resized(shape_of(find_picture(content)), SIDE)
    contents, found = sample_pictures("content"), {}
    for name, path in sample_pictures("mask").items():
        owner = name.partition("-")[0]
        try:
            if owner == content or owner not in contents:
                load_mask(name, (height, width))
                found[name] = path
        except (RequestError, OSError):
            continue  # of other proportions, or damaged
    return found


def _second(first: np.ndarray | None, other: np.ndarray | None) -> str:
    """Where two masks have the second style: one of SECOND, or in a mask of its own."""
    if other is None:
        return "everywhere"
    elsewhere = first is not None and np.array_equal(first, 255 - other)
    return "elsewhere" if elsewhere else "own"


def _pixels_or_none(mask: str | None) -> np.ndarray | None:
    try:
        return None if mask is None else pixels_of(mask)
    except (RequestError, OSError):
        return None


def _extent(pixels: np.ndarray | None) -> str:
    return "everywhere" if pixels is None else f"{pixels.mean() / 2.55:.0f} % of the picture"


def _options(names: dict[str, str]) -> list[tuple[str, str]]:
    return [(words, name) for name, words in names.items()]
