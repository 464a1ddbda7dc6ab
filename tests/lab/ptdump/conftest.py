"""VMs whose tables are made by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.address import IPA, PA
from emu.machine import Machine
from hyp.errors import Errno
from hyp.memcache import MemoryCache
from hyp.pte import Prot
from hyp.vm import VM
from lab.ptdump import read_dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.ptdump import Dump

R, RW, RX, RWX = Prot.R, Prot.R | Prot.W, Prot.R | Prot.X, Prot.R | Prot.W | Prot.X


class Tables:
    """A VM, and short ways to change its tables."""

    def __init__(self, ipa_bits: int = 40) -> None:
        self.vm = VM(Machine(16 << 20), ipa_bits)
        self.cache = MemoryCache(self.vm.host.frames)

    def map(self, ipa: int, size: int, pa: int, prot: Prot) -> None:
        self.cache.topup(self.vm.geometry.cache_min_pages)
        assert self.vm.pgt.map(IPA(ipa), size, PA(pa), prot, self.cache) is Errno.OK

    def store(self, ipa: int, level: int, pte: int) -> None:
        """Store any word as the entry of a table that exists."""
        ptep, _, found = self.vm.pgt._descend(
            IPA(ipa)
        )  # where entries lie is nobody else's business
        assert found == level, f"the entry for {ipa:#x} has level {found}"
        self.vm.pgt.descriptors.store(ptep, pte)


@pytest.fixture
def tables() -> Tables:
    """Return a VM of 40 bits that maps nothing."""
    return Tables()


@pytest.fixture
def make_tables() -> Callable[[int], Tables]:
    """Make VMs with other sizes of the address space."""
    return Tables


@pytest.fixture
def mixed(tables: Tables) -> Tables:
    """Return a VM with an entry of every sort."""
    return fill(tables)


@pytest.fixture(scope="session")
def mixed_dump() -> Dump:
    """Return the dump of such a VM."""
    return read_dump(fill(Tables()).vm, guest="by hand", end="power_off", instructions=1234)


def fill(tables: Tables) -> Tables:
    """Make an entry of every sort."""
    tables.map(0x4000_0000, 0x2000, 0x9_0000_0000, RWX)
    tables.map(0x4000_2000, 0x1000, 0x9_0000_2000, R)
    tables.map(0x4000_3000, 0x1000, 0x9_1000_0000, RX)
    tables.map(0x4000_4000, 0x1000, 0x9_2000_0000, RW | Prot.DEVICE)
    tables.map(0x4020_0000, 0x40_0000, 0x9_0020_0000, RW)
    tables.map(0x8000_0000, 0x4000_0000, 0xA_0000_0000, R)
    # Another PE's break is under way; an annotation whose bits look like permissions.
    tables.store(0x4000_5000, 3, 1 << 60)
    tables.store(0x4000_6000, 3, 3 << 60 | 0xC0)
    # No access flag; execution for EL1 alone; a reserved form.
    leaf = tables.vm.pgt.attr(RW) or 0
    tables.store(0x4000_7000, 3, (leaf | 3 | 0x9_0000_7000) & ~(1 << 10))
    tables.store(0x4000_8000, 3, leaf | 3 | 0x9_0000_8000 | 3 << 53)
    tables.store(0x4000_9000, 3, leaf | 1 | 0x9_0000_9000)
    return tables
