"""run(): budgets, entries to EL2, illegal states, exceptions out of callbacks, livelock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.registers.exceptions import ELR_EL2, ESR_EL2, SPSR_EL2, VBAR_EL1
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, EL1T, VECTORS

if TYPE_CHECKING:
    from tests.emu.cpu.bare import Bare

COUNT_FOREVER: Final = (a64.add(5, 5, 1), a64.add(6, 6, 1), a64.b(-8))


@pytest.mark.parametrize("budget", [1, 2, 3, 4, 100, 511, 512, 513, 514, 1000, 10_007, 100_003])
def test_budget_is_exact(bare: Bare, budget: int) -> None:
    bare.set_x(x5=0, x6=0)
    assert bare.run(*COUNT_FOREVER, budget=budget) is EL2Entry.IRQ
    assert bare.pe.retired == budget
    assert (bare.x(5), bare.x(6)) == ((budget + 2) // 3, (budget + 1) // 3)
    assert bare.pe.read(ELR_EL2) == CODE + 4 * (budget % 3)
    assert bare.pe.read(SPSR_EL2) == EL1H


@pytest.mark.parametrize("step", [1, 2, 3, 7, 600])
def test_pieces_add_up_to_the_whole(bare: Bare, step: int) -> None:
    bare.set_x(x5=0, x6=0)
    bare.run(*COUNT_FOREVER, budget=step)
    while bare.pe.retired < 2100 - step:
        bare.run(budget=step)
    bare.run(budget=2100 - bare.pe.retired)
    assert (bare.x(5), bare.x(6)) == (700, 700)
    assert bare.pe.read(ELR_EL2) == CODE


@pytest.mark.parametrize("budget", [0, -1])
def test_no_budget_runs_nothing(bare: Bare, budget: int) -> None:
    assert bare.run(a64.movz(5, 1), budget=budget) is EL2Entry.IRQ
    assert (bare.pe.retired, bare.pe.read(ELR_EL2)) == (0, CODE)


def test_interrupt_leaves_the_syndrome_of_the_last_trap(bare: Bare) -> None:
    bare.trap(a64.hvc(7), a64.b(0))
    assert bare.run(budget=10) is EL2Entry.IRQ
    assert bare.pe.read(ESR_EL2) == 0x5A00_0007


def test_pstate_of_an_interrupted_guest_is_kept(bare: Bare) -> None:
    bare.run(a64.subs(5, 31, 0), a64.b(0), pstate=EL1T, budget=5)
    assert bare.pe.read(SPSR_EL2) == EL1T | 0x6000_0000


@pytest.mark.parametrize("pstate", [0x9, 0x8, 0xD, 0x1, 0x10, 0x1D, 0x15])
def test_mode_that_is_no_guest_s_is_refused(bare: Bare, pstate: int) -> None:
    bare.start(CODE, pstate)
    with pytest.raises(ValueError, match=rf"not with M\[4:0\] {pstate:#x}$"):
        bare.pe.run(1)


@pytest.mark.parametrize("pstate", [EL0T, EL1T, EL1H])
def test_every_guest_mode_runs(bare: Bare, pstate: int) -> None:
    bare.run(a64.b(0), pstate=pstate, budget=3)
    assert bare.pe.read(SPSR_EL2) == pstate


# The vector


def test_vector_that_returns_true_erets_to_what_it_wrote(bare: Bare) -> None:
    seen: list[int] = []

    def vector() -> bool:
        seen.append(int(bare.pe.read(ESR_EL2)) & 0xFFFF)
        bare.pe.write(ELR_EL2(bare.pe.read(ELR_EL2) + 4))
        return seen[-1] != 3

    bare.pe.el2_vector = vector
    program = (a64.hvc(1), a64.movz(5, 1), a64.hvc(2), a64.movz(6, 1), a64.hvc(3))
    assert bare.run(*program) is EL2Entry.TRAP
    assert seen == [1, 2, 3]
    assert (bare.x(5) & 0xFF, bare.x(6) & 0xFF) == (0x77, 0x77), "both were skipped"
    assert bare.pe.retired == 3


def test_vector_may_change_mode_and_registers(bare: Bare) -> None:
    def vector() -> bool:
        if bare.pe.read(ESR_EL2) != 0x5A00_0001:
            return False
        bare.pe.write(SPSR_EL2(EL0T))
        bare.pe.write_x(5, 99)
        return True

    bare.pe.el2_vector = vector
    assert bare.taken_to_el1(a64.hvc(1), a64.svc(0)).vector == 0x400
    assert bare.x(5) == 99


def test_vector_is_called_with_exact_time(bare: Bare) -> None:
    times: list[int] = []

    def vector() -> bool:
        times.append(bare.pe.retired)
        bare.map_ipa(DATA + 0x1000 * (len(times) - 1))
        return len(times) < 4

    bare.pe.el2_vector = vector
    program = (a64.NOP, a64.ldr(1, 2), a64.NOP, a64.ldr(1, 3), a64.ldr(1, 4), a64.hvc(0))
    bare.set_x(x2=DATA, x3=DATA + 0x1000, x4=DATA + 0x2000)
    bare.run(*program)
    assert times == [1, 3, 4, 6]


def test_vector_is_called_with_exact_time_on_a_fetch(bare: Bare) -> None:
    times: list[int] = []

    def vector() -> bool:
        times.append(bare.pe.retired)
        if len(times) == 1:
            bare.code(a64.NOP, a64.hvc(0), at=DATA)
        return len(times) < 2

    bare.pe.el2_vector = vector
    bare.set_x(x2=DATA)
    bare.run(a64.NOP, a64.br(2))
    assert times == [2, 4]


# Errors


class OutOfOrderError(Exception):
    """Raised by tests inside callbacks."""


CALLBACKS: Final = {
    "data abort": a64.ldr(1, 2),
    "instruction abort": a64.br(2),
    "hvc": a64.hvc(0),
    "trapped register": 0xD518_2045,
}


@pytest.mark.parametrize("case", CALLBACKS)
@pytest.mark.parametrize("error", [OutOfOrderError, KeyboardInterrupt])
def test_exception_of_the_vector_comes_out_of_run(
    bare: Bare, case: str, error: type[BaseException]
) -> None:
    def vector() -> bool:
        raise error

    bare.change_hcr(TVM=1)
    bare.pe.el2_vector = vector
    bare.set_x(x2=DATA)
    with pytest.raises(error):
        bare.run(a64.NOP, CALLBACKS[case])


def test_guest_can_be_started_anew_after_an_exception(bare: Bare) -> None:
    def vector() -> bool:
        raise OutOfOrderError

    bare.pe.el2_vector = vector
    bare.set_x(x2=DATA)
    with pytest.raises(OutOfOrderError):
        bare.run(a64.NOP, a64.ldr(1, 2), a64.hvc(1))
    bare.pe.el2_vector = None
    bare.map_ipa(DATA)
    bare.start()
    assert bare.trap().esr == 0x5A00_0001


# Livelock


def test_handler_that_faults_on_itself_is_reported(bare: Bare) -> None:
    bare.pe.write(VBAR_EL1(VECTORS + 0x800))
    bare.code(a64.UDF, at=VECTORS + 0x800 + 0x200)
    assert bare.run(a64.NOP, a64.UDF, budget=10_000_000) is EL2Entry.LIVELOCK
    assert bare.pe.retired == 1
    assert bare.pe.read(ELR_EL2) == VECTORS + 0xA00


def test_vector_that_resolves_nothing_is_reported(bare: Bare) -> None:
    calls: list[int] = []

    def vector() -> bool:
        calls.append(1)
        return True

    bare.pe.el2_vector = vector
    bare.set_x(x2=DATA)
    assert bare.run(a64.NOP, a64.ldr(1, 2), budget=10_000_000) is EL2Entry.LIVELOCK
    assert bare.pe.read(ELR_EL2) == CODE + 4
    assert 100 < len(calls) < 10_000


def test_traps_that_leave_run_without_progress_are_no_livelock(bare: Bare) -> None:
    bare.set_x(x2=DATA)
    bare.code(a64.ldr(1, 2), a64.hvc(0))
    bare.start()
    for _ in range(3000):
        assert bare.pe.run(100) is EL2Entry.TRAP
    bare.map_ipa(DATA)
    assert bare.trap().esr == 0x5A00_0000


def test_many_exceptions_with_progress_are_no_livelock(bare: Bare) -> None:
    handler = VECTORS + 0x800
    bare.pe.write(VBAR_EL1(handler))
    bare.code(a64.ERET, at=handler + 0x200)
    program = (a64.movz(5, 3000), a64.svc(0), a64.subs(5, 5, 1), a64.cbnz(5, -8), a64.hvc(1))
    assert bare.run(*program, budget=1_000_000) is EL2Entry.TRAP
    assert bare.pe.retired == 2 + 3000 * 4
