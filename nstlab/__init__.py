"""nstlab: a research workbench that takes neural style transfer apart. `import nstlab as lab`."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Threads of OpenMP that have nothing to do sleep, if torch is not imported yet. By default GNU's go on asking for
# work for a while, on the cores that NNPACK's threads need: an iteration at 256 pixels takes a fifth longer.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if TYPE_CHECKING:
    from nstlab.images import load_image, read_settings, sample_pictures, save_image
    from nstlab.initial import initial_value
    from nstlab.losses import content_loss, gram, style_loss
    from nstlab.optimise import Step, transfer
    from nstlab.runs import Run
    from nstlab.settings import RequestError, RunError, Settings
    from nstlab.vgg19 import VGG19, Layer, load_vgg19
    from nstlab.widgets import explorer, panel

_HOMES = {
    "images": ("load_image", "read_settings", "sample_pictures", "save_image"),
    "initial": ("initial_value",),
    "losses": ("content_loss", "gram", "style_loss"),
    "optimise": ("Step", "transfer"),
    "runs": ("Run",),
    "settings": ("RequestError", "RunError", "Settings"),
    "vgg19": ("VGG19", "Layer", "load_vgg19"),
    "widgets": ("explorer", "panel"),
}
"""Module -> the public names that it has. Each is imported when it is first asked for: torch takes seconds to load."""

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
    for module, names in _HOMES.items():
        if name in names:
            found = getattr(importlib.import_module(f"nstlab.{module}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'nstlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
