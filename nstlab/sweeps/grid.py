"""A finished grid of runs, seen along one or two of its knobs while the others stand still."""

from __future__ import annotations

from typing import Any

import pandas as pd


class Grid:
    """The runs of a sweep that are done, and the values of each knob that occur among them.

    done: a row per run, with a column per knob; axes: the values of each knob, in the sweep's order. `axes` of the grid
    leaves out values that no run has, and knobs of which one value is left (all but the first, if nothing else is);
    `middle` is the middle value of each knob.
    """

    def __init__(self, done: pd.DataFrame, axes: dict[str, list[Any]]):
        self.done = done
        there = {knob: [value for value in values if _with(done, knob, value).any()] for knob, values in axes.items()}
        several = {knob: values for knob, values in there.items() if len(values) > 1}
        self.axes = several or dict(list(there.items())[:1])
        self.middle = {knob: values[len(values) // 2] for knob, values in self.axes.items()}

    def rows(self, *free: str) -> pd.DataFrame:
        """The runs in which every knob but the free ones has its middle value."""
        chosen = self.done
        for knob, value in self.middle.items():
            if knob not in free:
                chosen = chosen[_with(chosen, knob, value)]
        return chosen

    def surface(self, column: str, across: str, down: str) -> pd.DataFrame:
        """A column over two knobs, in the sweep's order: one row only if they are the same knob."""
        plane = self.rows(across, down)
        if across == down:
            return plane.set_index(across)[[column]].T.rename(index={column: ""})
        table = plane.pivot_table(index=down, columns=across, values=column, dropna=False)
        return table.reindex(index=self.axes[down], columns=self.axes[across])


def _with(rows: pd.DataFrame, knob: str, value: Any) -> pd.Series:
    """Which rows have this value of a knob; None is an empty cell."""
    return rows[knob].isna() if value is None else rows[knob] == value
