"""The errors that users see: one line each, saying what would work instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

LONGEST_VALUE = 80  # characters of a value that an error quotes


class RequestError(ValueError):
    """The request cannot be met; the message says in one line what would work instead."""


class Contradiction(RequestError):
    """Each value is valid, but not all of them together."""


class RunError(RuntimeError):
    """A run could not continue; the message says in one line why, and what is kept."""


def unknown(kind: str, name: str, known: Iterable[str]) -> RequestError:
    """The error for an unknown name; it suggests the nearest known one."""
    known = list(known)
    nearest = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"
    return RequestError(f"unknown {kind} {shortened(name)}: {hint}")


def shortened(value: Any) -> str:
    """A value as an error quotes it, cut if it is too long.

    >>> shortened("a" * 200)[-6:]
    "aaaa…'"
    """
    text = " ".join(str(value)[:1000].split())
    return repr(text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…")
