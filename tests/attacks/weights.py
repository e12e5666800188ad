"""Weight files: damaged, of other shapes, and made to take memory or to run something."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save

from nstlab.layers import layer_names
from nstlab.network.weights import convolutions, read_weights

from .harness import Fault, Kind, mutated


class Runs:
    """Pickled, it would leave a mark."""

    def __reduce__(self):
        return (open, ("mark", "w"))


def prepare(folder: Path) -> list[tuple[str, bytes]]:
    """(ending, bytes) of whole files: state dicts with VGG19's names and few numbers, in every container."""
    index = {name: layer_names().index(name) for name, _, _ in convolutions()}
    small = {f"features.{i}.{part}": torch.rand(4, 3, 3, 3) for i in index.values() for part in ("weight", "bias")}
    found = []

    def keep(value: object, **options: object) -> None:
        buffer = io.BytesIO()
        torch.save(value, buffer, **options)
        found.append((".pth", buffer.getvalue()))

    keep(small)
    keep(small, _use_new_zipfile_serialization=False)
    keep({"state_dict": small, "epoch": 3, "best": 0.5, "names": ["a", None]})
    keep({key: torch.nn.Parameter(value) for key, value in small.items()})
    keep({key: value.half() for key, value in small.items()})
    keep(list(small.values()))
    keep({"features.0.weight": torch.zeros(1).expand(64, 3, 3, 3)})
    keep({"features.0.weight": torch.eye(3).to_sparse()})
    keep({"features.0.weight": torch.zeros(64, 3, 3, 3, device="meta")})
    found.append((".safetensors", save(small)))
    found.append((".pth", pickle.dumps(Runs())))
    return found


def bombs(chance: random.Random) -> tuple[str, bytes]:
    """Small files that ask for much."""
    much = chance.choice((2**31, 2**33 + 1, 2**40, 2**62))
    what = chance.randrange(8)
    if what == 0:
        return ".pth", b"\x80\x02cbuiltins\nbytearray\n\x8a\x08" + struct.pack("<q", much) + b"\x85R."
    if what == 1:
        return ".pth", b"\x80\x02}r" + struct.pack("<I", much % 2**32) + b"."
    if what == 2:
        return ".pth", b"\x80\x04" + chance.choice((b"\x8e", b"\x96", b"\x8d")) + struct.pack("<Q", much) + b"abc."
    if what == 3:
        buffer = io.BytesIO()
        torch.save({"conv1_1.weight": torch.zeros(1).expand(1 << 16, 1 << 16)}, buffer)
        return ".pth", buffer.getvalue()
    if what == 4:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
            archive.writestr("archive/data/0", bytes(50_000_000))
        return ".pth", buffer.getvalue()
    if what == 5:
        entry = {"dtype": "F32", "shape": [much, 3, 3, 3], "data_offsets": [0, 4]}
        header = json.dumps({"conv1_1.weight": entry}).encode()
        return ".safetensors", struct.pack("<Q", len(header)) + header + b"\0" * 4
    if what == 6:
        return ".safetensors", struct.pack("<Q", much) + b"{}"
    storage = "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\00X\x03\0\0\0cpu\x8a\x08".encode("latin1")
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + struct.pack("<q", much) + b"tQK\0(K\x01t(K\x01t\x89}tR."
    )
    old = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}."
    return ".pth", old + b"\x80\x02}X\x0e\0\0\0conv1_1.weight" + tensor[:-1] + b"s."


def attempt(wholes: list[tuple[str, bytes]], chance: random.Random, number: int, folder: Path) -> None:
    ending, data = bombs(chance) if chance.random() < 0.2 else chance.choice(wholes)
    if chance.random() < 0.8:
        data = mutated(data, chance)
    path = folder / f"weights{ending if chance.random() < 0.95 else chance.choice(('.pth', '.safetensors', '.bin'))}"
    path.write_bytes(data)
    read_weights(str(path))
    raise Fault("it was read as a VGG19")


KIND = Kind("weights", prepare, attempt)
