"""The optimisation: a generator of steps. It reads no file and prints nothing.

L-BFGS remembers `history_size` past steps. Measured at 96 pixels, the loss after 300
iterations against that with 20, from the content picture (from white noise): with 5 +12 % (+12 %), 10 +4 %
(+4 %), 50 -4 % (-4 %), 100 -5 % (-6 %); after 100 iterations 50 gives 6 % (1 %) less. A checkpoint holds twice
as many pictures as are remembered, two of them are kept, and every step reads them all: 20 is the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import interpolate

from nstlab.errors import RunError
from nstlab.images import Pictures, load_pictures
from nstlab.network import vgg19_layers
from nstlab.optimise.initial import initial_value
from nstlab.optimise.lbfgs import LBFGS
from nstlab.optimise.memory import one_line_without_memory, prepare_memory
from nstlab.optimise.networks import load_network, reduced_network
from nstlab.optimise.objective import Objective
from nstlab.settings import Settings


@dataclass(frozen=True)
class Step:
    """The picture after `iteration` updates, with the losses of that picture.

    image: (1, 3, H, W) in [0, 1] units, unclamped, a copy; losses: by name, `total`, then each term (`content`,
    `style`), then the style layers, w_l times the loss of each, so that these sum to `style`. The total is the sum
    of the terms with their weights.
    """

    iteration: int
    image: torch.Tensor
    losses: dict[str, float]


def set_up(settings: Settings, pictures: Sequence[Pictures] | None = None) -> tuple[Objective, torch.Tensor]:
    """What a transfer begins with: the objective, and the initial value in grey levels, ready for `steps`.

    pictures: content and style at each size, the smallest first, as `nstlab.images.load_pictures` gives them (None:
    those that the settings name). Raises RequestError for a picture, weights, a device or a reduction that cannot
    be had, and for a picture that takes more memory than there is.
    """
    pictures = list(pictures or load_pictures(settings, least_side(settings)))
    content, style = pictures[0].content, pictures[0].style
    prepare_memory(settings, *content.shape[2:], style=tuple(style.shape[2:]))
    with one_line_without_memory(settings, *content.shape[2:]):
        net = reduced_network(load_network(settings), settings, content, style)
        x = net.prepare(initial_value(settings.init, content, style, settings.seed, net.mean.cpu()).to(net.mean))
        return Objective(net, pictures, settings), x.contiguous().requires_grad_()


def least_side(settings: Settings) -> int:
    """The pixels that a picture's side must have for the deepest layer that a loss reads to have a position.

    >>> least_side(Settings()), least_side(Settings(style_layers="relu1_1"))
    (16, 8)
    """
    read = {*settings.content_layers, *settings.style_layers}
    return max(layer.stride for layer in vgg19_layers() if layer.name in read)


def make_optimizer(x: torch.Tensor, settings: Settings) -> torch.optim.Optimizer:
    """The optimiser of `x` that the settings ask for; one step of it is one iteration."""
    if settings.optimizer == "adam":
        return torch.optim.Adam([x], lr=settings.step_length)
    return LBFGS(x, settings.step_length, settings.history_size)


def check_state(state: dict[str, Any], optimizer: torch.optim.Optimizer, image: torch.Tensor) -> None:
    """Raises ValueError for a state_dict that this optimiser cannot have had at a picture of this shape."""
    for stored, own in zip(state["param_groups"], optimizer.state_dict()["param_groups"], strict=True):
        if any(stored[name] != value for name, value in own.items() if name in stored):
            raise ValueError("its optimiser has other settings")
    left = [state["state"]]
    while left:
        value = left.pop()
        if isinstance(value, (dict, list)):
            left.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, torch.Tensor):
            if value.numel() not in (1, image.numel()) or not value.isfinite().all():
                raise ValueError("its optimiser's state is not this picture's")
        elif not isinstance(value, (int, float, type(None))):
            raise ValueError("its optimiser's state holds what no optimiser has")


def steps(
    objective: Objective,
    x: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    settings: Settings,
    start: int = 0,
    end: int | None = None,
) -> Iterator[Step]:
    """Optimise `x`, a picture in grey levels, in place: yields the steps `start` ... `end` (None: settings.iterations).

    Each step is yielded before the update that follows it, so while a step is looked at, `x` and the
    optimiser are in exactly the state that belongs to it: the place to store or to stop.
    Pixels are not clamped (that would break L-BFGS's line of reasoning).
    Where `k_S_changes` names an iteration, that step has the new k_S already, and the optimiser starts anew:
    what it remembers belongs to another loss. With `scales`, x begins small; the step at which it is enlarged has
    the larger picture already, and there too the optimiser starts anew.
    Raises RunError if the loss is not finite, or if no memory is left.
    """
    with one_line_without_memory(settings, *x.shape[2:]):
        yield from _steps(objective, x, optimizer, settings, start, settings.iterations if end is None else end)


def _steps(
    objective: Objective, x: torch.Tensor, optimizer: torch.optim.Optimizer, settings: Settings, start: int, end: int
) -> Iterator[Step]:
    changes = dict(settings.k_S_changes)
    for iteration in range(start, end + 1):
        grown = _enlarge(x, objective.shape_at(iteration))
        if grown or iteration in changes:
            optimizer.state.clear()
        weights = settings.term_weights(iteration)
        optimizer.zero_grad()
        losses = objective(x, weights)
        losses["total"].backward()
        values = torch.stack([value.detach() for value in losses.values()]).tolist()  # the one wait for the device
        if not torch.isfinite(torch.tensor(values[0])):
            raise RunError(
                f"the loss is not finite at iteration {iteration}: lower learning_rate or k_S "
                f"(now {optimizer.param_groups[0]['lr']:g} and {weights['style']:g})"
            )
        named = dict(zip(losses, values, strict=True))
        del losses  # and with them the graph, which would hold x to its size
        yield Step(iteration, objective.net.restore(x.detach()).to("cpu", copy=True), named)
        if iteration < end:
            optimizer.step()


def _enlarge(x: torch.Tensor, shape: tuple[int, int]) -> bool:
    """Bring the picture to the size that it has from here on, in place; returns whether it had another."""
    if tuple(x.shape[2:]) == tuple(shape):
        return False
    x.data = interpolate(x.detach(), shape, mode="bicubic")
    x.grad = None
    return True


def transfer(settings: Settings) -> Iterator[Step]:
    """Vanilla style transfer (Gatys, Ecker & Bethge 2016): the steps 0 ... settings.iterations.

    Nothing is stored; `nstlab.Run` does that. Raises RequestError before the first step, RunError if the
    loss is not finite.

    >>> for step in transfer(Settings(size=48, iterations=2)):
    ...     print(step.iteration, tuple(step.image.shape))
    0 (1, 3, 48, 48)
    1 (1, 3, 48, 48)
    2 (1, 3, 48, 48)
    """
    objective, x = set_up(settings)
    yield from steps(objective, x, make_optimizer(x, settings), settings)
