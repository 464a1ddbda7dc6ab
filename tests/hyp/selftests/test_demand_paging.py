"""Pages that user space supplies when vCPUs miss them, as in the kernel's demand_paging_test."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from hyp.exits import Intr, IntrCause
from hyp.host import HVA, SIZE_4K, UserfaultMode
from tests.hyp.selftests.guest import (
    BACKINGS,
    DATA,
    DATA_SLOT,
    TOUCH,
    Fault,
    SelftestGuest,
    start_touch,
    synced,
)

if TYPE_CHECKING:
    from hyp.host.userfault import UserfaultMessage

UNITS = 6
"""Pages of the backing's size; two vCPUs share them."""


class Mode(NamedTuple):
    """How pages come."""

    backing: str
    minor: bool = False
    later: bool = False
    """Whether the handler leaves the page to user space, which supplies it between runs."""


class Paging:
    """A guest whose memory is missing, and what supplies it."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        backing = BACKINGS[mode.backing]
        self.unit = unit = backing.page_size
        self.guest = guest = SelftestGuest(vcpus=2, memory=64 << 20)
        host, size = guest.vm.host, UNITS * unit
        hva = None
        if mode.minor:
            file = host.memfd(size, unit)
            alias = host.mmap(size, file=file)
            for number in range(UNITS):
                host.write(HVA(alias + number * unit), self.contents(number))
            hva = host.mmap(size, file=file)
        self.hva = guest.add_slot(DATA_SLOT, DATA, size, backing=backing, hva=hva)
        pages = [*range(DATA, DATA + size, unit)]
        guest.load(*TOUCH, pages=pages)
        self.messages: list[UserfaultMessage] = []
        self.missing: list[HVA] = []
        wanted = UserfaultMode.MINOR if mode.minor else UserfaultMode.MISSING
        host.userfault_register(self.hva, size, self.handle, wanted)

    def contents(self, number: int) -> bytes:
        """Return what belongs into a page."""
        return (0x5A00 + number).to_bytes(8, "little") * (self.unit // 8)

    def handle(self, message: UserfaultMessage) -> None:
        """Note what is missed, and supply it unless it is to come later."""
        self.messages.append(message)
        self.missing.append(message.address)
        if not self.mode.later:
            self.supply()

    def supply(self) -> None:
        """Serve the oldest request (UFFDIO_CONTINUE or UFFDIO_COPY)."""
        address = self.missing.pop(0)
        if self.mode.minor:
            self.guest.vm.host.userfault_continue(address)
        else:
            number = (address - self.hva) // self.unit
            self.guest.vm.host.userfault_copy(address, self.contents(number))

    def start(self, index: int, first: int, count: int, *, write: bool) -> None:
        """Have a vCPU begin to touch pages when it runs."""
        at = DATA + first * self.unit
        value = 0xD1 if write else None
        start_touch(self.guest, self.guest.vcpus[index], at, count, self.unit, write=value)

    def sent(self) -> list[tuple[int, bool, bool]]:
        """Return the messages so far, by page."""
        sent = [((m.address - self.hva) // self.unit, m.write, m.minor) for m in self.messages]
        self.messages.clear()
        return sent

    def data_faults(self) -> list[Fault]:
        """Return the stage-2 faults on the data so far."""
        return [fault for fault in self.guest.faults() if fault.where.startswith("data")]

    def check(self, *, write: bool) -> None:
        """Check what each page holds: what was supplied, but for the first word if written."""
        for number in range(UNITS):
            held = self.guest.vm.host.read(HVA(self.hva + number * self.unit), self.unit)
            written = (0xD1).to_bytes(8, "little") if write else self.contents(number)[:8]
            assert held == written + self.contents(number)[8:]

    def finish(self, index: int) -> int:
        """Run a vCPU until it has touched all; return how often it had to wait."""
        waits = 0
        while isinstance(exit_ := self.guest.vcpus[index].run(100_000), Intr):
            assert exit_ == Intr(IntrCause.USERFAULT)
            waits += 1
            self.supply()
        synced(exit_)
        return waits


_MISSING = ("anonymous", "shmem", "anonymous_hugetlb_2mb", "shared_hugetlb_2mb")
_SHARED = ("shmem", "shared_hugetlb_2mb")
MODES = [
    *(Mode(backing, later=later) for backing in _MISSING for later in (False, True)),
    *(Mode(backing, minor=True, later=later) for backing in _SHARED for later in (False, True)),
]


def name(mode: Mode) -> str:
    return f"{mode.backing} {'minor' if mode.minor else 'missing'}{' later' * mode.later}"


@pytest.mark.parametrize("write", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("mode", MODES, ids=[name(mode) for mode in MODES])
@pytest.mark.kvm_row(2, 45)
def test_each_page_is_asked_for_once(mode: Mode, *, write: bool) -> None:
    paging = Paging(mode)
    half = UNITS // 2
    waits = []
    for index in (0, 1):
        paging.start(index, half * index, half, write=write)
        waits.append(paging.finish(index))
    assert waits == [half * mode.later] * 2
    assert paging.sent() == [(number, write, mode.minor) for number in range(UNITS)]
    faults = paging.data_faults()
    # A page that comes later is faulted on twice: to ask for it, and to map it.
    per_page = 1 + mode.later
    pages = [f"data {number * paging.unit // SIZE_4K}" for number in range(UNITS)]
    assert [fault.where for fault in faults] == [page for page in pages for _ in range(per_page)]
    assert {fault.kind for fault in faults} == {"write" if write else "read"}
    paging.check(write=write)
    for index in (0, 1):
        paging.start(index, half * (1 - index), half, write=write)
        assert paging.finish(index) == 0
    assert (paging.sent(), paging.data_faults()) == ([], [])


@pytest.mark.parametrize("mode", [Mode("anonymous", later=True), Mode("shmem", True, True)])
@pytest.mark.kvm_row(45)
def test_one_vcpu_waits_while_the_other_goes_on(mode: Mode) -> None:
    paging = Paging(mode)
    first, second = paging.guest.vcpus
    paging.start(0, 0, UNITS, write=False)
    assert first.run(100_000) == Intr(IntrCause.USERFAULT)
    paging.start(1, 0, UNITS, write=False)
    assert second.run(100_000) == Intr(IntrCause.USERFAULT), "the same page, asked for again"
    assert paging.sent() == [(0, False, mode.minor)] * 2
    paging.missing.pop()
    paging.supply()
    assert paging.finish(1) == UNITS - 1
    assert paging.finish(0) == 0, "the other vCPU has brought in all"
    assert len(paging.sent()) == UNITS - 1


@pytest.mark.kvm_row(45)
def test_page_that_is_given_up_is_asked_for_again() -> None:
    paging = Paging(Mode("anonymous"))
    paging.start(0, 0, UNITS, write=True)
    paging.finish(0)
    paging.sent()
    paging.guest.vm.host.discard(HVA(paging.hva + 2 * SIZE_4K), 2 * SIZE_4K)
    paging.data_faults()
    paging.start(0, 0, UNITS, write=False)
    paging.finish(0)
    assert paging.sent() == [(2, False, False), (3, False, False)]
    assert paging.data_faults() == [Fault("read", "data 2", 7), Fault("read", "data 3", 7)]


@pytest.mark.kvm_row(45)
def test_registration_for_missing_pages_leaves_those_that_the_file_has_alone() -> None:
    paging = Paging(Mode("shmem", minor=True))
    host, size = paging.guest.vm.host, UNITS * SIZE_4K
    host.userfault_unregister(paging.hva, size)
    host.userfault_register(paging.hva, size, paging.handle, UserfaultMode.MISSING)
    paging.start(0, 0, UNITS, write=False)
    assert paging.finish(0) == 0
    assert paging.sent() == []
    paging.check(write=False)


@pytest.mark.parametrize("backing", ["anonymous", "shmem", "anonymous_hugetlb_2mb"])
@pytest.mark.kvm_row(2)
def test_without_userfault_a_page_costs_one_fault(backing: str) -> None:
    paging = Paging(Mode(backing))
    paging.guest.vm.host.userfault_unregister(paging.hva, UNITS * paging.unit)
    paging.start(0, 0, UNITS, write=True)
    assert paging.finish(0) == 0
    assert paging.sent() == []
    assert len(paging.data_faults()) == UNITS
