"""The optimisation: a generator of steps. It knows no files and prints nothing.

L-BFGS remembers `history_size` past steps. Measured at 96 pixels, the loss after 300
iterations against that with 20, from the content picture (from white noise): with 5 +12 % (+12 %), 10 +4 %
(+4 %), 50 -4 % (-4 %), 100 -5 % (-6 %); after 100 iterations 50 gives 6 % (1 %) less. A checkpoint holds twice
as many pictures as are remembered, two of them are kept, and every step reads them all: 20 is the default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import interpolate

from nstlab.distinctiveness import Selection
from nstlab.forecast import one_line_without_memory, prepare_memory
from nstlab.images import load_image
from nstlab.initial import initial_value
from nstlab.losses import CONTENT_LOSSES, STYLE_LOSSES, layer_weights
from nstlab.reduction import gate_derivatives, reduced
from nstlab.settings import CHANNEL_REDUCTIONS, RequestError, RunError, Settings
from nstlab.vgg19 import VGG19, describe_layers, load_vgg19
from nstlab.weights import convolutions

LEARNING_RATES = {"lbfgs": 1.0, "adam": 5.0}
"""What `learning_rate=None` means; Adam's is in grey levels."""


@dataclass(frozen=True)
class Step:
    """The picture after `iteration` updates, with the losses of that picture.

    image: (1, 3, H, W) in [0, 1] units, unclamped, a copy; losses: total, content, style, and one entry a
    style layer, w_l times its loss, so that these sum to `style`; total = content + k_S·style.
    """

    iteration: int
    image: torch.Tensor
    losses: dict[str, float]


class Objective:
    """L = C + k_S·S for one content and one style picture; their targets are computed once.

    Calling it with a picture in grey levels gives the losses of `Step` as scalar tensors. With a reduced network
    the targets are those of that network, and what a channel stands for counts (see `channel_weights` in
    `nstlab.reduction`).
    """

    def __init__(self, net: VGG19, content: torch.Tensor, style: torch.Tensor, settings: Settings) -> None:
        self.net = net
        self.settings = settings
        self.k_S = settings.k_S
        self.shape = content.shape[2:]
        self.content_of = CONTENT_LOSSES[settings.content_loss]
        self.style_of = STYLE_LOSSES[settings.style_loss]
        with torch.no_grad():
            P = net(net.prepare(content), keep=settings.content_layers)
            self.P = {name: self._counted(name, activation) for name, activation in P.items()}
            styles = net.activations(net.prepare(style), keep=settings.style_layers)
            A = {name: self._statistic(name, activation) for name, activation in styles}
            self.A = {name: A[name] for name in settings.style_layers}
        chosen = layer_weights(settings.style_layer_weights, list(self.A.values()), self.style_of.loss)
        self.w = dict(zip(self.A, chosen, strict=True))

    def at(self, size: int) -> Objective:
        """This objective for pictures whose longer side is `size`; the pictures are read again if need be."""
        if size == max(self.shape):
            return self
        content, style = load_pictures(self.settings, size)
        return Objective(self.net, content.to(self.net.mean), style.to(self.net.mean), self.settings)

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return self.losses(self.net.activations(x, keep=(*self.P, *self.A)))

    def losses(self, activations: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """The losses from the activations of the content and style layers, each with its name, in any order."""
        contents, layers = {}, {}
        for name, F in activations:
            if name in self.P:
                loss = self.content_of(self._counted(name, F), self.P[name])
                contents[name] = self._share(name, 1) * loss
            if name in self.A:
                loss = self.style_of.loss(self._statistic(name, F), self.A[name])
                layers[name] = self.w[name] * self._share(name, self.style_of.power) * loss
        layers = {name: layers[name] for name in self.A}  # always summed in one order
        nothing = self.net.mean.new_zeros(())
        content = sum((contents[name] for name in self.P), nothing) / max(len(self.P), 1)
        style = sum(layers.values(), nothing)
        return {"total": content + self.k_S * style, "content": content, "style": style, **layers}

    def _statistic(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        return self.style_of.statistic(self._counted(name, activation), self.settings.seed)

    def _counted(self, name: str, activation: torch.Tensor) -> torch.Tensor:
        """An activation, each channel of a reduced layer times what it counts."""
        c = self.net.channel_weights.get(name)
        return activation if c is None else activation * c.to(activation).view(1, -1, 1, 1)

    def _share(self, name: str, power: int) -> float:
        """(n/N)^power: brings a loss that divides by the n channels of a reduced layer to the N of the full one."""
        if name not in self.net.channel_weights:
            return 1.0
        full = next(N for conv, _, N in convolutions() if conv[4] == name[4])
        return (self.net.layer(name).features / full) ** power


LONGEST_STEP = 5.0  # grey levels a pixel, on average; after the first few, steps are shorter by themselves


class LBFGS(torch.optim.LBFGS):
    """torch's L-BFGS, one evaluation a step, that knows how large a picture is.

    Before its first curvature pair L-BFGS knows no length. torch's first step has an L1 norm of 1, which at
    256 x 256 rounds to nothing in float32; and where the loss curves downwards there (from a flat picture,
    say) torch drops the pair and next takes the raw gradient, some 10⁶ grey levels. Here every step until
    the first pair moves the pixels by `lr` grey levels on average, and no later one by more than LONGEST_STEP.
    """

    def __init__(self, x: torch.Tensor, lr: float, history_size: int) -> None:
        super().__init__([x], lr=lr, max_iter=1, tolerance_grad=0, tolerance_change=0, history_size=history_size)
        self.x = x

    def step(self, closure: Callable[[], torch.Tensor]) -> torch.Tensor:
        memory, group = self.state[self.x], self.param_groups[0]
        if self._has_a_pair(memory):
            loss = super().step(closure)
            self._shorten(memory)
            return loss
        memory["n_iter"] = 0  # start (again): d = -g, with a length of lr / max(|g|₁, 1)
        lr = group["lr"]
        group["lr"] = lr * self.x.numel()
        try:
            return super().step(closure)
        finally:
            group["lr"] = lr

    def _has_a_pair(self, memory: dict[str, Any]) -> bool:
        if not memory.get("n_iter"):
            return False
        if memory["old_dirs"]:
            return True
        y = self.x.grad.flatten() - memory["prev_flat_grad"]
        return float(y @ memory["d"]) * float(memory["t"]) > 1e-10  # torch's own condition for keeping a pair

    def _shorten(self, memory: dict[str, Any]) -> None:
        """Take back the part of the step x + t·d that is beyond LONGEST_STEP."""
        mean = float(memory["d"].abs().mean())
        if mean * memory["t"] > LONGEST_STEP:
            shorter = LONGEST_STEP / mean
            with torch.no_grad():
                self.x.add_(memory["d"].view_as(self.x), alpha=shorter - float(memory["t"]))
            memory["t"] = shorter


def make_optimizer(x: torch.Tensor, settings: Settings) -> torch.optim.Optimizer:
    """The optimiser of `x` that the settings ask for; one step of it is one iteration."""
    rate = settings.learning_rate or LEARNING_RATES[settings.optimizer]
    if settings.optimizer == "adam":
        return torch.optim.Adam([x], lr=rate)
    return LBFGS(x, rate, settings.history_size)


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
    objective: Objective, x: torch.Tensor, optimizer: torch.optim.Optimizer, iterations: int, start: int = 0
) -> Iterator[Step]:
    """Optimise `x`, a picture in grey levels, in place: yields the steps `start` ... `iterations`.

    Each step is yielded before the update that follows it, so while a step is looked at, `x` and the
    optimiser are in exactly the state that belongs to it: the place to store or to stop.
    Pixels are not clamped (that would break L-BFGS's line of reasoning).
    Where `k_S_changes` names an iteration, that step has the new k_S already, and the optimiser starts anew:
    what it remembers belongs to another loss. With `scales`, x begins small; the step at which it is enlarged has
    the larger picture already, and there too the optimiser starts anew.
    Raises RunError if the loss is not finite, or if no memory is left.
    """
    with one_line_without_memory(objective.settings, *x.shape[2:]):
        yield from _steps(objective, x, optimizer, iterations, start)


def _steps(
    objective: Objective, x: torch.Tensor, optimizer: torch.optim.Optimizer, iterations: int, start: int
) -> Iterator[Step]:
    changes = dict(objective.settings.k_S_changes)
    objective.k_S = objective.settings.k_S_at(start)
    for iteration in range(start, iterations + 1):
        if objective.settings.scales > 1:
            objective = _grow(objective, x, optimizer, iteration)
        if iteration in changes:
            objective.k_S = changes[iteration]
            optimizer.state.clear()
        optimizer.zero_grad()
        losses = objective(x)
        losses["total"].backward()
        values = torch.stack([value.detach() for value in losses.values()]).tolist()  # the one wait for the device
        if not torch.isfinite(torch.tensor(values[0])):
            raise RunError(
                f"the loss is not finite at iteration {iteration}: lower learning_rate or k_S "
                f"(now {optimizer.param_groups[0]['lr']:g} and {objective.k_S:g})"
            )
        image = objective.net.restore(x.detach()).to("cpu", copy=True)
        yield Step(iteration, image, dict(zip(losses, values, strict=True)))
        if iteration < iterations:
            optimizer.step(lambda total=losses["total"]: total)
        del losses  # and with them the graph, which would hold x to its size


def _grow(objective: Objective, x: torch.Tensor, optimizer: torch.optim.Optimizer, iteration: int) -> Objective:
    """The objective at the size that the picture has from this iteration on; x is brought to that size in place."""
    k_S = objective.k_S
    objective = objective.at(objective.settings.size_at(iteration))
    objective.k_S = k_S
    if x.shape[2:] != objective.shape:
        x.data = interpolate(x.detach(), objective.shape, mode="bicubic")
        x.grad = None
        optimizer.state.clear()
        if isinstance(optimizer, LBFGS):
            optimizer._numel_cache = None  # torch counts the pixels once
    return objective


def load_pictures(settings: Settings, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Content and style, the content's longer side `size` pixels and the style in proportion.

    Raises RequestError if one cannot be had, or would be too small.
    """
    style_size = round((settings.style_size or settings.size) * size / settings.size)
    if size == settings.size:
        return load_image(settings.content, size), load_image(settings.style, style_size)
    least = least_side(settings)
    try:
        return load_image(settings.content, size, least), load_image(settings.style, style_size, least)
    except RequestError as error:
        raise RequestError(f"{error} (at the smallest of scales={settings.scales}: fewer of them do, too)") from None


def least_side(settings: Settings) -> int:
    """The pixels that a picture's side must have for the deepest layer that a loss reads to have a position.

    >>> least_side(Settings()), least_side(Settings(style_layers="relu1_1"))
    (16, 8)
    """
    layers = describe_layers(pair[1:] for pair in convolutions())
    return max(layer.stride for layer in layers if layer.name in (*settings.content_layers, *settings.style_layers))


def set_up(settings: Settings) -> tuple[Objective, torch.Tensor]:
    """Load what the settings name: the objective, and the initial value in grey levels, ready for `steps`.

    Raises RequestError for a picture, weights, a device or a reduction that cannot be had, and for a picture that
    takes more memory than there is.
    """
    content, style = load_pictures(settings, settings.size_at(0))
    prepare_memory(settings, *content.shape[2:], style=tuple(style.shape[2:]))
    with one_line_without_memory(settings, *content.shape[2:]):
        return _set_up(settings, content, style)


def _set_up(settings: Settings, content: torch.Tensor, style: torch.Tensor) -> tuple[Objective, torch.Tensor]:
    s = settings
    net = load_vgg19(s.weights, s.pooling, s.device, s.convolution, s.precision, s.weights_format)
    device = net.mean.device
    if settings.reduction:
        net = reduced_network(net, settings, content, style)
    x = net.prepare(initial_value(settings.init, content, style, settings.seed, net.mean.cpu()).to(device))
    objective = Objective(net, content.to(device), style.to(device), settings)
    return objective, x.contiguous().requires_grad_()


CALIBRATION = ("astronaut", "coffee", "rocket", "hubble", "swirl", "waves", "glass", "marbling")
"""The eight sample pictures of `calibration="samples"`: four photographs, four paintings. Chelsea is held out."""


def reduced_network(
    net: VGG19,
    settings: Settings,
    content: torch.Tensor,
    style: torch.Tensor,
    record: dict[str, Selection] | None = None,
) -> VGG19:
    """The network that a run with these settings uses in place of `net`; content and style in [0, 1].

    It loads the calibration pictures and works out what `nstlab.reduction.reduced` needs; sensitivity is taken
    at the average of the two pictures, where both losses pull. record: as there.
    """
    pictures = [content, style]
    if settings.calibration == "samples":
        pictures = [load_image(name, settings.size) for name in CALIBRATION]
    derivatives = None
    if settings.reduction == "sensitivity":
        objective = Objective(net, content.to(net.mean), style.to(net.mean), settings)
        between = net.prepare(initial_value("average", content, style).to(net.mean))
        derivatives = gate_derivatives(net, between, lambda F: objective.losses(F.items())["total"])
    return reduced(net, settings, pictures if settings.reduction in CHANNEL_REDUCTIONS else (), derivatives, record)


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
    yield from steps(objective, x, make_optimizer(x, settings), settings.iterations)
