"""The network that a transfer uses: loaded, and reduced if the settings say so."""

from __future__ import annotations

import torch

from nstlab.images import Pictures, load_image
from nstlab.layers import architecture
from nstlab.network import VGG19, Network
from nstlab.network import load_network as load_by_name
from nstlab.optimise.initial import initial_value
from nstlab.optimise.objective import Objective
from nstlab.reduction import TECHNIQUES, Selection, gate_derivatives, reduced
from nstlab.settings import Settings

CALIBRATION = ("astronaut", "coffee", "rocket", "hubble", "swirl", "waves", "glass", "marbling")
"""The eight sample pictures of `calibration="samples"`: four photographs and four paintings. Chelsea is held out."""


def load_network(settings: Settings) -> Network:
    """The full network that the settings name. Raises RequestError or RunError like `nstlab.network.load_network`."""
    takes = [name for name in architecture(settings.network).takes if name != "reduction"]
    build = {name: getattr(settings, name) for name in takes}
    return load_by_name(settings.network, settings.weights, settings.device, **build)


def reduced_network(
    net: VGG19,
    settings: Settings,
    content: torch.Tensor,
    style: torch.Tensor,
    record: dict[str, Selection] | None = None,
) -> VGG19:
    """The network that a run with these settings uses instead of `net`; content, style in [0, 1]."""
    return reduced_for(net, settings, Pictures(content, (style,)), record)


def reduced_for(
    net: VGG19, settings: Settings, pictures: Pictures, record: dict[str, Selection] | None = None
) -> VGG19:
    """The network that a run with these settings and pictures uses instead of `net`.

    Loads the calibration pictures and computes what `nstlab.reduction.reduced` needs, including its `record`.
    Sensitivity is taken at the average of the two pictures, where both losses pull.
    """
    if settings.reduction is None:
        return net
    technique, judging, derivatives = TECHNIQUES[settings.reduction], [], None
    if technique.judges:
        samples = settings.calibration == "samples"
        pair = [pictures.content, *pictures.styles]
        judging = [load_image(name, settings.size) for name in CALIBRATION] if samples else pair
    if technique.derives:
        objective = Objective(net, pictures, settings)
        between = net.prepare(initial_value("average", pictures.content, pictures.styles[0]).to(net.mean))
        derivatives = gate_derivatives(net, between, lambda F: objective.losses(between, F.items())["total"])
    return reduced(net, settings, judging, derivatives, record)
