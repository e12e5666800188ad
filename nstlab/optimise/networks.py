"""The network that a transfer uses: loaded, and reduced if the settings say so."""

from __future__ import annotations

import torch

from nstlab.errors import unknown
from nstlab.gates import parse_chosen
from nstlab.images import Pictures, load_image
from nstlab.layers import architecture
from nstlab.network import VGG19, Network, defaults_of, layers_of, make_network
from nstlab.optimise.initial import initial_value
from nstlab.optimise.objective import Objective
from nstlab.reduction import TECHNIQUES, Selection, gate_derivatives, reduced
from nstlab.settings import Settings

CALIBRATION = ("astronaut", "coffee", "rocket", "hubble", "swirl", "waves", "glass", "marbling")
"""The eight sample pictures of `calibration="samples"`: four photographs and four paintings. Chelsea is held out."""


def load_network(settings: Settings) -> Network:
    """The full network that the settings name, with the gates that they name.

    Raises RequestError or RunError like `nstlab.network.load_network`.
    """
    takes = [name for name in architecture(settings.network).takes if name not in ("reduction", "tile")]
    build = {name: getattr(settings, name) for name in takes}
    net = make_network(settings.network, settings.weights, settings.device, **build)
    return net.gated(settings.gates) if settings.gates and not parse_chosen(settings.gates) else net


def settled(settings: Settings) -> Settings:
    """The same settings with layers that their network has, named.

    Settings do not load a network of the user's own; this does, where they name one. Layers that they left to the
    network are filled in. Raises RequestError for one that it does not have.
    """
    if "network" not in settings.code:
        return settings
    known = [layer.name for layer in layers_of(settings.network)]
    for name in (*(settings.content_layers or ()), *(settings.style_layers or ())):
        if name not in known:
            raise unknown(f"layer of {settings.network}", name, known)
    return with_own_layers(settings)


def with_own_layers(settings: Settings) -> Settings:
    """The same settings with the network's own layers where they left them to it; loads it only then."""
    left = [name for name in ("content_layers", "style_layers") if getattr(settings, name) is None]
    if not left:
        return settings
    own = defaults_of(settings.network)
    return settings.with_(**{name: own[name] for name in left})


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
        between = net.prepare(initial_value("average", pictures.content, pictures.styles[0]))
        derivatives = gate_derivatives(net, between, lambda F: objective.losses(between, F.items())["total"])
    return reduced(net, settings, judging, derivatives, record)
