"""`nstlab`, and `python -m nstlab`: the command line, begun so that Ctrl-C at any moment is one line."""

from __future__ import annotations

import os
import signal
from typing import Any


def main() -> None:
    """Run the command line. Its imports take seconds, in which an interrupt has nothing to lose."""
    signal.signal(signal.SIGINT, _leave)
    from nstlab import commands

    commands.prepare()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    commands.main()


def _leave(*_: Any) -> None:
    os.write(2, b"nstlab: interrupted\n")
    os._exit(130)  # in the middle of an import nothing can be cleaned up, and nothing need be


if __name__ == "__main__":
    main()
