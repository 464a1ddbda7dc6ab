"""Faults of TLB entries."""

from __future__ import annotations

from typing import Any

import pytest

from emu.arch.a64.tlbi import TLBI
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ESR_EL1, ESR_EL2, FAR_EL1, HPFAR_EL2
from emu.arch.registers.identification import ID_AA64ISAR0_EL1
from emu.arch.registers.translation import TTBR0_EL1
from emu.arch.registers.virtualization import VTTBR_EL2
from emu.mmu.tlb import GLOBAL
from hyp.errors import Errno
from hyp.exits import Error, Intr, SystemEvent
from lab.errors import UserError
from lab.faults.models.tlb import (
    TlbConflict,
    TlbDrop,
    TlbOutputFlip,
    TlbOutputSet,
    TlbStale,
    TlbTag,
)
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA
from tests.lab.faults.models.box import NOP, SYSTEM_OFF, Box

WITH_LSE = CORTEX_A72.replace(ID_AA64ISAR0_EL1.build(Atomic=2))
TLBI_VMALLE1 = 0xD508_871F
OTHER = DATA + 0x1000
LOADS = (a64.ldr(7, 1), a64.ldr(8, 1, 0x1000))


def loaded(*program: int, **options: Any) -> Box:  # noqa: ANN401  # of Box
    """Return a VM that has loaded 11 and 22 from two pages."""
    box = Box(*LOADS, *program, **{"stage1": True, **options})
    box.put64(DATA, 11)
    box.put64(OTHER, 22)
    assert isinstance(box.run(2), Intr)
    return box


def entry_name(box: Box, va: int = DATA) -> str:
    vmid = box.pe.read(VTTBR_EL2).VMID
    return f"0 TLB {vmid} {GLOBAL} {va:#x}"


def test_wrong_output_leads_to_other_memory_until_it_is_invalidated() -> None:
    box = loaded(a64.ldr(7, 1), TLBI_VMALLE1, a64.ldr(8, 1), *SYSTEM_OFF)
    found = box.changes(TlbOutputSet(address=DATA, output=box.pa(OTHER)))
    (change,) = found.values()
    assert list(found) == [entry_name(box)]
    assert change[1] == change[0]._replace(page=box.pa(OTHER))
    box.run()
    assert (box.x(7), box.x(8)) == (22, 11)


def test_flipped_output_bit_can_leave_all_memory() -> None:
    box = loaded(a64.ldr(7, 1), *SYSTEM_OFF)
    found = box.changes(TlbOutputFlip(address=DATA, bit=39))
    assert list(found) == [entry_name(box)]
    box.run()
    assert box.vcpu.read(ESR_EL1).ISS & 0x3F == FaultStatusCode.EXTERNAL
    assert int(box.vcpu.read(FAR_EL1)) == DATA


def test_wrong_output_of_a_stage_2_entry_is_where_the_next_walk_goes() -> None:
    box = loaded(0xD508_8721 & ~0x1F | 1, a64.ldr(9, 1), *SYSTEM_OFF)
    fault = TlbOutputSet(address=DATA, kind="stage2", output=box.pa(OTHER))
    (name,) = box.changes(fault)
    assert name == f"0 TLB {box.pe.read(VTTBR_EL2).VMID} {DATA:#x}"
    box.vcpu.write_x(1, DATA >> 12)
    box.run(1)
    box.vcpu.write_x(1, DATA)
    box.run()
    assert box.x(9) == 22


def test_lost_entry_is_walked_for_again() -> None:
    box = loaded(a64.ldr(7, 1), *SYSTEM_OFF)
    assert list(box.changes(TlbDrop(address=DATA))) == [entry_name(box)]
    misses = box.pe.mmu.misses
    box.run(1)
    assert box.pe.mmu.misses == misses + 1
    assert entry_name(box) in box.state()
    stage2 = box.changes(TlbDrop(address=DATA, kind="stage2"))
    assert list(stage2) == [f"0 TLB {box.pe.read(VTTBR_EL2).VMID} {DATA:#x}"]


def test_stale_entry_survives_the_next_invalidation_and_no_other() -> None:
    box = loaded(TLBI_VMALLE1, NOP, TLBI_VMALLE1, a64.ldr(7, 1), *SYSTEM_OFF)
    assert box.changes(TlbStale(address=DATA)) == {}
    box.run(1)
    held = [int(e.va) for e in box.pe.mmu.tlb.combined_entries()]
    assert held == [CODE, DATA]  # the next instruction was fetched
    other = box.machine.memory.read_u64(box.stage1_leaf(OTHER))
    box.machine.memory.write_u64(box.stage1_leaf(DATA), other)  # as the guest could
    box.run(3)
    assert box.x(7) == 22
    assert not box.pe.mmu.tlb.survivors


def test_stale_entry_is_used_though_the_tables_say_otherwise() -> None:
    box = loaded(TLBI_VMALLE1, a64.ldr(7, 1), *SYSTEM_OFF)
    injection = box.inject(TlbStale(address=DATA, times=2))
    box.machine.memory.write_u64(box.stage1_leaf(DATA), 0)
    box.run(2)
    assert box.x(7) == 11
    assert injection.end is not None
    injection.end()
    box.pe.tlbi(TLBI.VMALLE1)
    assert not list(box.pe.mmu.tlb.combined_entries())


def test_invalidation_of_another_page_is_none_that_is_survived() -> None:
    box = loaded(NOP)
    box.inject(TlbStale(address=DATA))
    box.pe.tlbi(TLBI.VAE1, OTHER >> 12)
    assert len(box.pe.mmu.tlb.survivors) == 1
    box.inject(TlbDrop(address=DATA))
    box.pe.tlbi(TLBI.VMALLE1)
    assert box.pe.mmu.tlb.survivors, "there was no entry that could have survived"


def test_stage_2_entry_can_be_stale() -> None:
    box = loaded(NOP)
    box.inject(TlbStale(address=DATA, kind="stage2"))
    box.pe.tlbi(TLBI.VMALLS12E1)
    assert [int(e.ipa) for e in box.pe.mmu.tlb.stage2_only_entries()] == [DATA]


def test_wrong_tag_gives_the_entry_to_another_asid() -> None:
    box = loaded(a64.ldr(7, 1), a64.msr(TTBR0_EL1, 5), a64.ldr(8, 1), *SYSTEM_OFF)
    found = box.changes(TlbTag(address=DATA, asid=7))
    assert set(found) == {entry_name(box), entry_name(box).replace(str(GLOBAL), "7")}
    misses = box.pe.mmu.misses
    box.run(1)
    assert box.pe.mmu.misses == misses + 1
    assert box.x(7) == 11


def test_wrong_vmid_gives_it_to_another_vm() -> None:
    box = loaded(NOP)
    vmid = box.pe.read(VTTBR_EL2).VMID
    for kind, name in (("combined", entry_name(box)), ("stage2", f"0 TLB {vmid} {DATA:#x}")):
        found = box.changes(TlbTag(address=DATA, vmid=vmid + 1, kind=kind))
        assert set(found) == {name, name.replace(f"TLB {vmid}", f"TLB {vmid + 1}")}


@pytest.mark.parametrize("load", [a64.ldr(7, 1), a64.br(1)])
def test_conflict_of_stage_1_is_taken_by_the_guest_until_it_invalidates(load: int) -> None:
    box = loaded(load, *SYSTEM_OFF)
    (name,) = box.changes(TlbConflict(address=DATA))
    assert name == entry_name(box)
    box.run()
    esr = box.vcpu.read(ESR_EL1)
    fetch = load == a64.br(1)
    assert esr.EC is (ExceptionClass.IABT_CUR if fetch else ExceptionClass.DABT_CUR)
    assert esr.ISS == FaultStatusCode.TLB_CONFLICT
    assert int(box.vcpu.read(FAR_EL1)) == DATA
    box.pe.tlbi(TLBI.VMALLE1)
    assert not any(e.entry.defect for e in box.pe.mmu.tlb.combined_entries())


def test_conflict_of_an_atomic_access_is_its_reads() -> None:
    ldadd = 0xF821_0043
    box = loaded(ldadd, *SYSTEM_OFF, features=WITH_LSE, x2=DATA)
    box.inject(TlbConflict(address=DATA))
    box.run()
    assert box.vcpu.read(ESR_EL1).ISS == FaultStatusCode.TLB_CONFLICT, "WnR is 0"


def test_conflict_of_stage_2_is_more_than_kvm_handles() -> None:
    box = loaded(a64.ldr(7, 1), *SYSTEM_OFF)
    hpfar = box.pe.read(HPFAR_EL2)
    box.inject(TlbConflict(address=DATA, stage=2))
    exit_ = box.run()
    assert isinstance(exit_, Error)
    assert exit_.errno is Errno.EFAULT
    esr = box.pe.read(ESR_EL2)
    assert esr.EC is ExceptionClass.DABT_LOW
    assert esr.ISS & 0x3F == FaultStatusCode.TLB_CONFLICT
    assert box.pe.read(HPFAR_EL2) == hpfar, "the architecture does not define it"


def test_conflict_is_met_by_cache_maintenance_too() -> None:
    box = loaded(0xD50B_7A21, *SYSTEM_OFF)  # DC CVAC, X1
    box.inject(TlbConflict(address=DATA))
    box.run()
    esr = box.vcpu.read(ESR_EL1)
    assert esr.ISS == 0x140 | FaultStatusCode.TLB_CONFLICT  # CM, WnR


def test_entries_that_are_not_there_have_no_faults() -> None:
    box = Box(NOP)
    assert "no TLB is its own" in box.inject(TlbDrop(address=DATA)).detail
    box.run(1)
    assert box.refusal(TlbDrop(address=DATA)) == "the TLB has no entry for VA 0x40100000"
    for fault in (
        TlbOutputFlip(address=DATA, bit=12),
        TlbStale(address=DATA, kind="stage2"),
        TlbTag(address=DATA, asid=1),
        TlbConflict(address=DATA),
        TlbOutputSet(address=DATA, output=0),
    ):
        assert "the TLB has no entry for" in box.refusal(fault)
    vmid = box.pe.read(VTTBR_EL2).VMID
    assert "has these tags already" in box.refusal(TlbTag(address=CODE, vmid=vmid))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: TlbTag(address=0), "TlbTag: vmid or asid is to be given; neither is"),
        (
            lambda: TlbTag(address=0, kind="stage2", asid=1),
            "TlbTag: asid is left out for entries of stage 2, which have none, not 1",
        ),
        (
            lambda: TlbConflict(address=0, kind="stage2"),
            "TlbConflict: kind is combined, not 'stage2'",
        ),
        (
            lambda: TlbOutputFlip(address=0, bit=47, width=2),
            "TlbOutputFlip: bit is 12 to 46, not 0x2f",
        ),
        (
            lambda: TlbOutputSet(address=0, output=1),
            "TlbOutputSet: output is a multiple of 0x1000, not 1",
        ),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(make: Any, text: str) -> None:  # noqa: ANN401
    with pytest.raises(UserError) as refused:
        make()
    assert str(refused.value) == text


def test_guest_goes_on_where_nothing_is_wrong() -> None:
    box = loaded(*SYSTEM_OFF)
    assert isinstance(box.run(), SystemEvent)
