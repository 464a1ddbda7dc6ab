"""The address space against a dictionary: whatever happens to pages, their contents stay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from emu.arch.address import PA
from emu.memory import PhysicalMemory
from hyp.errors import KvmError
from hyp.host import HVA, READ_WRITE, SIZE_2M, SIZE_4K, HostMemory, HostPfn, HostProt

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.host.fork import Fork

PAGES = 6
"""Per area: few, so that rules meet on one page."""


class Watcher:
    """Knows what a guest may have mapped: frames that were looked up and not invalidated."""

    def __init__(self) -> None:
        self.mapped: dict[int, tuple[PA, bool]] = {}
        self.depth = 0

    def invalidate_range_start(self, start: HVA, end: HVA) -> None:
        self.depth += 1
        for hva in [hva for hva in self.mapped if start <= hva < end]:
            del self.mapped[hva]

    def invalidate_range_end(self, start: HVA, end: HVA) -> None:
        del start, end
        self.depth -= 1

    def change_pte(self, hva: HVA, pa: PA) -> None:
        assert self.depth
        del hva, pa

    def clear_young(self, start: HVA, end: HVA) -> bool:
        del start, end
        return False

    def clear_flush_young(self, start: HVA, end: HVA) -> bool:
        return self.clear_young(start, end)

    def test_young(self, hva: HVA) -> bool:
        del hva
        return False


def build(host: HostMemory) -> tuple[HVA, ...]:
    """Return areas of each kind, the pages of which behave alike."""
    file = host.memfd(PAGES * SIZE_4K)
    host.write(host.mmap(PAGES * SIZE_4K, file=file), b"\x11" * PAGES * SIZE_4K)
    thp = host.mmap(SIZE_2M, private=True, thp=True)
    return (
        host.mmap(PAGES * SIZE_4K),
        host.mmap(PAGES * SIZE_4K, private=True),
        host.mmap(PAGES * SIZE_4K, private=True, file=file),
        thp,
        HVA(thp + SIZE_2M - PAGES * SIZE_4K),
    )


INITIAL = (0, 0, 0x11, 0, 0)

pages = st.tuples(st.integers(0, len(INITIAL) - 1), st.integers(0, PAGES - 1))
lengths = st.integers(1, PAGES)


class HostSpace(RuleBasedStateMachine):
    """The first byte of each page, in the model and through the address space."""

    def __init__(self) -> None:
        super().__init__()
        self.host = HostMemory(PhysicalMemory(PA(0x8_0000_0000), 24 << 20))
        self.areas = build(self.host)
        self.watcher = Watcher()
        self.host.notifiers.register(self.watcher)
        self.model: dict[int, int] = {
            self.hva((area, page)): value
            for area, value in enumerate(INITIAL)
            for page in range(PAGES)
        }
        self.initial = dict(self.model)
        self.writable = dict.fromkeys(self.model, True)
        self.forks: list[tuple[Fork, dict[int, int]]] = []

    def hva(self, page: tuple[int, int]) -> HVA:
        return HVA(self.areas[page[0]] + page[1] * SIZE_4K)

    def range(self, page: tuple[int, int], length: int) -> tuple[HVA, int]:
        return self.hva(page), min(length, PAGES - page[1]) * SIZE_4K

    def tried(self, action: Callable[[], object]) -> None:
        """Do what may be refused, for example without a page there; then nothing changes."""
        try:
            action()
        except KvmError:
            assert self.watcher.depth == 0

    @rule(page=pages, value=st.integers(0, 255))
    def the_vmm_writes(self, page: tuple[int, int], value: int) -> None:
        self.host.write(self.hva(page), bytes([value]))
        self.model[self.hva(page)] = value

    @rule(page=pages, value=st.integers(0, 255), write=st.booleans())
    def the_guest_faults(self, page: tuple[int, int], value: int, write: bool) -> None:
        hva = self.hva(page)
        vma = self.host.vma_lookup(hva)
        assert vma is not None
        found = self.host.faultin_pfn(vma, hva, write=write)
        if write and not self.writable[hva]:
            assert not isinstance(found, HostPfn)
            return
        assert isinstance(found, HostPfn)
        assert not write or found.writable
        self.watcher.mapped[hva] = found.pa, found.writable
        if write:
            self.host.memory.write(found.pa, bytes([value]))
            self.model[hva] = value

    @rule(page=pages, value=st.integers(0, 255))
    def the_guest_uses_what_it_has_mapped(self, page: tuple[int, int], value: int) -> None:
        frame, writable = self.watcher.mapped.get(self.hva(page), (None, False))
        if frame is not None and writable:
            self.host.memory.write(frame, bytes([value]))
            self.model[self.hva(page)] = value

    @rule(page=pages, length=lengths)
    def pages_are_written_out(self, page: tuple[int, int], length: int) -> None:
        self.host.swap_out(*self.range(page, length))

    @rule(page=pages)
    def a_page_moves(self, page: tuple[int, int]) -> None:
        self.tried(lambda: self.host.migrate(self.hva(page)))

    @rule(page=pages)
    def small_pages_become_a_huge_one(self, page: tuple[int, int]) -> None:
        self.tried(lambda: self.host.collapse(self.hva(page)))

    @rule(page=pages)
    def a_huge_page_becomes_small_ones(self, page: tuple[int, int]) -> None:
        self.host.split_huge_page(self.hva(page))

    @rule(page=pages, length=lengths)
    def contents_are_discarded(self, page: tuple[int, int], length: int) -> None:
        start, size = self.range(page, length)
        self.host.discard(start, size)
        for hva in range(start, start + size, SIZE_4K):
            self.model[hva] = self.initial[hva]

    @rule(page=pages, length=lengths, writable=st.booleans())
    def protection_changes(self, page: tuple[int, int], length: int, writable: bool) -> None:
        start, size = self.range(page, length)
        self.host.mprotect(start, size, READ_WRITE if writable else HostProt.READ)
        for hva in range(start, start + size, SIZE_4K):
            self.writable[hva] = writable

    @precondition(lambda self: len(self.forks) < 2)
    @rule()
    def the_process_forks(self) -> None:
        self.forks.append((self.host.fork(), dict(self.model)))

    @precondition(lambda self: self.forks)
    @rule()
    def a_copy_is_given_up(self) -> None:
        self.forks.pop(0)[0].close()

    @invariant()
    def the_vmm_reads_what_was_written(self) -> None:
        for hva, value in self.model.items():
            assert self.host.read(HVA(hva), 1)[0] == value

    @invariant()
    def what_a_guest_has_mapped_is_the_page(self) -> None:
        for hva, (frame, _) in self.watcher.mapped.items():
            assert self.host.memory.read(frame, 1)[0] == self.model[hva]

    @invariant()
    def copies_hold_what_was_there(self) -> None:
        for fork, model in self.forks:
            for hva, value in model.items():
                if value != self.initial[hva] and hva >= self.areas[1]:
                    assert fork.read(hva, 1)[0] == value

    def teardown(self) -> None:
        for fork, _ in self.forks:
            fork.close()
        for vma in list(self.host.vmas):
            self.host.munmap(vma.start, vma.end - vma.start)
        assert self.watcher.depth == 0
        assert len(self.host.swap) == 0


TestHostSpace = HostSpace.TestCase
