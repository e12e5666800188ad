"""Functions and objects of your own: `path/to/mine.py:name` wherever a name is asked for.

The file is a part of the run's identity, by its SHA-256. It is imported only if you named it yourself: in code, on the
command line, in a sweep's file, in a control. A reference that was merely read, in a PNG, a run.json or a table, stays
a text until `trust` is called for it.
"""

from __future__ import annotations

import ast
import hashlib
import linecache
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any

from nstlab.errors import RequestError, RunError, unknown

REFERENCE = re.compile(r"(?P<file>[^\0\n]+\.py):(?P<name>[A-Za-z_]\w*)")
LARGEST = 1 << 20  # bytes of a file of code
MOST_FILES = 50  # that are looked through for names to offer

_trusted: set[str] = set()
_loaded: dict[tuple[str, str], types.ModuleType] = {}
_reading: ContextVar[bool] = ContextVar("reading", default=False)


def is_own(value: Any) -> bool:
    """Whether a value names something in a file of code.

    >>> is_own("losses/mine.py:edges"), is_own("gram")
    (True, False)
    """
    return isinstance(value, str) and REFERENCE.fullmatch(value) is not None


def absolute(value: str, folder: str | Path = ".") -> str:
    """A reference with its file's path made absolute, from `folder`."""
    file, name = parts(value)
    return f"{(Path(folder) / file.expanduser()).absolute()}:{name}"


def parts(value: str) -> tuple[Path, str]:
    """The file and the name in it.

    >>> parts("losses/mine.py:edges")[1]
    'edges'
    """
    found = REFERENCE.fullmatch(value)
    return Path(found["file"]), found["name"]


def trust(value: str) -> None:
    """Allow a reference to be imported in this process, as if it had been typed here."""
    if is_own(value):
        _trusted.add(absolute(value))


def is_trusted(value: str) -> bool:
    """Whether a reference may be imported in this process."""
    return absolute(value) in _trusted


@contextmanager
def reading() -> Iterator[None]:
    """While settings are made inside, what they name is not trusted on that ground: they come from a file."""
    token = _reading.set(True)
    try:
        yield
    finally:
        _reading.reset(token)


def is_reading() -> bool:
    """Whether settings that are made now come from a file."""
    return _reading.get()


def code(value: str) -> bytes:
    """The bytes of a reference's file. Raises RequestError if it cannot be read."""
    file, _ = parts(value)
    try:
        if file.stat().st_size > LARGEST:
            raise RequestError(f"{file} has more than {LARGEST:,} bytes: that is no file of code")
        return file.read_bytes()
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror or error}") from None


def sha256(value: str) -> str:
    """The SHA-256 of a reference's file, as it is now."""
    return hashlib.sha256(code(value)).hexdigest()


def candidates(folder: Path, looks: Callable[[ast.stmt], bool]) -> list[str]:
    """References to what stands in the folder's files of code and looks right, without running them.

    looks: whether a statement at the top of a file defines what is wanted. Files that cannot be read are left out.
    """
    found = []
    for file in sorted(folder.glob("*.py"))[:MOST_FILES]:
        try:
            body = ast.parse(code(f"{file}:_")).body
        except (RequestError, SyntaxError, ValueError, RecursionError):
            continue
        for statement in filter(looks, body):
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement
            name = target.id if isinstance(target, ast.Name) else getattr(target, "name", "")
            found += [f"{file.name}:{name}"] if name else []
    return found


def makes(name: str) -> Callable[[ast.stmt], bool]:
    """For `candidates`: x = name(...)."""

    def looks(statement: ast.stmt) -> bool:
        called = (
            statement.value.func
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
            else None
        )
        return getattr(called, "id", getattr(called, "attr", None)) == name

    return looks


def takes(count: int) -> Callable[[ast.stmt], bool]:
    """For `candidates`: a function of so many arguments."""
    return lambda statement: isinstance(statement, ast.FunctionDef) and len(statement.args.args) == count


def load(value: str, expected: str) -> Any:
    """What a reference names; its file is run once for each content that it has.

    expected: what it should be, for the errors. Raises RequestError, in one line with file and line number, if the
    reference is not trusted, or the file cannot be read, fails, or has no such name.
    """
    file, name = parts(value)
    if not is_trusted(value):
        raise RequestError(
            f"{value} is code that a file names, not you: read it, then say nstlab.trust({value!r}), or --trust"
        )
    source = code(value)
    key = (str(file), hashlib.sha256(source).hexdigest())
    if key not in _loaded:
        _loaded[key] = _run(file, source, key[1])
    found = vars(_loaded[key])
    if name not in found:
        own = [other for other in found if not other.startswith("_")]
        raise RequestError(f"{unknown(f'name in {file.name}', name, own)} (expected {expected})")
    return found[name]


def _run(file: Path, source: bytes, digest: str) -> types.ModuleType:
    module = types.ModuleType(f"nstlab_own_{digest[:16]}")
    module.__file__ = str(file)
    linecache.checkcache(str(file))
    sys.modules[module.__name__] = module  # dataclasses and pickle look there
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
    except SyntaxError as error:
        raise RequestError(f"{file.name}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise RequestError(_one_line(file, error)) from None
    return module


def function_of(value: str, expected: str) -> Callable[..., Any]:
    """Like `load`, but raises RequestError for anything that cannot be called."""
    found = load(value, expected)
    if not callable(found):
        raise RequestError(f"{value} is {type(found).__name__}; expected a function that gives {expected}")
    return found


def guarded(value: str, function: Callable[..., Any], expected: str, check: Callable[..., str | None]) -> Callable:
    """A function of a file, whose errors are one line with file, line and what was expected of it.

    check: of the result and the arguments; returns what is wrong, None if nothing is. Raises RunError.
    """
    file, name = parts(value)

    @wraps(function, updated=())
    def call(*arguments: Any) -> Any:
        try:
            result = function(*arguments)
        except (RequestError, RunError, MemoryError):
            raise
        except Exception as error:
            raise RunError(f"{_one_line(file, error)} (in {name}; expected {expected})") from None
        wrong = check(result, *arguments)
        if wrong is not None:
            raise RunError(f"{file.name}: {name} gave {wrong}; expected {expected}")
        return result

    return call


def _one_line(file: Path, error: Exception) -> str:
    """Where in the file an error came from, and what it says."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    where = f", line {lines[-1]}" if lines else ""
    return f"{file.name}{where}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
