"""What gates do to an activation."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from nstlab.errors import RequestError
from nstlab.gates import MEAN, Gate
from nstlab.network.layer import Layer


class LayerGates:
    """The gates of one layer: a factor for each feature, (N,), and which features are replaced by their mean."""

    def __init__(self, factors: torch.Tensor, means: torch.Tensor | None = None) -> None:
        self.factors, self.means = factors, means

    def __call__(self, F: torch.Tensor) -> torch.Tensor:
        """(1, N, H, W) -> the same shape. Differentiable by the factors."""
        gated = F * self.factors.to(F).view(1, -1, 1, 1)
        if self.means is None:
            return gated
        return gated + F.mean((2, 3), keepdim=True) * self.means.to(F).view(1, -1, 1, 1)

    @property
    def by_feature(self) -> dict[int, Gate]:
        """The features that they change."""
        means = self.means if self.means is not None else torch.zeros_like(self.factors)
        pairs = enumerate(zip(self.factors.tolist(), means.tolist(), strict=True))
        return {feature: MEAN if mean else factor for feature, (factor, mean) in pairs if factor != 1}


def layer_gates(layer: Layer, gates: torch.Tensor | Mapping[int, Gate]) -> LayerGates:
    """A layer's gates from a tensor (N,), which may require gradients, or from some of them by feature.

    Raises RequestError for a feature that the layer does not have.
    """
    if isinstance(gates, torch.Tensor):
        if gates.shape != (layer.features,):
            raise RequestError(f"{layer.name} takes {layer.features} gates, not {tuple(gates.shape)}")
        return LayerGates(gates)
    factors, means = torch.ones(layer.features), torch.zeros(layer.features)
    for feature, gate in gates.items():
        layer.check_feature(feature)
        factors[feature], means[feature] = (0.0, 1.0) if gate == MEAN else (float(gate), 0.0)
    return LayerGates(factors, means if means.any() else None)
