"""L-BFGS for a GPU: a few products of matrices, and no number that the host waits for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.linalg import solve_triangular

from nstlab.optimise.lbfgs import LBFGS, LEAST_CURVATURE, LONGEST_STEP


class CompactLBFGS(LBFGS):
    """The steps of LBFGS, but for rounding, by the compact representation of the inverse Hessian.

    Byrd, Nocedal & Schnabel 1994, as in Nocedal & Wright, equation 7.24. The pairs are the rows of two matrices S and
    Y, the latest last, with rows of zeros in place of those that are not there yet; each step moves all of them up. So
    from the third step on each does the same operations on the same memory whatever the numbers are, which is what a
    CUDA graph needs, and a device never waits for the host. Its state_dict is that of LBFGS: a run can change its
    device.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> torch.Tensor | None:
        """As LBFGS's; what it remembers stays where it is in memory."""
        before = dict(self.state.get(self.param_groups[0]["params"][0], {}))
        loss = super().step(closure)
        for memory in self.state.values():
            memory |= {name: there.copy_(memory[name]) for name, there in before.items()}
        return loss

    def _remember(self, memory: dict[str, Any], y: torch.Tensor, most: int) -> None:
        if "S" not in memory:
            memory |= _no_pairs(y, most)
        kept = y @ memory["moved"] > LEAST_CURVATURE
        rows = torch.arange(most, device=y.device) + kept
        for name, value in (("S", memory["moved"]), ("Y", y)):
            memory[name][most] = value
            memory[name][:most] = memory[name][rows]
        memory["pairs"].add_(kept).clamp_(max=most)

    def _move(self, memory: dict[str, Any], g: torch.Tensor, lr: float) -> torch.Tensor:
        downhill = g * (-lr * g.numel() / g.abs().sum().clamp(min=1.0))
        if "S" not in memory:
            return downhill
        move = lr * self._direction(memory, g)
        move *= (LONGEST_STEP / move.abs().mean().clamp(min=1e-30)).clamp(max=1.0)
        return torch.where(memory["pairs"] > 0, move, downhill)

    @staticmethod
    def _direction(memory: dict[str, Any], g: torch.Tensor) -> torch.Tensor:
        S, Y = memory["S"][:-1], memory["Y"][:-1]
        most = len(S)
        with _whole_precision():
            SY, YY = (S @ Y.T).double(), (Y @ Y.T).double()
            Sg, Yg = (S @ g).double(), (Y @ g).double()
            absent = torch.arange(most, device=g.device) < most - memory["pairs"]
            R = SY.triu() + absent.double().diag()
            curvature = SY[-1, -1] / YY[-1, -1]  # the last step's, assumed in all other directions
            u = solve_triangular(R, Sg[:, None], upper=True)[:, 0]
            right = SY.diagonal() * u + curvature * (YY @ u - Yg)
            a = solve_triangular(R.T, right[:, None], upper=False)[:, 0]
            return -(curvature * g + a.to(g) @ S - (curvature * u).to(g) @ Y)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"state": dict(enumerate(map(_as_lists, self.state.values())))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        most = self.param_groups[0]["history_size"]
        self.state = {x: _as_matrices(memory, most) for x, memory in self.state.items()}


def _no_pairs(like: torch.Tensor, most: int) -> dict[str, torch.Tensor]:
    """Matrices with a row to spare, in which the newest pair is put before it is known whether it is kept."""
    empty = {name: like.new_zeros(most + 1, len(like)) for name in ("S", "Y")}
    return empty | {"pairs": torch.zeros((), dtype=torch.long, device=like.device)}


def _as_lists(memory: dict[str, Any]) -> dict[str, Any]:
    """As LBFGS remembers it: copies, since the tensors here change in place."""
    found = {name: value.clone() for name, value in memory.items() if name not in ("S", "Y", "pairs")}
    count = int(memory.get("pairs", 0))
    if not count:
        return found
    s, y = (list(memory[name][-1 - count : -1].clone()) for name in ("S", "Y"))
    return found | {"s": s, "y": y, "rho": [1 / float(b @ a) for a, b in zip(s, y, strict=True)]}


def _as_matrices(memory: dict[str, Any], most: int) -> dict[str, Any]:
    found = {name: value.clone() for name, value in memory.items() if name not in ("s", "y", "rho")}
    if not memory.get("y"):
        return found
    found |= _no_pairs(memory["g"], most)
    for name in ("s", "y"):
        found[name.upper()][-1 - len(memory[name]) : -1] = torch.stack(memory[name])
    found["pairs"] += len(memory["y"])
    return found


@contextmanager
def _whole_precision() -> Iterator[None]:
    """Products in full float32, whatever the network's precision is."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
