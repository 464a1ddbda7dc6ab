"""Outcomes by brute force over a whole fault space, and by its classes, on a toy machine."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from lab.campaign.axis import Pieces
from lab.campaign.classes import EachTime, PrunedTimes
from lab.campaign.place import together
from lab.campaign.trace import Access, Trace

BITS = 3
REGISTERS = 3
BYTES = 4


class Insn(NamedTuple):
    kind: str
    a: int
    b: int
    c: int


def run(
    program: list[Insn], fault: tuple[str, int, int, int] | None = None, trace: Trace | None = None
) -> tuple[int, ...]:
    """Return what the program puts out; a fault is (kind of place, place, bit, time)."""
    x, memory, out = [0] * REGISTERS, [0] * BYTES, []
    pc = time = 0
    while pc < len(program) and time < 50:
        if fault is not None and fault[3] == time:
            place = x if fault[0] == "x" else memory
            place[fault[1]] ^= 1 << fault[2]
        insn = program[pc]
        if trace is not None:
            record(trace, time, insn)
            trace.instruction(0, pc)
        a, b, c = insn.a % REGISTERS, insn.b % REGISTERS, insn.c
        match insn.kind:
            case "set":
                x[a] = c % (1 << BITS)
            case "add":
                x[a] = (x[b] + x[c % REGISTERS]) % (1 << BITS)
            case "load":
                x[a] = memory[c % BYTES]
            case "store":
                memory[c % BYTES] = x[a]
            case "skip":
                pc += x[a] == 0
            case "out":
                out.append(x[a])
        pc += 1
        time += 1
    return (*out, time)


def record(trace: Trace, time: int, insn: Insn) -> None:
    a, b, c = f"x{insn.a % REGISTERS}", f"x{insn.b % REGISTERS}", f"x{insn.c % REGISTERS}"
    reads = {"add": (b, c), "store": (a,), "skip": (a,), "out": (a,)}.get(insn.kind, ())
    for name in reads:
        trace.register(time, 0, name, reads=True)
    if insn.kind in ("load", "store"):
        trace.memory(time, insn.c % BYTES, 1, reads=insn.kind == "load")
    if insn.kind in ("set", "add", "load"):
        trace.register(time, 0, a, reads=False)


programs = st.lists(
    st.builds(
        Insn,
        st.sampled_from(["set", "add", "load", "store", "skip", "out"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 7),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=300)
@given(programs, st.tuples(st.integers(0, 14), st.integers(1, 14)))
def test_every_fault_comes_to_what_the_one_that_stands_for_it_does(
    program: list[Insn], window: tuple[int, int]
) -> None:
    trace = Trace()
    right = run(program, trace=trace)
    times = Pieces([range(trace.length)]).common(Pieces([range(window[0], sum(window))]))
    places = [("x", n, trace.of_register(0, f"x{n}")) for n in range(REGISTERS)]
    places += [("m", n, trace.of_byte(n)) for n in range(BYTES)]
    for kind, number, accesses in places:
        classes = PrunedTimes(times, accesses)
        assert classes.live == sum(c.weight for c in classes)
        masked = set(times)
        position = 0
        for index, (time, weight) in enumerate(classes):
            members = [t for t in times if t <= time and t in masked][-weight:]
            assert members[-1] == time
            masked -= set(members)
            for bit in range(BITS):
                stands = run(program, (kind, number, bit, time))
                assert all(run(program, (kind, number, bit, t)) == stands for t in members)
            for _ in members:
                assert classes.class_at(position) == index
                position += 1
        assert position == classes.live
        assert len(masked) == classes.size - classes.live
        for time in masked:
            for bit in range(BITS):
                assert run(program, (kind, number, bit, time)) == right


@given(programs)
def test_what_is_looked_at_at_the_end_is_a_use(program: list[Insn]) -> None:
    trace = Trace()
    run(program, trace=trace)
    times = Pieces([range(trace.length)])
    accesses = trace.of_byte(0)
    last = accesses[-1].time if accesses else -1
    seen, unseen = (PrunedTimes(times, accesses, observed=o) for o in (True, False))
    assert seen.live - unseen.live == trace.length - 1 - last


def test_bytes_together_are_overwritten_when_all_are() -> None:
    first = [Access(1, reads=False), Access(3, reads=False), Access(5, reads=True)]
    second = [Access(1, reads=False), Access(4, reads=False)]
    assert together([first, second]) == [
        Access(1, reads=False),
        Access(3, reads=True),
        Access(4, reads=True),
        Access(5, reads=True),
    ]


def test_each_time_may_be_a_class() -> None:
    times = EachTime(Pieces([range(3, 5), range(8, 9)]))
    assert [tuple(c) for c in times] == [(3, 1), (4, 1), (8, 1)]
    assert times.size == times.live == 3


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6))),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6))),
)
def test_pieces_are_sets_of_numbers(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    a, b = (Pieces(range(s, s + n) for s, n in ranges) for ranges in (one, other))
    numbers = sorted({x for s, n in one for x in range(s, s + n)})
    assert list(a) == numbers
    assert len(a) == len(numbers)
    assert list(a.common(b)) == sorted(set(a) & set(b))
    assert [a.below(limit) for limit in range(40)] == [
        sum(x < limit for x in numbers) for limit in range(40)
    ]
