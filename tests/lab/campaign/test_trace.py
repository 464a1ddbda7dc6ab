from __future__ import annotations

from emu.arch.address import PA
from lab.campaign.trace import Access, Trace

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
