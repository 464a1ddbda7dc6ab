"""What is found wrong with ESR values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.esr.build import data_abort, instruction_abort
from emu.arch.esr.explain import explain
from emu.arch.esr.fsc import EXTERNAL_ABORTS, FaultStatusCode
from emu.arch.esr.iss import IssDataAbort


@pytest.mark.parametrize(
    ("esr", "warning"),
    [
        (0xFE00_0000, "EC 0x3f is reserved"),
        (0x9200_003F, "DFSC 0x3f is reserved"),
        (0x8200_0022, None),
        (0x8200_0020, "IFSC 0x20 is reserved"),
        (1 << 63 | 0x5A00_0000, "bits that are RES0 for this class are set: [63]"),
        (0x5A01_0000, "bits that are RES0 for this class are set: [16]"),
        (1 << 33 | 0x5A00_0000, "bits that are RES0 for this class are set: [33]"),
        (0x8A00_0005, "bits that are RES0 for this class are set: [2], [0]"),
        (0x92C0_0007, "bits that are RES0 for this class when ISV is 0 are set: [23:22]"),
        (0x921F_4007, "bits that are RES0 for this class when ISV is 0 are set: [20:16], [14]"),
        (0x9203_4010, None),  # WU and PFV of an external abort
        (0x8000_0007, "IL is 1 for this exception whatever the instruction's length, yet it is 0"),
        (0x9000_0007, "IL is 1 for this exception whatever the instruction's length, yet it is 0"),
        (0x9183_0047, None),  # a 16-bit instruction of AArch32
        (0x7A00_0000, "EC 0x1e (GPC) is not reported in ESR_EL2"),
        (0x93C0_8087, "ISV is 0 for a fault on a stage 1 walk, yet both ISV and S1PTW are 1"),
        (0x93C0_8147, "ISV is 0 for cache maintenance, yet both ISV and CM are 1"),
        (0x93C0_8010, "with FEAT_RAS, ISV is 0 for an external abort, yet it is 1"),
        (0x9200_0107, "WnR is 1 for cache maintenance, yet CM is 1 and WnR is 0"),
        (0x93A3_8047, "only loads sign-extend, yet SSE and WnR are 1"),
        (0x93E3_8007, "a doubleword cannot be sign-extended, yet SSE is 1"),
        (0x93A3_0007, "a word in a 32-bit register is not sign-extended, yet SSE is 1"),
        (0x93C3_0007, "a doubleword needs a 64-bit register, yet SF is 0"),
        (0x8200_0021, "an instruction abort has no alignment fault"),
        (0x9200_0407, "FnV is RES0 unless the status code is 0x10, yet it is 1"),
        (0x9200_0414, "FnV is RES0 unless the status code is 0x10, yet it is 1"),
        (0x9200_0207, "EA is 0 for anything but an external abort, yet it is 1"),
        (0x9200_0216, None),
    ],
)
def test_warning(esr: int, warning: str | None) -> None:
    warnings = explain(esr).warnings
    assert warnings == () if warning is None else warning in warnings


@pytest.mark.parametrize(
    ("esr", "warning"),
    [
        (0x9383_0047, "ISV is 1 only for aborts taken to EL2, apart from LS64 instructions"),
        (0x93C0_9007, None),  # LST: an LS64 instruction
        (0x9200_0087, "S1PTW is of stage 2 faults, which are taken to EL2, yet it is 1"),
        (0x5A00_0000, "EC 0x16 (HVC64) is not reported in ESR_EL1"),
        (0x5600_0000, None),
    ],
)
def test_warning_about_what_el1_cannot_report(esr: int, warning: str | None) -> None:
    warnings = explain(esr, taken_to=1).warnings
    assert warnings == () if warning is None else warning in warnings


@pytest.mark.parametrize(
    ("esr", "far", "hpfar", "warning"),
    [
        (0x9200_0610, 0, None, "FAR_EL2 is not valid for this exception; its value is not used"),
        (0x5A00_0000, 0, None, "FAR_EL2 is not valid for this exception; its value is not used"),
        (0x9200_000F, 0, 0, "HPFAR_EL2 is not valid for this exception; its value is not used"),
        (0x9600_0007, 0, 0, "HPFAR_EL2 is not valid for this exception; its value is not used"),
        (0x9200_0010, 0, 0, "HPFAR_EL2 is not valid for this exception; its value is not used"),
        (0x9200_0007, 0, 1 << 48 | 0xF, "RES0 bits of HPFAR_EL2 are set: [48], [3:0]"),
        (0x9200_0007, 0, 0x40_0010, None),
        (0x9200_008F, 0, 0x40_0010, None),  # permission fault on the stage 1 walk
        (0x9200_0028, 0, 0x40_0010, None),  # granule protection fault
    ],
)
def test_warning_about_address_registers(
    esr: int, far: int | None, hpfar: int | None, warning: str | None
) -> None:
    warnings = explain(esr, far, hpfar).warnings
    assert warnings == () if warning is None else warning in warnings


@given(
    code=st.sampled_from([code for code in FaultStatusCode if code.fault not in EXTERNAL_ABORTS]),
    same_el=st.booleans(),
    write=st.booleans(),
)
def test_data_aborts_that_are_built_have_no_warnings(
    code: FaultStatusCode, same_el: bool, write: bool
) -> None:
    assert explain(data_abort(code, same_el=same_el, write=write)).warnings == ()


@given(size=st.integers(0, 3), register=st.integers(0, 31), write=st.booleans())
def test_described_aborts_that_are_built_have_no_warnings(
    size: int, register: int, write: bool
) -> None:
    described = IssDataAbort.build(ISV=1, SAS=size, SRT=register, SF=1)
    esr = data_abort(
        FaultStatusCode.TRANSLATION_L3, same_el=False, write=write, instruction=described
    )
    assert explain(esr).warnings == ()


@pytest.mark.parametrize("S1PTW", [False, True])
def test_instruction_aborts_that_are_built_have_no_warnings(S1PTW: bool) -> None:
    esr = instruction_abort(FaultStatusCode.TRANSLATION_L0, same_el=False, S1PTW=S1PTW)
    assert explain(esr).warnings == ()
