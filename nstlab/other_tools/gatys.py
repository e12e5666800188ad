"""Gatys' notebook.

leongatys/PytorchNeuralStyleTransfer, NeuralStyleTransfer.ipynb. GramMSELoss: mean (G - A)², weights 1e3/n² for n
features, so 10³·S_l; nn.MSELoss for content, weight 1; no total variation. prep: transforms.Scale makes img_size the
*shorter* side. Its L-BFGS is torch's default: 20 steps a call, counted in evaluations; 100 are remembered.
The names are the notebook's variables, given as papermill takes them: -p img_size 512.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from nstlab.errors import RequestError, unknown
from nstlab.layers import layer_names
from nstlab.other_tools.command_line import NOT_PAINTED, Option
from nstlab.other_tools.translation import Tool, Translation, numbers, optimiser, picture_in, shape_or_note
from nstlab.other_tools.units import features, longer, weights

OPTIONS = (
    Option("--image_dir", "Images/"),
    Option("--model_dir", "Models/", "the network is VGG19 in 8 bits here; or give weights=Models/vgg_conv.pth"),
    Option("--img_names", "vangogh_starry_night.jpg,Tuebingen_Neckarfront.jpg"),
    Option("--img_size", 512),
    Option("--img_size_hr", 800),
    Option("--style_layers", "r11,r21,r31,r41,r51"),
    Option("--content_layers", "r42"),
    Option("--style_weights", None),
    Option("--content_weights", "1"),
    Option("--max_iter", 500),
    Option("--max_iter_hr", 200),
    Option("--show_iter", 50, NOT_PAINTED),
    Option("output", None, NOT_PAINTED, several="?"),
)
_GATYS_NAMES = {
    re.sub(r"^(relu|pool)(\d)(?:_(\d))?$", lambda m: m[1][0] + m[2] + (m[3] or ""), name): name
    for name in layer_names()
    if not name.startswith("conv")
}


def _papermill(words: Sequence[str]) -> list[str]:
    """-p NAME VALUE as --NAME=VALUE, lists without their brackets."""
    rest, found = list(words), []
    while rest:
        word = rest.pop(0)
        if word in ("-p", "-r", "--parameters", "--parameters_raw"):
            if len(rest) < 2:
                raise RequestError(f"{word} needs a name and a value, as papermill takes them: {word} img_size 512")
            name, value = rest.pop(0), rest.pop(0)
            word = f"--{name}=" + re.sub(r"[\[\]\"' ]", "", value)
        found.append(word)
    return found


def _gatys(o: Namespace, folder: Path) -> Translation:
    notes: list[str] = []
    style_layers, content_layers = (
        tuple(_of_gatys(name) for name in text.split(",")) for text in (o.style_layers, o.content_layers)
    )
    of_style = [1e3 / features(name) ** 2 for name in style_layers]
    if o.style_weights:
        of_style = list(numbers("style_weights", o.style_weights))
    of_content = numbers("content_weights", o.content_weights)
    for name, given, layers in (("style", of_style, style_layers), ("content", of_content, content_layers)):
        if len(given) != len(layers):
            raise RequestError(f"{len(given)} {name}_weights for {len(layers)} {name}_layers")
    if len(set(of_content)) > 1:
        notes.append("content_weights: here all content layers weigh the same, their mean")
    names = o.img_names.split(",")
    if len(names) != 2:
        raise RequestError(f"img_names {o.img_names}: give two, the style and the content")
    style, content = (picture_in(folder / o.image_dir, name) for name in names)
    size, style_size = (longer(shape_or_note(picture, notes), shorter=o.img_size) for picture in (content, style))
    settings = {
        "content": content,
        "style": style,
        "size": size,
        "style_size": None if style_size == size else style_size,
        "content_layers": content_layers,
        "style_layers": style_layers,
        "iterations": o.max_iter,
        **weights(of_content, [w * features(n) ** 2 for n, w in zip(style_layers, of_style, strict=True)]),
        **optimiser("lbfgs", 1.0, 100),
    }
    again = round(size * o.img_size_hr / max(o.img_size, 1))
    notes.append(
        f"the second pass, with img_size_hr = {o.img_size_hr}, is another run: the same with "
        f"--set size={again} --set iterations={o.max_iter_hr} --set init=<the first one's result.png>"
    )
    return Translation(settings, notes)


def _of_gatys(name: str) -> str:
    if name not in _GATYS_NAMES:
        raise unknown("layer of Gatys' notebook", name, _GATYS_NAMES)
    return _GATYS_NAMES[name]


GATYS = Tool("gatys", ("NeuralStyleTransfer.ipynb",), OPTIONS, _gatys, prepare=_papermill, title="Gatys' notebook")
