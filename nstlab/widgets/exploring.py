"""explorer(): click on a picture and see what that place excites in each layer."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import anywidget
import ipywidgets as w
import torch
import traitlets as t

from nstlab import dissect, plots
from nstlab.images import load_image
from nstlab.network import VGG19, load_vgg19

BOXED = ("relu1_2", "relu2_2", "relu3_2", "relu4_2", "relu5_2")  # layers whose receptive field is drawn
SIDE = 360  # of a picture on the screen, in CSS pixels


class ClickablePicture(anywidget.AnyWidget):
    """A picture with boxes drawn on it; `point` is the pixel (row, column) last clicked or reached by arrow keys."""

    png = t.Bytes().tag(sync=True)
    size = t.List([1, 1]).tag(sync=True)  # rows, columns of the picture
    point = t.List([0, 0]).tag(sync=True)
    boxes = t.List().tag(sync=True)  # [top, left, bottom, right, colour, name]
    caption = t.Unicode().tag(sync=True)
    side = t.Int(SIDE).tag(sync=True)
    _esm = """
    function render({ model, el }) {
      const figure = document.createElement("figure");
      figure.className = "nst-picture";
      const canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "application");
      figure.append(canvas, caption);
      el.append(figure);
      const image = new Image();
      image.onload = draw;
      let url = null;
      function load() {
        if (url) URL.revokeObjectURL(url);
        url = URL.createObjectURL(new Blob([model.get("png")], { type: "image/png" }));
        image.src = url;
      }
      function draw() {
        const [rows, columns] = model.get("size"), k = model.get("side") / Math.max(rows, columns);
        const dense = window.devicePixelRatio || 1;
        canvas.style.width = columns * k + "px";
        canvas.style.height = rows * k + "px";
        canvas.width = columns * k * dense;
        canvas.height = rows * k * dense;
        const pen = canvas.getContext("2d");
        pen.scale(dense, dense);
        pen.drawImage(image, 0, 0, columns * k, rows * k);
        pen.lineWidth = 2;
        for (const [top, left, bottom, right, colour] of model.get("boxes")) {
          pen.strokeStyle = colour;
          pen.strokeRect(left * k + 1, top * k + 1, (right - left) * k - 2, (bottom - top) * k - 2);
        }
        const [row, column] = model.get("point"), x = (column + 0.5) * k, y = (row + 0.5) * k;
        for (const [width, colour] of [[4, "black"], [2, "#00e5ff"]]) {
          pen.lineWidth = width;
          pen.strokeStyle = colour;
          pen.beginPath();
          pen.moveTo(x - 7, y); pen.lineTo(x + 7, y); pen.moveTo(x, y - 7); pen.lineTo(x, y + 7);
          pen.stroke();
        }
        caption.textContent = `${model.get("caption").split(/[\\\\/]/).pop()} · row ${row}, column ${column}`;
        canvas.setAttribute("aria-label", `${caption.textContent}. Click, or move with the arrow keys.`);
      }
      function go(row, column) {
        const [rows, columns] = model.get("size");
        const inside = (value, count) => Math.min(Math.max(Math.round(value), 0), count - 1);
        const before = model.get("point"), point = [inside(row, rows), inside(column, columns)];
        if (point[0] === before[0] && point[1] === before[1]) return model.send({ kind: "again" });
        model.set("point", point);
        model.save_changes();
      }
      canvas.addEventListener("pointerdown", (event) => {
        const box = canvas.getBoundingClientRect(), [rows, columns] = model.get("size");
        const down = (event.clientY - box.top) / box.height, along = (event.clientX - box.left) / box.width;
        go(down * rows - 0.5, along * columns - 0.5);
      });
      canvas.addEventListener("keydown", (event) => {
        const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation();
        const by = event.shiftKey ? 16 : 4, [row, column] = model.get("point");
        go(row + by * step[0], column + by * step[1]);
      });
      model.on("change:png", load);
      for (const name of ["boxes", "point", "size", "caption"]) model.on(`change:${name}`, draw);
      load();
    }
    export default { render };
    """
    _css = """
    .nst-picture { margin: 0 12px 8px 0; }
    .nst-picture canvas { cursor: crosshair; display: block; }
    .nst-picture canvas:focus-visible { outline: 2px solid var(--jp-brand-color1, #1976d2); outline-offset: 2px; }
    .nst-picture figcaption { font-size: 12px; color: var(--jp-ui-font-color1, inherit); padding-top: 3px; }
    """


class FeatureTable(anywidget.AnyWidget):
    """The layers with the features that a place excites; `chosen` is [layer, feature], the one last clicked."""

    rows = t.List().tag(sync=True)  # {layer, field, features: [[feature, value, percent], ...]}
    chosen = t.List(["", 0]).tag(sync=True)
    colours = t.Dict().tag(sync=True)  # of the boxes, by layer
    _esm = """
    function render({ model, el }) {
      const frame = document.createElement("div");
      frame.className = "nst-features";
      frame.tabIndex = 0;
      el.append(frame);
      function draw() {
        const [layer, feature] = model.get("chosen"), colours = model.get("colours");
        const body = document.createElement("table"), head = body.createTHead().insertRow();
        for (const text of ["layer", "sees", "features excited most (grey levels; bar: % of their maximum)"]) {
          const cell = document.createElement("th");
          cell.textContent = text;
          head.append(cell);
        }
        const rows = body.createTBody();
        for (const row of model.get("rows")) {
          const line = rows.insertRow(), name = line.insertCell(), sees = line.insertCell(), list = line.insertCell();
          name.textContent = row.layer;
          if (colours[row.layer]) name.style.borderLeft = `6px solid ${colours[row.layer]}`;
          sees.textContent = row.field;
          for (const [number, value, percent] of row.features) {
            const button = document.createElement("button");
            button.type = "button";
            button.dataset.feature = `${row.layer}-${number}`;
            button.title = `${row.layer}, feature ${number}: ${value} grey levels here, ${percent} % of its maximum`;
            button.style.setProperty("--percent", `${percent}%`);
            const bold = document.createElement("b");
            bold.textContent = `#${number}`;
            button.append(bold, ` ${value}`);
            button.setAttribute("aria-pressed", row.layer === layer && number === feature);
            button.onclick = () => { model.set("chosen", [row.layer, number]); model.save_changes(); };
            list.append(button);
          }
          if (!row.features.length) list.textContent = "nothing above 0";
        }
        const top = frame.scrollTop;
        frame.replaceChildren(body);
        frame.scrollTop = top;
      }
      model.on("change:rows", draw);
      model.on("change:chosen", draw);
      draw();
    }
    export default { render };
    """
    _css = """
    .nst-features { max-height: 384px; overflow: auto; font-size: 12px;
      border: 1px solid var(--jp-border-color2, #ccc); }
    .nst-features table { border-collapse: collapse; width: 100%; }
    .nst-features th { position: sticky; top: 0; text-align: left; padding: 4px 6px;
      background: var(--jp-layout-color2, #eee); color: var(--jp-ui-font-color1, inherit); }
    .nst-features td { padding: 1px 6px; white-space: nowrap; color: var(--jp-ui-font-color1, inherit); }
    .nst-features button { font: inherit; margin: 1px 3px 1px 0; padding: 1px 5px; cursor: pointer; border-radius: 3px;
      color: inherit; border: 1px solid var(--jp-border-color2, #ccc);
      background: linear-gradient(90deg, rgba(227, 160, 43, .45) var(--percent), transparent var(--percent)); }
    .nst-features button[aria-pressed=true] { border-color: #c1440e; box-shadow: 0 0 0 1px #c1440e; }
    """


class Explorer(w.VBox):
    """The widget that `explorer` returns. `controls` has its parts by name; errors appear in controls["status"]."""

    def __init__(self, net: VGG19, images: dict[str, torch.Tensor]) -> None:
        self.net, self.images = net, images
        self.computed = {name: dissect.activations(net, image) for name, image in images.items()}
        self.current = next(iter(images))
        self._busy = False
        self.pictures = {
            name: ClickablePicture(size=size, point=[side // 2 for side in size], caption=name)
            for name, size in ((name, list(image.shape[2:])) for name, image in images.items())
        }
        colours = dict(zip(BOXED, plots.box_colours(len(BOXED)), strict=True))
        self.controls: dict[str, Any] = {
            "features": FeatureTable(colours=colours),
            "layer": w.Dropdown(options=[layer.name for layer in net.layers], value="relu3_2", description="layer"),
            "feature": w.BoundedIntText(0, 0, 255, description="feature"),
            "overlay": w.Checkbox(True, description="show its map on the picture", indent=False),
            "card": w.Image(format="png", layout=w.Layout(max_width="100%", flex="0 0 auto")),
            "status": w.HTML(),
        }
        super().__init__(self._laid_out())
        self.add_class("nst-explorer")
        self.go(self.current, *self.pictures[self.current].point)
        self.choose(*self._strongest("relu3_2"))
        self._listen()

    def go(self, name: str, row: int, column: int) -> None:
        """Look at pixel (row, column) of a picture. Raises RequestError for one outside it."""
        card = dissect.position_card(self.net, self.images[name], row, column, self.computed[name], count=4)
        moved, self.current = name != self.current, name
        picture = self.pictures[name]
        colours = self.controls["features"].colours
        picture.point = [row, column]
        picture.boxes = [
            [box.top, box.left, box.bottom, box.right, colours[layer], layer]
            for layer, box in ((layer, card.boxes[layer]) for layer in reversed(BOXED))
        ]
        self.controls["features"].rows = [
            {
                "layer": layer,
                "field": f"{card.boxes[layer].height} × {card.boxes[layer].width}",
                "features": [[feature, round(value), round(100 * part)] for feature, value, part in excited],
            }
            for layer, excited in card.excited.items()
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
            self.controls["features"].chosen = [layer, feature]
        finally:
            self._busy = False
        self._draw_pictures()
        card = dissect.feature_card(self.net, self.images[self.current], layer, feature, self.computed[self.current])
        self.controls["card"].value = plots.png(plots.feature_card(card))

    def _draw_pictures(self) -> None:
        layer, feature = self.controls["layer"].value, self.controls["feature"].value
        maps = {name: computed[layer][0, feature] for name, computed in self.computed.items()}
        norm = plots.scale(torch.cat([values.flatten() for values in maps.values()]))  # one scale for both
        for name, picture in self.pictures.items():
            values = maps[name] if self.controls["overlay"].value else None
            picture.png = plots.overlay_png(self.images[name], values, norm, side=2 * SIDE)

    def _strongest(self, layer: str) -> tuple[str, int]:
        """The layer, and its feature that the current place excites most; 0 if it excites none."""
        rows = {row["layer"]: row["features"] for row in self.controls["features"].rows}
        return layer, rows[layer][0][0] if rows.get(layer) else 0

    def _listen(self) -> None:
        for name, picture in self.pictures.items():
            picture.observe(self._guarded(lambda change, name=name: self.go(name, *change["new"])), "point")
            again = self._guarded(lambda message, name=name: self.go(name, *self.pictures[name].point))
            picture.on_msg(lambda widget, message, buffers, again=again: again(message))  # clicked the same place again
        table, layer, feature = (self.controls[name] for name in ("features", "layer", "feature"))
        table.observe(self._guarded(lambda change: self.choose(*change["new"])), "chosen")
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
                self.controls["status"].value = f"<span style='color:#c1440e'>{line}</span>"

        return observer

    def _laid_out(self) -> list[w.Widget]:
        c = self.controls
        for name, part in c.items():
            part.add_class(f"nst-explorer-{name}")
        c["layer"].layout = c["feature"].layout = w.Layout(width="190px")
        c["overlay"].layout = w.Layout(width="220px")
        hint = w.HTML(
            "Click on a picture (or move with the arrow keys): the frames are receptive fields, the smallest is the "
            "earliest layer's. Click on a feature in the table to see its map."
        )
        row = w.HBox(
            [*self.pictures.values(), w.VBox([c["features"]], layout=w.Layout(flex="1 1 400px", min_width="400px"))],
            layout=w.Layout(flex_flow="row wrap"),
        )
        chooser = w.HBox([c["layer"], c["feature"], c["overlay"]], layout=w.Layout(flex_flow="row wrap"))
        return [hint, row, chooser, c["status"], c["card"]]


def explorer(
    content: str = "astronaut", style: str | None = None, size: int = 256, net: VGG19 | None = None
) -> Explorer:
    """A widget that shows what VGG19's layers make of a picture, or of two side by side.

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
