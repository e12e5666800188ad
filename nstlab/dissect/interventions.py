"""What features do to a style, found by intervening: switch them off, and see how the losses change.

Two questions can be asked of a gate (see `Network.gated`). targets="gated": the network loses the feature altogether,
as in a run with the setting `gates`; a loss falls by what the feature asks for. targets="whole": only the picture
loses it, and the targets stay; a loss grows by what the picture has of the target in this feature. At the style
picture itself both derivatives of the style loss are 0, for there it is smallest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from nstlab.errors import RequestError, unknown
from nstlab.gates import Gate, gates_as_text
from nstlab.optimise import Objective, make_optimizer, set_up, steps
from nstlab.settings import Settings

TERMS = ("style", "content")
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

    gates: as `Network.gated` takes them; a tensor of factors may require gradients. targets: see this module.
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
    net, layers = objective.net, list(layers or objective.settings.style_layers)
    gates = {name: torch.ones(net.layer(name).features).to(x).requires_grad_() for name in layers}
    with torch.enable_grad():
        losses = gated_losses(objective, x.detach(), gates, targets)
        by_term = {term: _derivatives(losses[term], list(gates.values())) for term in TERMS}
    features = [(name, feature) for name in layers for feature in range(len(gates[name]))]
    return pd.DataFrame(features, columns=["layer", "feature"]).assign(**by_term)


def _derivatives(loss: torch.Tensor, gates: list[torch.Tensor]) -> np.ndarray:
    if not loss.requires_grad:  # a term without layers, or none behind a gate
        return np.zeros(sum(map(len, gates)))
    found = torch.autograd.grad(loss, gates, retain_graph=True, materialize_grads=True)
    return torch.cat(found).double().cpu().numpy()


def gate_derivatives_along(
    settings: Settings, iterations: Sequence[int], layers: Sequence[str] | None = None, targets: str = "gated"
) -> tuple[pd.DataFrame, torch.Tensor]:
    """`gate_derivatives` at some iterations of a transfer, and its last picture, (1, 3, H, W) in [0, 1], unclamped.

    Columns iteration, layer, feature, style, content: each derivative is divided by its loss there (0 where the loss
    is 0), so that iterations can be averaged: -0.1 says that switching the feature off adds a tenth.
    Raises RequestError for iterations that the transfer does not reach.
    """
    if not iterations or not 0 <= min(iterations) <= max(iterations) <= settings.iterations:
        raise RequestError(f"the iterations to look at must be between 0 and {settings.iterations}")
    objective, x = set_up(settings)
    tables = []
    for step in steps(objective, x, make_optimizer(x, settings), settings):
        if step.iteration in iterations:
            table = gate_derivatives(objective, x, layers, targets)
            for term in TERMS:
                table[term] /= step.losses[term] or np.inf
            tables.append(table.assign(iteration=step.iteration))
    columns = ["iteration", "layer", "feature", *TERMS]
    return pd.concat(tables, ignore_index=True)[columns], step.image


def ranked(derivatives: pd.DataFrame, by: str = "style") -> list[Feature]:
    """The features in a table of derivatives, the one that carries most of a loss first.

    That is the one with the largest derivative, by absolute value; of several iterations their mean counts.

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


@torch.no_grad()
def switched_off(
    objective: Objective, x: torch.Tensor, features: Sequence[Feature], targets: str = "gated"
) -> pd.DataFrame:
    """What each feature's removal changes, alone: the first-order prediction beside the truth; one row per feature.

    Columns layer, feature, style, content (the true changes of the losses), style_predicted, content_predicted.
    """
    table = gate_derivatives(objective, x, list(dict.fromkeys(layer for layer, _ in features)), targets)
    predicted = table.set_index(["layer", "feature"])
    before = _values(gated_losses(objective, x, {}, targets))
    rows = []
    for feature in tqdm(features, desc="switching off", disable=None, leave=False, delay=2):
        after = _values(gated_losses(objective, x, off([feature]), targets))
        row = {term: after[term] - before[term] for term in TERMS}
        rows.append(row | {f"{term}_predicted": -float(predicted.loc[feature, term]) for term in TERMS})
    return pd.DataFrame(features, columns=["layer", "feature"]).join(pd.DataFrame(rows))


@torch.no_grad()
def removal_curves(
    objective: Objective,
    x: torch.Tensor,
    ranking: Sequence[Feature],
    counts: Sequence[int],
    draws: int = 5,
    seed: int = 0,
    targets: str = "gated",
) -> pd.DataFrame:
    """The losses against how many features are switched off: the first in the ranking, the last, or any.

    One row for each order, draw and count: columns order ("first", "last", "random"), draw, removed, style, content.
    Of the random order there are so many draws, from the seed. Raises RequestError for more features than there are.
    """
    if not all(0 <= count <= len(ranking) for count in counts):
        raise RequestError(f"the numbers of features to remove must be between 0 and {len(ranking)}")
    rows = []
    wanted = [(*each, count) for each in _orders(ranking, draws, seed) for count in counts]
    for order, draw, features, count in tqdm(wanted, desc="removing", disable=None, leave=False, delay=2):
        losses = _values(gated_losses(objective, x, off(features[:count]) or {}, targets))
        rows.append({"order": order, "draw": draw, "removed": count, **{term: losses[term] for term in TERMS}})
    return pd.DataFrame(rows)


def _orders(ranking: Sequence[Feature], draws: int, seed: int) -> Iterator[tuple[str, int, list[Feature]]]:
    yield "first", 0, list(ranking)
    yield "last", 0, list(ranking)[::-1]
    random = np.random.default_rng(seed)
    for draw in range(draws):
        yield "random", draw, [ranking[i] for i in random.permutation(len(ranking))]


def _values(losses: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {term: losses[term].item() for term in TERMS}
