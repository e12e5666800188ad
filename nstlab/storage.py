"""Files written whole or not at all; files read only if they are regular: no links, pipes or devices."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

MOST_JSON = 1 << 20  # bytes of a run.json or similar: a real one has a few thousand
DEEPEST = 20  # nested brackets in one; a real one has four
SHIPPED = Path(__file__).resolve().parent / "shipped"  # in a wheel, setup.py puts notebooks and pictures there
NOTEBOOKS = ("[0-9]*.ipynb", "*.md", "results/*.*", "sweeps/*.yaml")
MARK_OF_A_FOLDER = ".nstlab.json"  # in a folder that `nstlab lab` made


class Damaged(ValueError):
    """A file's content is not what nstlab writes; the message says in one line what is wrong."""


class Newer(ValueError):
    """A newer nstlab wrote the file, in a format unknown to this one."""


def home() -> Path:
    """The folder with `notebooks/` and `data/`: that of NSTLAB_HOME; one that `nstlab lab` made, if the current folder
    is in it; the clone that the package stands in; or else what came with the package, which is only to be read."""
    chosen = os.environ.get("NSTLAB_HOME")
    if chosen:
        return Path(chosen).absolute()
    return _folder_of_work() or shipped_home()


def shipped_home() -> Path:
    """Where the notebooks and pictures stand that came with the package: the clone around it, or in the package."""
    clone = SHIPPED.parents[1]
    return clone if (clone / "notebooks").is_dir() and (clone / "data").is_dir() else SHIPPED


def shipped_files(root: Path) -> list[str]:
    """What comes with nstlab besides its code, as paths from `root`: a clone, or the package's folder for it."""
    found = [path for pattern in NOTEBOOKS for path in (root / "notebooks").glob(pattern)]
    with open(root / "data" / "catalogue.csv", encoding="utf-8", newline="") as file:
        pictures = [row["file"] for row in csv.DictReader(file)]
    found += [root / "data" / file for file in ("catalogue.csv", *pictures) if ":" not in file]
    return sorted(path.relative_to(root).as_posix() for path in found)


def _folder_of_work() -> Path | None:
    """The folder made by `nstlab lab` that the current one is, or is in."""
    try:
        here = Path.cwd()
    except OSError:  # it was removed
        return None
    return next((folder for folder in (here, *here.parents) if is_regular(folder / MARK_OF_A_FOLDER)), None)


def out_folder(out: str | Path | None = None) -> Path:
    """The folder of runs, absolute: `out`; for None the out/ of `home`, or of the current folder if that is only to be
    read."""
    return Path(out).absolute() if out else (Path.cwd() if home() == SHIPPED else home()) / "out"


def _flags(*names: str) -> int:
    """Those flags of os.open that this system has (Windows has neither O_NONBLOCK nor O_NOFOLLOW)."""
    return sum(getattr(os, name, 0) for name in ("O_BINARY", "O_CLOEXEC", *names))


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A temporary file next to `path`; flushed to disk and renamed to `path` when the block ends well.

    Anyone who reads `path`, at any moment and after any crash, sees either the old bytes or the new ones. The
    temporary name cannot be guessed, so nothing is written through a link.
    """
    beside = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _flags("O_NOFOLLOW"), 0o666)
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all (see `whole_file`)."""
    with whole_file(path) as file:
        file.write(data)


def parts(folder: Path) -> list[Path]:
    """The temporary files that a killed process left in a folder."""
    return [path for path in folder.glob(".*.part") if is_regular(path)]


def open_to_append(path: Path) -> BinaryIO:
    """A file opened for appending, unbuffered. Raises OSError unless it is a regular file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | _flags("O_NOFOLLOW", "O_NONBLOCK"))
    return open(descriptor, "ab", buffering=0)


def is_regular(path: Path) -> bool:
    """Whether this is a file, not a link, folder, pipe or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


@contextmanager
def open_regular(path: Path, most: int | None = None) -> Iterator[BinaryIO]:
    """A file opened for reading, of at most `most` bytes. Raises OSError, also if it is not a regular file.

    A pipe or /dev/zero would block or never end, and so might a file in /proc: it reports no bytes and is read as
    empty. A link to a file is as good as the file.
    """
    kind = os.stat(path).st_mode  # checked first: opening a device may do something
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
    if not stat.S_ISREG(kind):
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _flags("O_NONBLOCK"))) as file:
        if most is not None and os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"has more than {most:,} bytes", str(path))
        yield file


def read_regular(path: Path, most: int | None = None) -> bytes:
    """A file's bytes, at most `most`. Raises OSError (see `open_regular`)."""
    with open_regular(path, most) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def parse_json(text: str | bytes) -> Any:
    """JSON from any source, as plain values. Raises Damaged if it is not JSON, too deep or too long."""
    if len(text) > MOST_JSON:
        raise Damaged(f"its JSON has more than {MOST_JSON:,} characters")
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        if _depth(text) > DEEPEST:
            raise Damaged("its JSON is nested too deeply")
        return json.loads(text)
    except Damaged:
        raise
    except (ValueError, RecursionError):
        raise Damaged("it is not JSON") from None


def _depth(text: str) -> int:
    """How deeply brackets are nested, not counting those in strings."""
    deepest = depth = 0
    for bracket in re.findall(r"[][{}]", re.sub(r'"(?:[^"\\]|\\.)*"', "", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def sync_folder(folder: Path) -> None:
    """Flush a folder's renames to disk (Windows has no such call and needs none)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that nothing reads it and nothing is lost; returns its new path."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    os.replace(path, aside)
    return aside


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal. Raises OSError (see `open_regular`)."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
