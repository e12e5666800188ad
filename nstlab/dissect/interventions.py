"""What features do to a style, found by intervening: switch them off, and see how the losses change.

Two questions can be asked of a gate (see `Network.gated`). targets="gated": the network loses the feature altogether,
as in a run with the setting `gates`; a loss falls by what the feature asks for. targets="whole": only the picture
loses it, and the targets stay; a loss grows by what the picture has of the target in this feature. At the style
picture itself both derivatives of the style loss are 0, for there it is smallest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from nstlab.dissect.gradients import along
from nstlab.errors import RequestError
from nstlab.optimise import BY_GATE, Feature, Objective, Step, gate_derivatives, gated_losses, off
from nstlab.settings import Settings


def gate_derivatives_along(
    settings: Settings, iterations: Sequence[int], layers: Sequence[str] | None = None, targets: str = "gated"
) -> tuple[pd.DataFrame, torch.Tensor]:
    """`gate_derivatives` at some iterations of a transfer, and its last picture, (1, 3, H, W) in [0, 1], unclamped.

    Columns iteration, layer, feature, style, content: each derivative is divided by its loss there (0 where the loss
    is 0), so that iterations can be averaged: -0.1 says that switching the feature off adds a tenth.
    Raises RequestError for iterations that the transfer does not reach.
    """

    def look(objective: Objective, x: torch.Tensor, step: Step) -> pd.DataFrame:
        table = gate_derivatives(objective, x, layers, targets)
        for term in BY_GATE:
            table[term] /= step.losses[term] or np.inf
        return table

    return along(settings, iterations, look)


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
        row = {term: after[term] - before[term] for term in BY_GATE}
        rows.append(row | {f"{term}_predicted": -float(predicted.loc[feature, term]) for term in BY_GATE})
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
        losses = _values(gated_losses(objective, x, off(features[:count]), targets))
        rows.append({"order": order, "draw": draw, "removed": count, **{term: losses[term] for term in BY_GATE}})
    return pd.DataFrame(rows)


def _orders(ranking: Sequence[Feature], draws: int, seed: int) -> Iterator[tuple[str, int, list[Feature]]]:
    yield "first", 0, list(ranking)
    yield "last", 0, list(ranking)[::-1]
    random = np.random.default_rng(seed)
    for draw in range(draws):
        yield "random", draw, [ranking[i] for i in random.permutation(len(ranking))]


def _values(losses: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {term: losses[term].item() for term in BY_GATE}
