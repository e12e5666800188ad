"""The errors that people see, each a line that says what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

LONGEST_VALUE = 80  # characters of a value that an error repeats


class RequestError(ValueError):
    """What was asked for cannot be done; the message says in one line what would be right."""


class Contradiction(RequestError):
    """Each value can be had, but not all of them together."""


class RunError(RuntimeError):
    """A run could not go on; the message says in one line why, and what is kept."""


def unknown(kind: str, name: str, known: Iterable[str]) -> RequestError:
    """The error for a name that is not among the known ones; it names the nearest."""
    known = list(known)
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
    return RequestError(f"unknown {kind} {shortened(name)}: {hint}")


def shortened(value: Any) -> str:
    """A value in an error's line, cut where it would fill it.

    >>> shortened("a" * 200)[-6:]
    "aaaa…'"
    """
    text = " ".join(str(value)[:1000].split())
    return repr(text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…")
