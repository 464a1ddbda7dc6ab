"""The generic timer as the guest reads and writes it: time is retired instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.registers.identification import CTR_EL0, ID_AA64MMFR0_EL1
from emu.arch.registers.timer import (
    CNTFRQ_EL0,
    CNTHCTL_EL2,
    CNTKCTL_EL1,
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTP_TVAL_EL0,
    CNTPCT_EL0,
    CNTPCTSS_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTV_TVAL_EL0,
    CNTVCT_EL0,
    CNTVCTSS_EL0,
    CNTVOFF_EL2,
)
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, Bare, Taken, Trap
from tests.emu.cpu.test_traps import sys64

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

ALLOW_EL1: Final = CNTHCTL_EL2.build(EL1PCEN=1, EL1PCTEN=1)
UNDEFINED: Final = 0x0200_0000


@pytest.fixture
def bare() -> Bare:
    """Return a machine with the counters of FEAT_ECV."""
    mmfr0 = CORTEX_A72.read(ID_AA64MMFR0_EL1).replace(ECV=1)
    return Bare(CORTEX_A72.replace(mmfr0))


def test_counter_is_the_number_of_instructions_before_it_in_ticks_of_16(bare: Bare) -> None:
    bare.trap(*[a64.NOP] * 100, a64.mrs(5, CNTVCT_EL0), a64.hvc(0))
    assert bare.x(5) == 100 // 16


def test_counter_is_the_same_on_every_run(bare: Bare) -> None:
    program = (
        a64.movz(6, 500),
        a64.subs(6, 6, 1),
        a64.cbnz(6, -4),
        a64.mrs(5, CNTVCT_EL0),
        a64.hvc(0),
    )
    bare.trap(*program)
    assert bare.x(5) == 1001 // 16


def test_counter_advances_inside_one_block(bare: Bare) -> None:
    bare.trap(a64.mrs(5, CNTVCT_EL0), *[a64.NOP] * 31, a64.mrs(6, CNTVCT_EL0), a64.hvc(0))
    assert (bare.x(5), bare.x(6)) == (0, 2)


def test_virtual_counter_is_less_by_the_offset(bare: Bare) -> None:
    bare.pe.write(ALLOW_EL1)
    bare.pe.write(CNTVOFF_EL2(5))
    bare.trap(*[a64.NOP] * 160, a64.mrs(5, CNTVCT_EL0), a64.mrs(6, CNTPCT_EL0), a64.hvc(0))
    assert (bare.x(5), bare.x(6)) == (5, 10)


def test_ordered_counters_are_the_same_counters(bare: Bare) -> None:
    bare.pe.write(ALLOW_EL1)
    bare.pe.write(CNTVOFF_EL2(5))
    bare.trap(*[a64.NOP] * 160, a64.mrs(5, CNTVCTSS_EL0), a64.mrs(6, CNTPCTSS_EL0), a64.hvc(0))
    assert (bare.x(5), bare.x(6)) == (5, 10)
    assert bare.pe.retired == 163, "with HVC"


@pytest.mark.parametrize("register", [CNTVCTSS_EL0, CNTPCTSS_EL0])
def test_ordered_counters_are_undefined_without_their_feature_and_never_written(
    bare: Bare, register: type[SystemRegister]
) -> None:
    for machine, word in (
        (Bare(), a64.mrs(5, register)),
        (bare, a64.msr(register, 5)),
    ):
        machine.pe.write(ALLOW_EL1)
        taken = machine.taken_to_el1(a64.NOP, word)
        assert taken == Taken(0x200, UNDEFINED, 0, CODE + 4, EL1H)


def test_a_counter_takes_the_place_of_another_where_the_instruction_cache_is_coherent() -> None:
    mmfr0 = CORTEX_A72.read(ID_AA64MMFR0_EL1).replace(ECV=1)
    machine = Bare(CORTEX_A72.replace(mmfr0, CORTEX_A72.read(CTR_EL0).replace(DIC=1)))
    again = a64.b(-16)
    machine.code(a64.mrs(5, CNTVCT_EL0), a64.cbnz(7, 16), a64.str_(3, 2, size=4))
    machine.code(a64.movz(7, 1), again, a64.hvc(0), at=CODE + 12)
    machine.map_ipa(DATA, machine._code_pages[CODE])
    machine.pe.write(CNTVOFF_EL2((1 << 64) - 5))
    machine.set_x(x2=DATA, x3=a64.mrs(6, CNTVCTSS_EL0), x7=0)
    machine.start(CODE)
    assert machine.trap().esr == 0x5A00_0000
    assert (machine.x(5), machine.x(6)) == (5, 5)


def test_frequency_is_one_tick_in_16_instructions_of_a_nanosecond(bare: Bare) -> None:
    bare.trap(a64.mrs(5, CNTFRQ_EL0), a64.hvc(0))
    assert bare.x(5) * 16 == 1_000_000_000


@pytest.mark.parametrize("register", [CNTV_CVAL_EL0, CNTP_CVAL_EL0, CNTV_CTL_EL0, CNTP_CTL_EL0])
def test_guest_and_el2_share_the_registers(bare: Bare, register: type[SystemRegister]) -> None:
    bare.pe.write(ALLOW_EL1)
    bare.set_x(x2=3)
    bare.trap(a64.msr(register, 2), a64.hvc(0), a64.mrs(5, register), a64.hvc(0))
    assert bare.pe.read(register) & 3 == 3
    bare.pe.write(register(2))
    bare.trap()
    assert bare.x(5) == 2


def test_timer_fires_when_the_counter_reaches_its_value(bare: Bare) -> None:
    bare.set_x(x2=2, x3=1)
    program = (
        a64.msr(CNTV_CVAL_EL0, 2),
        a64.msr(CNTV_CTL_EL0, 3),
        *[a64.NOP] * 28,
        a64.mrs(5, CNTV_CTL_EL0),
        a64.NOP,
        a64.mrs(6, CNTV_CTL_EL0),
        a64.hvc(0),
    )
    bare.trap(*program)
    assert (bare.x(5), bare.x(6)) == (1, 5), "ISTATUS with the 32nd instruction"


def test_tval_counts_down(bare: Bare) -> None:
    bare.set_x(x2=100)
    bare.trap(a64.msr(CNTV_TVAL_EL0, 2), *[a64.NOP] * 31, a64.mrs(5, CNTV_TVAL_EL0), a64.hvc(0))
    assert bare.x(5) == 98
    assert bare.pe.read(CNTV_CVAL_EL0) == 100


PHYSICAL: Final = {
    CNTPCT_EL0: "EL1PCTEN",
    CNTPCTSS_EL0: "EL1PCTEN",
    CNTP_CTL_EL0: "EL1PCEN",
    CNTP_CVAL_EL0: "EL1PCEN",
    CNTP_TVAL_EL0: "EL1PCEN",
}


@pytest.mark.parametrize("register", PHYSICAL)
def test_physical_timer_traps_to_el2_unless_allowed(
    bare: Bare, register: type[SystemRegister]
) -> None:
    word = a64.mrs(5, register)
    other = {"EL1PCTEN": "EL1PCEN", "EL1PCEN": "EL1PCTEN"}[PHYSICAL[register]]
    bare.pe.write(CNTHCTL_EL2.build(**{other: 1}))
    assert bare.trap(a64.NOP, word) == Trap(sys64(word), 0, 0, CODE + 4, 0x3C5)
    bare.pe.write(CNTHCTL_EL2.build(**{PHYSICAL[register]: 1}))
    assert bare.trap(a64.NOP, word, a64.hvc(0)).esr == 0x5A00_0000


EL0: Final = {
    CNTVCT_EL0: ("EL0VCTEN",),
    CNTVCTSS_EL0: ("EL0VCTEN",),
    CNTPCT_EL0: ("EL0PCTEN",),
    CNTPCTSS_EL0: ("EL0PCTEN",),
    CNTFRQ_EL0: ("EL0VCTEN", "EL0PCTEN"),
    CNTV_CTL_EL0: ("EL0VTEN",),
    CNTV_CVAL_EL0: ("EL0VTEN",),
    CNTV_TVAL_EL0: ("EL0VTEN",),
    CNTP_CTL_EL0: ("EL0PTEN",),
    CNTP_CVAL_EL0: ("EL0PTEN",),
    CNTP_TVAL_EL0: ("EL0PTEN",),
}


@pytest.mark.parametrize("register", EL0)
def test_el0_reaches_a_register_only_with_one_of_its_bits(
    bare: Bare, register: type[SystemRegister]
) -> None:
    bare.pe.write(ALLOW_EL1)
    word = a64.mrs(5, register)
    enough = EL0[register]
    every = {"EL0VCTEN", "EL0PCTEN", "EL0VTEN", "EL0PTEN"}
    bare.pe.write(CNTKCTL_EL1.build(**dict.fromkeys(every - set(enough), 1)))
    taken = bare.taken_to_el1(a64.NOP, word, pstate=EL0T)
    assert taken == Taken(0x400, sys64(word), 0, CODE + 4, EL0T)
    for bit in enough:
        bare.pe.write(CNTKCTL_EL1.build(**{bit: 1}))
        assert bare.taken_to_el1(word, a64.svc(3), pstate=EL0T).esr == 0x5600_0003


def test_time_stands_still_while_el2_runs(bare: Bare) -> None:
    bare.trap(*[a64.NOP] * 20, a64.hvc(0), a64.mrs(5, CNTVCT_EL0), a64.hvc(0))
    before = bare.pe.read(CNTPCT_EL0)
    assert bare.pe.read(CNTPCT_EL0) == before == 1
    bare.trap()
    assert bare.x(5) == 1


def test_idle_time_counts(bare: Bare) -> None:
    bare.trap(a64.hvc(0), a64.mrs(5, CNTVCT_EL0), a64.hvc(0))
    bare.pe.clock.wait_until(bare.pe.time + 1600)
    bare.trap()
    assert bare.x(5) == 100
    assert (bare.pe.retired, bare.pe.time) == (3, 1603)


def test_waiting_passes_the_time_until_the_next_timer_interrupt(bare: Bare) -> None:
    bare.pe.write(CNTV_CVAL_EL0(100))
    bare.pe.write(CNTV_CTL_EL0(1))
    bare.run(*[a64.NOP] * 24, budget=24)
    assert bare.pe.wait_for_interrupt()
    assert (bare.pe.time, bare.pe.retired) == (1600, 24)
    assert bare.pe.read(CNTV_CTL_EL0) == 5


def test_waiting_for_what_is_there_already_takes_no_time(bare: Bare) -> None:
    bare.run(*[a64.NOP] * 40, budget=40)
    bare.pe.write(CNTV_CVAL_EL0(1))
    bare.pe.write(CNTV_CTL_EL0(1))
    assert bare.pe.wait_for_interrupt()
    assert bare.pe.clock.idle == 0


def test_waiting_for_nothing_is_refused(bare: Bare) -> None:
    bare.pe.write(CNTV_CVAL_EL0(1))
    bare.pe.write(CNTV_CTL_EL0(3))
    assert not bare.pe.wait_for_interrupt()
    assert bare.pe.time == 0
