"""explorer(): click on a picture and see what that place excites in each layer."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as w
import torch

from nstlab import dissect, plots
from nstlab.images import load_image
from nstlab.network import Network, load_vgg19
from nstlab.widgets.favourite import FavouritePicture
from nstlab.widgets.parts import FRONT, FeatureTable, Picture, Place
from nstlab.widgets.switches import Switches

BOXED = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")  # VGG's layers whose receptive field is drawn
SIDE = 360  # of a picture on the screen, in CSS pixels
HEADS = ["layer", "sees", "features excited most (grey levels; bar: % of their maximum)"]


class Explorer(w.VBox):
    """The widget that `explorer` returns. `controls` has its parts by name; errors appear in controls["status"]."""

    def __init__(self, net: Network, images: dict[str, torch.Tensor]) -> None:
        self.net, self.images = net, images
        self.boxed = BOXED if set(BOXED) <= set(net.names) else net.style_layers
        first = self.boxed[len(self.boxed) // 2]
        self.computed = {name: dissect.activations(net, image) for name, image in images.items()}
        self.current = next(iter(images))
        self._busy = False
        self.pictures = {
            name: Place(side=SIDE, size=size, point=[side // 2 for side in size], caption=name)
            for name, size in ((name, list(image.shape[2:])) for name, image in images.items())
        }
        colours = dict(zip(self.boxed, plots.box_colours(len(self.boxed)), strict=True))
        self.controls: dict[str, Any] = {
            "features": FeatureTable(colours=colours, heads=HEADS),
            "layer": w.Dropdown(options=[layer.name for layer in net.layers], value=first, description="layer"),
            "feature": w.BoundedIntText(0, 0, 255, description="feature"),
            "overlay": w.Checkbox(True, description="show its map on the picture", indent=False),
            "scale": w.HTML(),
            "likes": FavouritePicture(net),
            "card": Picture(),
            "neighbours": FeatureTable(),
            "status": w.HTML(),
        }
        if len(images) > 1:  # a style, to lose
            self.controls["switches"] = Switches(net, *images.values())
        super().__init__(self._laid_out())
        for name in ("nst", "nst-explorer"):
            self.add_class(name)
        self.go(self.current, *self.pictures[self.current].point)
        self.choose(*self._strongest(first))
        self._listen()

    def go(self, name: str, row: int, column: int) -> None:
        """Look at pixel (row, column) of a picture. Raises RequestError for one outside it."""
        card = dissect.position_card(self.net, self.images[name], row, column, self.computed[name], count=4)
        moved, self.current = name != self.current, name
        paired = {f"relu{n[4:]}": n for n in self.net.names if n[:4] == "conv" and f"relu{n[4:]}" in self.net.names}
        picture = self.pictures[name]
        colours = self.controls["features"].colours
        picture.point = [row, column]
        picture.boxes = [
            [box.top, box.left, box.bottom, box.right, colours[layer], layer]
            for layer, box in ((layer, card.boxes[layer]) for layer in reversed(self.boxed))
        ]
        self.controls["features"].rows = [
            {
                "layers": [paired[layer], layer] if layer in paired else [layer],
                "field": f"{card.boxes[layer].height} × {card.boxes[layer].width}",
                "features": [_excited(*feature) for feature in excited],
            }
            for layer, excited in card.excited.items()
            if layer not in paired.values()  # what is above 0 is the same as in its relu
        ]
        if moved:  # the feature's card is for the current picture
            self.choose(self.controls["layer"].value, self.controls["feature"].value)

    def choose(self, layer: str, feature: int) -> None:
        """Show a feature: its map on the pictures, and its card. Raises RequestError for an unknown one."""
        self.net.layer(layer).check_feature(feature)
        self._busy = True  # we set the controls below, not the user
        try:
            self.controls["layer"].value = layer
            self.controls["feature"].max = self.net.layer(layer).features - 1
            self.controls["feature"].value = feature
            self.controls["features"].chosen = self.controls["neighbours"].chosen = [layer, feature]
        finally:
            self._busy = False
        self.controls["likes"].show((layer, feature))
        if "switches" in self.controls:
            self.controls["switches"].choose(layer, feature)
        self._draw_pictures()
        card = dissect.feature_card(self.net, self.images[self.current], layer, feature, self.computed[self.current], 8)
        self.controls["card"].label = f"what excites feature {feature} of {layer}, and what it listens to"
        self.controls["card"].value = plots.png(plots.feature_details(card), dpi=160)
        self._draw_neighbours(card)

    def _draw_pictures(self) -> None:
        layer, feature = self.controls["layer"].value, self.controls["feature"].value
        maps = {name: computed[layer][0, feature] for name, computed in self.computed.items()}
        norm = plots.scale(torch.cat([values.flatten() for values in maps.values()]))  # one scale for both
        for name, picture in self.pictures.items():
            values = maps[name] if self.controls["overlay"].value else None
            picture.png = plots.overlay_png(self.images[name], values, norm, side=2 * SIDE)
        self.controls["scale"].value = _strip(*norm) if self.controls["overlay"].value else ""

    def _draw_neighbours(self, card: dissect.FeatureCard) -> None:
        """The features most like this one in the current picture, and those of the layer before that it listens to."""
        layer, feature = card.layer.name, card.feature
        table = self.controls["neighbours"]
        table.heads = [f"{layer} #{feature}", "in", "click to go there (an angle: 0° alike, 90° never active together)"]
        like = [
            [other, f"{angle:.0f}°", round(100 * max(0, 1 - angle / 90)), f"{layer}, feature {other}: at {angle:.1f}°"]
            for other, angle in card.nearest
        ]
        table.rows = [{"says": "is most like", "layers": [layer], "field": layer, "features": like}]
        if card.inputs and layer[4:] != "1_1":  # VGG's conv1_1 listens to colours
            before = self.net.layers[self.net.layer(f"conv{layer[4:]}").index - 2].name
            heard = [[other, "", 0, f"{before}, feature {other}"] for other in card.inputs]
            table.rows = [*table.rows, {"says": "listens to", "layers": [before], "field": before, "features": heard}]

    def _strongest(self, layer: str) -> tuple[str, int]:
        """The layer, and its feature that the current place excites most; 0 if it excites none."""
        rows = {name: row["features"] for row in self.controls["features"].rows for name in row["layers"]}
        return layer, rows[layer][0][0] if rows[layer] else 0

    def _listen(self) -> None:
        for name, picture in self.pictures.items():
            picture.observe(self._guarded(lambda change, name=name: self.go(name, *change["new"])), "point")
            again = self._guarded(lambda message, name=name: self.go(name, *self.pictures[name].point))
            picture.on_msg(lambda widget, message, buffers, again=again: again(message))  # clicked the same place again
        table, layer, feature = (self.controls[name] for name in ("features", "layer", "feature"))
        for choice in (table, self.controls["neighbours"]):
            choice.observe(self._guarded(lambda change: self.choose(*change["new"])), "chosen")
        layer.observe(self._guarded(lambda change: self.choose(*self._strongest(change["new"]))), "value")
        feature.observe(self._guarded(lambda change: self.choose(layer.value, change["new"])), "value")
        self.controls["overlay"].observe(self._guarded(lambda change: self._draw_pictures()), "value")

    def _guarded(self, answer: Callable[[dict], None]) -> Callable[[dict], None]:
        """An observer that shows its errors, which would otherwise only reach the log."""

        def observer(change: dict) -> None:
            if self._busy:
                return
            try:
                answer(change)
                self.controls["status"].value = ""
            except Exception as error:  # the explorer must stay usable
                line = html.escape(" ".join(str(error).split()))
                self.controls["status"].value = f'<p class="nst-error" role="alert">{line}</p>'

        return observer

    def _laid_out(self) -> list[w.Widget]:
        c = self.controls
        for name, part in c.items():
            part.add_class(f"nst-explorer-{name}")
        c["status"].add_class("nst-message")
        css = "".join((FRONT / name).read_text(encoding="utf-8") for name in ("panel.css", "explorer.css"))
        hint = (
            "Click on a picture (or move with the arrow keys): the frames are receptive fields, the smallest is the "
            "earliest layer's. Click on a feature to see its map on the picture, or on conv or relu for the map before "
            "or after the ReLU."
        )
        chooser = _box("chooser", c["layer"], c["feature"], c["overlay"], c["scale"])
        left = _box("left", _box("pictures", *self.pictures.values()), chooser)
        about = _box("about", c["likes"], c["card"], c["neighbours"])
        style, hint = w.HTML(f"<style>{css}</style>"), w.HTML(hint)
        style.add_class("nst-style")
        hint.add_class("nst-explorer-hint")
        switches = [c["switches"]] if "switches" in c else []
        return [style, hint, _box("body", left, c["features"]), c["status"], about, *switches]


def _box(name: str, *parts: w.Widget) -> w.Box:
    box = (w.VBox if name == "left" else w.Box)(parts)
    box.add_class(f"nst-explorer-{name}")
    return box


def _excited(feature: int, value: float, part: float) -> list:
    """A feature for the table: with its activation in grey levels, as a part of its maximum, too."""
    percent = round(100 * part)
    return [
        feature,
        f"{value:.0f}",
        percent,
        f"feature {feature}: {value:.0f} grey levels here, {percent} % of its maximum",
    ]


def _strip(colours: str, limits: Any) -> str:
    """A scale of a map's colours with its ends, in grey levels, as HTML; colours, limits: as from `plots.scale`."""
    stops = ", ".join(plots.colour_stops(colours))
    low, high = (f"{end:.0f}".replace("-", "−") for end in (limits.vmin, limits.vmax))
    return f'{low}<i style="background:linear-gradient(90deg, {stops})"></i>{high} grey levels'


def explorer(
    content: str = "astronaut", style: str | None = None, size: int = 256, net: Network | None = None
) -> Explorer:
    """A widget that shows what a network's layers make of a picture, or of two side by side.

    With two, features can be switched off: it shows what the style then asks for, and paints without them.

    content, style: samples' names or paths; size: the longer side in pixels; net: None loads the default network.
    The activations of all layers are computed once and kept, about 2.5 kB per pixel of each picture (160 MB at
    256 x 256), so that a click is answered at once. Raises RequestError for a picture that cannot be read.

    >>> tool = explorer("astronaut", size=32, net=load_vgg19("random", device="cpu"))
    >>> tool.choose("relu2_1", 5)
    >>> tool.controls["layer"].value
    'relu2_1'
    """
    net = net if net is not None else load_vgg19()
    names = [content] if style is None or style == content else [content, style]
    images = {name: load_image(name, size).to(net.mean) for name in names}
    return Explorer(net, images)
