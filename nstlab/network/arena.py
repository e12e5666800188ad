"""Memory for large tensors within a run: where one leaves, the next takes its place.

Otherwise each large tensor's memory comes from the system, which first fills it with zeros, and goes back to it. An
iteration at 1024 x 1024 takes 5 GB in this way, and a quarter of its time for them. [measured]
"""

from __future__ import annotations

import mmap
import sys
import threading
import weakref
from bisect import insort
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from math import prod

import numpy as np
import psutil
import torch

LEAST = 2**23  # bytes: malloc keeps smaller ones for reuse anyway
STRIP = 2**25  # bytes: what is larger is made strip by strip; see nstlab.network.convolution
PAGE = 2**16  # bytes: what a tensor takes is a multiple of this
NO_RESERVE = 0x4000  # Linux's MAP_NORESERVE: addresses alone, of which memory is taken when it is written to

_current: ContextVar[Arena | None] = ContextVar("arena", default=None)


class Arena:
    """A range of addresses; a tensor takes as many as it needs from the smallest gap between others that has them.

    Small ones lie at the end of a gap and large ones at its start, so that where small ones were is room for large
    ones: of the orders tried, this alone stays within 3 % of what is needed at once. [simulated, 512 to 1280 pixels]
    Once nobody has it nor a tensor in it, its memory goes back to the system.

    >>> arena = Arena(2**24)
    >>> with arena.used():
    ...     a, b = empty((1024, 1024)), empty((512, 1024))
    >>> place = a.data_ptr()
    >>> del a
    >>> with arena.used():
    ...     c = empty((2, 512, 1024))
    >>> c.data_ptr() == place
    True
    """

    def __init__(self, size: int) -> None:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE
        self._memory = mmap.mmap(-1, size, flags=flags)
        with suppress(AttributeError, OSError):  # Python or a kernel without huge pages
            self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._free = [(0, size)]  # from, to: in order, and no two of them touch
        self._given_back: deque[tuple[int, int]] = deque()  # at any moment, by the garbage collector even in `take`
        self._lock = threading.Lock()

    @contextmanager
    def used(self) -> Iterator[None]:
        """Within this, in the same thread, `empty` takes memory from here."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    def take(self, size: int) -> torch.Tensor | None:
        """So many bytes, with anything in them; None if no free range is as long."""
        taken = -(-size // PAGE) * PAGE
        with self._lock:
            while self._given_back:
                self._add(*self._given_back.popleft())
            gaps = [(start, end) for start, end in self._free if end - start >= taken]
            if not gaps:
                return None
            start, end = gap = min(gaps, key=lambda gap: gap[1] - gap[0])
            at = end - taken if taken <= STRIP and end < len(self._memory) else start
            self._free.remove(gap)
            for rest in ((start, at), (at + taken, end)):
                if rest[0] < rest[1]:
                    insort(self._free, rest)
        room = np.frombuffer(self._memory, np.uint8, size, at)
        weakref.finalize(room, self._given_back.append, (at, at + taken)).atexit = False
        return torch.from_numpy(room)  # it and all its views keep `room` alive, and nothing else does

    def _add(self, start: int, end: int) -> None:
        """A range that is free again, to the others; with those before and after it, it is one."""
        for before, after in [pair for pair in self._free if pair[1] == start or pair[0] == end]:
            self._free.remove((before, after))
            start, end = min(start, before), max(end, after)
        insort(self._free, (start, end))


def make_arena(size: int | None = None, times: int = 1) -> Arena | None:
    """A new one for so many times `size` bytes; None where that cannot be had, as outside Linux.

    size: by default as many as the machine has memory: addresses cost nothing until they are used.
    """
    if sys.platform != "linux":
        return None
    each = psutil.virtual_memory().total if size is None else size
    try:
        return Arena(times * -(-each // PAGE) * PAGE)
    except OSError:  # there is a limit on addresses (ulimit -v), or no memory may be promised that is not there
        return None


def empty(
    shape: Sequence[int],
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> torch.Tensor:
    """torch.empty on the CPU, from the arena that is used now, if there is one and the tensor is large."""
    current, size = _current.get(), prod(shape) * dtype.itemsize
    found = current.take(size) if current is not None and size >= LEAST else None
    if found is None:
        return torch.empty(shape, dtype=dtype, memory_format=memory_format)
    if memory_format == torch.channels_last:
        n, features, height, width = shape
        return found.view(dtype).view(n, height, width, features).permute(0, 3, 1, 2).detach()
    return found.view(dtype).view(shape).detach()


def arranged(x: torch.Tensor, memory_format: torch.memory_format) -> torch.Tensor:
    """x, (1, C, H, W), if it lies in memory in this order, else a copy of it that does; not differentiable."""
    if x.is_contiguous(memory_format=memory_format):
        return x
    return empty(x.shape, x.dtype, memory_format).copy_(x)
