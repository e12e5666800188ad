"""history.csv: one row an iteration, appended while the run goes on, readable at any moment."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from nstlab.storage import set_aside, write_whole

FIRST_COLUMNS = ("iteration", "seconds", "total", "content", "style")
"""Then one column a style layer: w_l times its loss. `seconds` is computing time since iteration 0."""


class History:
    """The rows of one run, in memory as numbers and on disk as lines."""

    def __init__(self, path: Path, style_layers: Sequence[str]) -> None:
        self.path = path
        self.columns = (*FIRST_COLUMNS, *style_layers)
        self.rows: list[tuple[float, ...]] = []
        self._file: io.RawIOBase | None = None

    def resume(self, rows: Iterable[Sequence[float]]) -> None:
        """Make the file hold exactly `rows` (a checkpoint's; none to start) and open it for more.

        Rows after these are cut off; a file that says something else is named and set aside.
        """
        self.rows = [tuple(row) for row in rows]
        expected = (",".join(self.columns) + "\n" + "".join(map(_line, self.rows))).encode()
        stored = self.path.read_bytes() if self.path.exists() else None
        if stored is not None and not stored.startswith(expected):
            aside = set_aside(self.path)
            logging.getLogger(__name__).warning(
                "%s is damaged and set aside as %s; its rows come from the checkpoint", self.path, aside.name
            )
        if stored != expected:
            write_whole(self.path, expected)
        self._file = self.path.open("ab", buffering=0)

    def append(self, row: Sequence[float]) -> None:
        """One more row, visible to readers at once. Raises OSError if the disk is full."""
        line = _line(row).encode()
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.rows.append(tuple(row))

    def sync(self) -> None:
        """Force what was appended to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _line(row: Sequence[float]) -> str:
    iteration, seconds, *losses = row
    return f"{iteration:.0f},{seconds:.3f}," + ",".join(map(repr, losses)) + "\n"


def read_history(path: Path) -> pd.DataFrame:
    """The table of a run, one row an iteration; a last line that is still being written is left out."""
    whole_lines = path.read_bytes().rpartition(b"\n")[0]
    return pd.read_csv(io.BytesIO(whole_lines)) if whole_lines else pd.DataFrame(columns=FIRST_COLUMNS)
