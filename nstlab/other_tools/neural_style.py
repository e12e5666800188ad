"""neural-style, and neural-style-pt, which is its like in PyTorch.

jcjohnson/neural-style, neural_style.lua. cmd:option: the defaults. nn.ContentLoss: mean (F - P)² each layer;
nn.StyleLoss: mean (G' - A')² with G' = F Fᵀ/(N·M), so S_l, A' blended from the styles, which has the same gradient
as the blended losses; nn.TVLoss has only a gradient, that of ½ Σ Δ² without the last row and column.
preprocess: pixels times 256. optim.lbfgs remembers 100 steps, if it is not told otherwise.
"""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path
from typing import Any

from nstlab.images import resized
from nstlab.other_tools.command_line import NOT_PAINTED, Option
from nstlab.other_tools.translation import GATYS_LAYERS, Tool, Translation, numbers, optimiser, shape_or_note
from nstlab.other_tools.units import differences, weights

OPTIONS = (
    Option("-style_image", "examples/inputs/seated-nude.jpg"),
    Option("-style_blend_weights", "nil"),
    Option("-content_image", "examples/inputs/tubingen.jpg"),
    Option("-image_size", 512),
    Option("-gpu", "0"),
    Option("-multigpu_strategy", "", NOT_PAINTED),
    Option("-content_weight", 5e0),
    Option("-style_weight", 1e2),
    Option("-tv_weight", 1e-3),
    Option("-num_iterations", 1000),
    Option("-normalize_gradients", False, "no gradient is divided by its length here"),
    Option("-init", "random", choices=("random", "image")),
    Option("-init_image", ""),
    Option("-optimizer", "lbfgs", choices=("lbfgs", "adam")),
    Option("-learning_rate", 1e1),
    Option("-lbfgs_num_correction", 0),
    Option("-print_iter", 50, NOT_PAINTED),
    Option("-save_iter", 100),
    Option("-output_image", "out.png", "the result lies in the run's folder (--out says where that is)"),
    Option("-style_scale", 1.0),
    Option("-original_colors", 0, choices=(0, 1)),
    Option("-pooling", "max", choices=("max", "avg")),
    Option("-proto_file", "models/VGG_ILSVRC_19_layers_deploy.prototxt", "the network is VGG19 here"),
    Option("-model_file", "models/VGG_ILSVRC_19_layers.caffemodel"),
    Option("-backend", "nn", NOT_PAINTED),
    Option("-cudnn_autotune", False, NOT_PAINTED),
    Option("-seed", -1),
    Option("-content_layers", "relu4_2"),
    Option("-style_layers", ",".join(GATYS_LAYERS)),
)

# ProGamerGov/neural-style-pt, neural_style.py: as neural-style, but for these, and TVLoss: Σ|Δ|.
_CHANGED = {
    option.names: option
    for option in (
        Option("-style_blend_weights", None),
        Option("-init_image", None),
        Option("-learning_rate", 1e0),
        Option("-lbfgs_num_correction", 100),
        Option("-model_file", "models/vgg19-d01eb7cb.pth"),
        Option("-backend", "nn", NOT_PAINTED, choices=("nn", "cudnn", "mkl")),
    )
}
_LUA_ONLY = ("-multigpu_strategy", "-normalize_gradients", "-proto_file")
OPTIONS_PT = (
    *(_CHANGED.get(option.names, option) for option in OPTIONS if option.names not in _LUA_ONLY),
    Option("-disable_check", False, NOT_PAINTED),
    Option("-multidevice_strategy", "4,7,29", NOT_PAINTED),
)


def _neural_style(o: Namespace, folder: Path) -> Translation:
    return _of_neural_style(o, "l2", o.lbfgs_num_correction or 100, math.ceil(o.style_scale * o.image_size))


def _neural_style_pt(o: Namespace, folder: Path) -> Translation:
    return _of_neural_style(o, "l1", o.lbfgs_num_correction, int(o.style_scale * o.image_size))


def _of_neural_style(o: Namespace, tv: str, history_size: int, style_size: int) -> Translation:
    content_layers, style_layers = (tuple(text.split(",")) for text in (o.content_layers, o.style_layers))
    notes: list[str] = []
    neighbours = 0.0
    if o.tv_weight > 0:
        size = resized(shape_or_note(o.content_image, notes) or (1, 1), o.image_size)
        neighbours = differences(size) * (2 if tv == "l1" else 0.5)  # T is ½ the means of |Δ|, or the means of Δ²
    blend = None if o.style_blend_weights in (None, "nil") else numbers("-style_blend_weights", o.style_blend_weights)
    settings = {
        "content": o.content_image,
        "style": _pictures(o.style_image),
        "style_weights": blend,
        "size": o.image_size,
        "style_size": None if style_size == o.image_size else style_size,
        "content_layers": content_layers,
        "style_layers": style_layers,
        "tv": tv if o.tv_weight > 0 else "l1",
        "colour": "recombined" if o.original_colors else "style",
        "pooling": {"max": "max", "avg": "average"}[o.pooling],
        "iterations": o.num_iterations,
        "seed": max(o.seed, 0),
        **weights(
            [o.content_weight] * len(content_layers),
            [o.style_weight] * len(style_layers),
            max(o.tv_weight, 0.0) * neighbours,
        ),
        **optimiser(o.optimizer, o.learning_rate, history_size),
        **_device(o.gpu, notes),
    }
    _initial_of_neural_style(o, settings, notes)
    if o.save_iter > 0 and o.save_iter != 100:
        settings["frame_every"] = o.save_iter
    if Path(o.model_file).suffix in (".pth", ".safetensors") and not o.model_file.endswith("vgg19-d01eb7cb.pth"):
        settings["weights"] = o.model_file
    elif not o.model_file.endswith(("vgg19-d01eb7cb.pth", "VGG_ILSVRC_19_layers.caffemodel")):
        notes.append(f"-model_file {o.model_file}: a .pth or .safetensors file can be read, and others cannot")
    notes.append("white is 256 there and 255 here")
    return Translation(settings, notes)


def _initial_of_neural_style(o: Namespace, settings: dict[str, Any], notes: list[str]) -> None:
    if o.init == "random":
        settings["init"] = "mean"
        notes.append("-init random: the mean pixel, as there, but without the noise of a thousandth of a grey level")
        if o.init_image:
            notes.append(f"-init_image {o.init_image}: is read there only with -init image")
    else:
        settings["init"] = o.init_image or "content"


def _pictures(text: str) -> tuple[str, ...]:
    """Pictures as a,b,c; a folder stands for the pictures in it."""
    found: list[str] = []
    for name in text.split(","):
        folder = Path(name)
        endings = (".jpg", ".jpeg", ".png", ".tiff")
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        found += [str(path) for path in inside if path.suffix.lower() in endings] or [name]
    return tuple(found)


def _device(gpu: str, notes: list[str]) -> dict[str, str]:
    """neural-style's -gpu: the number of one, 0 by default, or -1 or c for the CPU."""
    if "," in gpu:
        notes.append(f"-gpu {gpu}: a run uses one device")
    if gpu in ("-1", "c"):
        return {"device": "cpu"}
    return {"device": f"cuda:{gpu}"} if gpu.isdecimal() and gpu != "0" else {}


NEURAL_STYLE = Tool("neural-style", ("neural_style.lua",), OPTIONS, _neural_style)
NEURAL_STYLE_PT = Tool("neural-style-pt", ("neural_style.py", "neural-style"), OPTIONS_PT, _neural_style_pt)
