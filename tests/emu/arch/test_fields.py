"""The notation in which registers are declared."""

from enum import IntEnum

import pytest

from emu.arch.bits import bit, bit_range, bits
from emu.arch.fields import Layout, SystemRegister


class Colour(IntEnum):
    RED = 1
    BLUE = 2


class Sample(Layout):
    TOP = bit(63)
    MIDDLE = bits(40, 33)
    HUE = bits(5, 4, Colour)
    LOW = bits(3, 0)


class Extended(Sample):
    EXTRA = bit(8)


class Named(Sample, SystemRegister, encoding=(3, 0, 1, 0, 0)):
    """A register that shares a layout."""


def test_fields_decode_at_their_positions() -> None:
    value = Sample(1 << 63 | 0xAB << 33 | 2 << 4 | 7)
    assert (value.TOP, value.MIDDLE, value.HUE, value.LOW) == (1, 0xAB, Colour.BLUE, 7)


def test_encoded_field_keeps_its_enumeration() -> None:
    assert isinstance(Sample(1 << 4).HUE, Colour)


def test_reserved_encoding_comes_back_as_a_number() -> None:
    value = Sample(3 << 4).HUE
    assert value == 3
    assert not isinstance(value, Colour)


def test_build_leaves_unnamed_fields_zero() -> None:
    assert Sample.build(HUE=Colour.RED) == 1 << 4


def test_replace_changes_only_the_named_field() -> None:
    value = Sample((1 << 64) - 1).replace(MIDDLE=0)
    assert value == (1 << 64) - 1 & ~(0xFF << 33)
    assert isinstance(value, Sample)


def test_value_too_wide_for_its_field_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"LOW is 4 bits wide .*not 0x10"):
        Sample.build(LOW=16)


def test_negative_value_is_refused() -> None:
    with pytest.raises(ValueError, match="LOW is 4 bits wide"):
        Sample.build(LOW=-1)


def test_unknown_field_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TypeError, match="Sample has no field PAGE; it has TOP, MIDDLE, HUE, LOW"):
        Sample.build(PAGE=1)


@pytest.mark.parametrize(("msb", "lsb"), [(64, 0), (3, 4), (3, -1)])
def test_field_outside_the_register_cannot_be_declared(msb: int, lsb: int) -> None:
    with pytest.raises(ValueError, match="bits 63 to 0"):
        bits(msb, lsb)


def test_fields_are_listed_most_significant_first_with_inherited_ones() -> None:
    assert list(Extended.FIELDS) == ["TOP", "MIDDLE", "EXTRA", "HUE", "LOW"]


def test_describe_pairs_fields_with_values() -> None:
    assert [(field.name, value) for field, value in Sample(0x21).describe()] == [
        ("TOP", 0),
        ("MIDDLE", 0),
        ("HUE", Colour.BLUE),
        ("LOW", 1),
    ]


def test_field_read_through_the_class_gives_its_position() -> None:
    assert (Sample.MIDDLE.msb, Sample.MIDDLE.lsb, Sample.MIDDLE.mask) == (40, 33, 0xFF)
    assert Sample.MIDDLE.span == "[40:33]"
    assert Sample.TOP.span == "[63]"


def test_field_in_place_is_its_mask_over_the_word() -> None:
    assert Sample.MIDDLE.in_place == 0xFF << 33


def test_bit_range_of_one_bit_has_one_number() -> None:
    assert (bit_range(5, 5), bit_range(5, 4)) == ("[5]", "[5:4]")


def test_unnamed_gives_the_bits_that_no_field_covers() -> None:
    assert Sample(1 << 63 | 1 << 6 | 0xF).unnamed == 1 << 6


def test_representation_names_the_fields_that_are_set() -> None:
    assert repr(Sample.build(LOW=3, TOP=1)) == "Sample(0x8000000000000003: TOP=0x1, LOW=0x3)"
    assert str(Sample(0)) == "Sample(0x0)"


def test_register_takes_a_shared_layout_and_has_its_encoding() -> None:
    assert Named.build(TOP=1) == 1 << 63
    assert Named.encoding == (3, 0, 1, 0, 0)
