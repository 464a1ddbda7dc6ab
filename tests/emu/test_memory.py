"""Physical memory."""

from __future__ import annotations

import ctypes
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import PA
from emu.memory import PhysicalMemory

BASE: Final = PA(0x8_0000_0000)
SIZE: Final = 0x4000
END: Final = PA(BASE + SIZE)


@pytest.fixture
def memory() -> PhysicalMemory:
    """Return four pages."""
    return PhysicalMemory(BASE, SIZE)


def at(offset: int) -> PA:
    """Return an address in memory."""
    return PA(BASE + offset)


@pytest.mark.parametrize(
    ("base", "size"),
    [(0x800, 0x1000), (0x1000, 0x800), (0x1000, 0), (0x1000, -0x1000), (0, (1 << 40) + 0x1000)],
)
def test_impossible_sizes_are_refused(base: int, size: int) -> None:
    with pytest.raises(ValueError, match=rf"not {base:#x} and {size:#x}"):
        PhysicalMemory(PA(base), size)


def test_memory_is_zero_at_first(memory: PhysicalMemory) -> None:
    assert memory.read(BASE, SIZE) == bytes(SIZE)


def test_large_memory_costs_nothing_until_it_is_used() -> None:
    memory = PhysicalMemory(PA(0), 1 << 30)
    memory.write_u64(PA((1 << 30) - 8), 7)
    assert memory.read_u64(PA((1 << 30) - 8)) == 7


@pytest.mark.parametrize(
    ("pa", "size", "inside"),
    [
        (BASE, 1, True),
        (BASE, SIZE, True),
        (BASE, SIZE + 1, False),
        (BASE - 1, 1, False),
        (BASE - 1, 2, False),
        (END - 1, 1, True),
        (END - 1, 2, False),
        (END, 1, False),
        (0, 1, False),
        (1 << 60, 8, False),
    ],
)
def test_contains(memory: PhysicalMemory, pa: int, size: int, *, inside: bool) -> None:
    assert memory.contains(PA(pa), size) is inside


def test_words_are_little_endian(memory: PhysicalMemory) -> None:
    memory.write_u64(at(8), 0x0102_0304_0506_0708)
    assert memory.read(at(8), 8) == bytes(range(8, 0, -1))
    assert memory.read_u64(at(8)) == memory.fetch_u64(at(8)) == 0x0102_0304_0506_0708
    assert (memory.read_instruction(at(8)), memory.read_instruction(at(12))) == (
        0x0506_0708,
        0x0102_0304,
    )


def test_fetch_outside_is_a_value_not_an_error(memory: PhysicalMemory) -> None:
    assert memory.fetch_u64(END) is None
    assert memory.fetch_u64(PA(BASE - 8)) is None
    assert memory.fetch_u64(PA(END - 8)) == 0


def test_access_outside_is_an_error_that_names_the_range(memory: PhysicalMemory) -> None:
    text = r"8 bytes at PA 0x800004000 are not RAM, which is 0x800000000 to 0x800003fff"
    with pytest.raises(ValueError, match=text):
        memory.read_u64(END)
    with pytest.raises(ValueError, match=text):
        memory.write_u64(END, 1)
    with pytest.raises(ValueError, match="2 bytes at PA 0x800003fff"):
        memory.read(PA(END - 1), 2)
    with pytest.raises(ValueError, match="3 bytes"):
        memory.write(PA(END - 2), b"abc")
    with pytest.raises(ValueError, match="are not RAM"):
        memory.fill(END, 1)
    with pytest.raises(ValueError, match="are not RAM"):
        memory.view(END, 1)
    with pytest.raises(ValueError, match="4 bytes"):
        memory.read_instruction(END)
    assert memory.read(PA(END - 2), 2) == bytes(2), "nothing was written in part"


def test_fill(memory: PhysicalMemory) -> None:
    memory.fill(at(0x10), 0x20, 0x5A)
    assert memory.read(at(0xF), 0x22) == b"\0" + b"\x5a" * 0x20 + b"\0"
    memory.fill(at(0x10), 0x20)
    assert memory.read(at(0), 0x40) == bytes(0x40)


def test_clear_empties_all_of_it(memory: PhysicalMemory) -> None:
    memory.fill(BASE, SIZE, 0xFF)
    view = memory.view(BASE, 8)
    memory.clear()
    assert memory.read(BASE, SIZE) == bytes(SIZE)
    assert bytes(view) == bytes(8)
    memory.write_u64(BASE, 5)
    assert view[0] == 5, "it is still the same memory"


def test_view_is_memory_itself(memory: PhysicalMemory) -> None:
    view = memory.writable_view(at(0x1000), 0x10)
    view[3] = 9
    assert memory.read(at(0x1003), 1) == b"\x09"
    memory.write(at(0x1004), b"\x0a")
    assert view[4] == 10
    assert len(view) == 0x10


def test_host_address_is_where_the_engine_finds_it(memory: PhysicalMemory) -> None:
    memory.write(at(0x123), b"found")
    assert ctypes.string_at(memory.host_address + 0x123, 5) == b"found"


@given(
    writes=st.lists(
        st.tuples(st.integers(0, SIZE - 64), st.binary(max_size=64)), min_size=1, max_size=8
    )
)
def test_bytes_are_where_they_were_written_last(writes: list[tuple[int, bytes]]) -> None:
    memory = PhysicalMemory(BASE, SIZE)
    expected = bytearray(SIZE)
    for offset, data in writes:
        memory.write(at(offset), data)
        expected[offset : offset + len(data)] = data
    assert memory.read(BASE, SIZE) == expected


@pytest.mark.parametrize("data", [b"xyz", bytearray(b"xyz"), memoryview(b"xyz")])
def test_any_bytes_can_be_written(
    memory: PhysicalMemory, data: bytes | bytearray | memoryview
) -> None:
    memory.write(BASE, data)
    assert memory.read(BASE, 3) == b"xyz"


def test_a_listener_hears_every_access_but_those_of_instructions() -> None:
    base = PA(0x8_0000_0000)
    memory = PhysicalMemory(base, 0x2000)
    memory.write_u64(base, 5)  # nobody listens
    heard: list[tuple[int, int, bool]] = []
    memory.listener = lambda pa, size, reads: heard.append((pa - base, size, reads))
    memory.write_u64(PA(base + 8), 7)
    assert memory.fetch_u64(base) == 5
    assert memory.read_u64(PA(base + 8)) == 7
    memory.write(PA(base + 16), b"abc")
    assert memory.read(PA(base + 17), 2) == b"bc"
    memory.fill(PA(base + 0x1000), 0x1000, 1)
    assert memory.view(PA(base + 0x1000), 16)[0] == 1
    memory.read_instruction(base)
    assert heard == [
        (8, 8, False),
        (0, 8, True),
        (8, 8, True),
        (16, 3, False),
        (17, 2, True),
        (0x1000, 0x1000, False),
        (0x1000, 16, True),
    ]
