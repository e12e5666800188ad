"""`nstlab`, and `python -m nstlab`: starts the command line so that Ctrl-C prints one line at any moment."""

from __future__ import annotations

import os
import signal
from typing import Any


def main() -> None:
    """Run the command line. Its imports take seconds, and an interrupt then loses nothing."""
    signal.signal(signal.SIGINT, _leave)
    from nstlab import commands

    commands.prepare()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    commands.main()


def _leave(*_: Any) -> None:
    os.write(2, b"nstlab: interrupted\n")
    os._exit(130)  # in the middle of an import nothing can or need be cleaned up


if __name__ == "__main__":
    main()
