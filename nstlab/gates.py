"""Gates as text: which features of which layers are switched off, scaled, or replaced by their mean.

Features are named (`parse_gates`), or chosen by what they carry of a style (`parse_chosen`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from nstlab.values import as_text, name_or_path

MEAN = "mean"
Gate = float | str
"""What an activation is multiplied by, 0 switches it off; or MEAN: its mean over the positions replaces it."""
Gates = dict[str, dict[int, Gate]]
"""By layer and feature; a feature without a gate is as it is."""

MOST_BYTES = 1_000_000  # of a file
STRONGEST = 1000.0
ORDERS = ("first", "last", "random")
CHOSEN = re.compile(rf"({'|'.join(ORDERS)}):(\d{{1,9}})(?:@(\S+))?")
EXAMPLE = "layer:feature,feature=factor,first-last=mean;layer:…, as in relu4_1:12,40=0.5,70-79=mean"


def parse_chosen(value: Any) -> tuple[str, int, str | None] | None:
    """Features that are switched off by what they carry of the style: (order, number, layer); None for other gates.

    "first:50" are the 50 that carry most of the style loss at the content picture, "last:50" those that carry least,
    "random:50" any, from the seed; of all style layers, or of one layer, as in "first:50@relu4_1".

    >>> parse_chosen("first:50"), parse_chosen("random:8@relu4_1"), parse_chosen("relu4_1:8")
    (('first', 50, None), ('random', 8, 'relu4_1'), None)
    """
    match = CHOSEN.fullmatch(value.strip()) if isinstance(value, str) else None
    return match and (match[1], int(match[2]), match[3])


def parse_gates(value: Any) -> Gates:
    """Gates from text, from a mapping, or from a file with either of them (JSON, or the text alone).

    Gates of 1 are left out; None and an empty text are no gates. Raises ValueError, in one line, for anything else, and
    for a factor outside ±1000.

    >>> parse_gates("relu4_1:12,40=0.5,70-71=mean")
    {'relu4_1': {12: 0.0, 40: 0.5, 70: 'mean', 71: 'mean'}}
    >>> parse_gates({"relu4_1": [12, 40]}) == parse_gates("relu4_1:12,40")
    True
    """
    if value is None or value == "":
        return {}
    if isinstance(value, str) and ":" not in value.removeprefix(Path(value).drive):
        value = _from_file(name_or_path(value))
    if isinstance(value, str):
        value = dict(_layers_in(value))
    if not isinstance(value, Mapping):
        raise ValueError(f"write {EXAMPLE}")
    found: Gates = {}
    for layer, gates in value.items():
        checked = {_feature(feature): _gate(gate) for feature, gate in _pairs(gates)}
        found[str(layer)] = {feature: gate for feature, gate in sorted(checked.items()) if gate != 1}
    return {layer: gates for layer, gates in found.items() if gates}


def gates_as_text(gates: Mapping[str, Mapping[int, Gate]]) -> str:
    """The inverse of `parse_gates`: neighbouring features with one gate as a range.

    >>> gates_as_text({"relu4_1": {1: 0.0, 2: 0.0, 3: 0.0, 9: 0.5}})
    'relu4_1:1-3,9=0.5'
    """
    return ";".join(f"{layer}:{','.join(_runs(of_layer))}" for layer, of_layer in gates.items() if of_layer)


def _runs(gates: Mapping[int, Gate]) -> Iterator[str]:
    ordered = list(enumerate(sorted(gates.items())))
    for (_, gate), group in groupby(ordered, key=lambda at: (at[1][0] - at[0], at[1][1])):
        features = [feature for _, (feature, _) in group]
        which = f"{features[0]}-{features[-1]}" if len(features) > 1 else f"{features[0]}"
        yield which if gate == 0 else f"{which}={as_text(gate)}"


def _layers_in(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    seen = set()
    for part in filter(None, (part.strip() for part in text.split(";"))):
        layer, colon, features = (piece.strip() for piece in part.partition(":"))
        if not layer or not colon or layer in seen:
            raise ValueError(f"{layer} stands there twice" if layer in seen else f"write {EXAMPLE}")
        seen.add(layer)
        yield layer, dict(_features_in(features))


def _pairs(gates: Any) -> Iterable[tuple[Any, Any]]:
    """(feature, gate) from text, from a mapping, or from the features that are off."""
    if isinstance(gates, str):
        return _features_in(gates)
    if isinstance(gates, Mapping):
        return gates.items()
    if not isinstance(gates, Iterable):
        raise ValueError(f"write {EXAMPLE}")
    return ((feature, 0.0) for feature in gates)


def _features_in(text: str) -> Iterator[tuple[int, Any]]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        which, equals, gate = (piece.strip() for piece in part.partition("="))
        first, to, last = (piece.strip() for piece in which.partition("-"))
        low, high = _feature(first), _feature(last if to else first)
        if not low <= high < low + 100_000:
            raise ValueError(f"{part!r}: write {EXAMPLE}")
        yield from ((feature, gate if equals else 0.0) for feature in range(low, high + 1))


def _feature(value: Any) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or len(str(value)) > 9:
        raise ValueError(f"a feature is a number from 0 on, not {str(value)[:40]!r}: write {EXAMPLE}")
    return int(value)


def _gate(value: Any) -> Gate:
    if value == MEAN:
        return MEAN
    try:
        factor = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a gate is a factor or {MEAN}, not {str(value)[:40]!r}") from None
    if not abs(factor) <= STRONGEST:
        raise ValueError(f"a gate is a factor between -{STRONGEST:g} and {STRONGEST:g}, not {factor:g}")
    return factor + 0.0  # no -0


def _from_file(path: str) -> Any:
    file = Path(path)
    if not file.is_absolute() or not file.is_file():
        raise ValueError(f"write {EXAMPLE}; or the path of a file that has it")
    if file.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} is larger than {MOST_BYTES:,} bytes")
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not text.startswith("{"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
