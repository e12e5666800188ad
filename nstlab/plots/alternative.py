"""What is to be seen in a figure, in words: the alternative text that goes with it into a notebook."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from nstlab.terminal import number

LONGEST = 600  # characters
MOST_NAMED = 12  # pictures

Drawing = TypeVar("Drawing", bound=Callable[..., Any])


def in_words(figure: Figure) -> str:
    """A figure's title, its pictures by their captions, and of each chart what it shows and where its lines lead.

    >>> figure = Figure()
    >>> axis = figure.subplots()
    >>> _ = axis.set(title="A run", xlabel="iteration", ylabel="loss")
    >>> _ = axis.plot([0, 1, 2], [90, 40, 20], label="L-BFGS")
    >>> in_words(figure)
    'A run: loss against iteration, L-BFGS from 90 to 20.'
    """
    charts, captions, unnamed = [], [], 0
    for axis in figure.axes:
        if axis.images and not axis.lines and not (axis.get_xlabel() or axis.get_ylabel()):
            captions += [_clean(_title(axis))] if _title(axis) else []
            unnamed += not _title(axis)
        elif chart := _chart(axis):
            charts.append(chart)
    named = ", ".join(captions[:MOST_NAMED])
    if len(captions) > MOST_NAMED:
        named += f" and {len(captions) - MOST_NAMED} more"
    pictures = f"Pictures: {named}." if named else f"{unnamed} pictures." if unnamed > 1 else ""
    said = " ".join(part for part in (_sentence(figure.get_suptitle()), pictures, *charts) if part)
    return said if len(said) <= LONGEST else said[:LONGEST].rsplit(" ", 1)[0] + " …"


def described(draw: Drawing) -> Drawing:
    """A function that draws figures, whose figures have their alternative text in a notebook."""

    @functools.wraps(draw)
    def drawn(*args: Any, **options: Any) -> Any:
        figure = draw(*args, **options)
        _tell_notebooks()
        return figure

    return drawn


def draws(function: Any) -> bool:
    """Whether this is a function that returns a figure."""
    return inspect.isfunction(function) and function.__annotations__.get("return") == "Figure"


def _tell_notebooks() -> None:
    """In a kernel, let every figure's PNG be accompanied by what `in_words` says of it."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    formatter = shell.display_formatter.formatters["image/png"]
    encode = formatter.type_printers.get(Figure)
    if encode is None or hasattr(encode, "with_alternative"):
        return

    def with_alternative(figure: Figure) -> Any:
        found = encode(figure)
        data, about = found if isinstance(found, tuple) else (found, {})
        return data and (data, about | {"alt": in_words(figure)})

    with_alternative.with_alternative = True
    formatter.for_type(Figure, with_alternative)


def _chart(axis: Axes) -> str:
    """A chart in a sentence, or nothing for an axis that says nothing."""
    across, up = _clean(axis.get_xlabel()), _clean(axis.get_ylabel())
    about = [f"{up} against {across}" if up and across else up or across]
    for line in axis.lines:
        values = np.asarray(line.get_ydata(), float)
        values = values[np.isfinite(values)]
        if not line.get_label().startswith("_") and len(values) > 2:
            about.append(f"{_clean(line.get_label())} from {number(values[0])} to {number(values[-1])}")
    for bars in (container for container in axis.containers if isinstance(container, BarContainer)):
        about += _ends(axis, bars)
    text = ", ".join(part for part in about if part)
    title = _clean(_title(axis))
    return _sentence(f"{title}: {text}" if title and text else title or text)


def _ends(axis: Axes, bars: BarContainer) -> list[str]:
    """The longest and the shortest of some bars, if the axis names them."""
    upright = bars.orientation == "vertical"
    names = [label.get_text() for label in (axis.get_xticklabels() if upright else axis.get_yticklabels())]
    sizes = [bar.get_height() if upright else bar.get_width() for bar in bars]
    if len(names) != len(sizes) or len(sizes) < 2 or not np.isfinite(sizes).all():
        return []
    own = "" if bars.get_label().startswith("_") else f"{_clean(bars.get_label())}: "
    ends = (("most", int(np.argmax(sizes))), ("least", int(np.argmin(sizes))))
    return [own + ", ".join(f"{word} {_clean(names[k])} ({number(sizes[k])})" for word, k in ends)]


def _title(axis: Axes) -> str:
    return axis.get_title() or axis.get_title("left")


def _clean(text: str) -> str:
    """Without line breaks and the marks of formulas."""
    return " ".join(re.sub(r"\\\$|[${}\\]", "", text).split())


def _sentence(text: str) -> str:
    text = _clean(text)
    return f"{text}." if text and text[-1] not in ".?!" else text
