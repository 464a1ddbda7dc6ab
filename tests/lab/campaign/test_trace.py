from __future__ import annotations

from emu.arch.address import PA
from lab.campaign.trace import Access, Trace
from lab.campaign.watched import WatchedMemory

BASE = PA(0x8_0000_0000)


def test_what_an_instruction_does_to_a_register_first_counts() -> None:
    trace = Trace()
    trace.register(3, 0, "x1", reads=True)
    trace.register(3, 0, "x1", reads=False)
    trace.register(5, 0, "x1", reads=False)
    trace.register(5, 0, "x1", reads=True)
    trace.register(6, 1, "x1", reads=True)
    assert trace.of_register(0, "x1") == [Access(3, reads=True), Access(5, reads=False)]
    assert trace.of_register(1, "x1") == [Access(6, reads=True)]
    assert trace.of_register(0, "x2") == []


def test_what_an_instruction_does_to_a_byte_first_counts() -> None:
    trace = Trace()
    trace.memory(1, BASE + 6, 4, reads=False)
    trace.memory(2, BASE, 4096, reads=True)
    trace.memory(2, BASE + 8, 8, reads=False)
    trace.memory(3, BASE + 8, 1, reads=False)
    trace.memory(3, BASE, 4096, reads=True)
    assert trace.of_byte(BASE + 5) == [Access(2, reads=True), Access(3, reads=True)]
    assert trace.of_byte(BASE + 7) == [
        Access(1, reads=False),
        Access(2, reads=True),
        Access(3, reads=True),
    ]
    assert trace.of_byte(BASE + 8)[-1] == Access(3, reads=False)
    assert list(trace.bytes_accessed()) == list(range(BASE + 6, BASE + 16))


def test_a_page_is_overwritten_when_it_comes() -> None:
    trace = Trace()
    trace.born[BASE] = 5
    for time in (2, 5, 8):
        trace.memory(time, BASE + 16, 8, reads=True)
    assert trace.of_byte(BASE + 16, appears=True) == [
        Access(5, reads=False),
        Access(8, reads=True),
    ]
    assert [access.time for access in trace.of_byte(BASE + 16)] == [2, 5, 8]


def test_turns_of_vcpus_are_pieces() -> None:
    trace = Trace()
    for time, vcpu in enumerate([0, 0, 1, 0, 1, 1]):
        trace.instruction(vcpu, 0x100 + 4 * time)
    assert trace.vcpus == [0, 1]
    assert list(trace.times_of(0)) == [0, 1, 3]
    assert list(trace.times_of(1)) == [2, 4, 5]
    assert list(trace.times_in([range(0x100, 0x104), range(0x108, 0x110)])) == [0, 2, 3]


class Heard:
    def __init__(self) -> None:
        self.accesses: list[tuple[int, int, bool]] = []

    def accessed(self, pa: int, size: int, *, reads: bool) -> None:
        self.accesses.append((pa - BASE, size, reads))


def test_watched_memory_tells_of_every_access_but_instructions() -> None:
    memory = WatchedMemory(BASE, 0x2000)
    memory.write_u64(BASE, 5)  # nobody listens
    listener = memory.listener = Heard()
    memory.write_u64(PA(BASE + 8), 7)
    assert memory.fetch_u64(BASE) == 5
    assert memory.read_u64(PA(BASE + 8)) == 7
    memory.write(PA(BASE + 16), b"abc")
    assert memory.read(PA(BASE + 17), 2) == b"bc"
    memory.fill(PA(BASE + 0x1000), 0x1000, 1)
    assert memory.view(PA(BASE + 0x1000), 16)[0] == 1
    memory.read_instruction(BASE)
    assert listener.accesses == [
        (8, 8, False),
        (0, 8, True),
        (8, 8, True),
        (16, 3, False),
        (17, 2, True),
        (0x1000, 0x1000, False),
        (0x1000, 16, True),
    ]
