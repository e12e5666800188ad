"""Ctrl-C that is noted and waits, in the three places where stopping at once would lose something."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def noted_interrupts(patience: float = 1) -> Iterator[list[float]]:
    """Inside the block Ctrl-C only adds its time to the yielded list; after `patience` presses it acts as before.

    Signals reach only the main thread: in any other the list stays empty.
    """
    presses: list[float] = []
    before = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if before is None:
        yield presses
        return

    def note(number: int, frame: Any) -> None:
        presses.append(time.time())
        if len(presses) >= patience:
            signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield presses
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C acts once the block has ended: for writing a file."""
    with noted_interrupts(patience=float("inf")) as presses:
        yield
    if presses:
        signal.raise_signal(signal.SIGINT)
