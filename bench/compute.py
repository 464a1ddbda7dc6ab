"""Guest code that needs nothing: a load/store loop and a branchy loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bench import qemu
from bench.bare import Native, Plain
from bench.guest import DATA, Guest
from bench.programs import BRANCHY, COUNT, LOAD_STORE
from bench.rows import Reference, Row, Unit
from bench.timing import best_of

if TYPE_CHECKING:
    from bench.programs import Program
    from bench.timing import Scale

LIMIT: Final = 0.65
"""Of the speed of Unicorn when it is not asked to stop at an exact instruction."""


class Loop(NamedTuple):
    """A loop to time."""

    name: str
    program: Program
    registers: dict[int, int]
    iterations: int


LOOPS: Final = (
    Loop("load/store loop", LOAD_STORE, {1: DATA}, 6_000_000),
    Loop("branchy loop", BRANCHY, {2: 0x2545_F491_4F6C_DD1D}, 2_000_000),
)


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    return [_row(loop, scale) for loop in LOOPS]


def _row(loop: Loop, scale: Scale) -> Row:
    iterations = scale.of(loop.iterations)
    registers = {**loop.registers, COUNT: iterations}
    guest = Guest(loop.program)
    before = guest.retired
    guest.run(registers)  # translates the code, and counts what both sides execute
    instructions = guest.retired - before - 1  # but the branch back to where it parks
    plain = Plain(loop.program)
    # Code keeps the form it is first translated to: counted and uncounted runs need their own.
    native, counted = Native(loop.program), Native(loop.program)
    seconds, *others = best_of(
        scale.rounds,
        lambda: guest.run(registers),
        lambda: plain.run(registers),
        lambda: native.run(registers),
        lambda: counted.run(registers, instructions),
    )
    plain_mips, native_mips, counted_mips = (_mips(instructions, other) for other in others)
    references = [
        Reference("bare Unicorn", plain_mips, LIMIT),
        Reference("empty fill hook", native_mips, LIMIT),
        Reference("empty fill hook, count=", counted_mips),
    ]
    if qemu.is_installed():
        each = qemu.seconds_each(loop.program, loop.registers, iterations, scale.rounds)
        references.append(Reference("QEMU TCG, stage 1", _mips(instructions / iterations, each)))
    value = _mips(instructions, seconds)
    return Row(loop.name, value, Unit.MIPS, tuple(references))


def _mips(instructions: float, seconds: float) -> float:
    return instructions / seconds / 1e6
