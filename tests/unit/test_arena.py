"""Memory for large tensors: where one leaves, another takes its place, and no two have the same."""

import ctypes
import gc
import random
import subprocess
import sys
import threading
import weakref

import pytest
import torch

import nstlab as lab
from nstlab.network import Arena, arena, make_arena
from nstlab.network.arena import PAGE, empty
from nstlab.optimise import LBFGS, descent, lbfgs

pytestmark = pytest.mark.skipif(make_arena() is None, reason="this system's malloc keeps large tensors itself")


@pytest.fixture
def small(monkeypatch) -> Arena:
    """Of 16 pages, for tensors of any size."""
    monkeypatch.setattr(arena, "LEAST", 1)
    return Arena(16 * PAGE)


def in_pages(own: Arena, pages: int) -> torch.Tensor:
    with own.used():
        return empty((pages, PAGE), torch.uint8)


def test_a_tensor_takes_the_smallest_gap_that_is_long_enough(small):
    tensors = [in_pages(small, pages) for pages in (4, 1, 2, 1)]
    start = tensors[0].data_ptr()
    assert [t.data_ptr() - start for t in tensors] == [0, 4 * PAGE, 5 * PAGE, 7 * PAGE]
    tensors[0] = tensors[2] = None
    places = {pages: in_pages(small, pages).data_ptr() - start for pages in (2, 3, 5)}
    assert places == {2: 5 * PAGE, 3: 1 * PAGE, 5: 8 * PAGE}
    tensors[1] = None  # and with the places before and behind it there are seven pages
    assert in_pages(small, 7).data_ptr() == start


def test_large_ones_lie_at_the_start_of_a_gap_and_small_ones_at_its_end(small, monkeypatch):
    monkeypatch.setattr(arena, "STRIP", 2 * PAGE)
    gap, after = in_pages(small, 10), in_pages(small, 6)
    start = gap.data_ptr()
    del gap
    tensors = [in_pages(small, pages) for pages in (3, 1, 3, 2)]
    assert [(t.data_ptr() - start) // PAGE for t in tensors] == [0, 9, 3, 7]
    assert after.data_ptr() - start == 10 * PAGE


def test_what_a_view_sees_is_not_given_away(small):
    whole = in_pages(small, 4)
    view = whole.view(torch.float32)[1:, :10].T
    place = whole.data_ptr()
    del whole
    assert in_pages(small, 4).data_ptr() != place
    del view
    assert in_pages(small, 4).data_ptr() == place


def test_without_room_and_outside_it_memory_is_the_systems(small, monkeypatch):
    outside = empty((4, PAGE), torch.uint8)
    all_of_it = in_pages(small, 16)
    more = in_pages(small, 1)
    monkeypatch.setattr(arena, "LEAST", 2 * PAGE)
    tensors = [outside, more, in_pages(small, 1)]
    start = all_of_it.data_ptr()
    assert not any(start <= t.data_ptr() < start + 16 * PAGE for t in tensors)


def test_it_does_without_huge_pages(monkeypatch):
    monkeypatch.setattr(arena.mmap, "MADV_HUGEPAGE", 9999)  # no kernel knows this advice
    assert make_arena() is not None
    monkeypatch.delattr(arena.mmap, "MADV_HUGEPAGE")
    assert make_arena() is not None


def test_no_two_tensors_ever_share_memory(small):
    draw, kept, start = random.Random(4), {}, in_pages(small, 16).data_ptr()
    for value in range(400):
        tensor = in_pages(small, draw.randint(1, 4))
        kept[value] = tensor.fill_(value % 251)
        while len(kept) > 5:
            del kept[draw.choice(list(kept))]
        for number, each in kept.items():
            assert each.eq(number % 251).all()
        del tensor, each
    kept.clear()
    assert in_pages(small, 16).data_ptr() == start  # the gaps are one again


def test_another_thread_may_free_it_and_takes_none(small):
    held, found = [in_pages(small, 16)], []
    place = held[0].data_ptr()

    def elsewhere():
        held.clear()
        found.append(empty((16, PAGE), torch.uint8).data_ptr())

    with small.used():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert found != [place]
    assert in_pages(small, 16).data_ptr() == place


def test_it_goes_when_nobody_has_a_part_of_it(small):
    own = Arena(4 * PAGE)
    gone, tensor = weakref.ref(own), in_pages(own, 1)
    memory = weakref.ref(own._memory)
    del own
    gc.collect()
    assert memory() is not None and tensor.fill_(3).sum() == 3 * PAGE
    del tensor
    gc.collect()
    assert gone() is None and memory() is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_has_the_same_bytes_without_it(monkeypatch, precision):
    settings = lab.Settings(size=72, iterations=3, k_S=300, precision=precision, device="cpu")
    monkeypatch.setattr(arena, "LEAST", 1)
    used = []
    monkeypatch.setattr(Arena, "take", lambda self, size, take=Arena.take: used.append(size) or take(self, size))
    within = list(lab.transfer(settings))
    assert len(used) > 100
    for module in (descent, lbfgs):
        monkeypatch.setattr(module, "make_arena", lambda *_: None)
    used.clear()
    for step, alone in zip(within, lab.transfer(settings), strict=True):
        assert torch.equal(step.image, alone.image) and step.losses == alone.losses
    assert not used


def test_the_pairs_of_lbfgs_lie_where_only_they_lie(monkeypatch):
    def moves(steps: int) -> tuple[torch.Tensor, LBFGS]:
        x = torch.linspace(-1, 1, PAGE // 2).requires_grad_()
        optimizer = LBFGS(x, 1.0, history_size=3)
        for _ in range(steps):
            optimizer.zero_grad()
            (x - 3).pow(4).sum().backward()
            optimizer.step()
        return x.detach(), optimizer

    x, optimizer = moves(9)
    memory = optimizer.state[optimizer.param_groups[0]["params"][0]]
    pairs = [*memory["s"], *memory["y"]]
    places = sorted(pair.data_ptr() for pair in pairs)
    assert len(pairs) == 6 and places[-1] - places[0] <= 7 * 2 * PAGE  # of eight, each of two pages
    assert all(pair.untyped_storage().nbytes() == pair.nbytes for pair in pairs)  # a checkpoint stores no more
    monkeypatch.setattr(lbfgs, "make_arena", lambda *_: None)
    assert torch.equal(moves(9)[0], x)


IN_THE_HEAP = """
import ctypes, torch
from nstlab.optimise.memory import apart

class Found(ctypes.Structure):
    names = "heap ordblks smblks hblks mapped usmblks fsmblks used free keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Found

def taken():
    found = libc.mallinfo2()
    return found.heap // 2**20, found.mapped // 2**20

before = taken()
with apart(tiled=False):
    stays = torch.ones(2**20)
    comes_and_goes = torch.ones(2**21)
    del comes_and_goes
print(*(now - then for now, then in zip(taken(), before)))
before = taken()
later = torch.ones(2**21)
del later
print(*(now - then for now, then in zip(taken(), before)))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="this system's malloc says nothing of itself")
def test_what_is_made_apart_leaves_the_heap_as_it_was():
    done = subprocess.run([sys.executable, "-c", IN_THE_HEAP], capture_output=True, text=True)
    heap, mapped, heap_later, mapped_later = map(int, done.stdout.split())
    assert (heap, mapped) == (0, 4)
    assert heap_later >= 6 and mapped_later == 0  # of eight: the heap may have had some free
