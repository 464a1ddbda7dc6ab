"""Building syndromes."""

import pytest

from emu.arch.esr.build import (
    data_abort,
    fp_access_trap,
    instruction_abort,
    syndrome,
    system_register_trap,
    wait_trap,
)
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode as Code
from emu.arch.esr.iss import IssDataAbort, TrappedWait
from emu.arch.fields import Encoding
from emu.arch.registers.identification import CTR_EL0


def test_described_store_from_a_lower_level() -> None:
    described = IssDataAbort.build(ISV=1, SAS=2, SRT=3)
    esr = data_abort(Code.TRANSLATION_L3, same_el=False, write=True, instruction=described)
    assert esr == 0x9383_0047


def test_data_abort_without_change_of_level() -> None:
    assert data_abort(Code.PERMISSION_L3, same_el=True, write=True) == 0x9600_004F


def test_cache_maintenance_always_reports_a_write() -> None:
    assert data_abort(Code.TRANSLATION_L2, same_el=False, CM=True) == 0x9200_0146


def test_data_abort_on_a_stage_1_walk() -> None:
    assert data_abort(Code.TRANSLATION_L1, same_el=False, S1PTW=True) == 0x9200_0085


def test_external_data_abort_without_an_address() -> None:
    assert data_abort(Code.EXTERNAL, same_el=True, FnV=True, EA=True) == 0x9600_0610


def test_instruction_syndrome_elsewhere_than_in_its_bits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ISS\[24:14\], not 0x40"):
        data_abort(Code.TRANSLATION_L3, same_el=False, instruction=0x40)


@pytest.mark.parametrize(("same_el", "esr"), [(False, 0x8200_0006), (True, 0x8600_0006)])
def test_instruction_abort(same_el: bool, esr: int) -> None:
    assert instruction_abort(Code.TRANSLATION_L2, same_el=same_el) == esr


def test_instruction_abort_flags() -> None:
    esr = instruction_abort(Code.EXTERNAL, same_el=False, S1PTW=True, FnV=True, EA=True)
    assert esr == 0x8200_0690


@pytest.mark.parametrize(("read", "esr"), [(True, 0x6232_C061), (False, 0x6232_C060)])
def test_system_register_trap(read: bool, esr: int) -> None:
    assert system_register_trap(CTR_EL0.encoding, rt=3, read=read) == esr


def test_system_instruction_trap() -> None:
    dc_civac = Encoding(1, 3, 7, 14, 1)
    assert system_register_trap(dc_civac, rt=1, read=False) == 0x6212_DC3C


@pytest.mark.parametrize(
    ("wait", "rn", "esr"),
    [
        (TrappedWait.WFI, None, 0x07E0_0000),
        (TrappedWait.WFE, None, 0x07E0_0001),
        (TrappedWait.WFIT, 4, 0x07E0_0086),
        (TrappedWait.WFET, 30, 0x07E0_03C7),
    ],
)
def test_wait_trap(wait: TrappedWait, rn: int | None, esr: int) -> None:
    assert wait_trap(wait, rn) == esr


def test_floating_point_trap() -> None:
    assert fp_access_trap() == 0x1FE0_0000


def test_syndrome_of_any_class() -> None:
    assert syndrome(ExceptionClass.HVC64, 0x4B) == 0x5A00_004B
    assert syndrome(ExceptionClass.DABT_LOW, 0x0F, 0x20) == 0x20_9200_000F


def test_syndrome_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="ISS is 25 bits wide"):
        syndrome(ExceptionClass.BRK64, 1 << 25)
