"""nstlab: a research workbench that takes neural style transfer apart. `import nstlab as lab`."""

from nstlab.images import load_image, read_settings, sample_pictures, save_image
from nstlab.initial import initial_value
from nstlab.losses import content_loss, gram, style_loss
from nstlab.optimise import Step, transfer
from nstlab.runs import Run
from nstlab.settings import RequestError, RunError, Settings
from nstlab.vgg19 import VGG19, Layer, load_vgg19

__all__ = [
    "VGG19",
    "Layer",
    "RequestError",
    "Run",
    "RunError",
    "Settings",
    "Step",
    "content_loss",
    "gram",
    "initial_value",
    "load_image",
    "load_vgg19",
    "read_settings",
    "sample_pictures",
    "save_image",
    "style_loss",
    "transfer",
]
