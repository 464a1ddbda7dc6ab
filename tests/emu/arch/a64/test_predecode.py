from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.loadstore import decode
from emu.arch.a64.predecode import Site, is_free, scan

NOP = 0xD503_201F
WFI = 0xD503_207F
TLBI = 0xD508_831F  # tlbi vmalle1is
MRS_CNTVCT = 0xD53B_E040  # mrs x0, cntvct_el0
MSR_VBAR = 0xD518_C000  # msr vbar_el1, x0
LDTR = 0xF840_0820  # ldtr x0, [x1]
STTRB = 0x3800_0822  # sttrb w2, [x1]
LDTRSH = 0x7880_0820  # ldtrsh x0, [x1]
LDR = 0xF940_0020


def page(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words).ljust(4096, b"\0")


def everything(_word: int) -> bool:
    return True


def test_sites_come_with_offset_and_word_in_order() -> None:
    sites = scan(page(NOP, TLBI, LDTR, LDR, MRS_CNTVCT, STTRB, WFI, LDTRSH), everything)
    assert sites.system == (Site(4, TLBI), Site(16, MRS_CNTVCT), Site(24, WFI))
    assert sites.unprivileged == (Site(8, LDTR), Site(20, STTRB), Site(28, LDTRSH))


def test_last_word_of_the_page_is_seen() -> None:
    code = page()[:-4] + struct.pack("<I", TLBI)
    assert scan(code, everything).system == (Site(4092, TLBI),)


def test_bytes_that_straddle_words_are_not_mistaken_for_an_instruction() -> None:
    code = struct.pack("<I", TLBI)
    shifted = b"\0\0" + code + b"\0\0"
    assert scan(shifted, everything).system == ()


def test_predicate_chooses_among_the_system_instructions() -> None:
    seen: list[int] = []

    def only_tlbi(word: int) -> bool:
        seen.append(word)
        return word == TLBI

    sites = scan(page(NOP, TLBI, MSR_VBAR, LDTR), only_tlbi)
    assert sites.system == (Site(4, TLBI),)
    assert seen == [TLBI, MSR_VBAR]


FREE = {
    "nop": NOP,
    "sev": 0xD503_209F,
    "paciasp": 0xD503_233F,
    "isb": 0xD503_3FDF,
    "dsb ish": 0xD503_3B9F,
    "clrex": 0xD503_3F5F,
    "msr daifset, #2": 0xD503_42DF,
    "msr pan, #1": 0xD500_419F,
    "mrs x0, sp_el0": 0xD538_4100,
    "msr sp_el0, x5": 0xD518_4105,
    "mrs x0, nzcv": 0xD53B_4200,
    "msr fpcr, x3": 0xD51B_4403,
    "mrs x9, fpsr": 0xD53B_4429,
    "mrs x0, tpidr_el0": 0xD53B_D040,
    "mrs x0, tpidrro_el0": 0xD53B_D060,
    "msr tpidr_el1, x0": 0xD518_D080,
}

NOT_FREE = {
    "wfi": WFI,
    "wfe": 0xD503_205F,
    "wfit x0": 0xD503_1020,
    "wfet x0": 0xD503_1000,
    "tlbi": TLBI,
    "dc zva": 0xD50B_7420,
    "mrs cntvct_el0": MRS_CNTVCT,
    "mrs x0, daif": 0xD53B_4220,
    "msr elr_el1": 0xD518_4020,
}


@pytest.mark.parametrize("word", FREE.values(), ids=FREE)
def test_free_instruction(word: int) -> None:
    assert is_free(word)
    assert scan(page(word), everything).system == ()


@pytest.mark.parametrize("word", NOT_FREE.values(), ids=NOT_FREE)
def test_instruction_offered_for_interception(word: int) -> None:
    assert not is_free(word)
    assert scan(page(word), everything).system == (Site(0, word),)


def test_memoryview_of_another_item_size_is_read_as_bytes() -> None:
    code = page(NOP, TLBI)
    assert scan(memoryview(code).cast("Q"), everything) == scan(code, everything)


def test_part_of_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="4-byte words; 6 bytes"):
        scan(b"\0" * 6, everything)


@given(st.lists(st.integers(0, 2**32 - 1), max_size=64))
def test_unprivileged_sites_hold_every_word_that_decodes_so(words: list[int]) -> None:
    found = {site.offset for site in scan(page(*words), everything).unprivileged}
    for offset, word in enumerate(words):
        access = decode(word)
        if access is not None and access.unprivileged:
            assert offset * 4 in found
