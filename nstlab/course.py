"""The notebooks as a course: which there are, a picture of each, and what they show without spelling it out."""

from __future__ import annotations

import inspect
import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nstlab import dissect
from nstlab.errors import RequestError
from nstlab.images import load_image
from nstlab.network import VGG19, load_vgg19
from nstlab.reduction import Selection
from nstlab.runs import Run
from nstlab.settings import Settings
from nstlab.storage import home


@dataclass(frozen=True)
class Chapter:
    """One notebook: number "04", name "04_vanilla_transfer", title, the question it asks, the time it takes."""

    number: str
    name: str
    title: str
    question: str
    time: str
    path: Path


def chapters(folder: str | Path | None = None) -> list[Chapter]:
    """The notebooks of the course that are there, 00 to 99 in order (folder None: the project's notebooks/).

    Raises RequestError for one whose first cell lacks a title, a question or a time.

    >>> [chapter.number for chapter in chapters()][:2]
    ['00', '01']
    """
    folder = Path(folder) if folder else home() / "notebooks"
    return [_chapter(path) for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))]


def _chapter(path: Path) -> Chapter:
    top = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    title = re.match(r"# (\d\d) · (.+)", top)
    question = re.search(r"\*\*The question:\*\* (.+)", top)
    time = re.search(r"\*\*Time:\*\* (.+)", top)
    if not (title and question and time):
        raise RequestError(f"{path.name}: its first cell must hold a title, **The question:** and **Time:**")
    first = re.split(r"[;.(]| with the | the first time", time[1])[0].strip()
    return Chapter(title[1], path.stem, title[2], question[1], first, path)


def glimpses(settings: Settings, out: str | Path | None = None) -> dict[str, torch.Tensor]:
    """A picture for each of the notebooks 01, 02, 04, 07, 09 and 10, like those that it shows: (1, 3, H, W) each.

    settings: of a transfer, whose run makes most of them; out: the folder of runs (None: the project's out/). The keys
    are captions.
    """
    run = Run(settings, out).advance(progress=False)
    picture = load_image(settings.content, settings.size)
    net = load_vgg19(settings.weights, settings.pooling, settings.device)
    other = settings.with_(style="mosaic", size=min(settings.size, 96), iterations=min(settings.iterations, 30))
    return {
        "01 · what one number sees": _gradient_picture(net, picture, "relu4_2"),
        "02 · a feature of relu2_2": _grey(dissect.layer_card(net, picture, "relu2_2").maps[0]),
        "04 · a painting": run.result,
        "07 · after two iterations": run.frame(min(2, settings.iterations)),
        "09 · where it differs": ((run.result - picture).abs() * 2).clamp(0, 1),
        "10 · another style": Run(other, out).advance(progress=False).result,
    }


def listing(*functions: Callable[..., Any]) -> str:
    """The source of some of the package's functions, as it stands there, one after the other."""
    return "\n".join(textwrap.dedent(inspect.getsource(function)) for function in functions)


def nearest_pair(angles: torch.Tensor) -> tuple[int, int]:
    """The two different features with the smallest angle. angles: (N, N), in degrees."""
    apart = angles.clone().fill_diagonal_(180)
    return divmod(int(apart.argmin()), len(apart))


def typical_merger(selection: Selection, angles: torch.Tensor, often: torch.Tensor) -> tuple[int, int]:
    """Of the pairs that were merged, the one with the median angle: (the feature that stays, the one that goes).

    angles: (N, N), in degrees; often: (N,) bool, the features that act often enough for their angles to mean something;
    pairs of these only, if there are any.
    """
    rows, goes = (places.tolist() for places in selection.stands_for.nonzero(as_tuple=True))
    stays = selection.keep[rows].tolist()
    pairs = [(i, j) for i, j in zip(stays, goes, strict=True) if i != j]
    pairs = [pair for pair in pairs if often[list(pair)].all()] or pairs
    return sorted(pairs, key=lambda pair: float(angles[pair]))[len(pairs) // 2]


def _gradient_picture(net: VGG19, picture: torch.Tensor, layer: str) -> torch.Tensor:
    """The pixels that the layer's middle position depends on, brighter the more it does: (1, 3, H, W) in [0, 1]."""
    height, width = picture.shape[2:]
    i, j = dissect.position_at(net.layer(layer), height // 2, width // 2, height, width)
    gradient = dissect.pixel_gradient(net, picture.to(net.mean), layer, i, j)
    return _grey(gradient[0].abs().amax(0).sqrt())


def _grey(values: torch.Tensor) -> torch.Tensor:
    """(H, W), not negative, as a picture whose brightest pixel is white."""
    return (values / values.max().clamp_min(1e-30)).expand(1, 3, -1, -1).cpu()
