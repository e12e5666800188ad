"""crowsonkb's style-transfer-pytorch.

crowsonkb/style-transfer-pytorch, style_transfer/cli.py and style_transfer.py. StyleTransfer.stylize: the defaults;
ContentLossMSE: mean (F - P)²; StyleLossW2: mean (Δμ)² + the mean of the diagonal of Σ + Σ' - 2(Σ^½ Σ' Σ^½)^½, which
is gaussian_w2, with 10⁻⁴ on the diagonals; layers' weights 256, 64, 16, 4, 1, brought to a sum of 1; TVLoss: a
nine-point stencil on pixels from 0 to 1, for slow changes mean Δ_h² + mean Δ_v². torchvision's network, its first
convolution padded with the border's values. Content and style losses both grow with the square of the activations'
scale, so k_S is the same in grey levels.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from nstlab.errors import RequestError
from nstlab.network import TORCHVISION_SCALE
from nstlab.other_tools.command_line import NOT_PAINTED, Option
from nstlab.other_tools.translation import Tool, Translation, optimiser, shape_or_note
from nstlab.other_tools.units import shape, weights

OPTIONS = (
    Option("content", None),
    Option("styles", None, several="+"),
    Option("--output -o", "out.png", "the result lies in the run's folder (--out says where that is)"),
    Option("--style-weights -sw", None, kind=float, several="+"),
    Option("--devices", [], kind=str, several="+"),
    Option("--random-seed -r", 0),
    Option("--content-weight -cw", 0.015),
    Option("--tv-weight -tw", 2.0),
    Option("--optimizer", "adam", choices=("adam", "lbfgs")),
    Option("--min-scale -ms", 128),
    Option("--end-scale -s", "512"),
    Option("--iterations -i", 500),
    Option("--initial-iterations -ii", 1000),
    Option("--save-every", 50),
    Option("--step-size -ss", 0.02),
    Option("--avg-decay -ad", 0.99),
    Option("--init", "content", choices=("content", "gray", "uniform", "normal", "style_stats")),
    Option("--style-scale-fac", 1.0),
    Option("--style-size", None, kind=int),
    Option("--pooling", "max", choices=("max", "average", "l2")),
    Option("--proof", None, "no soft proof is made"),
    Option("--web", False, "`lab.panel()` shows a run"),
    Option("--host", "0.0.0.0", NOT_PAINTED),
    Option("--port", 8080, NOT_PAINTED),
    Option("--browser", "", NOT_PAINTED, several="?"),
)
_LAYER_WEIGHTS = (256, 64, 16, 4, 1)
_INITIAL = {"content": "content", "gray": "mean", "uniform": "white_noise"}


def _crowsonkb(o: Namespace, folder: Path) -> Translation:
    notes: list[str] = []
    size = _end_scale(o, notes)
    scales = _scales(min(o.min_scale, size), size)
    style_size = o.style_size or round(size * o.style_scale_fac)
    fit = (size / 2**k >= scales[0] and min(size, style_size) / 2**k >= 32 for k in range(6))
    ours = max(sum(fit), 1)
    before = o.initial_iterations + (len(scales) - 2) * o.iterations if len(scales) > 1 else 0
    last = o.iterations if len(scales) > 1 else o.initial_iterations
    chosen = o.style_weights
    settings = {
        "content": o.content,
        "style": tuple(o.styles),
        "style_weights": tuple(abs(w) for w in chosen) if chosen and len(set(chosen)) > 1 else None,
        "size": size,
        "style_size": None if style_size == size else style_size,
        "style_loss": "gaussian_w2",
        "weights": "torchvision",
        "tv": "l2",
        "init": _INITIAL.get(o.init, "white_noise"),
        "pooling": "max" if o.pooling == "max" else "average",
        "scales": ours,
        "iterations": before + last,
        "seed": o.random_seed,
        "frame_every": o.save_every if o.save_every not in (0, 50) else None,
        **({"scale_iterations": max(round(before / (ours - 1)), 1)} if ours > 1 else {}),
        **weights(
            [o.content_weight],
            [w / sum(_LAYER_WEIGHTS) for w in _LAYER_WEIGHTS],
            o.tv_weight * (TORCHVISION_SCALE / 255) ** 2,
        ),
        **optimiser(o.optimizer, 255 * o.step_size, 10),
        **({"device": o.devices[0]} if o.devices else {}),
    }
    _differences_of_crowsonkb(o, scales, style_size, notes)
    return Translation(settings, notes)


def _end_scale(o: Namespace, notes: list[str]) -> int:
    """512, or 512+: the longer side of a picture that has as many pixels as a square of 512."""
    text = o.end_scale
    if not text.rstrip("+").isdecimal():
        raise RequestError(f"--end-scale {text}: write a number of pixels, as 512 or 512+")
    size = max(int(text.rstrip("+")), 1)
    if not text.endswith("+"):
        return size
    sides = shape_or_note(o.content, notes) or (1, 1)
    return int((max(sides) / min(sides)) ** 0.5 * size)


def _scales(start: int, end: int) -> list[int]:
    """Its sizes from small to large, each √2 times the last (gen_scales).

    >>> _scales(128, 512)
    [128, 181, 256, 362, 512]
    """
    found, scale = [], end
    while scale >= max(start, 1):
        found.append(scale)
        scale = round(end / 2 ** (len(found) / 2))
    return sorted(set(found))


def _differences_of_crowsonkb(o: Namespace, scales: Sequence[int], style_size: int, notes: list[str]) -> None:
    if len(o.styles) > 1:
        notes.append("styles: all blend into one Gaussian there; here each has its own loss, which is another sum")
    for style in o.styles:
        if max(shape(style) or (style_size,)) < style_size:
            notes.append(f"{style} is smaller than {style_size} pixels, and stays so there; here it is enlarged")
    if o.style_size and len(scales) > 1:
        notes.append(f"--style-size {o.style_size}: at every size there; here it grows with the picture")
    if len(o.devices) > 1:
        notes.append(f"--devices {' '.join(o.devices)}: a run uses one device")
    if len(scales) > 1:
        notes.append(
            f"--min-scale, --end-scale: sizes {', '.join(map(str, scales))} there; here each is twice the last"
        )
    if o.tv_weight:
        notes.append("--tv-weight: nine points there, four neighbours here; the same where colours change slowly")
    if o.init not in ("content", "uniform"):
        notes.append(f"--init {o.init}: {_INITIAL.get(o.init, 'white_noise')} is the nearest here")
    if o.init != "content":
        notes.append(f"--random-seed {o.random_seed}: its noise is made of other random numbers here")
    if o.pooling != "max":
        notes.append(
            f"--pooling {o.pooling}: is scaled there so that activations keep their size; here it is a plain mean"
        )
    notes.append("the style loss has 10⁻⁴ added to each variance there, in units of its network")
    notes.append(f"--avg-decay {o.avg_decay:g}: no mean over the last pictures is taken here")
    if o.optimizer == "adam":
        notes.append("--optimizer adam: clamps the pixels after each step there and remembers squares for 100 steps")
    notes.append(
        "only the first convolution is padded with the border's values there; here none is (padding=replicate: all)"
    )


CROWSONKB = Tool("crowsonkb", ("style_transfer",), OPTIONS, _crowsonkb, smallest=("content", "style"))
