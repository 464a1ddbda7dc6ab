import pytest

from lab.errors import UserError
from lab.sizes import format_address, format_size, parse_count, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64K", 0x1_0000),
        ("64k", 0x1_0000),
        ("2M", 0x20_0000),
        ("2MiB", 0x20_0000),
        ("1G", 1 << 30),
        ("1T", 1 << 40),
        ("0x1000", 0x1000),
        ("0x4000_0000", 0x4000_0000),
        ("0xFFFFFFFFFFFFFFFF", (1 << 64) - 1),
        (" 8M ", 8 << 20),
    ],
)
def test_a_size_is_read_with_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "K", "-1", "1.5G", "64 K", "0x", "1P", "64KK", "ten", "1__0", "0b1", "٣"]
)
def test_anything_else_is_refused_with_the_value_and_an_example(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_size(text, "--mem")
    assert str(caught.value) == (f"--mem is a number such as 64K, 1G, 4096 or 0x1000, not {text!r}")


def test_a_size_beyond_64_bits_is_refused() -> None:
    with pytest.raises(UserError, match="not '99999999999T', which does not fit 64 bits"):
        parse_size("99999999999T", "--mem")


def test_a_count_has_decimal_units() -> None:
    assert parse_count("2G") == 2_000_000_000
    assert parse_count("500k") == 500_000
    assert parse_count("0x10") == 16


@pytest.mark.parametrize("text", ["", "1MiB", "-5", "many"])
def test_anything_else_is_no_count(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_count(text, "--max-insns")
    assert str(caught.value) == (f"--max-insns is a number such as 500K, 2G or 1000, not {text!r}")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (1, "1 byte"),
        (0, "0 bytes"),
        (4097, "4097 bytes"),
        (4096, "4K"),
        (3 << 20, "3M"),
        (1 << 30, "1G"),
        (1 << 40, "1T"),
    ],
)
def test_a_size_is_printed_with_the_largest_unit_that_divides_it(size: int, text: str) -> None:
    assert format_size(size) == text


def test_an_address_is_grouped_by_four_digits() -> None:
    assert format_address(0x4008_0000) == "0x4008_0000"
