"""What a sweep shows while it runs: overall progress, each running point, the time left."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from nstlab.runs import Run, last_row
from nstlab.sweeps.plan import Point
from nstlab.terminal import duration, printable

MOST_LINES = 12  # running points shown individually
LAST = 3  # points that are named when nothing else is left
FINISHING = "finishing its notebook"  # a point whose iterations are done
SECONDS_BETWEEN = {True: 0.5, False: 60.0}  # updates, on a terminal and in a log


class Progress:
    """A block of lines that is redrawn on a terminal; in a log, one line a minute.

    points: those to compute. Lines that stay (about a finished point, say) are printed above the block.
    """

    def __init__(self, points: list[Point], out: TextIO | None = None) -> None:
        self.out = out or sys.stdout
        self.terminal = self.out.isatty()
        self.points = {point.run.id: point for point in points}
        self.before = {point.run.id: point.run.stored or 0 for point in points}
        self.running: dict[str, float] = {}  # run id -> start time
        self.states: dict[str, str] = {}  # run id -> how it ended
        self.began_at = self.shown_at = time.time()
        self.drawn = 0  # lines of the block now on the terminal

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._clear()

    def began(self, event: dict[str, Any]) -> None:
        """A worker has started a point; a second time means that its first worker died."""
        point = self.points.get(event["run"])
        if point is None:
            return
        if point.run.id in self.running:
            self.line(f"          a worker died: {point.label} resumes at iteration {event['iteration'] or 0}")
        self.running[point.run.id] = time.time()

    def ended(self, point: Point, outcome: dict[str, Any]) -> None:
        """A point has ended: say how."""
        self.states[point.run.id] = outcome["state"]
        since = self.running.pop(point.run.id, time.time())
        if outcome["state"] == "stopped":
            return
        count = sum(state != "stopped" for state in self.states.values())
        said = f"{time.time() - since:.0f} s" if outcome["state"] == "done" else outcome["error"]
        self.line(f"{outcome['state']:9} {count} of {len(self.points)}: {point.label}, {said}")

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(printable(text), file=self.out, flush=True)

    def show(self) -> None:
        """Redraw the block, if it is time."""
        now = time.time()
        if now - self.shown_at < SECONDS_BETWEEN[self.terminal]:
            return
        self.shown_at = now
        if not self.terminal:
            print(f"{self._whole(now)}{printable(self._last())}", file=self.out, flush=True)
            return
        lines = [self._whole(now)]
        running = [self.points[name] for name in list(self.running)]
        lines += [printable(self._one(point)) for point in running[:MOST_LINES]]
        if len(running) > MOST_LINES:
            lines.append(f"  and {len(running) - MOST_LINES} more")
        width = shutil.get_terminal_size().columns - 1
        self._clear()
        self.out.write("".join(line[:width] + "\n" for line in lines))
        self.out.flush()
        self.drawn = len(lines)

    def _clear(self) -> None:
        if self.drawn:
            self.out.write(f"\x1b[{self.drawn}F\x1b[J")
            self.drawn = 0

    def _whole(self, now: float) -> str:
        done, wanted = 0.0, 0.0
        for name, point in self.points.items():
            iterations, before = point.settings.iterations, min(self.before[name], point.settings.iterations)
            reached = iterations if name in self.states else reached_by(point.run) if name in self.running else before
            work = point.settings.size**2  # an iteration's cost is proportional to the pixels
            done += work * max(min(reached, iterations) - before, 0)
            wanted += work * (iterations - before)
        part = done / wanted if wanted else len(self.states) / max(len(self.points), 1)
        known = part > 0.01
        left = f"{duration((now - self.began_at) * (1 - part) / part)} left" if known else "time left: not known yet"
        left = "all iterations are computed" if part >= 1 else left
        over = f"{len(self.states)} of {len(self.points)} points, {len(self.running)} running"
        return f"{bar(part)} {part:4.0%}  {over}, {left}"

    def _last(self) -> str:
        """The points that the sweep waits for, once only few are left and all of them run."""
        left = {name: point for name, point in self.points.items() if name not in self.states}
        if not left or len(left) > LAST or set(left) - set(self.running):
            return ""
        named = [f"{point.label}{f' ({FINISHING})' if _is_painted(point) else ''}" for point in left.values()]
        return f"; waiting for {len(left)} run{'' if len(left) == 1 else 's'}: {', '.join(named)}"

    def _one(self, point: Point) -> str:
        wanted, reached = point.settings.iterations, reached_by(point.run)
        state = f", {FINISHING}" if _is_painted(point) else ""
        return f"  {bar(reached / wanted if wanted else 1, 12)} {reached:5} of {wanted}  {point.label}{state}"


def _is_painted(point: Point) -> bool:
    return reached_by(point.run) >= point.settings.iterations > 0


@contextmanager
def doing(what: str, out: TextIO | None = None) -> Iterator[None]:
    """Say what is done meanwhile: on a terminal for as long as it takes, in a log as a line."""
    out = out or sys.stdout
    terminal = out.isatty()
    print(printable(what), file=out, end="" if terminal else "\n", flush=True)
    try:
        yield
    finally:
        if terminal:
            print("\r\x1b[K", file=out, end="", flush=True)


def bar(part: float, width: int = 24) -> str:
    """A progress bar in text; part: how much is done, in [0, 1].

    >>> bar(0.5, 4)
    '[##  ]'
    """
    full = round(min(max(part, 0), 1) * width)
    return f"[{'#' * full}{' ' * (width - full)}]"


def reached_by(run: Run) -> int:
    """The last iteration in a run's history, read from its end, so cheap at any length."""
    return int(last_row(run.folder / "history.csv").get("iteration", 0))
