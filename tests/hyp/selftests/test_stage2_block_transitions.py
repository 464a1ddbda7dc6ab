"""Blocks that become pages and pages that become blocks, as in stage2_block_transitions."""

from __future__ import annotations

from collections import Counter

import pytest

from emu.arch.address import IPA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.identification import CTR_EL0
from hyp.host import SIZE_2M, SIZE_4K
from hyp.pte import Prot, pte_prot
from tests.emu.cpu import a64
from tests.hyp.selftests.guest import (
    BACKINGS,
    DATA,
    DATA_SLOT,
    LOG,
    NO_FLAGS,
    TOUCH,
    Fault,
    SelftestGuest,
    touch,
)

BLOCKS = 16
RET = 0xD65F_03C0
BACKING = BACKINGS["anonymous_hugetlb_2mb"]


def leaf(guest: SelftestGuest, ipa: int) -> tuple[int, Prot]:
    """Return level and permissions of a mapping."""
    found = guest.vm.pgt.get_leaf(IPA(ipa))
    return found.level, pte_prot(found.pte)


@pytest.mark.parametrize("chunk", [0, SIZE_2M], ids=["lazy", "eager"])
@pytest.mark.kvm_row(11, 17)
def test_write_after_logging_joins_the_page_to_a_block(chunk: int) -> None:
    guest = SelftestGuest()
    guest.vm.dirty_log.split.enable(chunk)
    guest.add_slot(DATA_SLOT, DATA, SIZE_2M, LOG, BACKING)
    guest.load(*TOUCH, blocks=[DATA])
    vcpu, flushes = guest.vcpu, guest.vm.stats.tlb_flushes
    touch(guest, vcpu, DATA, 1, write=1)
    assert leaf(guest, DATA) == (3, Prot.R | Prot.W)
    assert guest.dirty(DATA_SLOT) == {0}
    assert leaf(guest, DATA) == (3, Prot.R)
    guest.set_flags(DATA_SLOT, NO_FLAGS)
    guest.faults()
    tables, before = guest.vm.stats.table_pages, sum(flushes.values())
    touch(guest, vcpu, DATA, 1, write=2)
    assert guest.faults() == [Fault("write", "data 0", 0x0F)]
    assert leaf(guest, DATA) == (2, Prot.R | Prot.W)
    assert guest.vm.stats.table_pages == tables - 1
    assert sum(flushes.values()) == before + 1, "the table is broken before the block is made"
    touch(guest, vcpu, DATA, 512)
    assert guest.faults() == [], "the block maps it all"
    assert guest.read_u64(DATA) == 2


def exec_guest(*, dic: bool, chunk: int = 0) -> SelftestGuest:
    """Return a guest that writes RET to each of 16 blocks, calls, and then calls each RET."""
    features = CORTEX_A72.replace(CORTEX_A72.read(CTR_EL0).replace(DIC=int(dic)))
    guest = SelftestGuest(features=features, memory=80 << 20)
    guest.vm.dirty_log.split.enable(chunk)
    guest.add_slot(DATA_SLOT, DATA, BLOCKS * SIZE_2M, NO_FLAGS, BACKING)
    step = 0x8B02_0021  # ADD X1, X1, X2
    guest.load(
        # 0: stage the code, block by block
        a64.str_(5, 1, size=4),
        0xD50B_7B21,  # DC CVAU, X1
        0xD503_3B9F,  # DSB ISH
        0xD50B_7521,  # IC IVAU, X1
        0xD503_3B9F,
        a64.ISB,
        step,
        a64.subs(3, 3, 1),
        a64.cbnz(3, -32),
        a64.str_(31, 19),
        # 10: execute it
        0xD63F_0020,  # BLR X1
        step,
        a64.subs(3, 3, 1),
        a64.cbnz(3, -12),
        a64.str_(31, 19),
        blocks=range(DATA, DATA + BLOCKS * SIZE_2M, SIZE_2M),
    )
    guest.set_x(guest.vcpu, x1=DATA, x2=SIZE_2M, x3=BLOCKS, x5=RET)
    return guest


@pytest.mark.parametrize("chunk", [0, SIZE_2M], ids=["lazy", "eager"])
@pytest.mark.kvm_row(5, 6, 12, 13, 49)
def test_fetches_under_logging_split_sixteen_blocks(chunk: int) -> None:
    guest = exec_guest(dic=False, chunk=chunk)
    guest.sync()
    starts = range(DATA, DATA + BLOCKS * SIZE_2M, SIZE_2M)
    assert {leaf(guest, at) for at in starts} == {(2, Prot.R | Prot.W)}
    tables = guest.vm.stats.table_pages
    guest.set_flags(DATA_SLOT, LOG)
    assert {leaf(guest, at) for at in starts} == {(3 if chunk else 2, Prot.R)}
    guest.faults()
    guest.set_x(guest.vcpu, x1=DATA, x3=BLOCKS)
    guest.sync()
    code = 0x0F if chunk else 0x0E
    assert guest.faults() == [
        Fault("fetch", f"data {block * 512}", code) for block in range(BLOCKS)
    ]
    assert {leaf(guest, at) for at in starts} == {(3, Prot.R | Prot.X)}
    # A lazy split maps the page alone.
    beside = Counter(leaf(guest, at + SIZE_4K)[0] for at in starts)
    assert beside == {3: BLOCKS}
    present = {bool(guest.vm.pgt.get_leaf(IPA(at + SIZE_4K)).pte & 1) for at in starts}
    assert present == {bool(chunk)}
    assert guest.vm.stats.table_pages == tables + BLOCKS
    assert guest.dirty(DATA_SLOT) == set()


@pytest.mark.kvm_row(5)
def test_with_dic_blocks_are_executable_and_fetches_split_nothing() -> None:
    guest = exec_guest(dic=True)
    guest.sync()
    guest.set_flags(DATA_SLOT, LOG)
    assert leaf(guest, DATA) == (2, Prot.R | Prot.X)
    guest.faults()
    guest.set_x(guest.vcpu, x1=DATA, x3=BLOCKS)
    guest.sync()
    assert guest.faults() == []
    assert leaf(guest, DATA) == (2, Prot.R | Prot.X)
