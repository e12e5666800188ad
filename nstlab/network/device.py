"""The device to compute on."""

from __future__ import annotations

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
