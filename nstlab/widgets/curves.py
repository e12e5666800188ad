"""The loss curves during a run: SVG strings, cheap enough to draw several times a second."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence

from nstlab.plots import LAYER_COLOURS
from nstlab.settings import Settings

WIDTH, HEIGHT, LEFT, BOTTOM = 340, 170, 44, 20
MOST_POINTS = 160


def curves(
    title: str,
    iterations: Sequence[int],
    lines: Mapping[str, tuple[str, Sequence[float]]],
    marks: Mapping[int, str] | None = None,
) -> str:
    """Losses over the iterations on a log scale, with a legend; lines: name -> (colour, values).

    marks: iteration -> what happened there.

    Names come from files: here they become text in a page, and nothing else.

    >>> curves("Loss", [0, 1], {"total": ("red", [10.0, 1.0])}).count("<polyline")
    1
    """
    title = html.escape(title)
    positive = [value for _, values in lines.values() for value in values if value > 0 and math.isfinite(value)]
    if not positive or not iterations:
        return f"<h4>{title}</h4><p class='nst-empty'>The curves will appear as the picture forms.</p>"
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    low = max(min(low, high - 1), high - 9)
    last = max(iterations[-1], 1)

    def at(iteration: int, value: float) -> str:
        x = LEFT + (WIDTH - LEFT) * iteration / last
        y = (HEIGHT - BOTTOM) * (high - max(math.log10(value), low)) / (high - low)
        return f"{x:.1f},{y:.1f}"

    kept = _spread(len(iterations))
    drawn = []
    for colour, values in lines.values():
        points = [at(iterations[i], values[i]) for i in kept if values[i] > 0 and math.isfinite(values[i])]
        drawn.append(f'<polyline style="stroke:{colour}" points="{" ".join(points)}"/>')
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>' for name, (colour, _) in lines.items()
    )
    inside = "".join([_grid(low, high, last), _marks(marks or {}, last), *drawn])
    return (
        f'<h4>{title}</h4><svg viewBox="-2 -8 {WIDTH + 8} {HEIGHT + 14}" role="img" aria-label="{title}">'
        f'{inside}</svg><div class="nst-legend">{legend}</div>'
    )


def _spread(count: int) -> list[int]:
    """At most MOST_POINTS evenly spread indices, including the first and the last."""
    if count <= MOST_POINTS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)})


def _grid(low: int, high: int, last: int) -> str:
    bottom = HEIGHT - BOTTOM
    parts = []
    every = max(1, math.ceil((high - low) / 5))
    for power in range(high, low - 1, -every):
        y = bottom * (high - power) / (high - low)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>')
        number = f'10<tspan dy="-4" font-size="8">{power}</tspan>'
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number}</text>')
    for fraction, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        x = LEFT + (WIDTH - LEFT) * fraction
        word = "iteration " if fraction == 0.5 else ""
        parts.append(f'<text x="{x:.0f}" y="{HEIGHT}" text-anchor="{anchor}">{word}{last * fraction:.0f}</text>')
    return "".join(parts)


def _marks(marks: Mapping[int, str], last: int) -> str:
    """A dashed line at each iteration where something happened, with its word at the top."""
    parts = []
    for iteration, word in marks.items():
        x = LEFT + (WIDTH - LEFT) * min(iteration / last, 1)
        anchor, dx = ("end", -4) if x > (LEFT + WIDTH) / 2 else ("start", 4)
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="mark" x="{x + dx:.1f}" y="8" text-anchor="{anchor}">{html.escape(word)}</text>')
    return "".join(parts)


def loss_curves(rows: Sequence[tuple[int, Mapping[str, float]]], settings: Settings) -> str:
    """Both figures of a run: the total loss with its terms, and the style loss of each layer.

    rows: (iteration, losses as in `Step`); settings: the run's, for the terms' weights.
    """
    iterations = [iteration for iteration, _ in rows]
    losses = [losses for _, losses in rows]
    weights = [settings.term_weights(iteration) for iteration in iterations]
    first = {"total": ("var(--total)", [row["total"] for row in losses])}
    names = list(losses[-1]) if losses else []
    colours = itertools.cycle(("var(--muted)", *LAYER_COLOURS))
    for colour, (term, label) in zip(colours, settings.terms_in(names).items(), strict=False):
        values = [weight.get(term, 1.0) * row.get(term, 0.0) for weight, row in zip(weights, losses, strict=True)]
        first[label] = (colour, values)
    layers = [name for name in settings.style_layers if name in names]
    second = {
        name: (colour, [row.get(name, 0.0) for row in losses])
        for colour, name in zip(itertools.cycle(LAYER_COLOURS), layers, strict=False)
    }
    reached = iterations[-1] if iterations else -1
    marks = {iteration: f"k_S {k_S:g}" for iteration, k_S in settings.k_S_changes if iteration <= reached}
    drawn = curves("Loss", iterations, first, marks)
    return drawn + (curves("Style loss by layer", iterations, second, dict.fromkeys(marks, "")) if layers else "")
