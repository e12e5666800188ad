"""Which features carry a loss: its derivatives by their gates, and the features that this chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from nstlab.errors import RequestError, unknown
from nstlab.gates import Gate, gates_as_text, parse_chosen
from nstlab.images import Pictures
from nstlab.network import Network
from nstlab.optimise.objective import Objective
from nstlab.settings import Settings

if TYPE_CHECKING:
    import pandas as pd  # a transfer does without: 34 MB [measured]

BY_GATE = ("style", "content")
"""The losses whose derivatives by gates are taken."""
TARGETS = ("gated", "whole")
Feature = tuple[str, int]
"""A layer's name and the number of one of its features."""


def gated_losses(
    objective: Objective,
    x: torch.Tensor,
    gates: str | Mapping[str, torch.Tensor | Mapping[int, Gate]],
    targets: str = "gated",
) -> dict[str, torch.Tensor]:
    """The losses of a picture (1, 3, H, W), in grey levels, by name, as the gated network sees it.

    gates: as `Network.gated` takes them; a tensor of factors may require gradients. targets: see `nstlab.dissect`.
    """
    if targets not in TARGETS:
        raise unknown("targets", targets, TARGETS)
    return objective.through(objective.net.gated(gates), x, targets_too=targets == "gated")


def gate_derivatives(
    objective: Objective, x: torch.Tensor, layers: Sequence[str] | None = None, targets: str = "gated"
) -> pd.DataFrame:
    """∂S/∂g and ∂C/∂g for the gate g of each feature, at g = 1: one row per feature of the layers.

    Columns layer, feature, style, content. To first order a loss changes by minus its derivative when the feature is
    switched off (Mozer & Smolensky 1989's relevance; Molchanov et al. 2017). x: the picture, in grey levels; layers:
    by default the style layers. One pass serves them all.
    """
    import pandas as pd

    net, layers = objective.net, list(layers or objective.settings.style_layers)
    gates = {name: torch.ones(net.layer(name).features).to(x).requires_grad_() for name in layers}
    with torch.enable_grad():
        losses = gated_losses(objective, x.detach(), gates, targets)
        by_term = {term: _derivatives(losses[term], list(gates.values())) for term in BY_GATE}
    features = [(name, feature) for name in layers for feature in range(len(gates[name]))]
    return pd.DataFrame(features, columns=["layer", "feature"]).assign(**by_term)


def _derivatives(loss: torch.Tensor, gates: list[torch.Tensor]) -> np.ndarray:
    if not loss.requires_grad:  # a term without layers, or none behind a gate
        return np.zeros(sum(map(len, gates)))
    found = torch.autograd.grad(loss, gates, retain_graph=True, materialize_grads=True)
    return torch.cat(found).cpu().double().numpy()


def ranked(derivatives: pd.DataFrame, by: str = "style") -> list[Feature]:
    """The features in a table of derivatives, the one that carries most of a loss first.

    That is the one with the largest derivative, by absolute value; of several iterations their mean counts.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"layer": "relu1_1", "feature": [0, 1, 2], "style": [0.5, -2.0, 0.0]})
    >>> ranked(table)
    [('relu1_1', 1), ('relu1_1', 0), ('relu1_1', 2)]
    """
    means = derivatives.groupby(["layer", "feature"], sort=False)[by].mean()
    return [(layer, int(feature)) for layer, feature in means.abs().sort_values(ascending=False, kind="stable").index]


def off(features: Iterable[Feature]) -> str:
    """The `gates` setting that switches these features off.

    >>> off([("relu4_1", 12), ("relu3_1", 3), ("relu4_1", 13)])
    'relu4_1:12-13;relu3_1:3'
    """
    gates: dict[str, dict[int, Gate]] = {}
    for layer, feature in features:
        gates.setdefault(layer, {})[feature] = 0.0
    return gates_as_text(gates)


def chosen_gates(objective: Objective, x: torch.Tensor, gates: str, seed: int = 0) -> str:
    """Gates such as "first:50" as the features that they choose at a picture (1, 3, H, W) in grey levels; others as
    they are. Raises RequestError for too many.
    """
    chosen = parse_chosen(gates)
    if chosen is None:
        return gates
    order, count, layer = chosen
    ranking = ranked(gate_derivatives(objective, x, [layer] if layer else None))
    if count > len(ranking):
        raise RequestError(f"gates={gates}: there are {len(ranking)} features")
    if order == "random":
        ranking = [ranking[i] for i in np.random.default_rng(seed).permutation(len(ranking))]
    return off(ranking[len(ranking) - count :] if order == "last" else ranking[:count])


def with_chosen_gates(net: Network, settings: Settings, pictures: Pictures) -> Network:
    """The network with the features off that settings such as gates="first:50" choose; any other as it is.

    They are ranked at the content picture, where the style asks for most.
    """
    if not parse_chosen(settings.gates):
        return net
    x = net.prepare(pictures.content)
    return net.gated(chosen_gates(Objective(net, pictures, settings), x, settings.gates, settings.seed))
