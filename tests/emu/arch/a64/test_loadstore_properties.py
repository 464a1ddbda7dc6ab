"""Kinds, flags and alignment of loads and stores; words that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.loadstore import (
    ENCODING_CLASSES,
    AccessKind,
    MemoryAccess,
    decode,
    effective_address,
    syndrome,
)
from emu.arch.address import VA

LDR_X = 0xF940_0020  # ldr x0, [x1]
STR_X = 0xF900_0022  # str x2, [x1]
LDR_POST = 0xF841_0420  # ldr x0, [x1], #16
LDP_POST = 0xA8C2_0C20  # ldp x0, x3, [x1], #32
LD1_POST = 0x4CDF_7020  # ld1 {v0.16b}, [x1], #16
ST1_LANE_POST = 0x0D9F_5020  # st1 {v0.h}[2], [x1], #2
LDTR_X = 0xF840_0820  # ldtr x0, [x1]
STTRB = 0x3800_0822  # sttrb w2, [x1]
LDAR_X = 0xC8DF_FC20  # ldar x0, [x1]
LDLAR_X = 0xC8DF_7C20  # ldlar x0, [x1]
LDAXR_X = 0xC85F_FC20  # ldaxr x0, [x1]
STXR_W = 0x8804_7C22  # stxr w4, w2, [x1]
LDXP_X = 0xC87F_0C20  # ldxp x0, x3, [x1]
LDADD_X = 0xF822_0020  # ldadd x2, x0, [x1]
LDADDAL_X = 0xF8E2_0020  # ldaddal x2, x0, [x1]
CASP_X = 0x4824_7C26  # casp x4, x5, x6, x7, [x1]
LDR_Q = 0x3DC0_0020  # ldr q0, [x1]
STG = 0xD920_0823  # stg x3, [x1]
LDG = 0xD960_0023  # ldg x3, [x1]
STGP = 0x6900_0C22  # stgp x2, x3, [x1]
ST64BV = 0xF823_B022  # st64bv x3, x2, [x1]
PRFM = 0xF980_0020  # prfm pldl1keep, [x1]
LDRAA = 0xF820_0420  # ldraa x0, [x1]
LDRAA_PRE = 0xF820_1C20  # ldraa x0, [x1, #8]!


def access_of(word: int) -> MemoryAccess:
    access = decode(word)
    assert access is not None, f"{word:#010x}"
    return access


@pytest.mark.parametrize(
    ("word", "kind", "reads", "writes", "wnr"),
    [
        (LDR_X, AccessKind.LOAD, True, False, False),
        (STR_X, AccessKind.STORE, False, True, True),
        (LDAXR_X, AccessKind.LOAD, True, False, False),
        (STXR_W, AccessKind.STORE, False, True, True),
        (LDADD_X, AccessKind.ATOMIC, True, True, False),
        (CASP_X, AccessKind.ATOMIC, True, True, False),
        (PRFM, AccessKind.PREFETCH, False, False, False),
        (LDG, AccessKind.LOAD, True, False, False),
        (STG, AccessKind.STORE, False, True, True),
    ],
)
def test_kind_decides_the_permissions_needed(
    word: int, kind: AccessKind, reads: bool, writes: bool, wnr: bool
) -> None:
    access = access_of(word)
    assert (access.kind, access.reads, access.writes, access.is_write) == (
        kind,
        reads,
        writes,
        wnr,
    )


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("writeback", {LDR_POST, LDP_POST, LD1_POST, ST1_LANE_POST, LDRAA_PRE}),
        ("unprivileged", {LDTR_X, STTRB}),
        ("acquire_release", {LDAR_X, LDAXR_X, LDADDAL_X}),
        ("limited_order", {LDLAR_X}),
        ("ordered", {LDAR_X, LDAXR_X, LDADDAL_X, LDLAR_X}),
        ("exclusive", {LDAXR_X, STXR_W, LDXP_X}),
        ("simd", {LD1_POST, ST1_LANE_POST, LDR_Q}),
        ("tags", {STG, LDG, STGP}),
        ("lst", {ST64BV}),
        ("authenticated", {LDRAA, LDRAA_PRE}),
    ],
)
def test_flag_is_set_on_its_forms_and_no_others(flag: str, words: set[int]) -> None:
    every = {word for name, word in globals().items() if name.isupper() and isinstance(word, int)}
    assert {word for word in every if getattr(access_of(word), flag)} == words


@pytest.mark.parametrize(
    ("word", "alignment"),
    [
        (LDR_X, 1),
        (LDR_Q, 1),
        (LDP_POST, 1),
        (LDAR_X, 8),
        (LDLAR_X, 8),
        (LDXP_X, 16),
        (STXR_W, 4),
        (LDADD_X, 8),
        (CASP_X, 16),
        (ST64BV, 64),
        (STG, 16),
        (STGP, 16),
        (LDG, 1),
    ],
)
def test_alignment_required_of_ordered_exclusive_atomic_and_tag_accesses(
    word: int, alignment: int
) -> None:
    assert access_of(word).alignment == alignment


def test_pairs_name_both_registers() -> None:
    assert (access_of(LDP_POST).rt, access_of(LDP_POST).rt2) == (0, 3)
    assert (access_of(CASP_X).rt, access_of(CASP_X).rt2) == (6, 7)
    assert access_of(LDR_X).rt2 is None


UNDEFINED = {
    "post-indexed prefetch": 0xF881_0420,
    "unprivileged SIMD": 0x3C40_0820,
    "unprivileged prefetch": 0xF880_0820,
    "32-bit ldrsw": 0xB9C0_0020,
    "16-byte form of h register": 0x7DC0_0020,
    "register offset with option 0": 0xF86C_0820,
    "literal of 32 bytes": 0xDC40_0A00,
    "pair with opc 3": 0xE940_0C20,
    "ldnpsw": 0x6840_0C20,
    "casp from an odd register": 0x4824_7C27,
    "casp comparing an odd register": 0x4825_7C26,
    "cas with Rt2 not 31": 0xC8A3_0C22,
    "ld64b into an odd register": 0xF83F_D023,
    "ld64b past x22": 0xF83F_D038,
    "ld64b of 4 bytes": 0xB83F_D022,
    "ld2 of one lane": 0x0C40_8C20,
    "multiple structures with opcode 1": 0x4C40_1020,
    "st1r": 0x0D00_C020,
    "ld1r with S set": 0x0D40_D020,
    "ld1 of half a halfword": 0x0D40_4420,
    "ld1 of a lane d with S set": 0x0D40_9420,
    "ld1 of a lane of 16 bytes": 0x0D40_8820,
    "stzgm with an offset": 0xD920_1023,
    "LDAPUR of a SIMD register": 0x1D40_8020,
}


@pytest.mark.parametrize("word", UNDEFINED.values(), ids=UNDEFINED)
def test_undefined_form_is_no_access(word: int) -> None:
    assert decode(word) is None


OTHER = {
    "add": 0x8B02_0020,
    "b": 0x1400_0000,
    "dc zva": 0xD50B_7421,
    "nop": 0xD503_201F,
    "udf": 0x0000_0000,
    "all ones": 0xFFFF_FFFF,
    "sve ld1b, left out": 0xA400_A020,
    "cpyfp, left out": 0x1902_0461,
}


@pytest.mark.parametrize("word", OTHER.values(), ids=OTHER)
def test_other_instruction_is_no_access(word: int) -> None:
    assert decode(word) is None


def test_should_be_one_fields_are_ignored() -> None:
    assert access_of(0xC8C3_B420) == access_of(LDAR_X)


@given(st.integers(0, 2**32 - 1))
def test_a_word_belongs_to_at_most_one_encoding_class(word: int) -> None:
    assert sum(word & row.mask == row.value for row in ENCODING_CLASSES) <= 1


@st.composite
def load_store_words(draw: st.DrawFn) -> int:
    row = draw(st.sampled_from(ENCODING_CLASSES))
    return row.value | draw(st.integers(0, 2**32 - 1)) & ~row.mask


@given(st.one_of(st.integers(0, 2**32 - 1), load_store_words()))
def test_any_word_decodes_to_a_consistent_access_or_none(word: int) -> None:
    access = decode(word)
    if access is None:
        return
    assert access.size % access.unit == 0
    assert 0 <= access.rt <= 31
    assert 0 <= effective_address(access, lambda _: 0, VA(0), VA(0)) < 2**64
    assert syndrome(access) & ~(0x7FF << 14) == 0
    assert access.isv == bool(syndrome(access))
    assert decode(word) is access
