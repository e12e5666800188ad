"""Which term of the loss pulls on a picture, and how strongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch

from nstlab.errors import RequestError
from nstlab.network import in_double
from nstlab.optimise import Objective, Step, make_optimizer, set_up, steps
from nstlab.settings import Settings


def gradient_shares(objective: Objective, x: torch.Tensor, weights: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Which term pulls on the picture: one row per term or part of one (content, then each style layer with k_S·w_l).

    x: the picture (1, 3, H, W) in grey levels, as the network takes it; weights: of the terms, by name (None: those
    at iteration 0). With g_l = ∂(term)/∂x and g their sum: norm = ‖g_l‖; share = ‖g_l‖ / Σ‖g_l‖; projection =
    ⟨g_l, g⟩/‖g‖², which sums to 1 and is negative for a term that pulls against the others.
    """
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        losses, pulls = objective(x), {}
        weights = weights or objective.settings.term_weights()
        for name, term in objective.terms_of(x.shape[2:]).items():
            pulls |= {part: weights.get(name, 1.0) * losses[part] for part in term.parts or (name,)}
        pulls = {name: pull for name, pull in pulls.items() if pull.requires_grad}  # a term without layers has none
        gradients = [in_double(torch.autograd.grad(pull, x, retain_graph=True)[0]) for pull in pulls.values()]
    g = torch.stack([gradient.flatten() for gradient in gradients])  # (terms, pixels)
    norms, whole = g.norm(dim=1), g.sum(0)
    table = {
        "norm": norms,
        "share": norms / norms.sum().clamp_min(1e-300),
        "projection": g @ whole / whole.square().sum().clamp_min(1e-300),
    }
    return pd.DataFrame({key: column.cpu().numpy() for key, column in table.items()}, index=list(pulls))


def gradient_shares_along(settings: Settings, iterations: Sequence[int]) -> tuple[pd.DataFrame, torch.Tensor]:
    """`gradient_shares` at some iterations of a transfer, and its last picture, (1, 3, H, W) in [0, 1], unclamped.

    One row per iteration and term; columns iteration, term, norm, share, projection. Each row is of the loss in force
    at that iteration. Stored frames cannot replace this: they are clamped, and near convergence the gradient of the
    clamped picture is many times longer and points elsewhere. Raises RequestError for iterations that the transfer
    does not reach.
    """

    def look(objective: Objective, x: torch.Tensor, step: Step) -> pd.DataFrame:
        table = gradient_shares(objective, x, settings.term_weights(step.iteration))
        return table.rename_axis("term").reset_index()

    return along(settings, iterations, look)


def along(
    settings: Settings, iterations: Sequence[int], look: Callable[[Objective, torch.Tensor, Step], pd.DataFrame]
) -> tuple[pd.DataFrame, torch.Tensor]:
    """What `look` finds at some iterations of a transfer, in one table that begins with them, and its last picture.

    look: gets the objective, the picture in grey levels, and the step. Raises RequestError for iterations that the
    transfer does not reach.
    """
    if not iterations or not 0 <= min(iterations) <= max(iterations) <= settings.iterations:
        raise RequestError(f"the iterations to look at must be between 0 and {settings.iterations}")
    objective, x = set_up(settings)
    tables = []
    for step in steps(objective, x, make_optimizer(x, settings), settings):
        if step.iteration in iterations:
            table = look(objective, x, step)
            table.insert(0, "iteration", step.iteration)
            tables.append(table)
    return pd.concat(tables, ignore_index=True), step.image
