"""Command lines of other tools, read as their own parsers read them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from nstlab.errors import RequestError, unknown

NOT_PAINTED = "concerns what is printed and stored, or where it is computed, not the picture"


@dataclass(frozen=True)
class Option:
    """An option of another tool.

    names: as they are typed, the first one counts; without a dash, a positional word. default: the tool's own; False
    makes it a flag. kind: of its values (None: the default's type). aside: why it has no counterpart here; "" if it
    is translated.
    """

    names: str
    default: Any = None
    aside: str = ""
    kind: type | None = None
    choices: Sequence[str] | None = None
    several: str = ""  # how many values, as argparse says it: "*", "+", "?"
    required: bool = False

    @property
    def name(self) -> str:
        """The name under which its value is found, as argparse derives it."""
        return self.names.split()[0].lstrip("-").replace("-", "_")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Declare it in argparse's way."""
        names = self.names.split()
        if self.default is False:
            parser.add_argument(*names, action="store_true")
            return
        kind = self.kind or (str if self.default is None else type(self.default))
        kind = number if kind is float else kind
        more: dict[str, Any] = {"type": kind, "default": self.default, "choices": self.choices}
        if self.several:
            more["nargs"] = self.several
        if names[0].startswith("-"):
            more["required"] = self.required
        parser.add_argument(*names, **more)


def number(text: str) -> float:
    """A finite number. Raises ValueError for anything else."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise RequestError(f"{self.prog}: {message}")


def parse(tool: str, options: Sequence[Option], words: Sequence[str]) -> argparse.Namespace:
    """The options' values by name, the tool's defaults filled in. Raises RequestError for what the tool would refuse.

    >>> parse("a tool", [Option("-size", 512), Option("-fast", False)], ["-size", "64"])
    Namespace(size=64, fast=False)
    """
    parser = _Parser(prog=tool, add_help=False)
    for option in options:
        option.add_to(parser)
    values, rest = parser.parse_known_args(words)
    if rest:
        names = [name for option in options for name in option.names.split() if name.startswith("-")]
        raise unknown(f"option of {tool}", rest[0].partition("=")[0], names)
    return values


def asides(options: Sequence[Option], values: argparse.Namespace) -> list[str]:
    """A line for each option that differs from its default and has no counterpart."""
    lines = []
    for option in options:
        value = getattr(values, option.name)
        if option.aside and value != option.default:
            shown = (
                "" if value is True else " " + (" ".join(map(str, value)) if isinstance(value, list) else str(value))
            )
            lines.append(f"{option.names.split()[0]}{shown}: {option.aside}")
    return lines
