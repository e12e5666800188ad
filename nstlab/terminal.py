"""Text for a terminal: text from files must not clear the screen or pose as a line of ours."""

from __future__ import annotations

import math
import shlex
import sys
import unicodedata
from collections.abc import Iterable
from typing import TextIO

import click

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
HARMLESS = {"\u200c", "\u200d"}  # joiners for emoji and some scripts; str.isprintable says no to them


def printable(text: str) -> str:
    r"""The text on one line, with control characters (and those that reverse the letters' order) written out.

    >>> printable("a\x1b[2Jb\nc")
    'a\\x1b[2Jb\\nc'
    """
    return "".join(c if _shows(c) else c.encode("unicode_escape").decode() for c in text)


def say(text: str, err: bool = False) -> None:
    """Print one line, in which everything is plain text."""
    click.echo(printable(text), err=err)


def progress_stream() -> TextIO:
    """Where a progress bar goes: standard error, but in a notebook's kernel, where that is pink, standard output."""
    in_kernel = type(sys.stdout).__module__.startswith("ipykernel")
    return sys.stdout if in_kernel else sys.stderr


def _shows(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs" or character in HARMLESS


def shell_words(words: Iterable[str]) -> str:
    r"""A command line that a shell splits into these words; control characters are quoted as in bash and zsh.

    >>> print(shell_words(["show", "my picture.png", "a\nb"]))
    show 'my picture.png' $'a\nb'
    """
    return " ".join(shlex.quote(word) if all(map(_shows, word)) else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    return "$'" + "".join(c if _shows(c) and c not in "'\\" else _escape(c) for c in word) + "'"


def _escape(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    return f"\\u{ord(character):04x}" if "\x7f" < character < "\u0100" else character.encode("unicode_escape").decode()


def number(value: float, digits: int = 3) -> str:
    """A number as people write it, to three digits: no exponent where none is needed.

    >>> number(845123.0), number(12.345), number(0.5), number(0.0000004)
    ('845,000', '12.3', '0.5', '4 × 10⁻⁷')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.{digits}g}")
    power = math.floor(math.log10(abs(rounded)))
    if not -5 < power < 12:
        return f"{rounded / 10.0**power:.{digits}g} × 10{str(power).translate(SUPERSCRIPTS)}"
    decimals = max(digits - 1 - power, 0)
    text = f"{rounded:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def duration(seconds: float) -> str:
    """Seconds in the unit that a person would choose.

    >>> duration(0.04), duration(7.2), duration(75), duration(9000)
    ('0.04 s', '7 s', '1 min 15 s', '2 h 30 min')
    """
    if seconds < 0.995:
        return f"{seconds:.2f} s" if seconds > 0.095 else f"{seconds:.1g} s"
    if seconds < 4:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
