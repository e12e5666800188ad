"""What this machine has, and what a run costs on it: `nstlab doctor`."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from nstlab.layers import architecture
from nstlab.network import SOURCES, algorithm, bfloat16_units, load_network, network_sha256
from nstlab.optimise import (
    computed_layers,
    make_optimizer,
    margins,
    memory_needed,
    set_up,
    steps,
    with_own_layers,
)
from nstlab.runs import this_machine
from nstlab.settings import Settings

TILES = (256, 512, 1024)
ITERATIONS = 5


def examine(sizes: Sequence[str], network: str, tell: Callable[[str], None]) -> dict[str, Any]:
    """What there is and what was measured, as JSON takes it; `tell` gets it in words, line by line, as it is found.

    sizes: longer sides in pixels, as text. Raises RequestError for an unknown network or a size that none can be.
    """
    settings = with_own_layers(Settings(network=network))
    found = _parts(settings)
    for part, entries in found.items():
        for name, value in entries.items():
            tell(f"{part:9} {name:12} {value}")
    takes = architecture(network).takes
    others = _others(found["machine"]["device"], takes)
    found["sizes"] = {}
    for text in sizes:
        asked = Settings.from_text({"network": network, "size": text.strip(), "iterations": str(ITERATIONS)})
        found["sizes"][asked.size], line = _cost(with_own_layers(asked), others)
        tell(f"size {asked.size:5}  {line}")
    if "tile" in takes:
        net, read = load_network(network, "random", device="cpu"), (*settings.content_layers, *settings.style_layers)
        found["margins"] = {side: margins(net, side, read) for side in TILES}
        shown = ", ".join(f"{share:.0%} at tile={side}" for side, share in found["margins"].items())
        tell(f"tiles      half as long again as the whole picture, and for their margins {shown}")
    return found


def _parts(settings: Settings) -> dict[str, dict[str, Any]]:
    """Versions, the machine, and the default weights."""
    found, weights = this_machine(settings), settings.weights
    if found["machine"]["device"] == "cpu":
        found["machine"]["bfloat16"] = ", ".join(bfloat16_units()) or "no instructions for it: slower than float32"
    sha256 = network_sha256(settings.network, weights)
    found["weights"] = {"network": settings.network, "name": weights, "sha256": sha256}
    if weights in SOURCES and SOURCES[weights].sha256 is not None:
        found["weights"]["as expected"] = sha256 == SOURCES[weights].sha256
    return found


def _others(device: str, takes: Collection[str]) -> dict[str, tuple[str, str]]:
    """Settings that might be faster on this machine, and are measured too: (name, value), by how that is called."""
    if device != "cpu":
        return {"on the CPU": ("device", "cpu")}
    return {"in bfloat16": ("precision", "bfloat16")} if bfloat16_units() and "precision" in takes else {}


def _cost(settings: Settings, others: Mapping[str, tuple[str, str]]) -> tuple[dict[str, Any], str]:
    """What an iteration costs, and the same in words; others: settings to measure, too."""
    seconds, algorithms = _measure(settings)
    cost = {"seconds": seconds, "memory": _gigabytes(settings), "convolutions": algorithms}
    otherwise = leanly = used = ""
    for how, (name, value) in others.items():
        cost[f"seconds {how}"] = _measure(settings.with_(**{name: value}))[0]
        otherwise = f" ({cost[f'seconds {how}']:.2f} with {name}={value})"
    if "winograd" in algorithms:
        cost["memory if lean"] = _gigabytes(settings.with_(convolution="lean"))
        leanly = f" ({cost['memory if lean']:.1f} with convolution=lean)"
    if algorithms:
        used = ", convolutions: " + ", ".join(f"{count} x {name}" for name, count in algorithms.items())
    return cost, f"{seconds:.2f} s an iteration{otherwise}, {cost['memory']:.1f} GB{leanly}{used}"


def _gigabytes(settings: Settings) -> float:
    return memory_needed(settings, settings.size, settings.size) / 1e9


def _measure(settings: Settings) -> tuple[float, dict[str, int]]:
    """The median seconds of a few iterations without the first; how often one iteration uses each convolution."""
    objective, x = set_up(settings)
    times, began = [], time.perf_counter()
    for _ in steps(objective, x, make_optimizer(x, settings), settings):
        times.append(time.perf_counter() - began)
        began = time.perf_counter()
    convolutions = [layer for layer in computed_layers(settings) if layer.kind == "conv"]
    if x.device.type != "cpu" and convolutions:
        return statistics.median(times[2:]), {x.device.type: 2 * len(convolutions)}
    shapes = [(layer.inputs, layer.features, *layer.size(*x.shape[2:])) for layer in convolutions]
    chosen = [algorithm(*shape) for N, M, *size in shapes for shape in ((N, M, *size), (M, N, *size))]
    return statistics.median(times[2:]), dict(Counter(chosen))
