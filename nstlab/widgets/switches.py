"""Features that are switched off: what the style then asks for, and what is painted without them."""

from __future__ import annotations

import html
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import ipywidgets as w
import torch
from torch.nn.functional import interpolate

from nstlab import dissect, plots
from nstlab.gates import gates_as_text, parse_gates
from nstlab.images import Pictures
from nstlab.network import Network
from nstlab.optimise import Objective, Step, chosen_gates, gram, make_optimizer, steps
from nstlab.settings import Settings
from nstlab.widgets.on_demand import PaintedOnDemand
from nstlab.widgets.parts import Picture

LONGER_SIDE = 128  # of what is painted here, in pixels
k_S = 30.0


class Repainting(PaintedOnDemand):
    """A button that paints the pair through the network without some features; shown are the gates, as text."""

    def __init__(self, objective: Objective, iterations: int = 30) -> None:
        self.objective = objective
        super().__init__(
            "Paint without them", "a short painting through the network without these features", iterations
        )

    def steps(self, what: str) -> Iterable[Step]:
        whole = self.objective
        gated = Objective(whole.net.gated(what), whole.pictures, whole.settings)
        x = whole.net.prepare(whole.pictures[0].content).clone().requires_grad_()
        return steps(gated, x, make_optimizer(x, whole.settings), whole.settings, end=self.iterations)

    def said(self, step: Step) -> str:
        return f"{self._missing(step):.1%} of the style is missing"

    def said_at_the_end(self, step: Step) -> str:
        return f"Painted in {step.iteration} iterations: {self._missing(step):.1%} of the style is missing."

    def _missing(self, step: Step) -> float:
        """The style loss as the whole network sees it, as a part of the photograph's."""
        return self._style_loss(step.image) / max(self._photographs, 1e-12)

    @cached_property
    def _photographs(self) -> float:
        return self._style_loss(self.objective.pictures[0].content)

    @torch.no_grad()
    def _style_loss(self, image: torch.Tensor) -> float:
        net = self.objective.net
        return float(self.objective(net.prepare(image))["style"])


class Switches(w.VBox):
    """Switches features off, several, with undo; `gates` exports them as the setting of that name."""

    def __init__(self, net: Network, content: torch.Tensor, style: torch.Tensor) -> None:
        layers = {"content_layers": net.content_layers, "style_layers": net.style_layers}
        pictures = Pictures(_small(content), (_small(style),))
        settings = Settings(size=max(pictures.content.shape[2:]), k_S=k_S).model_copy(update=layers)
        self.objective = Objective(net, pictures, settings)
        self.x = net.prepare(pictures.content)
        self.feature: tuple[str, int] | None = None
        self._pasts: list[str] = []
        self._off = ""
        self._drawn: tuple[str, str] | None = None  # the layer and the gates whose Grams are shown
        self.toggle_button = w.Button(
            description="Switch off", tooltip="the feature that is chosen above (or on again)"
        )
        self.undo_button = w.Button(description="Undo", tooltip="what was switched last", disabled=True)
        self.reset_button = w.Button(description="All on", tooltip="switch all features on", disabled=True)
        self.text = w.Text(description="gates", placeholder="none are off; try first:50", continuous_update=False)
        self.text.tooltip = "what is off, as the setting `gates`: copy it, or write one (first:50) and press Enter"
        self.told, self.grams = w.HTML(), Picture(label="the style's Gram matrix, as it is and without what is off")
        self.repainting = Repainting(self.objective)
        self.asked = self._losses()
        buttons = w.HBox([self.toggle_button, self.undo_button, self.reset_button])
        left = w.VBox([buttons, self.text, self.told])
        left.add_class("nst-switches-left")
        self.grams.add_class("nst-switches-grams")
        super().__init__([left, self.grams, self.repainting])
        self.add_class("nst-switches")
        self.toggle_button.on_click(lambda _: self.toggle(*self.feature))
        self.undo_button.on_click(lambda _: self.undo())
        self.reset_button.on_click(lambda _: self.switch(""))
        self.text.observe(self._typed, "value")
        self._tell()

    @property
    def gates(self) -> str:
        """What is off, as the setting `gates` has it; empty if nothing is."""
        return self._off

    def choose(self, layer: str, feature: int) -> None:
        """The feature that the button switches."""
        self.feature = layer, feature
        is_off = feature in parse_gates(self.gates).get(layer, {})
        self.toggle_button.description = f"Switch {layer} #{feature} {'on' if is_off else 'off'}"
        if self._drawn != (layer, self._off):
            self._drawn = layer, self._off
            self._draw_grams()

    def toggle(self, layer: str, feature: int) -> None:
        """Switch a feature off, or on again."""
        gates = parse_gates(self.gates)
        of_layer = gates.setdefault(layer, {})
        if of_layer.pop(feature, None) is None:
            of_layer[feature] = 0.0
        self.switch(gates_as_text(gates))

    def switch(self, gates: str) -> None:
        """Other gates, which can be undone; "first:50" are the 50 features that carry most of the style.

        Raises RequestError for what the network does not have.
        """
        gates = chosen_gates(self.objective, self.x, gates)
        self.objective.net.gated(gates)  # which says what is wrong
        gates = gates_as_text(parse_gates(gates))
        if gates != self._off:
            self._pasts.append(self._off)
            self._off = gates
        self._tell()

    def undo(self) -> None:
        """Back to what was off before."""
        if self._pasts:
            self._off = self._pasts.pop()
        self._tell()

    def _typed(self, change: dict[str, Any]) -> None:
        if change["new"] == self._off:
            return
        try:
            self.switch(change["new"])
        except Exception as error:  # what is typed may be anything
            line = html.escape(" ".join(str(error).split()))
            self.told.value = f'<p class="nst-error" role="alert">{line}</p>'

    @torch.no_grad()
    def _losses(self) -> dict[str, float]:
        losses = dissect.gated_losses(self.objective, self.x, self.gates)
        return {name: float(loss) for name, loss in losses.items()}

    def _tell(self) -> None:
        self.text.value = self._off
        self.undo_button.disabled, self.reset_button.disabled = not self._pasts, not self._off
        now, count = self._losses(), sum(map(len, parse_gates(self._off).values()))
        names = ["style", *self.objective.settings.style_layers]
        rows = "".join(_bar(name, now[name] / max(self.asked[name], 1e-12)) for name in names)
        many = "1 feature is" if count == 1 else f"{count or 'no'} features are"
        self.told.value = f"<p>{many} off. What the style still asks for at the photograph:</p>{rows}"
        self.repainting.show(self._off)
        if self.feature:
            self.choose(*self.feature)

    @torch.no_grad()
    def _draw_grams(self) -> None:
        layer, net = self.feature[0], self.objective.net
        style = net.prepare(self.objective.pictures[0].styles[0])
        found = (which(style, keep=[layer])[layer] for which in (net, net.gated(self.gates)))
        pair = dict(zip((f"the style's Gram at {layer}", "without them"), map(gram, found), strict=True))
        self.grams.value = plots.png(plots.grams(pair), dpi=110)


def _small(image: torch.Tensor) -> torch.Tensor:
    scale = LONGER_SIDE / max(image.shape[2:])
    return image if scale >= 1 else interpolate(image, scale_factor=scale, mode="area")


def _bar(name: str, part: float) -> str:
    """A row with a bar, as HTML."""
    width, words = min(100 * part, 100), f"{part:.0%}"
    return f'<div class="nst-switches-bar"><span>{name}</span><i><i style="width:{width:.0f}%"></i></i>{words}</div>'
