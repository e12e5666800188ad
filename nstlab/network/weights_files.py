"""A file of tensors, inspected before it is read: what is in it, and how much memory it would take.

A pickle is a program. torch runs only a few harmless instructions of it, but even these can ask for gigabytes from a
file of a few bytes. So the instructions are read first, and run on mere descriptions of tensors.
"""

from __future__ import annotations

import errno
import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from nstlab.errors import RequestError
from nstlab.storage import Damaged, open_regular

MOST_BYTES = 4 << 30  # of a file: VGG19 with its classifier has 0.6e9, twice that in float64
MOST_PICKLE = 4 << 20  # bytes of the description of the tensors; a VGG19's has a few thousand
MOST_ENTRIES = 20_000

_INSTRUCTIONS = (
    "PROTO FRAME STOP MARK POP POP_MARK EMPTY_DICT EMPTY_LIST EMPTY_TUPLE DICT LIST TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "APPEND APPENDS SETITEM SETITEMS BINUNICODE SHORT_BINUNICODE BINUNICODE8 UNICODE STRING BINSTRING SHORT_BINSTRING "
    "BINBYTES SHORT_BINBYTES BININT BININT1 BININT2 INT LONG LONG1 BINFLOAT FLOAT NONE NEWTRUE NEWFALSE "
    "BINPUT LONG_BINPUT MEMOIZE PUT BINGET LONG_BINGET GET GLOBAL STACK_GLOBAL REDUCE BUILD BINPERSID"
)
INSTRUCTIONS = frozenset(_INSTRUCTIONS.split())
"""The pickle instructions that lists, dictionaries and tensors need."""

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class TensorSpec:
    """A tensor in a file: its shape, its type, and how many numbers its storage has."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    stored: int


def read_tensors(path: Path) -> dict[str, Any]:
    """The content of a file of tensors (.safetensors, or torch's format, new or old): a dictionary, perhaps nested.

    It takes no more memory than the file has bytes. Raises RequestError, in one line, for a file that is damaged,
    holds anything but tensors and plain values, or asks for more memory; OSError if it cannot be read.
    """
    try:
        with open_regular(path, MOST_BYTES) as file:
            if path.suffix == ".safetensors":
                _check_safetensors(file)
            else:
                check_torch_file(file)
        return _load(path)
    except (Damaged, RecursionError) as error:
        raise RequestError(f"{path} is not a readable weights file: {error}") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # torch, zipfile and safetensors have different errors for a damaged file
        raise Damaged((str(error).strip() or type(error).__name__).splitlines()[0]) from None


def _check_safetensors(file: BinaryIO) -> None:
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= MOST_PICKLE:
        raise Damaged("its header is not that of a safetensors file")


def check_torch_file(file: BinaryIO) -> Any:
    """What a file in torch's format would load as, with a TensorSpec for each tensor. Raises Damaged if it is unsafe.

    It allocates only this description and runs none of the file's code.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(4) == b"PK\3\4":
        data, sizes = _zipped(file, size)
        return _describe(io.BytesIO(data), size, sizes)
    file.seek(0)
    head = io.BytesIO(file.read(MOST_PICKLE))
    for _ in range(3):  # in torch's old format a number, a version and a system come before the tensors
        _describe(head, size)
    return _describe(head, size)


def _zipped(file: BinaryIO, size: int) -> tuple[bytes, dict[str, int]]:
    """The description in torch's new format and the bytes of each storage. The archive must not be compressed."""
    try:
        archive = zipfile.ZipFile(file)
        entries = archive.infolist()
        if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in entries) > size:
            raise Damaged("its archive would be larger than the file")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Damaged("its archive is compressed, as torch's never are")
        described = [entry for entry in entries if entry.filename.split("/")[1:] == ["data.pkl"]]
        if len(described) != 1 or described[0].file_size > MOST_PICKLE:
            raise Damaged("it has no description of tensors")
        folder = described[0].filename.partition("/")[0] + "/data/"
        sizes = {e.filename.removeprefix(folder): e.file_size for e in entries if e.filename.startswith(folder)}
        return archive.read(described[0]), sizes
    except Damaged:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # this is what a directory with impossible offsets gives
            raise
        raise Damaged("its archive is damaged") from None
    except Exception as error:  # zipfile has many for a bad archive
        raise Damaged(str(error) or "its archive is damaged") from None


def _describe(data: io.BytesIO, size: int, sizes: dict[str, int] | None = None) -> Any:
    """One pickle, read with descriptions instead of tensors; size: bytes of the file; sizes: of each storage."""
    began = data.tell()
    try:
        for instruction, argument, _ in pickletools.genops(data):
            if instruction.name not in INSTRUCTIONS:
                raise Damaged(f"it holds something other than tensors and is refused ({instruction.name})")
            if instruction.name in ("LONG_BINPUT", "PUT") and argument > MOST_PICKLE:
                raise Damaged("it asks for more memory than tensors need")
        data.seek(began)
        describer = _Describer(data)
        found = describer.load()
        wanted = describer.storages
        if sum(wanted.values()) > size or any(n > (sizes or wanted).get(name, -1) for name, n in wanted.items()):
            raise Damaged("it claims more numbers than it holds")
        return found
    except Damaged:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise Damaged((str(error).strip() or type(error).__name__).splitlines()[0][:200]) from None


class _Describer(pickle.Unpickler):
    def __init__(self, data: io.BytesIO) -> None:
        super().__init__(data, encoding="utf-8")
        self.storages: dict[str, int] = {}  # name -> bytes

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return _tensor_spec
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _data_of
        raise Damaged(f"it holds something other than tensors and is refused ({module}.{name})")

    def persistent_load(self, key: Any) -> Any:
        if not (isinstance(key, tuple) and len(key) >= 5 and isinstance(key[1], torch.dtype)):
            raise Damaged("it holds something other than tensors and is refused")
        _, dtype, name, _, numbers = key[:5]
        if type(numbers) is not int or numbers < 0:
            raise Damaged("a tensor has an impossible size")
        self.storages[str(name)] = max(numbers * dtype.itemsize, self.storages.get(str(name), 0))
        return TensorSpec((numbers,), dtype, numbers)


def _tensor_spec(storage: TensorSpec, offset: int, shape: tuple, strides: tuple, *_: Any) -> TensorSpec:
    sizes = (*shape, *strides, offset)
    if not all(type(value) is int and 0 <= value < 2**40 for value in sizes) or len(shape) != len(strides):
        raise Damaged("a tensor has an impossible shape")
    if math.prod(shape) > storage.stored:
        raise Damaged("a tensor has more numbers than its storage")
    last = offset + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.stored:
        raise Damaged("a tensor reaches beyond its storage")
    return TensorSpec(tuple(shape), storage.dtype, storage.stored)


def _data_of(data: TensorSpec, *_: Any) -> TensorSpec:
    return data
