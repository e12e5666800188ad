"""What is known of one function of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nstlab.errors import RequestError

Function = Callable[[torch.Tensor], torch.Tensor]
"""(1, C, H, W) -> (1, C', H', W')."""


@dataclass(frozen=True)
class Layer:
    """One of the functions of a network.

    index: 1, 2, ...; kind: "conv", "relu", "pool", or "block" for any other function; inputs, features: channels in
    and out; stride: pixels between neighbouring output positions; receptive_field: the side, in pixels, of the square
    that one position sees; parameters: the number of weights and biases; before: how many of those pixels come before
    the first of the `stride` pixels that the position stands for; work: multiply-adds for each position;
    kept: bytes for each position that backward needs, where that was measured;
    steps: (stride, spare) of each function so far that changes the size, from h to (h + spare) // stride.
    """

    index: int
    name: str
    kind: str
    inputs: int
    features: int
    stride: int
    receptive_field: int
    parameters: int
    before: int
    work: int
    kept: float = 0.0
    steps: tuple[tuple[int, int], ...] | None = None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of its activation for a picture of height x width pixels."""
        if self.steps is None:
            return height // self.stride, width // self.stride
        for stride, spare in self.steps:
            height, width = (height + spare) // stride, (width + spare) // stride
        return height, width

    def multiply_adds(self, height: int, width: int) -> int:
        """Multiplications, each with an addition, for a picture of height x width pixels."""
        rows, columns = self.size(int(height), int(width))
        return self.work * rows * columns

    def check_feature(self, feature: int) -> None:
        """Raises RequestError for a feature that the layer does not have."""
        if not 0 <= feature < self.features:
            raise RequestError(f"{self.name} has features 0 to {self.features - 1}, not {feature}")
