"""run.json: what a run is, which machine computed it, and what would differ on this one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from nstlab import own
from nstlab.errors import RunError
from nstlab.gates import gates_as_text
from nstlab.layers import VGG_BLOCKS
from nstlab.network import Network, algorithms, choose_device
from nstlab.reduction import cost
from nstlab.settings import LEARNING_RATES, Settings, knob
from nstlab.storage import MOST_JSON, parse_json, read_regular, write_whole

FORMAT = 1


def run_id(settings: Settings, sha256: dict[str, str], read_as: dict[str, str]) -> str:
    """Twelve hexadecimal digits that identify what shapes the picture.

    Settings at their defaults do not count (so that a new setting leaves old runs valid), nor do defaults that are
    spelled out. Pictures and weights count by their bytes, and by how they are read if that is not plain (see `Run`).
    """
    by_bytes = {*sha256, "content_masks", "style_masks"}
    shaping = {name: value for name, value in settings.changed().items() if knob(name).shapes and name not in by_bytes}
    shaping |= {name: own.parts(reference)[1] for name, reference in settings.code.items()}  # the file by its bytes
    if settings.style_weights is not None:
        shaping["style_weights"] = settings.proportions
    if len(set(settings.proportions)) == 1:
        shaping.pop("style_weights", None)
    if settings.learning_rate == LEARNING_RATES[settings.optimizer]:
        shaping.pop("learning_rate", None)
    if settings.style_size == settings.size:
        shaping.pop("style_size", None)
    if settings.style_layer_weights == (1.0,) * len(settings.style_layers):
        shaping.pop("style_layer_weights", None)
    text = json.dumps([shaping, sha256, read_as] if read_as else [shaping, sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_manifest(
    path: Path,
    identity: dict[str, Any],
    settings: Settings,
    status: str,
    iteration: int | None,
    network: Any = None,
    batch: int = 1,
) -> None:
    """Write run.json. identity: the run's `id`, `sha256` and `read_as`; network: as from `describe_network`.

    iteration: the one from which the run can resume, None before the first checkpoint; batch: as for `this_machine`.
    """
    settings = settings.with_(iterations=max(settings.iterations, iteration or 0))
    manifest = {
        "format": FORMAT,
        "status": status,
        "iteration": iteration,
        "settings": settings.model_dump(mode="json"),
        **{name: value for name, value in (identity | {"network": network}).items() if value},
        **this_machine(settings, batch),
    }
    write_whole(path, (json.dumps(manifest, indent=2) + "\n").encode())


def describe_network(net: Network, settings: Settings, height: int, width: int) -> dict[str, Any]:
    """The network of a run, for run.json: its hash, its features by layer, its cost.

    A reduced network's hash is that of its tensors. Parameters and multiply-adds are counted up to the deepest layer
    that the run needs, for a picture of height x width pixels; coded_bytes only with weight sharing; gates as they
    are, also where the settings only say how to choose them.
    """
    deepest = max((*settings.content_layers, *settings.style_layers), key=lambda name: net.layer(name).index)
    found = cost(net, height, width, deepest, coded=settings.reduction == "weight_sharing")
    features = [layer.features for layer in net.layers if layer.kind in ("conv", "block")]
    read_as = {"read_as": net.read_as} if net.read_as else {}
    gates = {name: of_layer.by_feature for name, of_layer in net.gates.items()}
    gated = {"gates": gates_as_text(gates)} if gates else {}
    return {"sha256": net.sha256, **read_as, "features": features, **dataclasses.asdict(found), **gated}


class Manifest(BaseModel):
    """What run.json must hold; anything else in it is kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    format: int
    id: str = Field(pattern=r"^[0-9a-f]{12}$")
    status: str
    iteration: int | None = Field(ge=0)
    settings: dict[str, Any]
    sha256: dict[str, str]
    read_as: dict[str, str] = {}
    network: dict[str, Any] | None = None
    versions: dict[str, str] = {}
    machine: dict[str, str | int] = {}


def read_manifest(path: Path) -> dict[str, Any]:
    """run.json's content; an empty dict if it is missing or damaged.

    Raises OSError if it cannot be read, RunError if a newer nstlab wrote it.
    """
    if not os.path.lexists(path):
        return {}
    try:
        stored = parse_json(read_regular(path, MOST_JSON))
        newer = stored.get("format") if isinstance(stored, dict) else None
        if type(newer) is int and newer > FORMAT:
            raise RunError(f"{path} was written by a newer nstlab (format {newer}): update this one")
        return Manifest.model_validate(stored).model_dump(exclude_unset=True)
    except ValueError:  # Damaged, or a ValidationError
        return {}


def this_machine(settings: Settings, batch: int = 1) -> dict[str, Any]:
    """What can change the last bits of a result, for run.json. batch: the number of runs computed together.

    Measured: the same thread count gives the same bytes. With one thread against two, six iterations of L-BFGS
    differ by 0 grey levels at 48 pixels, by up to 6e-5 at 96 and 0.04 at 160, and drift apart from there.
    """
    device = choose_device(settings.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "versions": {"nstlab": version("nstlab"), "torch": torch.__version__, "python": platform.python_version()},
        "machine": {
            "device": device.type,
            "processor": name,
            "threads": torch.get_num_threads(),
            **({"batch": batch} if batch > 1 else {"convolution": _convolution(settings, device)}),
        },
    }


def _convolution(settings: Settings, device: torch.device) -> str:
    """The convolution algorithms in use: on a CPU chosen by shape and precision, otherwise torch's own."""
    if settings.network not in VGG_BLOCKS or settings.convolution == "plain" or device.type != "cpu":
        return "plain"
    if settings.precision == "bfloat16":
        return "onednn, channels-last"
    return ", ".join(algorithms(settings.convolution == "lean"))


def differences(manifest: dict[str, Any], settings: Settings, batch: int = 1) -> list[str]:
    """In words, how this machine differs from a manifest's where it affects the last bits."""
    now = this_machine(settings, batch)
    found = []
    compared = tuple(name for name in now["machine"] if name != "batch")
    for part, names in (("versions", ("nstlab", "torch")), ("machine", compared)):
        for name in names:
            before = manifest.get(part, {}).get(name)
            if before is not None and before != now[part][name]:
                found.append(f"made with {name} {before}, this machine has {now[part][name]}")
    if (before := manifest.get("machine", {}).get("batch", 1)) != batch:
        found.append(f"made in a batch of {before}, now in one of {batch}")
    return found
