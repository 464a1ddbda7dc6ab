from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.tlbi_arguments import (
    TlbiIpa,
    TlbiRangeIpa,
    TlbiRangeVa,
    level_hint,
    range_fields,
    tlbi_asid,
    tlbi_ipa,
    tlbi_range_ipa,
    tlbi_range_va,
    tlbi_va,
)
from emu.arch.address import IPA, VA


def test_ipa_argument_is_the_frame_number() -> None:
    assert tlbi_ipa(IPA(0x4020_1FFF)) == 0x4_0201


def test_level_hint_stands_above_the_address() -> None:
    argument = tlbi_ipa(IPA(0x4020_1000), level=3)
    assert argument == 0x7000_0004_0201
    assert argument.TTL == 0b0111
    assert tlbi_ipa(IPA(0), level=2, granule_shift=16).TTL == 0b1110
    assert tlbi_va(VA(0), level=1, granule_shift=14).TTL == 0b1001


def test_52_bit_ipa_fits() -> None:
    assert tlbi_ipa(IPA(2**52 - 1)).IPA == 2**40 - 1


def test_va_argument_drops_the_sign_extension_and_holds_the_asid() -> None:
    argument = tlbi_va(VA(0xFFFF_FFC0_1234_5678), asid=0xABCD)
    assert argument.ASID == 0xABCD
    assert argument.VA == 0xFFF_FC01_2345
    assert tlbi_asid(0xABCD) == 0xABCD << 48


def test_range_argument_fields() -> None:
    argument = tlbi_range_va(VA(0x40_0000), pages=512, asid=3, level=3)
    assert argument == TlbiRangeVa.build(ASID=3, TG=1, SCALE=1, NUM=7, TTL=3, BaseADDR=0x400)
    assert argument.pages == 512
    assert argument.granule_shift == 12


def test_ipa_range_counts_in_its_granule() -> None:
    argument = tlbi_range_ipa(IPA(0x8_0000), pages=2, granule_shift=16)
    assert argument == TlbiRangeIpa.build(TG=3, BaseADDR=8)
    assert argument.granule_shift == 16


def test_reserved_granule_of_a_range_is_none() -> None:
    assert TlbiRangeVa.build(TG=0).granule_shift is None


@given(st.integers(2, 2**22))
def test_one_range_never_covers_more_than_asked_and_at_least_half(pages: int) -> None:
    scale, num = range_fields(pages)
    covered = (num + 1) << (5 * scale + 1)
    assert covered <= pages
    assert covered * 2 > pages or (scale, num) == (3, 31)


@pytest.mark.parametrize(
    ("ttl", "hint"),
    [
        (0b0000, None),
        (0b0011, None),  # no granule, no hint
        (0b0101, (12, 1)),
        (0b0111, (12, 3)),
        (0b1010, (14, 2)),
        (0b1101, (16, 1)),
        (0b1000, None),
        (0b1100, None),
    ],
)
@pytest.mark.parametrize("lpa2", [False, True])
def test_level_hint(ttl: int, hint: tuple[int, int] | None, lpa2: bool) -> None:
    assert level_hint(ttl, lpa2=lpa2) == hint


@pytest.mark.parametrize(("ttl", "hint"), [(0b0100, (12, 0)), (0b1001, (14, 1))])
def test_hints_of_leaves_that_came_with_lpa2(ttl: int, hint: tuple[int, int]) -> None:
    assert level_hint(ttl) is None
    assert level_hint(ttl, lpa2=True) == hint


def test_impossible_arguments_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="level hint is 0 to 3, or None for no hint; not 4"):
        tlbi_ipa(IPA(0), level=4)
    with pytest.raises(ValueError, match="1 << 12, 14 or 16 bytes, not 1 << 13"):
        tlbi_va(VA(0), level=3, granule_shift=13)
    with pytest.raises(ValueError, match="IPA is 40 bits wide"):
        tlbi_ipa(IPA(1 << 52))
    with pytest.raises(ValueError, match="ASID is 16 bits wide"):
        tlbi_asid(0x1_0000)
    with pytest.raises(ValueError, match="at least 2 granules, not 1"):
        tlbi_range_ipa(IPA(0), pages=1)


def test_argument_reads_back() -> None:
    argument = TlbiIpa(0x8000_7000_0004_0201)
    assert (argument.NS, argument.TTL, argument.IPA) == (1, 7, 0x4_0201)
