"""How long a run will take, forecast before it starts and while it runs."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from nstlab.errors import RequestError
from nstlab.network import Kernels, choose_device, convolve, is_fast
from nstlab.optimise.memory import computed_layers, is_tiled, memory_needed, with_tile
from nstlab.settings import Settings
from nstlab.terminal import duration

IN_TILES = 1.6  # relative to the whole picture [measured at 1024 pixels]
PASSES = 2.2  # forward, and backward to the picture only; the rest of an iteration adds a tenth [measured]


@dataclass(frozen=True)
class Forecast:
    """seconds: of one iteration; total: seconds for all that remains; memory: bytes; begun: whether some is done."""

    seconds: float
    total: float
    memory: float
    begun: bool

    def __str__(self) -> str:
        total = f"{duration(self.total)} {'left' if self.begun else 'in total'}"
        return f"about {duration(self.seconds)} an iteration, {total}, {self.memory / 1e9:.1f} GB"


def forecast(settings: Settings, height: int, width: int, rate: float, stored: int = 0) -> Forecast:
    """What `settings` will cost for a content of height x width; rate: in multiply-adds per second."""
    try:
        settings = with_tile(settings, height, width)
    except RequestError:  # which the run will say
        settings = settings.with_(tile=None)
    seconds = _passes(settings, height, width) / rate
    memory = memory_needed(settings, height, width)
    return Forecast(seconds, seconds * max(settings.iterations - stored, 0), memory, stored > 0)


def measured_rate(settings: Settings, height: int, width: int, seconds: float) -> float:
    """Multiply-adds per second, from the seconds that one iteration took."""
    return _passes(settings, height, width) / max(seconds, 1e-6)


def _passes(settings: Settings, height: int, width: int) -> float:
    """The multiply-adds of an iteration."""
    work = sum(layer.multiply_adds(height, width) for layer in computed_layers(settings))
    return PASSES * work * (IN_TILES if is_tiled(settings, height, width) else 1.0)


def first_rate(device: str) -> float:
    """Multiply-adds per second, measured now on one convolution, which takes a fiftieth of a second."""
    with torch.inference_mode():
        x = torch.zeros(1, 128, 64, 64, device=choose_device(device))
        kernels = Kernels(x.new_zeros(128, 128, 3, 3), x.new_zeros(128))
        times = []
        for _ in range(8):
            began = time.perf_counter()
            (kernels(x) if is_fast(x) else convolve(x, kernels.weight, kernels.bias)).sum().item()
            times.append(time.perf_counter() - began)
    return 9 * 128 * 128 * 64 * 64 / min(times)
