"""From another tool's command line to settings that start from the same loss."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nstlab.errors import RequestError, unknown
from nstlab.other_tools.command_line import asides, parse
from nstlab.other_tools.crowsonkb import CROWSONKB
from nstlab.other_tools.gatys import GATYS
from nstlab.other_tools.gordicaleksa import GORDICALEKSA
from nstlab.other_tools.neural_style import NEURAL_STYLE, NEURAL_STYLE_PT
from nstlab.other_tools.pastiche import PASTICHE
from nstlab.other_tools.translation import GATYS_LAYERS, Tool
from nstlab.other_tools.units import features
from nstlab.settings import Settings

TOOLS = {tool.name: tool for tool in (GATYS, PASTICHE, NEURAL_STYLE, NEURAL_STYLE_PT, GORDICALEKSA, CROWSONKB)}
"""By name."""

PUBLISHED: dict[str, Callable[[int, int, int], float]] = {
    # Gatys, Ecker & Bethge 2016, eqs. 1 to 7: ½ Σ (F - P)², Σ (F Fᵀ - F_s F_sᵀ)²/(4N²M²), w_l = 1/5, β/α = 10³
    "the paper (Gatys et al. 2016), β/α = 10³": lambda N, N_c, M_c: 1e3 * N**2 / (10 * N_c * M_c),
    # pystiche/pystiche, pystiche/_cli.py: FeatureReconstruction 1, Gram 10³, the mean over 5 layers of mean (G - A)²
    "pystiche (torchvision's weights)": lambda N, N_c, M_c: 1e3 / 5 * N**2,
}
"""Default weights of what has no translation: r_l from N, and from the features and positions of the content layer."""


@dataclass(frozen=True)
class Likeness:
    """Settings that start from the loss of a tool's command line, and a line for each thing that differs."""

    tool: str
    settings: Settings
    notes: tuple[str, ...]


def like(command: str, tool: str | None = None) -> Likeness:
    """What a command line of another tool is in nstlab's settings; the tool's defaults are filled in.

    The tool is the one whose script the command line calls, or `tool`, one of TOOLS. Pictures are read for their
    shapes alone. Raises RequestError for unknown tools and options, and for values that the tool or nstlab refuses.

    >>> like("th neural_style.lua -content_image astronaut -style_image swirl -tv_weight 0").settings.k_S
    20.0
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise RequestError(f"the command line cannot be split into words: {error}") from None
    found, folder, rest = _called(words, tool)
    values = parse(found.name, found.options, found.prepare(rest))
    translation = found.translate(values, folder)
    given = {name: value for name, value in translation.settings.items() if value is not None}
    return Likeness(found.name, Settings(**given), (*asides(found.options, values), *translation.notes))


def _called(words: list[str], tool: str | None) -> tuple[Tool, Path, list[str]]:
    """The tool that a command line calls, the folder of its script, and the words after it."""
    if tool is not None and tool not in TOOLS:
        raise unknown("tool", tool, TOOLS)
    scripts = {script: found for found in TOOLS.values() for script in found.scripts}
    for at, word in enumerate(words):
        path = Path(word)
        if path.name in scripts and (tool is None or path.name in TOOLS[tool].scripts):
            return (TOOLS[tool] if tool else scripts[path.name]), path.parent, words[at + 1 :]
    named = [at for at, word in enumerate(words) if Path(word).suffix in (".py", ".lua", ".ipynb")]
    if tool is not None:
        at = next((at for at in named if not any(word.startswith("-") for word in words[:at])), -1)
        return TOOLS[tool], Path(), words[at + 1 :]
    called = Path(words[named[0] if named else 0]).name if words else ""
    raise RequestError(f"{unknown('tool', called, scripts)} (or say which: --tool {'|'.join(TOOLS)})")


def default_weights(content_features: int, content_positions: int) -> dict[str, tuple[float, ...]]:
    """r_l, what each tool's "style weight" is by default: the weight of each style layer's S_l over that of content.

    By tool, those with equal weights together; for relu1_1 to relu5_1. The paper's depends on the content layer's
    features and positions. Tools whose style loss is not that of Grams are left out (notebook 06 shows the table).

    >>> {name: weights[0] for name, weights in default_weights(512, 256).items() if "neural-style" in name}
    {'neural-style; neural-style-pt': 20.0}
    """
    N = [features(layer) for layer in GATYS_LAYERS]
    (paper, of_paper), *others = PUBLISHED.items()
    found = {paper: tuple(of_paper(n, content_features, content_positions) for n in N)}
    for tool in TOOLS.values():
        settings = Settings(**_defaults(tool))
        if settings.style_loss == "gram":
            w = settings.style_layer_weights or (1.0,) * len(N)
            found[tool.title or tool.name] = tuple(settings.k_S * weight for weight in w)
    found |= {name: tuple(r(n, content_features, content_positions) for n in N) for name, r in others}
    together: dict[tuple[float, ...], list[str]] = {}
    for name, weights in found.items():
        together.setdefault(weights, []).append(name)
    return {"; ".join(names): weights for weights, names in together.items()}


def _defaults(tool: Tool) -> dict:
    values = parse(tool.name, tool.options, tool.smallest)
    return {name: value for name, value in tool.translate(values, Path()).settings.items() if value is not None}
