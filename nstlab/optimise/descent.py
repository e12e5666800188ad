"""The optimisation: a generator of steps. It reads no file and prints nothing.

L-BFGS remembers `history_size` past steps. Measured at 96 pixels: the loss after 300 iterations relative to that with
20 steps, from the content picture (from white noise), is +12 % (+12 %) with 5, +4 % (+4 %) with 10, -4 % (-4 %) with
50, -5 % (-6 %) with 100; after 100 iterations 50 gives 6 % (1 %) less. A checkpoint holds two pictures per step, two
checkpoints are kept, and every iteration reads all these pictures: so 20 is the default.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import interpolate

from nstlab.errors import RunError
from nstlab.images import Pictures, load_pictures
from nstlab.network import ORIGINAL_MEAN, Arena, Network, layers_of, make_arena
from nstlab.optimise.carriers import with_chosen_gates
from nstlab.optimise.colour import luminance, to_paint_from
from nstlab.optimise.compact_lbfgs import CompactLBFGS
from nstlab.optimise.initial import cover, initial_value
from nstlab.optimise.lbfgs import LBFGS
from nstlab.optimise.losses import content_loss_of, style_loss_of
from nstlab.optimise.memory import apart, check_memory, convolution_of, one_line_without_memory, with_tile
from nstlab.optimise.networks import load_network, reduced_for, settled
from nstlab.optimise.objective import Objective
from nstlab.optimise.tiles import TiledObjective
from nstlab.own import function_of
from nstlab.settings import Settings

Optimizer = torch.optim.Optimizer | LBFGS


@dataclass(frozen=True)
class Step:
    """The picture after `iteration` updates, with the losses of that picture.

    picture: (1, 3, H, W) in [0, 1] units, unclamped, a copy, on the device that computed it; losses, by name: `total`,
    the weighted sum of the terms; each term (`content`, `style`); each style layer, w_l times its loss, so that these
    sum to `style`.
    """

    iteration: int
    picture: torch.Tensor
    losses: dict[str, float]

    @property
    def image(self) -> torch.Tensor:
        """The picture on the CPU: of most steps nobody asks for it, so a GPU need not send it."""
        return self.picture.to("cpu")


def set_up(
    settings: Settings, pictures: Sequence[Pictures] | None = None, net: Network | None = None
) -> tuple[Objective, torch.Tensor]:
    """The start of a transfer, ready for `steps`: the objective, and the initial value in grey levels.

    pictures: content and style at each size, the smallest first, as from `nstlab.images.load_pictures` (None: those
    that the settings name); net: their network, if another transfer has it already (see `network_in_common`).
    Raises RequestError if a picture, the weights, the device or the reduction is not available, or if there is too
    little memory.
    """
    settings = settled(settings)
    pictures = list(pictures or load_pictures(settings, least_side(settings)))
    height, width = pictures[0].content.shape[2:]
    largest = max((tuple(style.shape[2:]) for style in pictures[0].styles), key=math.prod)
    settings = with_tile(settings, height, width)
    check_memory(settings, height, width, style=largest)
    tiled = settings.tile is not None
    with one_line_without_memory(settings, height, width), apart(tiled):
        if net is None:
            convolution = convolution_of(settings, *pictures[-1].content.shape[2:])
            net = load_network(settings.with_(convolution=convolution))
            net = with_chosen_gates(reduced_for(net, settings, pictures[0]), settings, pictures[0])
        x = net.prepare(initial_picture(settings, pictures[0], net.mean.cpu()))
        make = TiledObjective if tiled else Objective
        return make(net, pictures, settings), x.contiguous().requires_grad_()


def check_code(settings: Settings) -> None:
    """Raises RequestError, in one line, if code of the user's own that the settings name cannot be used."""
    style_loss_of(settings.style_loss)
    content_loss_of(settings.content_loss)
    settled(settings)
    if "init" in settings.code:
        function_of(settings.init, "a picture of the content's shape")


def initial_picture(
    settings: Settings, pictures: Pictures, mean: Sequence[float] | torch.Tensor = ORIGINAL_MEAN
) -> torch.Tensor:
    """The picture that a transfer begins with, (1, 3, H, W) in [0, 1], before its colours are put back.

    mean: the network's mean pixel. Of several styles, `init="style"` takes the mean, by their proportions.
    """
    seen = to_paint_from(pictures, settings.colour)
    if seen.init is not None:
        return cover(seen.init, *seen.content.shape[2:])
    covers = [cover(style, *seen.content.shape[2:]) for style in seen.styles] if len(seen.styles) > 1 else seen.styles
    style = sum(v * picture for v, picture in zip(settings.proportions, covers, strict=True))
    picture = initial_value(settings.init, seen.content, style, settings.seed, mean)
    return luminance(picture).expand(picture.shape) if settings.colour == "luminance" else picture


def least_side(settings: Settings) -> int:
    """The fewest pixels of a side with which the deepest layer that a loss reads still has a position.

    >>> least_side(Settings()), least_side(Settings(style_layers="relu1_1"))
    (16, 8)
    """
    read = {*settings.content_layers, *settings.style_layers}
    return max(layer.stride for layer in layers_of(settings.network) if layer.name in read)


def make_optimizer(x: torch.Tensor, settings: Settings) -> Optimizer:
    """The optimiser of `x` that the settings ask for; its step is one iteration."""
    if settings.optimizer == "adam":
        return torch.optim.Adam([x], lr=settings.step_length)
    kind = CompactLBFGS if x.is_cuda else LBFGS
    return kind(x, settings.step_length, settings.history_size)


def check_state(state: dict[str, Any], optimizer: Optimizer, image: torch.Tensor) -> None:
    """Raises ValueError for a state_dict that this optimiser cannot have at a picture of this shape."""
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
            raise ValueError("its optimiser's state is not an optimiser's")


def steps(
    objective: Objective,
    x: torch.Tensor,
    optimizer: Optimizer,
    settings: Settings,
    start: int = 0,
    end: int | None = None,
) -> Iterator[Step]:
    """Optimise `x`, a picture in grey levels, in place; yields the steps `start` ... `end` (None: settings.iterations).

    Each step is yielded before the next update, so `x` and the optimiser are then exactly in that step's state: this
    is the place to store or to stop. Pixels are not clamped (L-BFGS would misread the curvature).
    At an iteration in `k_S_changes` the step has the new k_S already, and the optimiser starts over, because its
    memory belongs to another loss. With `scales`, x starts small; where it is enlarged, the step has the larger
    picture already, and the optimiser starts over too.
    Raises RunError if the loss is not finite or memory runs out.
    """
    with one_line_without_memory(settings, *x.shape[2:]):
        yield from _steps(objective, x, optimizer, settings, start, settings.iterations if end is None else end)


def _steps(
    objective: Objective, x: torch.Tensor, optimizer: Optimizer, settings: Settings, start: int, end: int
) -> Iterator[Step]:
    descent = Descent(objective, x, optimizer, settings, start)
    for _ in range(start, end + 1):
        yield descent.step(values_of([descent.losses()])[0])


class Descent:
    """A transfer from iteration `start` on, one iteration at a time, each in two parts: its losses, and its step.

    So several can wait for the losses of all of them (see `nstlab.optimise.together`). objective, x, optimizer,
    settings: as `steps` has them; iteration: where x is, `start` - 1 before the first.
    """

    def __init__(
        self, objective: Objective, x: torch.Tensor, optimizer: Optimizer, settings: Settings, start: int = 0
    ) -> None:
        self.objective, self.x, self.optimizer, self.settings = objective, x, optimizer, settings
        self.start, self.iteration = start, start - 1
        self._shape: torch.Size | None = None  # of the last picture

    @cached_property
    def _arena(self) -> Arena | None:
        return make_arena() if self.x.device.type == "cpu" else None

    def begin(self) -> dict[str, float]:
        """Go on to the next iteration; x is then its picture, without a gradient. Returns the weights of the terms."""
        self.iteration += 1
        if self.iteration > self.start:
            self.optimizer.step()
        grown = _enlarge(self.x, self.objective.shape_at(self.iteration))
        if grown or self.iteration in dict(self.settings.k_S_changes):
            self.optimizer.state.clear()
        self.optimizer.zero_grad()
        return self.settings.term_weights(self.iteration)

    def losses(self) -> dict[str, torch.Tensor]:
        """Begin the next iteration: its losses by name, detached; x has their gradient."""
        weights = self.begin()
        with ExitStack() as memory:
            if self._arena:
                memory.enter_context(self._arena.used())
            if self.x.shape != self._shape:  # then weights are laid out
                self._shape = self.x.shape
                memory.enter_context(apart(isinstance(self.objective, TiledObjective)))
            losses = self.objective(self.x, weights)
            losses["total"].backward()
        return {name: value.detach() for name, value in losses.items()}  # without the graph, which fixes x's size

    def step(self, losses: dict[str, float]) -> Step:
        """The step with these losses of x. Raises RunError if they, or the gradient, are not finite."""
        if self.settings.code and not self.x.grad.isfinite().all():
            raise RunError(
                f"a gradient is not finite at iteration {self.iteration}: see {', '.join(self.settings.code.values())}"
            )
        if not math.isfinite(losses["total"]):
            raise RunError(
                f"the loss is not finite at iteration {self.iteration}: lower learning_rate or k_S "
                f"(now {self.optimizer.param_groups[0]['lr']:g} and "
                f"{self.settings.term_weights(self.iteration)['style']:g})"
            )
        return Step(self.iteration, self.objective.shown(self.x), losses)


def values_of(losses: Sequence[dict[str, torch.Tensor]]) -> list[dict[str, float]]:
    """The losses of several pictures as numbers: the one wait for the device."""
    values = iter(torch.stack([value for some in losses for value in some.values()]).tolist())
    return [{name: next(values) for name in some} for some in losses]


def _enlarge(x: torch.Tensor, shape: tuple[int, int]) -> bool:
    """Resize the picture in place if needed; returns whether it was."""
    if tuple(x.shape[2:]) == tuple(shape):
        return False
    x.data = interpolate(x.detach(), shape, mode="bicubic")
    x.grad = None
    return True


def transfer(settings: Settings) -> Iterator[Step]:
    """Vanilla style transfer (Gatys, Ecker & Bethge 2016): the steps 0 ... settings.iterations.

    Stores nothing; `nstlab.Run` does. Raises RequestError before the first step, RunError if the loss is not finite.

    >>> for step in transfer(Settings(size=48, iterations=2)):
    ...     print(step.iteration, tuple(step.image.shape))
    0 (1, 3, 48, 48)
    1 (1, 3, 48, 48)
    2 (1, 3, 48, 48)
    """
    objective, x = set_up(settings)
    yield from steps(objective, x, make_optimizer(x, settings), settings)
