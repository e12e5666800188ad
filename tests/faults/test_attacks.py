"""The attacks of `make attack` in a small form: a few inputs of each kind, none of which may be a fault."""

import sys

import pytest

from tests.attacks.harness import attack
from tests.attacks.kinds import KINDS

COUNTS = {"kills": 60, "stored runs": 40, "run.json": 60}


@pytest.mark.skipif(sys.platform == "win32", reason="limits of memory and alarms are those of POSIX")
@pytest.mark.parametrize("name", KINDS)
def test_nothing_is_misread_and_nothing_acts(name, tmp_path):
    tally = attack(KINDS[name], COUNTS.get(name, 120), tmp_path, seed=1)
    assert tally.faults == [] and tally.clean == tally.tried > 0
