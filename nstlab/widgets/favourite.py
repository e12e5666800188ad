"""The picture that a feature likes best, painted on demand."""

from __future__ import annotations

from collections.abc import Iterable

from nstlab.dissect import favourite_steps
from nstlab.network import Network
from nstlab.optimise import Step
from nstlab.widgets.on_demand import PaintedOnDemand


class FavouritePicture(PaintedOnDemand):
    """A button that paints the favourite of the feature, (layer, number), that is shown."""

    def __init__(self, net: Network, size: int = 64, iterations: int = 60) -> None:
        self.net, self.size = net, size
        super().__init__("Paint its favourite picture", "the picture that excites the feature most", iterations)

    def steps(self, what: tuple[str, int]) -> Iterable[Step]:
        return favourite_steps(self.net, *what, self.size, self.iterations)

    def said(self, step: Step) -> str:
        activation = f"{step.losses['activation']:,.0f}".replace(",", " ")
        return f"{activation} grey levels on average"

    def said_at_the_end(self, step: Step) -> str:
        return f"Its favourite picture. iteration {step.iteration} of {self.iterations}: {self.said(step)}"
