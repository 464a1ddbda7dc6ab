"""The physical page allocator."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import PA
from emu.memory import PhysicalMemory
from hyp.errors import Errno, KvmError
from hyp.frames import FrameAllocator
from hyp.host import SIZE_2M, SIZE_4K

BASE = PA(0x8_0000_0000)


def make(size: int = 8 << 20) -> tuple[PhysicalMemory, FrameAllocator]:
    memory = PhysicalMemory(BASE, size)
    return memory, FrameAllocator(memory)


def test_pages_come_in_ascending_order() -> None:
    _, frames = make()
    assert [frames.allocate() for _ in range(3)] == [BASE, BASE + SIZE_4K, BASE + 2 * SIZE_4K]


def test_block_is_aligned_to_its_size_and_the_gap_is_used_later() -> None:
    _, frames = make()
    frames.allocate()
    assert frames.allocate(SIZE_2M) == BASE + SIZE_2M
    pages = set()
    while (page := frames.allocate()) is not None:
        pages.add(page)
    assert len(pages) == (8 << 20) // SIZE_4K - 1 - 512, "every page of the gap is found"


def test_freed_page_is_zero_when_it_is_handed_out_again() -> None:
    memory, frames = make()
    page = frames.allocate()
    assert page is not None
    memory.write(page, b"secret")
    frames.free(page)
    assert frames.allocate() == page
    assert memory.read(page, 8) == bytes(8)


def test_larger_block_is_split_when_pages_run_out() -> None:
    memory, frames = make(SIZE_2M)
    block = frames.allocate(SIZE_2M)
    assert block == BASE
    memory.write(block, b"\xff" * SIZE_2M)
    frames.free(block, SIZE_2M)
    pages = []
    while (page := frames.allocate()) is not None:
        assert memory.read(page, SIZE_4K) == bytes(SIZE_4K)
        pages.append(page)
    assert sorted(pages) == [BASE + n * SIZE_4K for n in range(512)]


def test_running_out_gives_none_and_require_says_what_for() -> None:
    _, frames = make(2 * SIZE_4K)
    frames.allocate()
    frames.allocate()
    assert frames.allocate() is None
    with pytest.raises(KvmError, match="tables") as caught:
        frames.require(SIZE_4K, "tables")
    assert caught.value.errno is Errno.ENOMEM


def test_block_beyond_the_end_is_not_handed_out() -> None:
    _, frames = make(SIZE_2M + SIZE_4K)
    frames.allocate()
    assert frames.allocate(SIZE_2M) is None
    assert frames.allocate() == BASE + SIZE_4K, "a failure must not cost anything"


def test_bytes_in_use_are_counted() -> None:
    _, frames = make()
    page, block = frames.allocate(), frames.allocate(SIZE_2M)
    assert page is not None
    assert block is not None
    assert frames.allocated == SIZE_2M + SIZE_4K
    frames.free(block, SIZE_2M)
    frames.free(page)
    assert frames.allocated == 0


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 9, 10]), st.booleans()), max_size=60))
def test_no_byte_is_ever_in_two_hands(steps: list[tuple[int, bool]]) -> None:
    memory, frames = make(8 << 20)
    held: list[tuple[PA, int]] = []
    for order, give_back in steps:
        if give_back and held:
            frames.free(*held.pop(0))
            continue
        size = SIZE_4K << order
        block = frames.allocate(size)
        if block is None:
            continue
        assert block % size == 0
        assert memory.contains(block, size)
        assert all(block + size <= start or start + length <= block for start, length in held)
        held.append((block, size))
    assert frames.allocated == sum(size for _, size in held)
