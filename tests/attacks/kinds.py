"""The kinds of attack, by name."""

from . import kills, pictures, records, sweeps, weights

KINDS = {kind.name: kind for kind in (kills.KIND, pictures.KIND, *records.KINDS, weights.KIND, *sweeps.KINDS)}
