"""nstlab: a research workbench that takes neural style transfer apart. `import nstlab as lab`."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# How OpenMP's idle threads wait, if torch is not imported yet: asleep, GNU's after a thousand looks for work. By
# default they look 300 000 times, on cores that NNPACK's threads need, or another process: two runs on the same cores
# then take forty times as long. An iteration at 256 pixels takes a fifth less than if they sleep at once. [measured]
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Large tensors in huge pages, where Linux offers them on request: otherwise a third of the time goes into handing out
# pages of 4 kB anew. An iteration at 1024 pixels then takes a third less, in tiles too. [measured]
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

if TYPE_CHECKING:
    from nstlab.errors import RequestError, RunError
    from nstlab.images import load_image, read_settings, sample_pictures, save_image
    from nstlab.network import VGG19, Layer, Network, load_network, load_vgg19
    from nstlab.optimise import Step, StyleLoss, content_loss, gram, initial_value, style_loss, transfer
    from nstlab.own import trust
    from nstlab.runs import Run, advance_together
    from nstlab.settings import Settings
    from nstlab.widgets import explorer, panel

_HOMES = {
    "errors": ("RequestError", "RunError"),
    "images": ("load_image", "read_settings", "sample_pictures", "save_image"),
    "network": ("VGG19", "Layer", "Network", "load_network", "load_vgg19"),
    "optimise": ("Step", "StyleLoss", "content_loss", "gram", "initial_value", "style_loss", "transfer"),
    "own": ("trust",),
    "runs": ("Run", "advance_together"),
    "settings": ("Settings",),
    "widgets": ("explorer", "panel"),
}
"""Module -> its public names. Each is imported on first use: torch takes seconds to load."""

__all__ = [name for names in _HOMES.values() for name in names]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            found = getattr(importlib.import_module(f"nstlab.{module}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module 'nstlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
