from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.operations import SysEncoding
from emu.arch.a64.system import (
    AT,
    DC,
    IC,
    OPERATIONS,
    TLBI,
    Operation,
    SystemKind,
    decode_system,
    is_system,
    operation,
)
from emu.arch.fields import Encoding


@pytest.mark.parametrize(
    ("word", "kind", "encoding", "rt"),
    [
        (0xD538_4243, SystemKind.MRS, (3, 0, 4, 2, 2), 3),  # mrs x3, currentel
        (0xD51C_1105, SystemKind.MSR, (3, 4, 1, 1, 0), 5),  # msr hcr_el2, x5
        (0xD53B_E05F, SystemKind.MRS, (3, 3, 14, 0, 2), 31),  # mrs xzr, cntvct_el0
        (0xD510_0240, SystemKind.MSR, (2, 0, 0, 2, 2), 0),  # msr mdscr_el1, x0
        (0xD508_871F, SystemKind.SYS, (1, 0, 8, 7, 0), 31),  # tlbi vmalle1
        (0xD50B_7421, SystemKind.SYS, (1, 3, 7, 4, 1), 1),  # dc zva, x1
        (0xD52B_7722, SystemKind.SYSL, (1, 3, 7, 7, 1), 2),  # sysl x2, #3, c7, c7, #1
        (0xD503_42DF, SystemKind.MSR_IMMEDIATE, (0, 3, 4, 2, 6), 31),  # msr daifset, #2
        (0xD500_40BF, SystemKind.MSR_IMMEDIATE, (0, 0, 4, 0, 5), 31),  # msr spsel, #0
        (0xD503_207F, SystemKind.HINT, (0, 3, 2, 0, 3), 31),  # wfi
        (0xD503_245F, SystemKind.HINT, (0, 3, 2, 4, 2), 31),  # bti c
        (0xD503_3FDF, SystemKind.BARRIER, (0, 3, 3, 15, 6), 31),  # isb
        (0xD503_3B9F, SystemKind.BARRIER, (0, 3, 3, 11, 4), 31),  # dsb ish
        (0xD503_323F, SystemKind.BARRIER, (0, 3, 3, 2, 1), 31),  # dsb oshnxs
        (0xD503_1023, SystemKind.WAIT_TIMED, (0, 3, 1, 0, 1), 3),  # wfit x3
    ],
)
def test_system_instruction(
    word: int, kind: SystemKind, encoding: tuple[int, ...], rt: int
) -> None:
    found = decode_system(word)
    assert found is not None
    assert (found.kind, found.encoding, found.rt) == (kind, encoding, rt)
    assert isinstance(found.encoding, Encoding)
    assert found.is_read == (kind in {SystemKind.MRS, SystemKind.SYSL})


@pytest.mark.parametrize(
    "word",
    [
        0xD400_0001,  # svc
        0xD540_0000,  # the 128-bit space
        0xD523_3060,  # tstart x0: op0 = 0 and L = 1
        0xD503_42C0,  # MSR (immediate) with Rt
        0xD507_42DF,  # MSR (immediate) of nothing
        0xD503_2060,  # hint with Rt
        0xD503_301F,  # barrier 0
        0xD503_1043,  # beyond WFIT
        0xD500_201F,  # hint space of another op1
        0xD503_601F,  # no such CRn
    ],
)
def test_unallocated_or_other_word_is_no_system_instruction(word: int) -> None:
    assert decode_system(word) is None


@pytest.mark.parametrize(
    ("word", "member"),
    [
        (0xD508_831F, TLBI.VMALLE1IS),
        (0xD508_8323, TLBI.VAE1IS),
        (0xD508_87A3, TLBI.VALE1),
        (0xD508_8163, TLBI.VAAE1OS),
        (0xD508_8223, TLBI.RVAE1IS),
        (0xD50C_8023, TLBI.IPAS2E1IS),
        (0xD50C_84A3, TLBI.IPAS2LE1),
        (0xD50C_8043, TLBI.RIPAS2E1IS),
        (0xD50C_83DF, TLBI.VMALLS12E1IS),
        (0xD50C_839F, TLBI.ALLE1IS),
        (0xD50C_8323, TLBI.VAE2IS),
        (0xD508_7803, AT.S1E1R),
        (0xD508_7923, AT.S1E1WP),
        (0xD50C_7883, AT.S12E1R),
        (0xD508_7623, DC.IVAC),
        (0xD508_7E43, DC.CISW),
        (0xD50B_7423, DC.ZVA),
        (0xD50B_7B23, DC.CVAU),
        (0xD50B_7E23, DC.CIVAC),
        (0xD50B_7523, IC.IVAU),
        (0xD508_711F, IC.IALLUIS),
    ],
)
def test_operation_of_a_word(word: int, member: Operation) -> None:
    found = decode_system(word)
    assert found is not None
    assert found.operation is member
    assert member.word(word & 31) == word


def test_nxs_form_gives_the_operation_without_it() -> None:
    assert operation(SysEncoding(0, 9, 3, 0)) is TLBI.VMALLE1IS


def test_reads_and_other_sys_encodings_have_no_operation() -> None:
    for word in (0xD528_831F, 0xD538_8300, 0xD50B_73E0):
        found = decode_system(word)
        assert found is not None
        assert found.operation is None


def test_encodings_are_distinct() -> None:
    assert len(OPERATIONS) == len(TLBI) + len(AT) + len(DC) + len(IC)


@pytest.mark.parametrize("member", OPERATIONS.values(), ids=str)
def test_operation_has_the_name_that_capstone_gives_its_encoding(member: Operation) -> None:
    capstone = pytest.importorskip("capstone")
    without_argument = member in {IC.IALLU, IC.IALLUIS} or (
        isinstance(member, TLBI) and not member.takes_argument
    )
    word = member.word(31 if without_argument else 3)
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    ((_, _, mnemonic, operands),) = engine.disasm_lite(word.to_bytes(4, "little"), 0)
    if mnemonic == "sys":
        # persistence to the point of deep persistence is younger than capstone's tables
        assert member in {DC.CVADP, DC.CGVADP, DC.CGDVADP}
        return
    name = member.name.lower()
    expected = name if without_argument else f"{name}, x3"
    assert (mnemonic, operands) == (type(member).__name__.lower(), expected)


TLBI_NAME = re.compile(
    r"(?P<range>R?)(?P<scope>VMALLS12|VMALL|ALL|VAA|VA|ASID|IPAS2)(?P<last>L?)"
    r"E(?P<el>[12])(?P<domain>IS|OS)?"
)
SCOPES = {
    "VMALL": ("vmid", 1),
    "VMALLS12": ("vmid", 3),
    "ALL": ("all", None),
    "VAA": ("va, all ASIDs", 1),
    "VA": ("va", 1),
    "ASID": ("asid", 1),
    "IPAS2": ("ipa", 2),
}


@pytest.mark.parametrize("member", TLBI, ids=str)
def test_tlbi_properties_are_what_the_name_says(member: TLBI) -> None:
    name = TLBI_NAME.fullmatch(member.name)
    assert name is not None
    scope, stages = SCOPES[name["scope"]]
    assert member.scope.value == scope
    assert member.stages == (stages or (3 if name["el"] == "1" else 1))
    assert member.last_level == bool(name["last"])
    assert member.is_range == bool(name["range"])
    assert member.regime == int(name["el"])
    assert member.shareability.value == (name["domain"] or "")
    assert member.takes_argument == (scope not in {"vmid", "all"})
    assert member.scope.by_address == (scope in {"va", "va, all ASIDs", "ipa"})


@pytest.mark.parametrize("member", AT, ids=str)
def test_at_properties_are_what_the_name_says(member: AT) -> None:
    name = re.fullmatch(r"S(?P<stages>12?)E(?P<el>[012])(?P<write>[RW])(?P<pan>P?)", member.name)
    assert name is not None
    assert member.stages == (3 if name["stages"] == "12" else 1)
    assert member.el == int(name["el"])
    assert member.write == (name["write"] == "W")
    assert member.pan == bool(name["pan"])
    assert member.regime == (2 if name["el"] == "2" else 1)


DC_NAME = re.compile(r"(?P<action>I|CI|C|)(?P<what>GD|GZ|G|)(?P<target>SW|VAC|VAU|VAP|VADP|VA|ZVA)")
ACTIONS = {"I": "invalidate", "C": "clean", "CI": "clean and invalidate", "": "zero"}
POINTS = {"SW": "set/way", "VAC": "PoC", "VAU": "PoU", "VAP": "PoP", "VADP": "PoDP"}


@pytest.mark.parametrize("member", DC, ids=str)
def test_dc_properties_are_what_the_name_says(member: DC) -> None:
    name = DC_NAME.fullmatch(member.name)
    assert name is not None
    assert member.action.value == ACTIONS[name["action"]]
    assert member.point.value == POINTS.get(name["target"], "memory")
    assert member.data == (name["what"] != "G")
    assert member.tags == ("G" in name["what"])
    assert member.by_va == (name["target"] != "SW")
    assert member.is_maintenance == bool(name["action"])


def test_only_stores_and_invalidation_by_va_need_write_permission() -> None:
    assert {member.name for member in DC if member.needs_write} == {
        "IVAC",
        "IGVAC",
        "IGDVAC",
        "ZVA",
        "GVA",
        "GZVA",
    }


@given(st.integers(0, 2**32 - 1))
def test_any_word_decodes_or_gives_none(word: int) -> None:
    assert decode_system(word) is None or is_system(word)


@given(op0=st.integers(1, 3), read=st.booleans(), rest=st.integers(0, 2**19 - 1))
def test_register_moves_and_sys_always_decode(op0: int, read: bool, rest: int) -> None:
    found = decode_system(0xD500_0000 | read << 21 | op0 << 19 | rest)
    assert found is not None
    assert found.is_read == read
