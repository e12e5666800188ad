"""history.csv: one row per iteration, appended during the run and readable at any moment."""

from __future__ import annotations

import csv
import errno
import io
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from nstlab.errors import RequestError
from nstlab.storage import open_regular, open_to_append, read_regular, set_aside, write_whole

FIRST_COLUMNS = ("iteration", "seconds")
"""After these come the losses by name: `total`, the terms, and each part of a term, such as a style layer.

`seconds` is computing time since iteration 0.
"""
LONGEST_ROW = 2000  # bytes; a row with 37 layers has under 1000


class History:
    """The rows of one run, in memory as numbers and on disk as lines."""

    def __init__(self, path: Path, losses: Sequence[str]) -> None:
        """losses: the names of the losses, as in `Objective.columns`."""
        self.path = path
        self.columns = (*FIRST_COLUMNS, *losses)
        self.rows: list[tuple[float, ...]] = []
        self._file: BinaryIO | None = None

    def resume(self, rows: Iterable[Sequence[float]]) -> None:
        """Make the file hold exactly `rows` (a checkpoint's; none to start) and open it for more.

        Rows after these are cut off; a file with other rows is reported and set aside.
        """
        self.rows = [tuple(row) for row in rows]
        expected = (",".join(self.columns) + "\n" + "".join(map(_line, self.rows))).encode()
        stored = read_regular(self.path) if os.path.lexists(self.path) else None
        if stored is not None and not stored.startswith(expected):
            aside = set_aside(self.path)
            logging.getLogger(__name__).warning(
                "%s is damaged and set aside as %s; its rows come from the checkpoint", self.path, aside.name
            )
        if stored != expected:
            write_whole(self.path, expected)
        self._file = open_to_append(self.path)

    def append(self, row: Sequence[float]) -> None:
        """Add a row, visible to readers at once. Raises OSError if the disk is full."""
        line = _line(row).encode()
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.rows.append(tuple(row))

    def sync(self) -> None:
        """Flush what was appended to disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _line(row: Sequence[float]) -> str:
    iteration, seconds, *losses = row
    return f"{iteration:.0f},{seconds:.3f}," + ",".join(map(repr, losses)) + "\n"


def read_history(path: Path) -> pd.DataFrame:
    """The table of a run, one row per iteration, without a last line that is still being written.

    Raises RequestError for a file that holds anything but numbers for the iterations 0, 1, 2, ...
    """
    whole_lines = read_regular(path).rpartition(b"\n")[0]
    if not whole_lines:
        return pd.DataFrame(columns=FIRST_COLUMNS)
    try:
        names = whole_lines.partition(b"\n")[0].decode("ascii").split(",")
        known = tuple(names[:2]) == FIRST_COLUMNS and "total" in names and all(map(str.isidentifier, names))
        if not known or len(set(names)) < len(names):
            raise ValueError("its columns are not those of a history")
        table = pd.read_csv(io.BytesIO(whole_lines), dtype=float, index_col=False, quoting=csv.QUOTE_NONE)
        if not np.isfinite(table.to_numpy()).all():
            raise ValueError("a number is missing or not finite")
        if not (table["iteration"] == np.arange(len(table))).all():
            raise ValueError("its iterations do not count from 0")
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise RequestError(f"{path} is damaged ({reason}); resuming the run restores it") from None
    return table.astype({"iteration": int})


def last_row(path: Path) -> dict[str, float]:
    """The last whole row of a history by column, read from the file's end; empty if there is none yet."""
    try:
        with open_regular(path) as file:
            names = file.readline(LONGEST_ROW).decode("ascii").strip().split(",")
            file.seek(max(file.seek(0, os.SEEK_END) - LONGEST_ROW, 0))
            lines = file.read(LONGEST_ROW).rpartition(b"\n")[0].splitlines()
        return dict(zip(names, map(float, lines[-1].split(b",")), strict=True))
    except (OSError, ValueError, IndexError):
        return {}  # no history yet, or only its first line
