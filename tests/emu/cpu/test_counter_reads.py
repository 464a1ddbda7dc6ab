"""Counters of the generic timer: EL1 reads them in machine code, with the same answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.esr.classes import ExceptionClass
from emu.arch.registers.exceptions import PSTATE, Mode
from emu.arch.registers.timer import (
    CNTHCTL_EL2,
    CNTKCTL_EL1,
    CNTPCT_EL0,
    CNTVCT_EL0,
    CNTVOFF_EL2,
)
from emu.cpu import hostcode, system
from emu.units.timer import INSTRUCTIONS_PER_TICK
from tests.emu.cpu import a64

if TYPE_CHECKING:
    from emu.arch.address import VA
    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement
    from emu.cpu.site import Site
    from tests.emu.cpu.bare import Bare

NATIVE: Final = hostcode.for_host(hostcode.RETURN) is not None
COUNTERS: Final = (CNTVCT_EL0, CNTPCT_EL0)
EL0: Final = PSTATE.build(M=Mode.EL0t, D=1, A=1, I=1, F=1)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the PC of each system instruction that comes to Python."""
    seen: list[int] = []
    execute = system.execute

    def spy(pe: ProcessingElement, site: Site, pc: VA, el: int) -> object:
        seen.append(pc)
        return execute(pe, site, pc, el)

    monkeypatch.setattr(system, "execute", spy)
    return seen


@pytest.mark.parametrize("register", COUNTERS)
@pytest.mark.parametrize("nops", [0, 1, 15, 16, 17, 40])
def test_a_counter_has_the_time_of_its_instruction(
    bare: Bare, register: type[SystemRegister], nops: int
) -> None:
    bare.pe.write(CNTHCTL_EL2.build(EL1PCTEN=1))
    bare.pe.clock.wait_until(1600)
    bare.run(*[a64.NOP] * nops, a64.mrs(1, register), a64.mrs(29, register), a64.hvc(0))
    assert bare.x(1) == (1600 + nops) // INSTRUCTIONS_PER_TICK
    assert bare.x(29) == (1601 + nops) // INSTRUCTIONS_PER_TICK, "X29 is read by Python"


def test_the_offset_is_of_the_virtual_counter_alone(bare: Bare) -> None:
    bare.pe.write(CNTHCTL_EL2.build(EL1PCTEN=1))
    bare.pe.write(CNTVOFF_EL2(30))
    bare.pe.clock.wait_until(320)
    bare.run(a64.mrs(1, CNTVCT_EL0), a64.mrs(2, CNTPCT_EL0), a64.hvc(0))
    assert (bare.x(1), bare.x(2)) == ((20 - 30) & (1 << 64) - 1, 20)


def test_time_goes_on_over_budgets_blocks_and_loops(bare: Bare) -> None:
    code = (a64.mrs(2, CNTVCT_EL0), a64.subs(6, 6, 1), a64.cbnz(6, -8), a64.hvc(0))
    bare.code(*code)
    bare.set_x(x6=100)
    bare.start()
    for budget in (1, 2, 3, 50, 100, 10_000):
        bare.pe.run(budget)
    assert bare.x(2) == 297 // INSTRUCTIONS_PER_TICK


@pytest.mark.skipif(not NATIVE, reason="there is no machine code for this host")
def test_el1_does_not_come_to_python_for_a_counter(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.pe.write(CNTHCTL_EL2.build(EL1PCTEN=1))
    seen = asked(monkeypatch)
    bare.run(*[a64.mrs(n, CNTVCT_EL0) for n in range(29)], a64.mrs(1, CNTPCT_EL0), a64.hvc(0))
    assert seen == []


def test_the_physical_counter_traps_as_soon_as_el2_says_so(bare: Bare) -> None:
    bare.pe.write(CNTHCTL_EL2.build(EL1PCTEN=1))
    bare.run(a64.mrs(1, CNTPCT_EL0), a64.hvc(0))
    bare.pe.write(CNTHCTL_EL2(0))
    assert bare.trap(a64.mrs(1, CNTPCT_EL0)).esr >> 26 == ExceptionClass.SYS64


def test_el0_asks_for_the_permission_of_el1(bare: Bare) -> None:
    program = (a64.mrs(1, CNTVCT_EL0), a64.hvc(0))
    assert bare.taken_to_el1(*program, pstate=EL0).esr >> 26 == ExceptionClass.SYS64
    bare.pe.write(CNTKCTL_EL1.build(EL0VCTEN=1))
    bare.pe.clock.wait_until(1600)
    bare.set_x(x1=0)
    bare.taken_to_el1(a64.mrs(1, CNTVCT_EL0), a64.svc(0), pstate=EL0)
    assert bare.x(1) == 100
