"""nstlab: a research workbench that takes neural style transfer apart. `import nstlab as lab`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Threads of OpenMP that have nothing to do sleep, if torch is not imported yet. By default GNU's go on asking for
# work for a while, on the cores that NNPACK's threads need: an iteration at 256 pixels takes a fifth longer.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from nstlab.images import load_image, read_settings, sample_pictures, save_image
from nstlab.initial import initial_value
from nstlab.losses import content_loss, gram, style_loss
from nstlab.optimise import Step, transfer
from nstlab.runs import Run
from nstlab.settings import RequestError, RunError, Settings
from nstlab.vgg19 import VGG19, Layer, load_vgg19

if TYPE_CHECKING:
    from nstlab.widgets import explorer, panel

__all__ = [
    "VGG19",
    "Layer",
    "RequestError",
    "Run",
    "RunError",
    "Settings",
    "Step",
    "content_loss",
    "explorer",
    "gram",
    "initial_value",
    "load_image",
    "load_vgg19",
    "panel",
    "read_settings",
    "sample_pictures",
    "save_image",
    "style_loss",
    "transfer",
]


def __getattr__(name: str) -> Any:
    """panel and explorer bring ipywidgets along, so they are imported when they are first asked for."""
    if name in ("panel", "explorer"):
        from nstlab import widgets

        return getattr(widgets, name)
    raise AttributeError(f"module 'nstlab' has no attribute {name!r}")
