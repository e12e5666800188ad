"""Ctrl-C that is noted and waits, in the three places where breaking off at once would lose something."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def noted_interrupts(patience: float = 1) -> Iterator[list[float]]:
    """Within the block Ctrl-C only adds its time to the list given; after `patience` of them it acts as before.

    Signals reach the main thread alone: in another one the list stays empty.
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
    """Ctrl-C acts once the block has ended: for writing a file, which takes a moment."""
    with noted_interrupts(patience=float("inf")) as presses:
        yield
    if presses:
        signal.raise_signal(signal.SIGINT)
