"""gordicaleksa's pytorch-neural-style-transfer.

gordicaleksa/pytorch-neural-style-transfer, neural_style_transfer.py. The parser: the defaults; build_loss: content
mean (F - P)²; style the mean over layers of the *sum* (G' - A')², utils.gram_matrix G' = F Fᵀ/(N·M), so N²·S_l/5;
utils.total_variation Σ|Δ|. The content layer is called conv4_2, but the module after it is a ReLU in place, which
makes it relu4_2 (models/definitions/vgg_nets.py). utils.load_image: `height` is the height of both pictures;
prepare_img: pixels from 0 to 255 minus the mean go into torchvision's network, which was trained on normalised ones.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from nstlab.images import resized
from nstlab.network import torchvisions_file
from nstlab.other_tools.command_line import Option
from nstlab.other_tools.translation import GATYS_LAYERS, Tool, Translation, optimiser, picture_in, shape_or_note
from nstlab.other_tools.units import differences, features, longer, shape, weights

OPTIONS = (
    Option("--content_img_name", "figures.jpg"),
    Option("--style_img_name", "vg_starry_night.jpg"),
    Option("--height", 400),
    Option("--content_weight", 1e5),
    Option("--style_weight", 3e4),
    Option("--tv_weight", 1e0),
    Option("--optimizer", "lbfgs", choices=("lbfgs", "adam")),
    Option("--model", "vgg19", "the network is VGG19 here", choices=("vgg16", "vgg19")),
    Option("--init_method", "content", choices=("random", "content", "style")),
    Option("--saving_freq", -1),
)


def _gordicaleksa(o: Namespace, folder: Path) -> Translation:
    notes: list[str] = []
    content = picture_in(folder / "data" / "content-images", o.content_img_name)
    style = picture_in(folder / "data" / "style-images", o.style_img_name)
    size, style_size = (longer(shape_or_note(picture, notes), height=o.height) for picture in (content, style))
    tv = 2 * o.tv_weight * differences(resized(shape(content) or (1, 1), size))
    settings = {
        "content": content,
        "style": style,
        "size": size,
        "style_size": None if style_size == size else style_size,
        "init": {"random": "white_noise"}.get(o.init_method, o.init_method),
        "iterations": {"lbfgs": 1000, "adam": 3000}[o.optimizer],
        "frame_every": o.saving_freq if o.saving_freq > 0 else None,
        **weights([o.content_weight], [o.style_weight / 5 * features(name) ** 2 for name in GATYS_LAYERS], tv),
        **optimiser(o.optimizer, 10.0, 100),
        **_fed_with_grey_levels(notes),
    }
    if o.init_method == "random":
        notes.append("--init_method random: normal noise there (deviation 90 grey levels), uniform noise here")
    elif o.init_method == "style":
        notes.append("--init_method style: the picture is stretched to the content's shape there, and cropped here")
    if o.optimizer == "lbfgs":
        notes.append(
            "--optimizer lbfgs: searches along each step there (strong Wolfe); here one step is one evaluation"
        )
    return Translation(settings, notes)


def _fed_with_grey_levels(notes: list[str]) -> dict[str, str]:
    """torchvision's network as it is, on grey levels, if its file is in torch's cache; else in grey-level units."""
    file = torchvisions_file()
    if file.is_file():
        return {"weights": str(file), "weights_format": "grey"}
    notes.append(
        "the network is torchvision's, fed with pixels from 0 to 255 although it was trained on normalised ones; here "
        f"it is scaled to suit them (the same as there: weights={file}, weights_format=grey, once that file is there)"
    )
    return {"weights": "torchvision"}


GORDICALEKSA = Tool("gordicaleksa", ("neural_style_transfer.py",), OPTIONS, _gordicaleksa)
