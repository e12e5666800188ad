"""The device to compute on."""

from __future__ import annotations

from pathlib import Path

import torch

from nstlab.errors import RequestError


def choose_device(device: str = "auto") -> torch.device:
    """The device of this name; "auto" is CUDA, else MPS, else the CPU. Raises RequestError if there is none."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    chosen = torch.device(device)
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise RequestError(
            f"device={device}: this machine has {torch.cuda.device_count()} CUDA devices; use device=cpu"
        )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise RequestError("device=mps: not available here; use device=cpu")
    return chosen


def bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The instruction sets of this processor that multiply bfloat16 numbers, by Linux's names for them.

    Empty if it has none, or if the system does not tell: convolutions in bfloat16 are then slower than in float32.
    """
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return ()
    return tuple(name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in words)
