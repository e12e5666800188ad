"""What a layer keeps: pictures made from its activations alone.

A reconstruction is a transfer with one term, so it is a `Run` like any other: stored, resumable, with its settings
inside the PNG (Mahendran & Vedaldi 2015; Gatys, Ecker & Bethge 2016, figure 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nstlab.images import load_image
from nstlab.metrics import psnr, similarity
from nstlab.runs import Run
from nstlab.settings import Settings


def content_reconstruction(picture: str, layer: str, **settings: Any) -> Settings:
    """The settings of a content reconstruction: white noise changes until one layer's F matches the picture's.

    Minimises mean (F - P)² at `layer` alone. Other settings (size, iterations, seed ...) as in `Settings`.

    >>> content_reconstruction("astronaut", "relu4_2", size=64).content_layers
    ('relu4_2',)
    """
    return Settings(
        **{"content": picture, "style": picture, "init": "white_noise"}
        | settings
        | {"content_layers": (layer,), "style_layers": ()}
    )


def style_reconstruction(picture: str, layers: Sequence[str], **settings: Any) -> Settings:
    """The settings of a style reconstruction: white noise changes until its Grams match the picture's.

    The layers' losses are balanced by default: with w_l = 1 relu4_1 alone would decide (it accounts for more than
    nine tenths of the style gradient). Other settings as in `Settings`.

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
    """A finished reconstruction and how close it came.

    run: where it is stored; image, target: (1, 3, H, W) in [0, 1]; losses: the total at the iterations 0 ... N;
    psnr, in dB, and ssim, in [-1, 1]: of image and target.
    """

    run: Run
    image: torch.Tensor
    target: torch.Tensor
    losses: np.ndarray
    psnr: float
    ssim: float

    @property
    def left(self) -> float:
        """The last loss over the first: 1 if nothing was done, 0 if the layer is matched perfectly."""
        return float(self.losses[-1] / self.losses[0]) if self.losses[0] > 0 else 0.0


def reconstruct(settings: Settings, out: str | Path | None = None, progress: bool = False) -> Reconstruction:
    """Run or resume a reconstruction and compare it with its picture.

    out: the folder of runs (None: the project's out/). Raises RequestError or RunError like `Run.advance`.
    """
    run = Run(settings, out).advance(progress=progress)
    image = run.result
    losses = run.history["total"].to_numpy()
    target = load_image(settings.content, settings.size)
    return Reconstruction(run, image, target, losses, psnr(image, target), similarity(image, target))
