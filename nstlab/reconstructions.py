"""What survives in a layer: pictures made from its activations alone, and which loss pulls on a picture.

A reconstruction is a transfer with one term, so it is a `Run` like any other: stored, resumable, with its
settings inside the PNG (Mahendran & Vedaldi 2015; Gatys, Ecker & Bethge 2016, figure 1). A feature's favourite
picture goes through the same optimisation with another objective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from skimage.metrics import structural_similarity

from nstlab.images import load_image
from nstlab.optimise import Objective, make_optimizer, set_up, steps
from nstlab.runs import Run
from nstlab.settings import RequestError, Settings
from nstlab.vgg19 import VGG19


def content_reconstruction(picture: str, layer: str, **settings: Any) -> Settings:
    """The settings of a content reconstruction: white noise is changed until F of one layer matches the picture's.

    Minimises mean (F - P)² at `layer` alone. Further settings (size, iterations, seed ...) as `Settings`.

    >>> content_reconstruction("astronaut", "relu4_2", size=64).content_layers
    ('relu4_2',)
    """
    return Settings(
        **{"content": picture, "style": picture, "init": "white_noise"}
        | settings
        | {"content_layers": (layer,), "style_layers": ()}
    )


def style_reconstruction(picture: str, layers: Sequence[str], **settings: Any) -> Settings:
    """The settings of a style reconstruction: white noise is changed until its Grams match the picture's.

    The layers' losses are balanced unless told otherwise: with w_l = 1 relu4_1 alone would decide (it owns more
    than nine tenths of the style gradient). Further settings as `Settings`.

    >>> style_reconstruction("astronaut", ["relu1_1", "relu2_1"], size=64).style_layers
    ('relu1_1', 'relu2_1')
    """
    return Settings(
        **{"content": picture, "style": picture, "init": "white_noise", "style_layer_weights": "balanced"}
        | settings
        | {"content_layers": (), "style_layers": tuple(layers)}
    )


@dataclass(frozen=True)
class Reconstruction:
    """A finished reconstruction and how near it came.

    image, target: (1, 3, H, W) in [0, 1]; losses: the total over the iterations 0 ... N; psnr in dB and ssim in
    [-1, 1], against the target; run: where it is stored.
    """

    run: Run
    image: torch.Tensor
    target: torch.Tensor
    losses: np.ndarray
    psnr: float
    ssim: float

    @property
    def left(self) -> float:
        """The share of the loss of the noise that is left: 1 nothing done, 0 a perfect match of the layer."""
        return float(self.losses[-1] / self.losses[0]) if self.losses[0] > 0 else 0.0


def reconstruct(settings: Settings, out: str | Path | None = None, progress: bool = False) -> Reconstruction:
    """Run a reconstruction (or go on with it) and compare it with its picture.

    out: the folder of runs (None: the project's out/). Raises RequestError or RunError as `Run.advance`.
    """
    run = Run(settings, out).advance(progress=progress)
    iteration = min(run.iteration, settings.iterations)  # a longer run may be stored already
    image = run.frame(iteration) if iteration in run.frames else run.result
    losses = run.history["total"].to_numpy()
    target = load_image(settings.content, settings.size)
    return Reconstruction(run, image, target, losses, psnr(image, target), similarity(image, target))


def psnr(image: torch.Tensor, target: torch.Tensor) -> float:
    """10·log₁₀(1 / mean squared error) of two pictures in [0, 1] units, clamped: in dB; ∞ for equal ones.

    White noise against a photograph has about 8; above 30 the eye sees little difference.

    >>> round(psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)), 3)
    20.0
    """
    error = float((image.clamp(0, 1) - target.clamp(0, 1)).double().square().mean())
    return 10 * math.log10(1 / error) if error > 0 else math.inf


def similarity(image: torch.Tensor, target: torch.Tensor) -> float:
    """SSIM of two pictures (1, 3, H, W) in [0, 1] units, clamped: 1 for equal ones (Wang et al. 2004, σ = 1.5)."""
    a, b = (t[0].clamp(0, 1).permute(1, 2, 0).double().cpu().numpy() for t in (image, target))
    return float(
        structural_similarity(
            a, b, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
    )


class _Favourite:
    """-a + roughness of a picture: small where the mean activation of one feature is high.

    Without regularisers the optimum is noise that no eye connects with anything. From the literature: total
    variation and a bound on the pixels (Mahendran & Vedaldi 2015); jitter: the picture is shifted by a few pixels
    before each look (Mordvintsev et al. 2015); and, where x is made, a gradient whose frequencies are weighed by
    1/f (Olah et al. 2017).
    """

    def __init__(self, net: VGG19, name: str, feature: int, settings: Settings, smoothness: float) -> None:
        self.net, self.name, self.feature, self.settings = net, name, feature, settings
        self.smoothness = smoothness
        self.jitter = max(1, min(8, net.layer(name).stride))
        self.generator = torch.Generator().manual_seed(settings.seed)

    def __call__(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        shift = torch.randint(-self.jitter, self.jitter + 1, (2,), generator=self.generator).tolist()
        moved = x.roll(shift, dims=(2, 3))
        activation = self.net(moved, keep=[self.name])[self.name][0, self.feature].mean()
        down, right = x.diff(dim=2), x.diff(dim=3)
        roughness = down.square().mean() + right.square().mean()
        outside = (x.abs() - 128).clamp_min(0).square().mean()  # what no picture can show should not count
        strength = activation.detach().abs().clamp_min(1.0)  # so that neither term drowns the other
        total = -activation / strength + self.smoothness * (roughness + outside)
        return {"total": total, "activation": activation, "roughness": roughness, "outside": outside}


def favourite(
    net: VGG19,
    name: str,
    feature: int,
    size: int = 64,
    iterations: int = 60,
    seed: int = 0,
    smoothness: float = 2e-4,
) -> tuple[torch.Tensor, np.ndarray]:
    """The picture that a feature likes best: (1, 3, size, size) in [0, 1] units, clamped, and its activation.

    Activation maximisation (Erhan et al. 2009) of the feature's mean over all positions, from the mean pixel with
    a little noise, by Adam; the activations are one number an iteration, in grey levels. `smoothness` weighs the
    mean squared difference between neighbouring pixels (in squared grey levels) against the activation. For a
    relu layer the conv before it is maximised, for a ReLU at 0 gives no gradient to start from.
    Raises RequestError for a layer or a feature that is not there.

    >>> from nstlab.vgg19 import load_vgg19
    >>> favourite(load_vgg19("random", device="cpu"), "conv1_2", 3, size=32, iterations=2)[0].shape
    torch.Size([1, 3, 32, 32])
    """
    layer = net.layer(name)
    if not 0 <= feature < layer.features:
        raise RequestError(f"{name} has features 0 to {layer.features - 1}, not {feature}")
    source = "conv" + name[4:] if layer.kind == "relu" else name
    settings = Settings(optimizer="adam", learning_rate=6.0, size=size, iterations=iterations, seed=seed)
    noise = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
    x = (10 * _pink(noise)).to(net.mean).requires_grad_()
    x.register_hook(_pink)
    objective = _Favourite(net, source, feature, settings, smoothness)
    activations = []
    for step in steps(objective, x, make_optimizer(x, settings), iterations):
        activations.append(step.losses["activation"])
    return step.image.clamp(0, 1), np.array(activations)


def _pink(t: torch.Tensor) -> torch.Tensor:
    """(…, H, W) with its frequencies weighed by 1/f, as those of photographs are; its overall size is kept."""
    rows = torch.fft.fftfreq(t.shape[-2], device=t.device)[:, None]
    columns = torch.fft.rfftfreq(t.shape[-1], device=t.device)[None]
    f = (rows.square() + columns.square()).sqrt().clamp_min(1 / max(t.shape[-2:]))
    weighed = torch.fft.irfft2(torch.fft.rfft2(t) / f, s=t.shape[-2:])
    return weighed * (t.norm() / weighed.norm().clamp_min(1e-12))


def gradient_shares(objective: Objective, x: torch.Tensor) -> pd.DataFrame:
    """Which term pulls on the picture: one row a term (content, then each style layer with k_S·w_l).

    `x` is the picture (1, 3, H, W) in grey levels as the network takes it. With g_l = ∂(term)/∂x and g their
    sum: norm = ‖g_l‖; share = ‖g_l‖ / Σ‖g_l‖; projection = ⟨g_l, g⟩/‖g‖², which sums to 1 and is negative for a
    term that pulls against the others.
    """
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        losses = objective(x)
        terms = {"content": losses["content"]} if objective.P else {}
        terms |= {name: objective.settings.k_S * losses[name] for name in objective.A}
        gradients = [torch.autograd.grad(term, x, retain_graph=True)[0].double() for term in terms.values()]
    g = torch.stack([gradient.flatten() for gradient in gradients])  # (terms, pixels)
    norms, whole = g.norm(dim=1), g.sum(0)
    table = {
        "norm": norms,
        "share": norms / norms.sum().clamp_min(1e-300),
        "projection": g @ whole / whole.square().sum().clamp_min(1e-300),
    }
    return pd.DataFrame({key: column.cpu().numpy() for key, column in table.items()}, index=list(terms))


def gradient_shares_along(settings: Settings, iterations: Sequence[int]) -> tuple[pd.DataFrame, torch.Tensor]:
    """`gradient_shares` while a transfer runs, and the picture it ends with, (1, 3, H, W) in [0, 1] units, unclamped.

    One row an iteration asked for and term; columns iteration, term, norm, share, projection. Nothing is stored,
    and no stored frame would do: it is clamped to what can be shown, and where the transfer has nearly arrived,
    the gradient of the clamped picture is many times as long and another one.
    Raises RequestError for settings whose loss changes on the way (`scales`, `k_S_changes`) and for iterations
    that the transfer does not reach.
    """
    if settings.scales > 1 or settings.k_S_changes:
        raise RequestError("gradient shares are of one loss: leave scales at 1 and k_S_changes empty")
    if not iterations or not 0 <= min(iterations) <= max(iterations) <= settings.iterations:
        raise RequestError(f"the iterations to look at must be some of 0 to {settings.iterations}")
    objective, x = set_up(settings)
    tables = []
    for step in steps(objective, x, make_optimizer(x, settings), settings.iterations):
        if step.iteration in iterations:
            table = gradient_shares(objective, objective.net.prepare(step.image)).rename_axis("term").reset_index()
            tables.append(table.assign(iteration=step.iteration))
    columns = ["iteration", "term", "norm", "share", "projection"]
    return pd.concat(tables, ignore_index=True)[columns], step.image
