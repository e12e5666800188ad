"""run.json: what a run is, which machine made it, and what would differ on this one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from nstlab.optimise import LEARNING_RATES
from nstlab.reduction import cost
from nstlab.settings import Settings
from nstlab.storage import write_whole
from nstlab.vgg19 import VGG19, choose_device

FORMAT = 1
NOT_SHAPING = {"iterations", "frame_every", "device"}


def run_id(settings: Settings, sha256: dict[str, str]) -> str:
    """Twelve hexadecimal digits that name what shapes the picture.

    The settings at their default do not count (so that one added later orphans nothing), nor does a default
    that is spelled out; pictures and weights count by their bytes.
    """
    shaping = {name: value for name, value in settings.changed().items() if name not in NOT_SHAPING | set(sha256)}
    if settings.learning_rate == LEARNING_RATES[settings.optimizer]:
        shaping.pop("learning_rate", None)
    if settings.style_size == settings.size:
        shaping.pop("style_size", None)
    if settings.style_layer_weights == (1.0,) * len(settings.style_layers):
        shaping.pop("style_layer_weights", None)
    text = json.dumps([shaping, sha256], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_manifest(
    path: Path,
    run: str,
    settings: Settings,
    sha256: dict[str, str],
    status: str,
    iteration: int | None,
    network: dict[str, Any] | None = None,
) -> None:
    """Write run.json. `iteration` is the one that can be gone on from, None before the first checkpoint.

    network: as `describe_network` has it, where the network has been loaded.
    """
    manifest = {
        "format": FORMAT,
        "id": run,
        "status": status,
        "iteration": iteration,
        "settings": settings.model_dump(mode="json"),
        "sha256": sha256,
        **({"network": network} if network else {}),
        **this_machine(settings),
    }
    write_whole(path, (json.dumps(manifest, indent=2) + "\n").encode())


def describe_network(net: VGG19, settings: Settings, height: int, width: int) -> dict[str, Any]:
    """The network that a run uses, as run.json has it: its own hash, its features a layer, what it costs.

    A reduced network's hash is that of its tensors. Parameters and multiply-adds are counted up to the deepest
    layer that the run needs, for a picture of height x width pixels; coded_bytes where weights are shared.
    """
    deepest = max((*settings.content_layers, *settings.style_layers), key=lambda name: net.layer(name).index)
    found = cost(net, height, width, deepest, coded=settings.reduction == "weight_sharing")
    features = [layer.features for layer in net.layers if layer.kind == "conv"]
    return {"sha256": net.sha256, "features": features, **dataclasses.asdict(found)}


def read_manifest(path: Path) -> dict[str, Any]:
    """run.json's content; an empty dict where there is none, or a damaged one, or one of another format."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        whole = stored["format"] == FORMAT and {"id", "settings", "sha256", "iteration", "status"} <= set(stored)
        return stored if whole else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def this_machine(settings: Settings) -> dict[str, Any]:
    """What can change the last bits of a result, as run.json has it.

    Measured: the same thread count gives the same bytes; one thread against two, six iterations of L-BFGS
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
            "convolution": _convolution(settings, device),
        },
    }


def _convolution(settings: Settings, device: torch.device) -> str:
    """The algorithms that convolve: by shape on a CPU in float32, else torch's own."""
    if settings.convolution == "plain" or device.type != "cpu" or settings.precision == "bfloat16":
        return "plain"
    return "nnpack, winograd, onednn" if torch._nnpack_available() else "winograd, onednn"


def differences(manifest: dict[str, Any], settings: Settings) -> list[str]:
    """In words, what of this machine differs from a manifest's in what matters to the last bits."""
    now = this_machine(settings)
    found = []
    for part, names in (("versions", ("nstlab", "torch")), ("machine", tuple(now["machine"]))):
        for name in names:
            before = manifest.get(part, {}).get(name)
            if before is not None and before != now[part][name]:
                found.append(f"made with {name} {before}, this machine has {now[part][name]}")
    return found
