"""`make attack`: all kinds in full, counted. Ends with 1 if there is a fault."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from .harness import attack
from .kinds import KINDS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="which (default: all)")
    parser.add_argument("--count", type=int, default=1000, help="attempts of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=5, help="faults of each kind that are printed")
    options = parser.parse_args()
    print(f"{'kind':20} {'tried':>7} {'clean':>7} {'faults':>7} {'seconds':>8}", flush=True)
    faults = 0
    for name in options.kinds or KINDS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="nstlab-attack-") as folder:
            tally = attack(KINDS[name], options.count, Path(folder), options.seed)
        seconds = time.perf_counter() - began
        print(f"{name:20} {tally.tried:7} {tally.clean:7} {len(tally.faults):7} {seconds:8.0f}", flush=True)
        for line in tally.faults[: options.show]:
            print(f"    {line}")
        faults += len(tally.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
