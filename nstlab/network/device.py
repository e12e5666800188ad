"""The device to compute on."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

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


WITHOUT_DOUBLE = ("mps",)  # kinds of devices that have no numbers of 64 bits: Apple's GPUs


def in_double(x: torch.Tensor) -> torch.Tensor:
    """In float64: on its device if that has such numbers, else on the CPU, whence gradients find their way back.

    First to the CPU, then to float64: back on the device nothing is of that type, not even in a gradient.
    """
    return (x.cpu() if x.device.type in WITHOUT_DOUBLE else x).double()


Net = TypeVar("Net", bound=torch.nn.Module)


def placed(net: Net, device: torch.device, precision: str = "float32") -> Net:
    """The network on this device.

    On CUDA this also says what cuDNN and cuBLAS may do from now on: TF32, which torch's convolutions else use unasked,
    only with that precision; and nothing that gives other last bits when it is done again.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    return net.to(device)


def bfloat16_units(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """The instruction sets of this processor that multiply bfloat16 numbers, by Linux's names for them.

    Empty if it has none, or if the system does not tell: convolutions in bfloat16 are then slower than in float32.
    """
    try:
        words = set(cpuinfo.read_text().split())
    except OSError:
        return ()
    return tuple(name for name in ("amx_bf16", "avx512_bf16", "bf16") if name in words)
