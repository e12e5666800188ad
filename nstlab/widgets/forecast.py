"""How long a run will take, and how much memory, told before it starts."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from nstlab.convolution import convolve
from nstlab.settings import BLOCKS, Settings, layer_names
from nstlab.vgg19 import Layer, choose_device, describe_layers

PASSES = 2.2  # forward, and backward to the picture alone; the rest of an iteration is a tenth [measured]


@dataclass(frozen=True)
class Forecast:
    """seconds: of one iteration; total: seconds of all that is still to do; memory: bytes; begun: some is done."""

    seconds: float
    total: float
    memory: float
    begun: bool

    def __str__(self) -> str:
        share = "left" if self.begun else "in all"
        return (
            f"about {duration(self.seconds)} an iteration, {duration(self.total)} {share}, {self.memory / 1e9:.1f} GB"
        )


def forecast(settings: Settings, height: int, width: int, rate: float, stored: int = 0) -> Forecast:
    """What `settings` will cost for a content of height x width; rate: multiply-adds a second."""
    layers = computed_layers(settings)
    work = sum(layer.multiply_adds(height, width) for layer in layers)
    seconds = PASSES * work / rate
    activations = sum(layer.features * height * width // layer.stride**2 for layer in layers)
    pictures = 3 * height * width * (2 * settings.history_size + 6 if settings.optimizer == "lbfgs" else 10)
    parameters = sum(layer.parameters for layer in layers)
    memory = 4.0 * (1.5 * activations + pictures + 2 * parameters) + 0.35e9  # the last: Python with torch
    return Forecast(seconds, seconds * max(settings.iterations - stored, 0), memory, stored > 0)


def computed_layers(settings: Settings) -> list[Layer]:
    """The layers up to the deepest that a loss reads."""
    pairs, inputs = [], 3
    for convolutions, features in BLOCKS:
        for _ in range(convolutions):
            pairs.append((inputs, features))
            inputs = features
    wanted = {*settings.content_layers, *settings.style_layers}
    deepest = max(layer_names().index(name) for name in wanted)
    return list(describe_layers(pairs)[: deepest + 1])


def measured_rate(settings: Settings, height: int, width: int, seconds: float) -> float:
    """Multiply-adds a second, from an iteration that took so many seconds."""
    work = sum(layer.multiply_adds(height, width) for layer in computed_layers(settings))
    return PASSES * work / max(seconds, 1e-6)


def first_rate(device: str) -> float:
    """Multiply-adds a second, from one convolution done now: a fiftieth of a second's work."""
    with torch.inference_mode():
        x = torch.zeros(1, 128, 64, 64, device=choose_device(device))
        weight, bias = x.new_zeros(128, 128, 3, 3), x.new_zeros(128)
        times = []
        for _ in range(8):
            began = time.perf_counter()
            convolve(x, weight, bias).sum().item()
            times.append(time.perf_counter() - began)
    return 9 * 128 * 128 * 64 * 64 / min(times)


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would use.

    >>> duration(0.04), duration(7.2), duration(75), duration(9000)
    ('0.04 s', '7 s', '1 min 15 s', '2 h 30 min')
    """
    if seconds < 0.995:
        return f"{seconds:.2f} s" if seconds > 0.095 else f"{seconds:.1g} s"
    if seconds < 4:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
