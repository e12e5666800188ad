"""Text on its way to a terminal: what comes from files must not clear the screen or pass for a line of ours."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable

import click

HARMLESS = {"\u200c", "\u200d"}  # joiners, which emoji and some scripts need; str.isprintable says no to them


def printable(text: str) -> str:
    r"""The text on one line, its control characters (and those that turn the order of letters) written out.

    >>> printable("a\x1b[2Jb\nc")
    'a\\x1b[2Jb\\nc'
    """
    return "".join(c if _shows(c) else c.encode("unicode_escape").decode() for c in text)


def say(text: str, err: bool = False) -> None:
    """Print one line; nothing in it, wherever it comes from, is more than text."""
    click.echo(printable(text), err=err)


def _shows(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs" or character in HARMLESS


def shell_words(words: Iterable[str]) -> str:
    r"""Words as a command line that a shell reads as these words; with control characters, as bash and zsh do.

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
