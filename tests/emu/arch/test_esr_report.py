"""The rules of which registers an exception writes."""

import pytest

from emu.arch.address import VA
from emu.arch.esr.build import data_abort, syndrome
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode, FaultType
from emu.arch.esr.report import Report
from emu.arch.registers.exceptions import HPFAR_EL2

PAGE = HPFAR_EL2.build(FIPA=0x4000_1000 >> 12)
ADDRESS = VA(0xFFFF_8000_1234_5678)


def stage_2_abort(code: FaultStatusCode, *, S1PTW: bool = False) -> Report:
    return Report(data_abort(code, same_el=False, S1PTW=S1PTW), ADDRESS, PAGE, taken_to=2)


@pytest.mark.parametrize("code", FaultStatusCode, ids=lambda code: code.name)
def test_hpfar_is_written_for_stage_2_faults_other_than_permission(code: FaultStatusCode) -> None:
    expected = code.fault in {
        FaultType.ADDRESS_SIZE,
        FaultType.TRANSLATION,
        FaultType.ACCESS_FLAG,
        FaultType.GRANULE_PROTECTION,
        FaultType.GRANULE_PROTECTION_ON_WALK,
    }
    assert stage_2_abort(code).hpfar_is_valid is expected


def test_hpfar_is_written_for_a_permission_fault_on_the_stage_1_walk() -> None:
    assert stage_2_abort(FaultStatusCode.PERMISSION_L3, S1PTW=True).hpfar_is_valid


def test_offset_in_the_page_comes_from_far() -> None:
    assert stage_2_abort(FaultStatusCode.TRANSLATION_L3).ipa == 0x4000_1678


def test_offset_of_a_descriptor_is_not_known() -> None:
    report = stage_2_abort(FaultStatusCode.TRANSLATION_L3, S1PTW=True)
    assert (report.ipa_page, report.ipa, report.va) == (0x4000_1000, None, ADDRESS)


def test_stale_hpfar_gives_no_ipa() -> None:
    report = stage_2_abort(FaultStatusCode.PERMISSION_L3)
    assert (report.ipa_page, report.ipa) == (None, None)


@pytest.mark.parametrize("ec", [ExceptionClass.HVC64, ExceptionClass.UNKNOWN])
def test_what_is_no_abort_has_neither_status_nor_stage(ec: ExceptionClass) -> None:
    report = Report(syndrome(ec), None, None, taken_to=2)
    assert (report.abort, report.status, report.stage) == (None, None, None)
    assert not report.stage_is_assumed
