"""The pictures that features like best, or least: the same optimisation with another objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral

import numpy as np
import torch

from nstlab.errors import RequestError
from nstlab.network import Layer, Network
from nstlab.optimise import Step, gram, make_optimizer, squared_variation, steps
from nstlab.settings import Settings

Wanted = int | Sequence[int] | torch.Tensor
"""A feature; several that should be active together; or a direction, (N,): how much of each feature."""


class _Favourite:
    """-a + roughness of a picture, a the mean activation of one feature, or of a mixture.

    Without regularisers the optimum is meaningless noise. From the literature: total variation and a bound on the
    pixels (Mahendran & Vedaldi 2015); jitter, which shifts the picture by a few pixels before each look (Mordvintsev
    et al. 2015); and, set up in `favourite_steps`, a gradient with frequencies weighed by 1/f (Olah et al. 2017), who
    also keep pictures apart by the cosine between their Grams.
    """

    def __init__(
        self,
        net: Network,
        name: str,
        wanted: int | torch.Tensor,
        settings: Settings,
        smoothness: float,
        negative: bool,
        unlike: Sequence[torch.Tensor],
    ) -> None:
        self.net, self.name, self.wanted, self.smoothness = net, name, wanted, smoothness
        self.sign = -1.0 if negative else 1.0
        with torch.no_grad():
            self.unlike = [self._texture(net.prepare(image)) for image in unlike]
        self.shape = (settings.size, settings.size)
        self.jitter = max(1, min(8, net.layer(name).stride))
        self.generator = torch.Generator().manual_seed(settings.seed)

    def shape_at(self, iteration: int) -> tuple[int, int]:
        return self.shape

    def shown(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.restore(x.detach())

    def __call__(self, x: torch.Tensor, weights: Mapping[str, float]) -> dict[str, torch.Tensor]:
        shift = torch.randint(-self.jitter, self.jitter + 1, (2,), generator=self.generator).tolist()
        moved = x.roll(shift, dims=(2, 3))
        F = self.net(moved, keep=[self.name])[self.name][0]
        activation = F[self.wanted].mean() if isinstance(self.wanted, int) else self.wanted.to(F) @ F.mean((1, 2))
        roughness = squared_variation(x)
        outside = (x.abs() - 128).clamp_min(0).square().mean()  # values that no picture can show should not count
        strength = activation.detach().abs().clamp_min(1.0)  # so that neither term drowns the other
        total = -self.sign * activation / strength + self.smoothness * (roughness + outside)
        if self.unlike:
            texture = self._texture(x)
            total = total + sum((texture * other).sum() for other in self.unlike) / len(self.unlike)
        return {"total": total, "activation": activation, "roughness": roughness, "outside": outside}

    def _texture(self, x: torch.Tensor) -> torch.Tensor:
        """The Gram of a picture's activation, of length 1."""
        G = gram(self.net(x, keep=[self.name])[self.name].relu())
        return G / G.norm().clamp_min(1e-12)


def favourite(
    net: Network,
    name: str,
    feature: Wanted,
    size: int = 64,
    iterations: int = 60,
    seed: int = 0,
    smoothness: float = 2e-4,
    negative: bool = False,
    unlike: Sequence[torch.Tensor] = (),
) -> tuple[torch.Tensor, np.ndarray]:
    """The picture that a feature likes best, (1, 3, size, size) in [0, 1] units, clamped, and its activations.

    Activation maximisation (Erhan et al. 2009): Adam maximises the feature's mean over all positions, starting from
    the mean pixel with a little noise. The activations are one number per iteration, in grey levels. `smoothness`
    weighs the mean squared difference between neighbouring pixels (in squared grey levels) against the activation.
    For a relu layer the conv before it is maximised, since a ReLU at 0 gives no gradient to start from.
    feature: one; several, which should be active together; or a direction (N,). negative: what it likes least.
    unlike: pictures (1, 3, H, W) in [0, 1] from whose texture this one should differ (see `favourites`).
    Raises RequestError for an unknown layer or feature, or a direction of another length.

    >>> favourite(load_vgg19("random", device="cpu"), "conv1_2", 3, size=32, iterations=2)[0].shape
    torch.Size([1, 3, 32, 32])
    """
    asked = (size, iterations, seed, smoothness, negative, unlike)
    *_, last = computed = list(favourite_steps(net, name, feature, *asked))
    return last.image.clamp(0, 1), np.array([step.losses["activation"] for step in computed])


def favourites(
    net: Network, name: str, feature: Wanted, count: int = 4, size: int = 64, iterations: int = 60, seed: int = 0
) -> list[torch.Tensor]:
    """Several pictures that a feature likes, (1, 3, size, size) in [0, 1] each, the later ones unlike the earlier.

    A feature that likes several things shows them. Raises RequestError like `favourite`.
    """
    found: list[torch.Tensor] = []
    for k in range(count):
        picture, _ = favourite(net, name, feature, size, iterations, seed + k, unlike=found)
        found.append(picture)
    return found


def favourite_steps(
    net: Network,
    name: str,
    feature: Wanted,
    size: int = 64,
    iterations: int = 60,
    seed: int = 0,
    smoothness: float = 2e-4,
    negative: bool = False,
    unlike: Sequence[torch.Tensor] = (),
) -> Iterator[Step]:
    """The steps to a feature's `favourite`: iterations 0 to `iterations`, each with its picture, unclamped.

    The losses are `total`, `activation` (grey levels), `roughness` and `outside`. Raises RequestError at once.

    >>> net = load_vgg19("random", device="cpu")
    >>> [step.iteration for step in favourite_steps(net, "conv1_2", 3, size=32, iterations=2)]
    [0, 1, 2]
    """
    layer = net.layer(name)
    wanted = _direction(layer, feature)
    source = "conv" + name[4:] if layer.kind == "relu" else name
    settings = Settings(optimizer="adam", learning_rate=6.0, size=size, iterations=iterations, seed=seed)
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
    x = (10 * _pink(noise)).to(net.mean).requires_grad_()
    x.register_hook(_pink)
    objective = _Favourite(net, source, wanted, settings, smoothness, negative, unlike)
    return steps(objective, x, make_optimizer(x, settings), settings)


def _direction(layer: Layer, feature: Wanted) -> int | torch.Tensor:
    """A feature, or how much of each of the layer's features is wanted, (N,), of length 1."""
    if isinstance(feature, torch.Tensor):
        if feature.shape != (layer.features,) or not bool(feature.any()):
            raise RequestError(f"a direction in {layer.name} has {layer.features} numbers, not all 0")
        return feature / feature.norm()
    if isinstance(feature, Integral):
        layer.check_feature(feature)
        return int(feature)
    direction = torch.zeros(layer.features)
    for each in feature:
        layer.check_feature(each)
        direction[each] = 1.0
    return _direction(layer, direction)


def _pink(t: torch.Tensor) -> torch.Tensor:
    """(…, H, W) with its frequencies weighed by 1/f, as in photographs; its norm is kept."""
    rows = torch.fft.fftfreq(t.shape[-2], device=t.device)[:, None]
    columns = torch.fft.rfftfreq(t.shape[-1], device=t.device)[None]
    f = (rows.square() + columns.square()).sqrt().clamp_min(1 / max(t.shape[-2:]))
    weighed = torch.fft.irfft2(torch.fft.rfft2(t) / f, s=t.shape[-2:])
    return weighed * (t.norm() / weighed.norm().clamp_min(1e-12))
