"""The numbers of the translation granules (Arm ARM D8.2)."""

from __future__ import annotations

import pytest

from emu.arch.granule import (
    ADDRESS_SIZE_BITS,
    BY_TG0,
    BY_TG1,
    KB4,
    KB16,
    KB64,
    STAGE2_START_LEVEL,
    WITH_52_BITS,
    Granule,
    table_base,
)

KB, MB, GB, TB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@pytest.mark.parametrize(
    ("granule", "sizes"),
    [
        (KB4, {3: 4 * KB, 2: 2 * MB, 1: GB, 0: 512 * GB, -1: 256 * TB}),
        (KB16, {3: 16 * KB, 2: 32 * MB, 1: 64 * GB, 0: 128 * TB}),
        (KB64, {3: 64 * KB, 2: 512 * MB, 1: 4 * TB}),
    ],
)
def test_what_an_entry_of_each_level_maps(granule: Granule, sizes: dict[int, int]) -> None:
    assert {level: 1 << granule.level_shift(level) for level in sizes} == sizes


@pytest.mark.parametrize(("granule", "bits"), [(KB4, 9), (KB16, 11), (KB64, 13)])
def test_a_table_resolves_as_many_bits_as_it_has_entries(granule: Granule, bits: int) -> None:
    assert granule.stride == bits
    assert 1 << granule.stride == (1 << granule.shift) // 8


@pytest.mark.parametrize(
    ("granule", "blocks", "wide_blocks"),
    [(KB4, {1, 2}, {0, 1, 2}), (KB16, {2}, {1, 2}), (KB64, {2}, {1, 2})],
)
def test_levels_with_blocks(granule: Granule, blocks: set[int], wide_blocks: set[int]) -> None:
    assert granule.block_levels == blocks
    assert WITH_52_BITS[granule].block_levels == wide_blocks


@pytest.mark.parametrize(
    ("granule", "levels"),
    [
        (KB4, {48: 0, 40: 0, 39: 1, 31: 1, 30: 2, 25: 2, 21: 3, 16: 3}),
        (KB16, {48: 0, 47: 1, 37: 1, 36: 2, 26: 2, 25: 3, 16: 3}),
        (KB64, {48: 1, 43: 1, 42: 2, 30: 2, 29: 3, 17: 3}),
        (WITH_52_BITS[KB4], {52: -1, 49: -1, 48: 0}),
        (WITH_52_BITS[KB16], {52: 0, 48: 0, 47: 1}),
        (WITH_52_BITS[KB64], {52: 1, 43: 1}),
    ],
)
def test_start_level_of_stage_1_by_input_size(granule: Granule, levels: dict[int, int]) -> None:
    assert {bits: granule.start_level(bits) for bits in levels} == levels


ALL_ONES = (1 << 64) - 1


@pytest.mark.parametrize(
    ("granule", "address"),
    [
        (KB4, 0x0000_FFFF_FFFF_F000),
        (KB16, 0x0000_FFFF_FFFF_C000),
        (KB64, 0x0000_FFFF_FFFF_0000),
        (WITH_52_BITS[KB4], 0x000F_FFFF_FFFF_F000),
        (WITH_52_BITS[KB16], 0x000F_FFFF_FFFF_C000),
        (WITH_52_BITS[KB64], 0x000F_FFFF_FFFF_0000),
    ],
)
def test_address_of_a_descriptor_of_all_ones(granule: Granule, address: int) -> None:
    assert granule.address(ALL_ONES) == address


@pytest.mark.parametrize(
    ("granule", "descriptor_bit", "address_bit"),
    [
        (WITH_52_BITS[KB4], 8, 50),
        (WITH_52_BITS[KB4], 9, 51),
        (WITH_52_BITS[KB4], 48, 48),
        (WITH_52_BITS[KB4], 49, 49),
        (WITH_52_BITS[KB16], 9, 51),
        (WITH_52_BITS[KB64], 12, 48),
        (WITH_52_BITS[KB64], 15, 51),
    ],
)
def test_where_the_high_address_bits_are(
    granule: Granule, descriptor_bit: int, address_bit: int
) -> None:
    assert granule.address(1 << descriptor_bit) == 1 << address_bit


def test_granules_are_numbered_differently_in_the_two_halves() -> None:
    assert {int(code): granule.name for code, granule in BY_TG0.items()} == {
        0: "4K",
        1: "64K",
        2: "16K",
    }
    assert {int(code): granule.name for code, granule in BY_TG1.items()} == {
        1: "16K",
        2: "4K",
        3: "64K",
    }


def test_start_levels_of_stage_2() -> None:
    assert STAGE2_START_LEVEL == {
        KB4: {0: 2, 1: 1, 2: 0, 3: 3},
        KB16: {0: 3, 1: 2, 2: 1, 3: 0},
        KB64: {0: 3, 1: 2, 2: 1},
    }


def test_address_sizes() -> None:
    assert [ADDRESS_SIZE_BITS[code] for code in range(7)] == [32, 36, 40, 42, 44, 48, 52]


@pytest.mark.parametrize(
    ("table_shift", "base"),
    [(12, 0x1234_5678_9000), (13, 0x1234_5678_8000), (16, 0x1234_5678_0000), (6, 0x1234_5678_9AC0)],
)
def test_table_base_is_aligned_to_the_table(table_shift: int, base: int) -> None:
    register = 0xABCD_0000_0000_0000 | 0x1234_5678_9AFF
    assert table_base(register, table_shift, KB4) == base


def test_table_base_is_aligned_to_64_bytes_at_least() -> None:
    assert table_base(0xFFF, 3, KB4) == 0xFC0


def test_table_base_with_52_bits() -> None:
    register = 0x1234_5678_0000 | 0b1010 << 2
    assert table_base(register, 16, WITH_52_BITS[KB4]) == 0xA_1234_5678_0000
    assert table_base(register, 16, KB4) == 0x1234_5678_0000
