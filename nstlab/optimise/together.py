"""Several transfers in one batch: one pass of their network, forward and backward, for all pictures of one shape.

A small picture leaves most of a GPU idle, and each of the network's functions takes as long to start for one as for
many. Statistics, losses and optimisers stay each transfer's own.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from nstlab.errors import RequestError, RunError
from nstlab.gates import parse_chosen
from nstlab.layers import NOT_EVERY_NETWORK
from nstlab.optimise.descent import Descent, values_of
from nstlab.optimise.memory import is_out_of_memory, memory_free, memory_needed
from nstlab.optimise.objective import layers_read
from nstlab.settings import Settings


def network_in_common(settings: Settings) -> Hashable | None:
    """What transfers must agree in to share a network; None for one that has a network of its own.

    That is one that depends on the pictures, as a reduced one does, or is computed in tiles; and whatever has code of
    the user's own, which need not be written for several pictures, and whose errors must not stop the others.
    """
    if settings.reduction is not None or settings.tile is not None or parse_chosen(settings.gates) or settings.code:
        return None
    names = ("network", "weights", "device", "gates", *NOT_EVERY_NETWORK)
    return tuple(getattr(settings, name) for name in names)


def check_batch(transfers: Sequence[tuple[Settings, tuple[int, int]]]) -> None:
    """Raises RequestError if a batch of these transfers would need more memory than is free.

    Of each its settings, and the height and width of its content picture.
    """

    def needed(batch: int) -> float:
        scaled = [(s, h * s.size / max(h, w), w * s.size / max(h, w)) for s, (h, w) in transfers]
        return max(memory_needed(*each, batch=batch) for each in scaled)

    free, fit = memory_free(transfers[0][0].device), len(transfers)
    while fit > 1 and needed(fit) > free:
        fit -= 1
    if fit < len(transfers):
        raise RequestError(
            f"{len(transfers)} transfers in one batch take about {needed(len(transfers)) / 1e9:.1f} GB of memory and "
            f"{free / 1e9:.1f} GB are free: take at most {fit} together"
        )


def losses_together(descents: Sequence[Descent]) -> list[dict[str, float]]:
    """The next iteration's losses of each transfer, by name, for `Descent.step`; each x has the gradient of its own.

    Their objectives must have one network in common (`network_in_common`). Losses and gradients are those that each
    has alone, but for rounding; of one alone, or alone of its shape, to the bit. Raises RunError if memory runs out.
    """
    of_shape: dict[tuple[int, ...], list[Descent]] = {}
    for descent in descents:
        of_shape.setdefault(descent.objective.shape_at(descent.iteration + 1), []).append(descent)
    found: dict[Descent, dict[str, torch.Tensor]] = {}
    try:
        for some in of_shape.values():
            found |= zip(some, [some[0].losses()] if len(some) == 1 else _in_one_pass(some), strict=True)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(f"out of memory with {len(descents)} transfers in one batch: take fewer together") from None
    return values_of([found[descent] for descent in descents])


def _in_one_pass(descents: Sequence[Descent]) -> list[dict[str, torch.Tensor]]:
    weights = [descent.begin() for descent in descents]
    objectives, net = [descent.objective for descent in descents], descents[0].objective.net
    pictures = [descent.objective.painted(descent.x) for descent in descents]
    read = {layer for d in descents for layer in layers_read(d.objective.terms_of(d.x.shape[2:]))}
    activations = {name: F.split(1) for name, F in net.activations(torch.cat(pictures), keep=read)}
    losses = [
        objective.losses(pictures[i], ((name, each[i]) for name, each in activations.items()), weights[i])
        for i, objective in enumerate(objectives)
    ]
    torch.stack([each["total"] for each in losses]).sum().backward()
    return [{name: value.detach() for name, value in each.items()} for each in losses]
