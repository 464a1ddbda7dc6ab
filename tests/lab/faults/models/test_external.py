"""Memory that fails, and system errors."""

from __future__ import annotations

from typing import Any

import pytest

from emu.arch.address import PA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ELR_EL1, ESR_EL1, ESR_EL2, FAR_EL1
from emu.arch.registers.identification import ID_AA64PFR0_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.memory import EL2AbortError
from hyp.exits import InternalError, Intr, SystemEvent
from hyp.stats import Resolution
from lab.errors import UserError
from lab.faults.models.external import FailedMemory, PhysicalSError, VirtualSError
from lab.faults.models.system_registers import SystemRegisterSet
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA, TABLES, VECTORS
from tests.lab.faults.models.box import NOP, SYSTEM_OFF, Box

WITH_RAS = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64PFR0_EL1).replace(RAS=1))
FSC = 0x3F
MSR_DAIFCLR_A = 0xD503_44FF
DC_ZVA_X5 = 0xD50B_7425


def touched(*program: int, **options: Any) -> Box:  # noqa: ANN401  # of Box
    """Return a VM that has loaded from its data."""
    box = Box(a64.ldr(7, 1), *program, *SYSTEM_OFF, **options)
    box.put64(DATA, 11)
    assert isinstance(box.run(1), Intr)
    return box


def fail(address: int, **options: Any) -> FailedMemory:  # noqa: ANN401  # of FailedMemory
    return FailedMemory(space="ipa", address=address, **options)


def test_failing_changes_nothing_until_it_is_met() -> None:
    box = touched()
    assert box.changes(fail(DATA)) == {}
    assert isinstance(box.run(), SystemEvent)


@pytest.mark.parametrize(
    ("kind", "status"),
    [("external", FaultStatusCode.EXTERNAL), ("parity", FaultStatusCode.PARITY)],
)
@pytest.mark.parametrize("stage1", [False, True])
@pytest.mark.parametrize(
    ("access", "wnr"),
    [(a64.ldr(8, 1, 16), 0), (a64.str_(8, 1, 16), 1), (a64.ldur(8, 1, 9), 0)],
)
def test_access_to_failed_bytes_aborts_with_its_own_code(
    kind: str, status: FaultStatusCode, stage1: bool, access: int, wnr: int
) -> None:
    unaligned = access == a64.ldur(8, 1, 9)
    box = touched(access, stage1=stage1 or unaligned)  # without stage 1, memory is a device's
    box.inject(fail(DATA + 16, size=1, kind=kind))
    before = box.read64(DATA + 16)
    assert isinstance(box.run(), SystemEvent)
    esr = box.vcpu.read(ESR_EL1)
    assert esr.EC is ExceptionClass.DABT_CUR
    assert status | wnr << 6 == esr.ISS
    assert int(box.vcpu.read(FAR_EL1)) == DATA + (9 if unaligned else 16)
    assert int(box.vcpu.read(ELR_EL1)) == CODE + 4
    assert box.read64(DATA + 16) == before
    assert box.x(8) == 0x8000


def test_other_bytes_of_the_page_still_work_and_time_is_the_same() -> None:
    program = (a64.ldr(8, 1, 8), a64.str_(2, 1, 24), a64.ldr(9, 1, 24), a64.ldp(10, 11, 1, 24))
    boxes = [touched(*program), touched(*program)]
    boxes[1].inject(fail(DATA + 16))
    for box in boxes:
        assert isinstance(box.run(), SystemEvent)
        assert (box.x(9), box.x(10)) == (0x2000, 0x2000)
    assert boxes[0].pe.retired == boxes[1].pe.retired


def test_pair_that_reaches_into_failed_bytes_aborts() -> None:
    box = touched(a64.ldp(10, 11, 1, 8))
    box.inject(fail(DATA + 23, size=1))
    box.run()
    assert box.vcpu.read(ESR_EL1).ISS & FSC == FaultStatusCode.EXTERNAL


@pytest.mark.parametrize("offset", [0xFFF, 0x1000])
def test_access_that_crosses_into_another_page_names_the_byte(offset: int) -> None:
    box = touched(a64.ldr(12, 1, 0x1000), a64.ldur(8, 5, 0), x5=DATA + 0xFFC, stage1=True)
    box.run(1)
    box.inject(fail(DATA + offset, size=1))
    box.run()
    assert box.vcpu.read(ESR_EL1).ISS & FSC == FaultStatusCode.EXTERNAL
    assert int(box.vcpu.read(FAR_EL1)) == (DATA + 0xFFC if offset == 0xFFF else DATA + 0x1000)


def test_zeroing_a_block_that_holds_failed_bytes_aborts() -> None:
    box = touched(DC_ZVA_X5, x5=DATA + 64, stage1=True)
    box.inject(fail(DATA + 100, size=1))
    box.run()
    assert box.vcpu.read(ESR_EL1).ISS == FaultStatusCode.EXTERNAL | 1 << 6
    aside = touched(DC_ZVA_X5, x5=DATA + 64, stage1=True)
    aside.inject(fail(DATA + 128, size=1))
    aside.run()
    assert int(aside.vcpu.read(ESR_EL1)) == 0


def test_exclusive_pair_beside_failed_bytes_succeeds() -> None:
    box = touched(a64.ldxr(8, 1), a64.stxr(9, 2, 1))
    box.inject(fail(DATA + 16))
    box.run()
    assert box.x(9) == 0
    assert box.read64(DATA) == 0x2000


def test_fetch_of_failed_bytes_aborts_and_what_is_before_them_runs() -> None:
    box = touched(a64.movz(8, 1), a64.movz(9, 2), NOP)
    box.inject(fail(CODE + 12, size=4, kind="parity"))
    box.run()
    esr = box.vcpu.read(ESR_EL1)
    assert esr.EC is ExceptionClass.IABT_CUR
    assert esr.ISS == FaultStatusCode.PARITY
    assert int(box.vcpu.read(FAR_EL1)) == int(box.vcpu.read(ELR_EL1)) == CODE + 12
    assert (box.x(8), box.x(9)) == (1, 2)


def test_repaired_memory_is_as_before() -> None:
    box = touched(a64.ldr(8, 1))
    injection = box.inject(fail(DATA))
    other = box.inject(fail(DATA + 8))
    for done in (injection, other):
        assert done.end is not None
        done.end()
        done.end()
    assert not box.machine.memory.failed
    box.run()
    assert box.x(8) == 11


@pytest.mark.parametrize("kind", ["external", "parity"])
@pytest.mark.parametrize("level", [1, 2, 3])
def test_walk_of_stage_1_that_meets_failed_bytes_names_its_level(kind: str, level: int) -> None:
    box = touched(a64.ldr(8, 1, 0x1000), stage1=True)
    shift = 12 + 9 * (3 - level)
    descriptor = TABLES + 0x1000 * (level - 1) + 8 * ((DATA + 0x1000) >> shift & 511)
    box.inject(fail(descriptor, kind=kind, on="walks"))
    exit_ = box.run(40)
    assert isinstance(exit_, Intr | SystemEvent | InternalError)
    esr = box.vcpu.read(ESR_EL1)
    code = 0x14 if kind == "external" else 0x1C
    assert code + level == esr.ISS & FSC
    assert not esr.ISS >> 7 & 1  # S1PTW: stage 2 has nothing to do with it


def test_walk_of_stage_2_that_meets_failed_bytes_is_the_hypervisors() -> None:
    box = touched(a64.ldr(8, 1, 0x1000), stage1=True)
    pgd = box.vm.pgt.pgd
    assert pgd is not None
    leaf = PA(_leaf(box, DATA + 0x1000))
    box.inject(FailedMemory(space="pa", address=leaf, on="walks"))
    exit_ = box.run()
    assert isinstance(exit_, InternalError)  # an SError is pending, which is masked
    esr = box.pe.read(ESR_EL2)
    assert esr.EC is ExceptionClass.DABT_LOW
    assert esr.ISS & FSC == FaultStatusCode.EXTERNAL_ON_WALK_L3
    assert not esr.ISS >> 7 & 1
    assert box.vcpu.read(HCR_EL2).VSE


def test_stage_2_walk_for_a_stage_1_table_says_that_it_was_one() -> None:
    box = Box(a64.ldr(7, 1), *SYSTEM_OFF, stage1=True)
    box.run(1)
    leaf = _leaf(box, TABLES + 0x2000)
    box.pe.mmu.tlb.contexts.clear()
    box.pe.controls_changed()
    box.pe.mmu.tlb.stage2_entries(box.pe.mmu.regime.vmid).clear()
    box.inject(FailedMemory(space="pa", address=leaf, kind="parity", on="walks"))
    assert isinstance(box.run(), InternalError)
    esr = box.pe.read(ESR_EL2)
    assert esr.ISS & FSC == FaultStatusCode.PARITY_ON_WALK_L3
    assert esr.ISS >> 7 & 1


def _leaf(box: Box, ipa: int) -> int:
    return box.vm.pgt._descend(ipa)[0]  # type: ignore[arg-type]  # an IPA here


def test_walks_that_are_meant_do_not_concern_accesses_and_the_reverse() -> None:
    box = touched(a64.ldr(8, 1))
    box.inject(fail(DATA, on="walks"))
    box.run()
    assert box.x(8) == 11
    box = touched(a64.ldr(8, 1, 0x1000), stage1=True)
    box.inject(fail(TABLES + 0x2000, size=4096, on="accesses"))
    assert isinstance(box.run(), SystemEvent)
    assert int(box.vcpu.read(ESR_EL1)) == 0


def test_hypervisor_that_loads_a_failed_descriptor_cannot_go_on() -> None:
    box = touched(a64.ldr(8, 1, 0x1000))
    box.inject(FailedMemory(space="pa", address=_leaf(box, DATA + 0x1000), on="all"))
    with pytest.raises(EL2AbortError, match="EL2 takes a synchronous external abort at PA 0x8"):
        box.vm.pgt.get_leaf(DATA + 0x1000)  # type: ignore[arg-type]  # an IPA here


@pytest.mark.parametrize("kind", ["external", "parity"])
def test_abort_that_el2_asks_for_ends_in_an_serror_of_the_guest(kind: str) -> None:
    box = touched(MSR_DAIFCLR_A, a64.ldr(8, 1), features=WITH_RAS)
    box.inject(SystemRegisterSet(register="HCR_EL2", field="TEA", value=1))
    box.inject(fail(DATA, kind=kind))
    box.run()
    taken = [fsc for (_, fsc, how) in box.vm.stats.aborts if how is Resolution.SEA]
    assert taken == [0x10 if kind == "external" else 0x18]
    assert box.vcpu.read(ESR_EL1).EC is ExceptionClass.SERROR


def test_virtual_serror_is_taken_once_it_is_not_masked() -> None:
    box = touched(NOP, MSR_DAIFCLR_A, NOP)
    found = box.changes(VirtualSError())
    assert set(found) == {"HCR_EL2"}
    assert found["HCR_EL2"][0] ^ found["HCR_EL2"][1] == HCR_EL2.VSE.in_place
    assert "has a virtual SError pending already" in box.refusal(VirtualSError())
    box.run(3)
    assert box.vcpu.read(ESR_EL1).EC is ExceptionClass.SERROR
    assert int(box.vcpu.pc) - VECTORS in (0x380, 0x384)
    assert not box.vcpu.read(HCR_EL2).VSE


def test_syndrome_of_a_virtual_serror_is_told_with_ras() -> None:
    box = touched(MSR_DAIFCLR_A, NOP, features=WITH_RAS)
    box.inject(VirtualSError(iss=0x123))
    box.run()
    assert box.vcpu.read(ESR_EL1).ISS == 0x123


@pytest.mark.parametrize(
    ("features", "iss", "told"),
    [
        (CORTEX_A72, 0, True),
        (WITH_RAS, 0b110 << 10 | 0x11, False),
        (WITH_RAS, 0b010 << 10 | 0x11, False),
        (WITH_RAS, 0b011 << 10 | 0x11, True),
        (WITH_RAS, 1 << 24 | 0b110 << 10 | 0x11, True),
    ],
)
def test_physical_serror_is_passed_on_unless_nothing_was_lost(
    features: Any,  # noqa: ANN401  # CpuFeatures
    iss: int,
    told: bool,
) -> None:
    box = touched(NOP, features=features)
    found = box.changes(PhysicalSError(iss=iss))
    assert set(found) == ({"ESR_EL2", "HCR_EL2"} if told else {"ESR_EL2"})
    assert box.pe.read(ESR_EL2).EC is ExceptionClass.SERROR
    assert "no PE has vCPU 0 loaded" in Box(NOP).inject(PhysicalSError()).detail


def test_impossible_ranges_are_refused() -> None:
    assert Box(NOP).refusal(fail(0x1000)) == "no page is behind IPA 0x1000 yet"
    with pytest.raises(UserError, match="FailedMemory: size is 1 to 4 there, not 8"):
        fail(DATA + 0xFFC)
