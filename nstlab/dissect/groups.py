"""Features that are active together: a layer's activation as a sum of a handful of groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import adaptive_avg_pool2d

from nstlab.errors import RequestError
from nstlab.gates import gates_as_text
from nstlab.network import Network

MOST_POSITIONS = 4096  # that a factorisation is found from; more are averaged


@dataclass(frozen=True)
class Groups:
    """F ≈ Σ_k where_k · what_k, all of them ≥ 0.

    layer: its name; what: (K, N), how much of each feature a group has, in rows of sum 1, the group with most of the
    activation first; explained: the part of Σ F² that they reproduce, in [0, 1].
    """

    layer: str
    what: np.ndarray
    explained: float

    def __len__(self) -> int:
        return len(self.what)

    def features(self, group: int, count: int = 8) -> list[int]:
        """The features that a group has most of."""
        return [int(feature) for feature in np.argsort(-self.what[group], kind="stable")[:count]]

    def where(self, net: Network, image: torch.Tensor) -> np.ndarray:
        """How strongly each group is active at each position of a picture (1, 3, H, W) in [0, 1]: (K, H', W')."""
        F = _activation(net, image, self.layer)
        return _solved(F.flatten(2)[0].T.numpy(), self.what).T.reshape(len(self), *F.shape[2:])

    def gates(self, net: Network, image: torch.Tensor, strengths: dict[int, float]) -> str:
        """The `gates` setting that weakens or strengthens groups: 0 leaves one out, 2 doubles it, others stay.

        A feature may serve several groups. Its gate is the mean of their strengths, by how much of its activation in
        the picture each of them makes up.
        """
        if unknown := [group for group in strengths if not 0 <= group < len(self)]:
            raise RequestError(f"there are groups 0 to {len(self) - 1}, not {unknown[0]}")
        amounts = self.where(net, image).reshape(len(self), -1).sum(1)[:, None] * self.what  # (K, N)
        factors = np.array([strengths.get(group, 1.0) for group in range(len(self))])
        whole = amounts.sum(0)
        made = np.where(whole > 0, factors @ amounts / np.where(whole > 0, whole, 1), 1.0)
        gates = {feature: round(float(factor), 2) for feature, factor in enumerate(made)}
        return gates_as_text({self.layer: {feature: gate for feature, gate in gates.items() if gate != 1}})


def feature_groups(net: Network, image: torch.Tensor, layer: str, count: int = 6, seed: int = 0) -> Groups:
    """The groups of a layer in a picture (1, 3, H, W) in [0, 1], by non-negative factorisation (Lee & Seung 1999).

    The layer's activation must be nowhere below 0: a relu, or a pooling behind one. Raises RequestError otherwise,
    and for more groups than features or positions.
    """
    F = _activation(net, image, layer)
    if bool((F < 0).any()):
        raise RequestError(f"{layer} has activations below 0: choose a relu layer")
    N, M = F.shape[1], F.shape[2] * F.shape[3]
    if not 1 <= count <= min(N, M):
        raise RequestError(f"between 1 and {min(N, M)} groups, not {count}")
    X = F.flatten(2)[0].T.numpy()  # (M, N)
    found = _factorisation(X, count, seed)
    strengths = found[0].sum(0)
    order = np.argsort(-strengths, kind="stable")
    what = found[1][order]
    left = np.square(X - _solved(X, what) @ what).sum() / max(np.square(X).sum(), 1e-300)
    return Groups(layer, what, float(1 - left))


def _activation(net: Network, image: torch.Tensor, layer: str) -> torch.Tensor:
    with torch.no_grad():
        F = net(net.prepare(image), keep=[layer])[layer].float().cpu()
    shrink = (MOST_POSITIONS / (F.shape[2] * F.shape[3])) ** 0.5
    return F if shrink >= 1 else adaptive_avg_pool2d(F, [max(int(side * shrink), 1) for side in F.shape[2:]])


def _factorisation(X: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.decomposition import NMF  # takes a second, which only this needs

    model = NMF(count, init="nndsvda", random_state=seed, max_iter=1000, tol=1e-4)
    where = model.fit_transform(X)
    sums = np.maximum(model.components_.sum(1), 1e-12)
    return where * sums, model.components_ / sums[:, None]


def _solved(X: np.ndarray, what: np.ndarray) -> np.ndarray:
    """where ≥ 0 with the smallest ‖X - where · what‖, (M, K)."""
    from sklearn.decomposition import non_negative_factorization

    what = what.astype(X.dtype)
    return non_negative_factorization(X, H=what, n_components=len(what), update_H=False, max_iter=500)[0]
