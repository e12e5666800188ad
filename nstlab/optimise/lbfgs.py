"""L-BFGS with one evaluation per step, and step lengths suited to a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nstlab.network import Arena, make_arena

LONGEST_STEP = 5.0  # grey levels per pixel, on average; only the first few steps would be longer
LEAST_CURVATURE = 1e-10  # a pair with a smaller y·s says nothing about a minimum [torch's own]
OF_TORCH = {"old_stps": "s", "old_dirs": "y", "prev_flat_grad": "g"}
"""torch.optim.LBFGS's names for these; checkpoints from before 2026-12 hold its state."""


class LBFGS:
    """Minimises over one tensor x by Nocedal & Wright's two loops (Numerical Optimization, algorithm 7.4).

    For the last `history_size` steps it remembers s, how x moved, and y, how the gradient changed; together they
    approximate the curvature. Until the first such pair the right length is unknown, so each step moves the pixels
    by `lr` grey levels on average, down the gradient; later steps move them by LONGEST_STEP at most. There is no line
    search. Apart from these lengths the steps are those of torch.optim.LBFGS with one inner iteration.

    It is used like an optimiser of torch, and its state_dict has the same form. It does not inherit from one, because
    the first that is made loads torch's compiler: 1.5 s and 40 MB. [measured]
    """

    def __init__(self, x: torch.Tensor, lr: float = 1.0, history_size: int = 20) -> None:
        self.param_groups = [{"lr": lr, "history_size": history_size, "params": [x]}]
        self.state: dict[torch.Tensor, dict[str, Any]] = {}
        self._room: Arena | None = None

    def zero_grad(self) -> None:
        """Forget the gradient of x."""
        self.param_groups[0]["params"][0].grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """Move x by its gradient, which must exist already; closure, if given, is called first."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        group = self.param_groups[0]
        x = group["params"][0]
        memory, g = self.state.setdefault(x, {}), x.grad.flatten().clone()
        if "g" in memory:
            self._remember(memory, g - memory["g"], group["history_size"])
        memory["moved"], memory["g"] = self._move(memory, g, group["lr"]), g
        x.add_(memory["moved"].view_as(x))
        return loss

    def _move(self, memory: dict[str, Any], g: torch.Tensor, lr: float) -> torch.Tensor:
        """How far x moves."""
        if not memory.get("y"):
            return g * (-lr * g.numel() / max(float(g.abs().sum()), 1.0))
        move = lr * self._direction(memory, g)
        move *= min(1.0, LONGEST_STEP / max(float(move.abs().mean()), 1e-30))
        return move

    def _remember(self, memory: dict[str, Any], y: torch.Tensor, most: int) -> None:
        """Keep the last step's pair, unless the loss curved downwards along it."""
        s = memory["moved"]
        curvature = float(y @ s)
        if curvature > LEAST_CURVATURE:
            if y.device.type == "cpu" and (self._room is None or not memory.get("y")):
                self._room = make_arena(y.nbytes, 2 * (most + 1))
            for name, value in (("s", self._apart(s)), ("y", self._apart(y)), ("rho", 1 / curvature)):
                memory[name] = [*memory.get(name, []), value][-most:]

    def _apart(self, picture: torch.Tensor) -> torch.Tensor:
        """A copy where only such pictures lie: between what comes and goes they would leave gaps."""
        place = self._room.take(picture.nbytes) if self._room else None
        return picture if place is None else place.view(picture.dtype).copy_(picture)

    @staticmethod
    def _direction(memory: dict[str, Any], g: torch.Tensor) -> torch.Tensor:
        """-H g, H the inverse Hessian that the pairs approximate."""
        pairs = list(zip(memory["s"], memory["y"], memory["rho"], strict=True))
        q, alphas = -g, []
        for s, y, rho in reversed(pairs):
            alphas.append(rho * float(s @ q))
            q.add_(y, alpha=-alphas[-1])
        _, y, rho = pairs[-1]
        q *= 1 / (rho * float(y @ y))  # assumes the last step's curvature in all other directions
        for (s, y, rho), alpha in zip(pairs, reversed(alphas), strict=True):
            q.add_(s, alpha=alpha - rho * float(y @ q))
        return q

    def state_dict(self) -> dict[str, Any]:
        """What it remembers, in the form of torch's optimisers: x is number 0."""
        return {
            "state": dict(enumerate(dict(memory) for memory in self.state.values())),
            "param_groups": [self.param_groups[0] | {"params": [0]}],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember this in place of what it remembers; also accepts the state of torch.optim.LBFGS."""
        x = self.param_groups[0]["params"][0]
        self.param_groups = [{**state_dict["param_groups"][0], "params": [x]}]
        self.state = {}
        for memory in state_dict["state"].values():
            if "prev_flat_grad" in memory:
                kept = {new: memory[old] for old, new in OF_TORCH.items()}
                rho = [float(value) for value in memory["ro"]]
                memory = kept | {"rho": rho, "moved": memory["d"] * memory["t"]}
            self.state[x] = {name: _on(x, value) for name, value in memory.items()}


def _on(x: torch.Tensor, value: Any) -> Any:
    """Tensors, also in a list, with the device and floating type of x; numbers as they are."""
    if isinstance(value, list):
        return [_on(x, each) for each in value]
    return value.to(x) if isinstance(value, torch.Tensor) else value
