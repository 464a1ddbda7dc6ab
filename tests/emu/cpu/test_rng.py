"""Random numbers of the CPU (FEAT_RNG): none is the host's, and equal runs are equal."""

from __future__ import annotations

from typing import Final

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.profiles import profile
from emu.arch.registers.exceptions import SPSR_EL2
from emu.arch.registers.identification import ID_AA64ISAR0_EL1
from emu.cpu.rng import RNDR, RNDRRS
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, EL0T, EL1H, Bare, Taken

FEATURES: Final = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64ISAR0_EL1).replace(RNDR=1))
UNDEFINED: Final = 0x0200_0000


def mrs(rt: int, encoding: tuple[int, int, int, int, int]) -> int:
    """MRS Xt, a register by its encoding."""
    op0, op1, crn, crm, op2 = encoding
    return 0xD520_0000 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | rt


PROGRAM: Final = (mrs(5, RNDR), mrs(6, RNDRRS), mrs(7, RNDR), a64.hvc(0))


def numbers(machine: Bare) -> tuple[int, int, int]:
    machine.trap(*PROGRAM)
    return machine.x(5), machine.x(6), machine.x(7)


def test_numbers_are_the_same_on_every_run_and_differ_otherwise() -> None:
    first = numbers(Bare(FEATURES))
    assert first == numbers(Bare(FEATURES))
    other, same = Bare(FEATURES), Bare(FEATURES)
    other.pe.random_numbers.seed(1)
    same.pe.random_numbers.seed(0)
    assert first == numbers(same)
    assert len({*first, *numbers(other)}) == 6


def test_each_pe_has_numbers_of_its_own() -> None:
    pes = Bare(FEATURES, pe_count=2).machine.pes
    assert pes[0].random_numbers.next() != pes[1].random_numbers.next()


def test_all_bits_are_used() -> None:
    generator = Bare(FEATURES).pe.random_numbers
    drawn = [generator.next() for _ in range(100)]
    ones = [sum(number >> bit & 1 for number in drawn) for bit in range(64)]
    assert min(ones) > 20
    assert max(ones) < 80
    assert max(drawn) < 1 << 64


def test_success_clears_the_flags() -> None:
    machine = Bare(FEATURES)
    machine.run(mrs(5, RNDR), a64.hvc(0), pstate=EL1H | 0xF << 28)
    assert machine.pe.read(SPSR_EL2) == EL1H


def test_el0_may_read_one() -> None:
    machine = Bare(FEATURES)
    assert machine.taken_to_el1(mrs(5, RNDR), a64.svc(3), pstate=EL0T).esr == 0x5600_0003


@pytest.mark.parametrize("register", [RNDR, RNDRRS])
@pytest.mark.parametrize("name", ["cortex-a72", "neoverse-n1"])
def test_a_cpu_without_the_feature_has_none(
    name: str, register: tuple[int, int, int, int, int]
) -> None:
    taken = Bare(profile(name)).taken_to_el1(a64.NOP, mrs(5, register))
    assert taken == Taken(0x200, UNDEFINED, 0, CODE + 4, EL1H)


def test_a_write_is_undefined() -> None:
    word = mrs(5, RNDR) & ~(1 << 21)
    assert Bare(FEATURES).taken_to_el1(word) == Taken(0x200, UNDEFINED, 0, CODE, EL1H)
