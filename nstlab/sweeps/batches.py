"""The runs of a sweep's points computed in batches, in this process, before their notebooks are executed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from nstlab.network import choose_device
from nstlab.optimise import network_in_common
from nstlab.runs import advance_together
from nstlab.sweeps.plan import Point
from nstlab.terminal import say


def batches(points: Sequence[Point], most: int) -> list[list[Point]]:
    """The points whose runs share a network and are not complete, in order, at most so many in each."""
    alike: dict[Hashable, list[Point]] = {}
    for point in points:
        common = network_in_common(point.settings)
        if common is not None and not point.run.complete:
            alike.setdefault(common, []).append(point)
    parts = [some[i : i + most] for some in alike.values() for i in range(0, len(some), most)]
    return [part for part in parts if len(part) > 1]


def advance_in_batches(points: Sequence[Point], most: int) -> bool:
    """Complete the runs of these points, as far as they share a network; returns whether it was interrupted.

    A point's notebook then finds its run complete. One that failed is tried again there, and fails with the point.
    Raises RequestError or RunError if memory is too small for a batch.
    """
    parts = batches(points, most)
    if any(choose_device(part[0].settings.device).type == "cpu" for part in parts):
        say("batch     a CPU takes as long for runs together as for one after the other, or longer")
    for number, part in enumerate(parts, start=1):
        say(f"batch     {number} of {len(parts)}: {len(part)} points")
        try:
            failed = advance_together([point.run for point in part])
        except KeyboardInterrupt:
            return True
        finally:
            torch.cuda.empty_cache()  # the notebooks' kernels need a GPU's memory too; without one it does nothing
        for point in part:
            if point.run.id in failed:
                say(f"          {point.label}: {failed[point.run.id]}")
    return False
