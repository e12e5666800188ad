"""Attacks: many wrong inputs of a kind, each of which must end well or in one line.

    python -m tests.attacks.run [--count 1000] [KIND ...]      # make attack: the whole of it, with a table
    pytest tests/faults/test_attacks.py                        # the same kinds in a small form

A kind prepares what its attempts share and makes the n-th attempt. An attempt is a fault if it raises anything but
RequestError or RunError with one printable line, prints anything, takes more than PATIENCE seconds or MEMORY bytes,
leaves a file named `mark` (which attacks that carry code would write), or finds a wrong result.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from nstlab import commands
from nstlab.errors import RequestError, RunError
from nstlab.terminal import printable

PATIENCE = 20  # seconds
MEMORY = 3 << 30  # bytes that an attempt may add
LONGEST_LINE = 1200


class Fault(Exception):
    """An attempt did not end as it should."""


@dataclass(frozen=True)
class Kind:
    """prepare(folder): what the attempts share; attempt(shared, chance, number, folder): makes one, in a fresh folder.

    every: how many attempts there are in all, where that is a fixed number.
    """

    name: str
    prepare: Callable[[Path], Any]
    attempt: Callable[[Any, random.Random, int, Path], None]
    every: Callable[[Any], int] | None = None


@dataclass
class Tally:
    """What came of a kind's attempts."""

    tried: int = 0
    clean: int = 0
    faults: list[str] = field(default_factory=list)


def attack(kind: Kind, count: int, folder: Path, seed: int = 0) -> Tally:
    """Make `count` attempts of a kind in a folder; each is told apart by its number alone, so it can be repeated."""
    tally = Tally()
    shared = kind.prepare(folder)
    total = kind.every(shared) if kind.every else count
    numbers = range(total) if count >= total else sorted(random.Random(seed).sample(range(total), count))
    for number in numbers:
        tally.tried += 1
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            try:
                with _guarded(Path(fresh)):
                    kind.attempt(shared, random.Random(f"{seed}-{kind.name}-{number}"), number, Path(fresh))
                tally.clean += 1
            except Fault as fault:
                tally.faults.append(f"{kind.name} {number}: {fault}")
    return tally


@contextlib.contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    before, logger = Path.cwd(), logging.getLogger()
    handler = logging.NullHandler()
    logger.addHandler(handler)
    os.chdir(folder)
    try:
        with _said_nothing(), _in_time(), _in_memory(), warnings.catch_warnings():
            warnings.simplefilter("always")
            yield
    except (RequestError, RunError) as error:
        line = str(error)
        if "\n" in line or len(line) > LONGEST_LINE or not line:
            raise Fault(f"not one line: {line[:300]!r}") from None
    except Fault:
        raise
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise Fault(f"{type(error).__name__}: {str(error)[:200]} ({Path(last.filename).name}:{last.lineno})") from error
    finally:
        os.chdir(before)
        logger.removeHandler(handler)
    if (folder / "mark").exists():
        raise Fault("code from the file has run")


@contextlib.contextmanager
def _said_nothing() -> Iterator[None]:
    """Nothing reaches the process's stdout and stderr, whoever writes it."""
    with tempfile.TemporaryFile() as said:
        kept = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(said.fileno(), number)
        try:
            yield
        finally:
            for number, saved in zip((1, 2), kept, strict=True):
                os.dup2(saved, number)
                os.close(saved)
            said.seek(0)
            text = said.read(400)
    if text:
        raise Fault(f"it printed {text!r}")


@contextlib.contextmanager
def _in_time() -> Iterator[None]:
    def over(*_: Any) -> None:
        raise Fault(f"it took more than {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MEMORY, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def one_command(*words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command of nstlab's, run in this process. Raises Fault for unprintable text."""
    out, errors, code = io.StringIO(), io.StringIO(), 0
    patched = mock.patch.object(sys, "argv", ["nstlab", *words])
    with patched, contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            commands.main()
        except SystemExit as end:
            code = end.code or 0
    for text in (out.getvalue(), errors.getvalue()):
        for line in text.splitlines():
            if printable(line) != line:
                raise Fault(f"it prints control characters: {line[:200]!r}")
    if code not in (0, 1, 2) or "Traceback" in errors.getvalue():
        raise Fault(f"exit code {code}: {errors.getvalue()[-300:]}")
    if code and errors.getvalue().count("\n") != 1:
        raise Fault(f"not one line: {errors.getvalue()[:300]!r}")
    return code, out.getvalue(), errors.getvalue()


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A file's bytes with some damage: flipped bits, a piece cut off, doubled, overwritten or exchanged."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        if not data:
            break
        at, length = chance.randrange(len(data)), chance.choice((1, 2, 4, 16, 256))
        what = chance.randrange(7)
        if what == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            data[at : at + length] = bytes([chance.choice((0, 255, 127, 128))]) * length
        elif what == 2:
            del data[at : at + length]
        elif what == 3:
            data[at:at] = data[at : at + length]
        elif what == 4:
            data[at : at + length] = chance.randbytes(length)
        elif what == 5 and chance.random() < 0.3:
            del data[at:]
        else:  # near the beginning, where the headers are
            at = chance.randrange(min(len(data), 200))
            data[at] = chance.randrange(256)
    return bytes(data)


JUNK = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, 1e308, float("inf"), float("nan"), "",
    "a", "none", "\0", "\x1b[2J", "a\nb", "\ud800", "~nobody/a.png", "/dev/zero", "/proc/kmsg", "../../x", "x" * 300,
    "x" * 5000, "<img src=x onerror=alert(1)>", "{{7*7}}", "$(touch mark)", [], [[]], {}, {"a": 1}, ["relu1_1"],
    [None], "relu1_1", ["relu9_9"], [1, 2], [[1, 2]], "auto", "1e3", "nan", "-0", "０", "1" * 5000,
)  # fmt: skip
"""Values that stand where others are expected."""


def junk(chance: random.Random, depth: int = 0) -> Any:
    """Some value that JSON or YAML can hold, now and then a nested one."""
    if depth < 3 and chance.random() < 0.15:
        if chance.random() < 0.5:
            return [junk(chance, depth + 1) for _ in range(chance.randrange(4))]
        return {str(junk(chance, depth + 1))[:50]: junk(chance, depth + 1) for _ in range(chance.randrange(4))}
    return copy.deepcopy(chance.choice(JUNK))
