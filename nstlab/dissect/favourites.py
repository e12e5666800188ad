"""The picture that a feature likes best: the same optimisation with another objective."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from nstlab.network import Network
from nstlab.optimise import Step, make_optimizer, squared_variation, steps
from nstlab.settings import Settings


class _Favourite:
    """-a + roughness of a picture, a the mean activation of one feature.

    Without regularisers the optimum is meaningless noise. From the literature: total variation and a bound on the
    pixels (Mahendran & Vedaldi 2015); jitter, which shifts the picture by a few pixels before each look (Mordvintsev
    et al. 2015); and, set up in `favourite_steps`, a gradient with frequencies weighed by 1/f (Olah et al. 2017).
    """

    def __init__(self, net: Network, name: str, feature: int, settings: Settings, smoothness: float) -> None:
        self.net, self.name, self.feature, self.smoothness = net, name, feature, smoothness
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
        activation = self.net(moved, keep=[self.name])[self.name][0, self.feature].mean()
        roughness = squared_variation(x)
        outside = (x.abs() - 128).clamp_min(0).square().mean()  # values that no picture can show should not count
        strength = activation.detach().abs().clamp_min(1.0)  # so that neither term drowns the other
        total = -activation / strength + self.smoothness * (roughness + outside)
        return {"total": total, "activation": activation, "roughness": roughness, "outside": outside}


def favourite(
    net: Network,
    name: str,
    feature: int,
    size: int = 64,
    iterations: int = 60,
    seed: int = 0,
    smoothness: float = 2e-4,
) -> tuple[torch.Tensor, np.ndarray]:
    """The picture that a feature likes best, (1, 3, size, size) in [0, 1] units, clamped, and its activations.

    Activation maximisation (Erhan et al. 2009): Adam maximises the feature's mean over all positions, starting from
    the mean pixel with a little noise. The activations are one number per iteration, in grey levels. `smoothness`
    weighs the mean squared difference between neighbouring pixels (in squared grey levels) against the activation.
    For a relu layer the conv before it is maximised, since a ReLU at 0 gives no gradient to start from.
    Raises RequestError for an unknown layer or feature.

    >>> favourite(load_vgg19("random", device="cpu"), "conv1_2", 3, size=32, iterations=2)[0].shape
    torch.Size([1, 3, 32, 32])
    """
    *_, last = computed = list(favourite_steps(net, name, feature, size, iterations, seed, smoothness))
    return last.image.clamp(0, 1), np.array([step.losses["activation"] for step in computed])


def favourite_steps(
    net: Network,
    name: str,
    feature: int,
    size: int = 64,
    iterations: int = 60,
    seed: int = 0,
    smoothness: float = 2e-4,
) -> Iterator[Step]:
    """The steps to a feature's `favourite`: iterations 0 to `iterations`, each with its picture, unclamped.

    The losses are `total`, `activation` (grey levels), `roughness` and `outside`. Raises RequestError at once.

    >>> net = load_vgg19("random", device="cpu")
    >>> [step.iteration for step in favourite_steps(net, "conv1_2", 3, size=32, iterations=2)]
    [0, 1, 2]
    """
    layer = net.layer(name)
    layer.check_feature(feature)
    source = "conv" + name[4:] if layer.kind == "relu" else name
    settings = Settings(optimizer="adam", learning_rate=6.0, size=size, iterations=iterations, seed=seed)
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
    x = (10 * _pink(noise)).to(net.mean).requires_grad_()
    x.register_hook(_pink)
    return steps(_Favourite(net, source, feature, settings, smoothness), x, make_optimizer(x, settings), settings)


def _pink(t: torch.Tensor) -> torch.Tensor:
    """(…, H, W) with its frequencies weighed by 1/f, as in photographs; its norm is kept."""
    rows = torch.fft.fftfreq(t.shape[-2], device=t.device)[:, None]
    columns = torch.fft.rfftfreq(t.shape[-1], device=t.device)[None]
    f = (rows.square() + columns.square()).sqrt().clamp_min(1 / max(t.shape[-2:]))
    weighed = torch.fft.irfft2(torch.fft.rfft2(t) / f, s=t.shape[-2:])
    return weighed * (t.norm() / weighed.norm().clamp_min(1e-12))
