"""A setting's value, from text and to text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def as_text(value: Any) -> str:
    """A setting's value as `Settings.from_text` reads it.

    >>> as_text([0.5, 2.0]), as_text([[40, 300.0], [80, 10.0]]), as_text(None)
    ('0.5,2', '40:300,80:10', 'none')
    """
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ",".join(
            ":".join(map(as_text, part)) if isinstance(part, (list, tuple)) else as_text(part) for part in value
        )
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def name_or_path(value: str) -> str:
    """A bare word is a name and stays; anything with a folder or an ending is a path and becomes absolute."""
    if not value or "\0" in value:
        raise ValueError("give a name or a path")
    if re.match(r"[A-Za-z]{2,}://", value):
        raise ValueError(f"{value[:80]} is a web address: download the file and give its path")
    try:
        value.encode()
        path = Path(value).expanduser()
    except UnicodeEncodeError:
        raise ValueError("the file's name is not valid UTF-8: rename it") from None
    except RuntimeError as error:  # ~somebody unknown
        raise ValueError(str(error)) from None
    is_path = path.suffix or path.is_absolute() or len(path.parts) > 1 or value.startswith((".", "~"))
    return str(path.absolute()) if is_path else value


def split_names(value: Any) -> Any:
    """Names or paths written as a,b,c, apart; any other value, and a path that has a comma, as it is.

    >>> split_names("swirl, waves"), split_names("swirl")
    (('swirl', 'waves'), 'swirl')
    """
    if not isinstance(value, str) or "," not in value or "\0" in value or Path(value).expanduser().is_file():
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def flattened(values: Any) -> Iterator[Any]:
    """The values in nested tuples, one after the other."""
    for value in values:
        yield from flattened(value) if isinstance(value, tuple) else (value,)
