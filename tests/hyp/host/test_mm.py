"""The VMM process's address space."""

from __future__ import annotations

import pytest

from emu.arch.address import PA
from emu.memory import PhysicalMemory
from hyp.errors import Errno, KvmError
from hyp.host import (
    HVA,
    SIZE_1G,
    SIZE_2M,
    SIZE_4K,
    TASK_SIZE,
    FaultinError,
    HostMemory,
    HostPfn,
    HostProt,
)


@pytest.fixture
def host() -> HostMemory:
    return HostMemory(PhysicalMemory(PA(0x8_0000_0000), 16 << 20))


def errno(caught: pytest.ExceptionInfo[KvmError]) -> Errno:
    return caught.value.errno


def test_areas_do_not_touch_and_are_aligned_to_their_pages(host: HostMemory) -> None:
    first = host.mmap(SIZE_4K)
    second = host.mmap(SIZE_2M, SIZE_2M)
    third = host.mmap(SIZE_1G, SIZE_1G)
    assert second % SIZE_2M == 0
    assert third % SIZE_1G == 0
    assert host.vma_lookup(first + SIZE_4K) is None
    assert second > first + SIZE_4K


def test_size_is_rounded_up_to_the_page_size(host: HostMemory) -> None:
    start = host.mmap(1, SIZE_2M)
    vma = host.vma_lookup(start + SIZE_2M - 1)
    assert vma is not None
    assert vma.end == start + SIZE_2M


@pytest.mark.parametrize(("size", "page_size"), [(0, SIZE_4K), (-1, SIZE_4K), (SIZE_4K, 0x4000)])
def test_impossible_area_is_refused(host: HostMemory, size: int, page_size: int) -> None:
    with pytest.raises(KvmError) as caught:
        host.mmap(size, page_size)
    assert errno(caught) is Errno.EINVAL


def test_address_space_has_an_end(host: HostMemory) -> None:
    with pytest.raises(KvmError) as caught:
        host.mmap(TASK_SIZE)
    assert errno(caught) is Errno.ENOMEM


def test_lookup_finds_the_area_and_nothing_between(host: HostMemory) -> None:
    first, second = host.mmap(SIZE_4K), host.mmap(2 * SIZE_4K)
    for hva in (second, second + SIZE_4K, second + 2 * SIZE_4K - 1):
        vma = host.vma_lookup(hva)
        assert vma is not None
        assert vma.start == second
    for hva in (0, first - 1, first + SIZE_4K, second + 2 * SIZE_4K):
        assert host.vma_lookup(hva) is None


def test_untouched_memory_reads_as_zero_and_takes_no_page(host: HostMemory) -> None:
    start = host.mmap(4 * SIZE_4K)
    assert host.read(start, 4 * SIZE_4K) == bytes(4 * SIZE_4K)
    assert host.frames.allocated == 0


def test_what_is_written_across_pages_is_read_back(host: HostMemory) -> None:
    start = host.mmap(4 * SIZE_4K)
    data = bytes(range(256)) * 32
    at = HVA(start + SIZE_4K - 100)
    host.write(at, data)
    assert host.read(at, len(data)) == data
    assert host.frames.allocated == 3 * SIZE_4K
    assert host.read(HVA(at - 2), 4) == b"\0\0" + data[:2]


def test_large_page_comes_into_being_as_a_whole(host: HostMemory) -> None:
    start = host.mmap(2 * SIZE_2M, SIZE_2M)
    host.write(HVA(start + SIZE_2M + 0x1234), b"x")
    vma = host.vma_lookup(start)
    assert vma is not None
    assert host.frames.allocated == SIZE_2M
    page = host.faultin_pfn(vma, start + SIZE_2M, write=False)
    assert isinstance(page, HostPfn)
    assert page.pa % SIZE_2M == 0
    assert host.read(HVA(start + SIZE_2M + 0x1234), 1) == b"x"


def test_fault_in_gives_the_frame_of_the_address_and_always_the_same(host: HostMemory) -> None:
    start = host.mmap(SIZE_2M, SIZE_2M)
    vma = host.vma_lookup(start)
    assert vma is not None
    page = host.faultin_pfn(vma, start, write=False)
    assert isinstance(page, HostPfn)
    again = host.faultin_pfn(vma, start + 0x5678, write=True)
    assert isinstance(again, HostPfn)
    assert (again.pa, again.writable) == (page.pa + 0x5000, True)


def test_read_outside_areas_is_efault(host: HostMemory) -> None:
    start = host.mmap(SIZE_4K)
    with pytest.raises(KvmError, match="mmap it first") as caught:
        host.read(start, SIZE_4K + 1)
    assert errno(caught) is Errno.EFAULT


def test_write_outside_areas_is_efault_and_writes_nothing(host: HostMemory) -> None:
    start = host.mmap(SIZE_4K)
    with pytest.raises(KvmError) as caught:
        host.write(start, bytes(SIZE_4K + 1))
    assert errno(caught) is Errno.EFAULT
    assert host.frames.allocated == 0


def test_write_without_memory_is_enomem(host: HostMemory) -> None:
    start = host.mmap(32 << 20)
    with pytest.raises(KvmError) as caught:
        host.write(start, bytes(32 << 20))
    assert errno(caught) is Errno.ENOMEM


def test_fault_in_without_memory_says_so(host: HostMemory) -> None:
    while host.frames.allocate() is not None:
        pass
    vma = host.vma_lookup(host.mmap(SIZE_4K))
    assert vma is not None
    assert host.faultin_pfn(vma, vma.start, write=True) is FaultinError.NO_MEMORY


def test_area_shows_its_range_and_protection(host: HostMemory) -> None:
    vma = host.vma_lookup(host.mmap(SIZE_4K, prot=HostProt.READ))
    assert vma is not None
    assert "READ" in repr(vma)
    assert f"{vma.start:#x}" in repr(vma)
    assert vma.readable
    assert not vma.writable


def test_a_fork_has_the_pages_that_were_in_swap_space(host: HostMemory) -> None:
    start = host.mmap(2 * SIZE_4K, private=True)
    host.write(start, b"first" + bytes(SIZE_4K) + b"second")
    assert host.swap_out(start, 2 * SIZE_4K) == 2
    fork = host.fork()
    host.write(start, b"other")
    assert fork.read(start, 5) == b"first"
    assert fork.read(start + SIZE_4K, 11) == bytes(5) + b"second"
    fork.close()
