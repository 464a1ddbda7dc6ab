"""The performance monitors of a PE: counting, overflow and access, exact to the instruction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from emu.arch.a64.maintenance import DC, IC
from emu.arch.address import PA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.features import CORTEX_A72
from emu.arch.registers import BY_NAME
from emu.arch.registers.exceptions import ELR_EL2, ESR_EL2, SPSR_EL1, SPSR_EL2
from emu.arch.registers.identification import ID_AA64DFR0_EL1, ID_AA64ISAR0_EL1
from emu.arch.registers.performance import (
    PMCCFILTR_EL0,
    PMCCNTR_EL0,
    PMCEID0_EL0,
    PMCEID1_EL0,
    PMCNTENSET_EL0,
    PMCR_EL0,
    PMEVCNTR_EL0,
    PMEVTYPER_EL0,
    PMINTENSET_EL1,
    PMMIR_EL1,
    PMOVSCLR_EL0,
    PMOVSSET_EL0,
    PMSELR_EL0,
    PMSWINC_EL0,
    PMUSERENR_EL0,
    PMXEVCNTR_EL0,
    PMXEVTYPER_EL0,
    EventType,
    PmuEvent,
)
from emu.arch.registers.virtualization import HCR_EL2, MDCR_EL2
from emu.cpu.monitors import is_performance_monitor
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, VECTORS, Bare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement

CYCLES: Final = 31
FULL: Final = 1 << 32
USER_ONLY: Final = EventType.build(P=1)
KERNEL_ONLY: Final = EventType.build(U=1)
FILTERS: Final = {"both": 0, "EL0": int(USER_ONLY), "EL1": int(KERNEL_ONLY)}
PMUV3P5: Final = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64DFR0_EL1).replace(PMUVer=6))
NO_PMU: Final = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64DFR0_EL1).replace(PMUVer=0xF))


class Counter(NamedTuple):
    """How a counter is set up."""

    number: int
    type: int
    value: int = 0
    interrupt: bool = False


def count(bare: Bare, *counters: Counter) -> None:
    """Set counters up as EL2 does, and turn them on."""
    pe = bare.pe
    for number, type_, value, interrupt in counters:
        pe.write(PMCCFILTR_EL0(type_) if number == CYCLES else PMEVTYPER_EL0[number](type_))
        pe.write(PMCCNTR_EL0(value) if number == CYCLES else PMEVCNTR_EL0[number](value))
        pe.write(PMCNTENSET_EL0(1 << number))
        if interrupt:
            pe.write(PMINTENSET_EL1(1 << number))
    pe.pmu.interrupting = True
    pe.write(PMCR_EL0.build(E=1, LC=1))


def value(bare: Bare, number: int) -> int:
    return int(bare.pe.read(PMCCNTR_EL0 if number == CYCLES else PMEVCNTR_EL0[number]))


def overflows(bare: Bare) -> int:
    return int(bare.pe.read(PMOVSSET_EL0))


def ping_pong(bare: Bare) -> None:
    """Have EL0 call EL1 for ever: four instructions at each level, one of which is a call."""
    bare.code(a64.add(4, 4, 1), a64.add(4, 4, 1), a64.svc(0), a64.b(-12))
    handler = (a64.add(5, 5, 1), a64.mrs(6, SPSR_EL1), a64.add(5, 5, 1), a64.ERET)
    bare.code(*handler, at=VECTORS + 0x400)
    bare.stage1_on()
    bare.start(CODE, EL0T)


def step_by_step(budget: int) -> tuple[int, int]:
    """Return the instructions that retire at EL0 and at EL1, found by single steps."""
    bare = Bare()
    ping_pong(bare)
    found = [0, 0]
    while bare.pe.retired < budget:
        level = bare.pe.read(SPSR_EL2) >> 2 & 1
        before = bare.pe.retired
        assert bare.pe.run(1) is EL2Entry.IRQ
        found[level] += bare.pe.retired - before
    return found[0], found[1]


# --- counting ------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", [(500,), (7, 1, 30, 12), (1,) * 60])
def test_instructions_are_counted_by_exception_level(slices: tuple[int, ...]) -> None:
    bare = Bare()
    ping_pong(bare)
    event = PmuEvent.INST_RETIRED
    count(bare, Counter(0, event), Counter(1, event | USER_ONLY), Counter(2, event | KERNEL_ONLY))
    for budget in slices:
        bare.pe.run(budget)
    user, kernel = step_by_step(sum(slices))
    assert [value(bare, n) for n in range(3)] == [user + kernel, user, kernel]
    assert user
    assert kernel


def test_cycles_are_instructions_and_exceptions() -> None:
    bare = Bare()
    ping_pong(bare)
    count(bare, Counter(0, PmuEvent.CPU_CYCLES | USER_ONLY), Counter(CYCLES, 0))
    bare.pe.run(8 * 10)
    assert value(bare, 0) == 4 * 10 + 10
    assert value(bare, CYCLES) == 80 + 10


@pytest.mark.parametrize("filter_", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("left", [1, 2, 3, 4, 5, 9, 64])
def test_overflow_enters_el2_behind_the_instruction(filter_: int, left: int) -> None:
    bare = Bare()
    ping_pong(bare)
    count(bare, Counter(3, PmuEvent.INST_RETIRED | filter_, FULL - left, interrupt=True))
    assert bare.pe.run(10_000) is EL2Entry.IRQ
    assert value(bare, 3) == 0
    assert overflows(bare) == 1 << 3
    time = bare.pe.retired
    assert time < 10_000
    levels = step_by_step(time)
    before = step_by_step(time - 1)
    counted = {0: sum, int(USER_ONLY): lambda pair: pair[0], int(KERNEL_ONLY): lambda pair: pair[1]}
    pick: Callable[[tuple[int, int]], int] = counted[filter_]
    assert pick(levels) == left
    assert pick(before) == left - 1


def test_interrupt_stays_until_the_status_is_cleared() -> None:
    bare = Bare()
    ping_pong(bare)
    count(bare, Counter(0, PmuEvent.INST_RETIRED, FULL - 5, interrupt=True))
    bare.pe.run(100)
    assert bare.pe.run(100) is EL2Entry.IRQ
    assert bare.pe.retired == 5
    bare.pe.write(PMOVSCLR_EL0(1))
    bare.pe.run(100)
    assert bare.pe.retired == 105


def test_interrupt_that_the_controller_keeps_back_does_not_enter_el2() -> None:
    bare = Bare()
    ping_pong(bare)
    count(bare, Counter(0, PmuEvent.INST_RETIRED, FULL - 5, interrupt=True))
    bare.pe.pmu.interrupting = False
    bare.pe.run(100)
    assert bare.pe.retired == 100
    assert overflows(bare) == 1


def test_cycle_counter_overflows_at_32_or_64_bits() -> None:
    for long, start in ((0, FULL - 10), (1, (1 << 64) - 10), (1, FULL - 10)):
        bare = Bare()
        ping_pong(bare)
        count(bare, Counter(CYCLES, 0, start))
        bare.pe.write(PMCR_EL0.build(E=1, LC=long))
        bare.pe.run(30)
        assert value(bare, CYCLES) == (start + 30 + 4) % (1 << 64)
        assert bool(overflows(bare)) is ((long, start) != (1, FULL - 10))


def test_divider_counts_every_64th_cycle_unless_the_counter_is_long() -> None:
    bare = Bare()
    bare.code(a64.add(4, 4, 1), a64.b(-4))
    bare.start()
    bare.pe.run(2)  # the fetch has been resolved
    count(bare, Counter(CYCLES, 0, FULL - 2, interrupt=True))
    bare.pe.write(PMCR_EL0.build(E=1, D=1, C=0))
    before = bare.pe.retired
    bare.pe.run(1000)
    assert bare.pe.retired - before == 128
    bare.pe.write(PMCR_EL0.build(E=1, D=1, LC=1))
    bare.pe.write(PMOVSCLR_EL0(1 << 31))
    bare.pe.run(1000)
    assert value(bare, CYCLES) == FULL + 1000


def test_odd_counter_is_chained_to_the_even_one() -> None:
    bare = Bare()
    ping_pong(bare)
    count(
        bare,
        Counter(2, PmuEvent.INST_RETIRED, FULL - 6),
        Counter(3, PmuEvent.CHAIN, FULL - 1, interrupt=True),
    )
    assert bare.pe.run(100) is EL2Entry.IRQ
    assert bare.pe.retired == 6
    assert overflows(bare) == 0b1100
    assert (value(bare, 2), value(bare, 3)) == (0, 0)


@pytest.mark.parametrize(("number", "event"), [(3, PmuEvent.CHAIN), (2, PmuEvent.SW_INCR)])
def test_odd_counter_that_is_off_or_of_another_event_is_not_chained(
    number: int, event: PmuEvent
) -> None:
    bare = Bare()
    ping_pong(bare)
    count(bare, Counter(2, PmuEvent.INST_RETIRED, FULL - 6), Counter(number, event, 7))
    bare.pe.write(PMEVTYPER_EL0[2](PmuEvent.INST_RETIRED))
    bare.pe.write(PMEVCNTR_EL0[2](FULL - 6))
    if number == 3:
        bare.pe.write(BY_NAME["PMCNTENCLR_EL0"](1 << 3))
    bare.pe.run(100)
    assert value(bare, 3) == (7 if number == 3 else 0)


def test_counters_of_pmuv3p5_have_64_bits() -> None:
    bare = Bare(PMUV3P5)
    ping_pong(bare)
    count(bare, Counter(0, PmuEvent.INST_RETIRED, FULL - 5))
    bare.pe.run(10)
    assert value(bare, 0) == FULL + 5
    assert overflows(bare) == 1
    bare.pe.write(PMEVCNTR_EL0[0]((1 << 64) - 5))
    bare.pe.write(PMOVSCLR_EL0(1))
    bare.pe.write(PMCR_EL0.build(E=1, LP=1))
    bare.pe.run(4)
    assert overflows(bare) == 0
    bare.pe.run(1)
    assert overflows(bare) == 1


def test_nothing_counts_without_both_enables() -> None:
    bare = Bare()
    ping_pong(bare)
    count(bare, Counter(0, PmuEvent.INST_RETIRED))
    bare.pe.write(PMCR_EL0(0))
    bare.pe.run(10)
    assert value(bare, 0) == 0
    bare.pe.write(PMCR_EL0.build(E=1))
    bare.pe.run(10)
    bare.pe.write(BY_NAME["PMCNTENCLR_EL0"](1))
    bare.pe.run(10)
    assert value(bare, 0) == 10


def test_filter_of_both_levels_counts_nothing() -> None:
    bare = Bare()
    ping_pong(bare)
    count(bare, Counter(0, PmuEvent.INST_RETIRED | USER_ONLY | KERNEL_ONLY))
    bare.pe.run(50)
    assert value(bare, 0) == 0


def test_non_secure_filter_inverts_the_other() -> None:
    bare = Bare()
    ping_pong(bare)
    both = PmuEvent.INST_RETIRED | EventType.build(P=1, NSK=1, U=0, NSU=1)
    count(bare, Counter(0, both))
    bare.pe.run(80)
    assert value(bare, 0) == step_by_step(80)[1]


def test_counters_reset_by_control_keep_their_overflow_status() -> None:
    bare = Bare()
    count(bare, Counter(0, PmuEvent.SW_INCR, 5), Counter(CYCLES, 0, 9))
    bare.pe.write(PMOVSSET_EL0(1))
    bare.pe.write(PMCR_EL0.build(P=1))
    assert (value(bare, 0), value(bare, CYCLES)) == (0, 9)
    bare.pe.write(PMCR_EL0.build(C=1))
    assert (value(bare, CYCLES), overflows(bare)) == (0, 1)
    assert not bare.pe.read(PMCR_EL0).C


def test_events_that_are_announced() -> None:
    bare = Bare()
    ids = int(bare.pe.read(PMCEID0_EL0)) | int(bare.pe.read(PMCEID1_EL0)) << 32
    assert [n for n in range(64) if ids >> n & 1] == [0x00, 0x08, 0x11, 0x13, 0x1E]
    newer = Bare(PMUV3P5).pe
    assert newer.read(PMCEID1_EL0) == 1 << 3 | 1 << 4


# --- accesses to memory --------------------------------------------------------------------

ACCESSES: Final = (a64.ldr(1, 2), a64.str_(1, 2, 8), a64.ldp(1, 3, 2), a64.ldar(1, 2),
                   DC.ZVA.word(rt=2))  # fmt: skip
OTHERS: Final = (a64.NOP, a64.prfm(2), a64.add(4, 4, 1))


def accessing(*words: int) -> Bare:
    """Return a machine with stage 1 on, x2 = DATA, at the start of a program."""
    bare = Bare()
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    bare.code(*words)
    bare.stage1_on()
    bare.map_va(DATA, DATA)
    bare.start()
    return bare


def test_each_load_and_store_is_one_access() -> None:
    program = [word for access in ACCESSES for word in (access, *OTHERS)] * 3
    bare = accessing(*program, a64.hvc(1))
    count(bare, Counter(0, PmuEvent.MEM_ACCESS), Counter(1, PmuEvent.MEM_ACCESS | USER_ONLY))
    assert bare.trap().esr & 0xFF == 1
    assert (value(bare, 0), value(bare, 1)) == (3 * len(ACCESSES), 0)


@pytest.mark.parametrize("left", range(1, 7))
def test_overflow_of_accesses_enters_el2_behind_the_access(left: int) -> None:
    step = (a64.NOP, a64.ldr(1, 2), a64.NOP, a64.NOP)
    bare = accessing(*step * 3, a64.ldr(1, 2), a64.ldr(1, 2), a64.ldr(1, 2), *step)
    count(bare, Counter(0, PmuEvent.MEM_ACCESS, FULL - left, interrupt=True))
    assert bare.pe.run(100) is EL2Entry.IRQ
    assert bare.pe.retired == (2, 6, 10, 13, 14, 15)[left - 1]
    assert value(bare, 0) == 0


def test_access_that_aborts_counts_when_it_is_done() -> None:
    bare = accessing(a64.ldr(1, 2), a64.ldr(1, 2), a64.hvc(1))
    bare.s2.unmap(DATA)
    frame = bare.frame()
    seen: list[int] = []

    def map_page() -> bool:
        if bare.pe.read(ESR_EL2).EC == ExceptionClass.HVC64:
            return False
        seen.append(value(bare, 0))
        bare.s2.map(DATA, PA(frame), 0x7FC)
        return True

    bare.pe.el2_vector = map_page
    count(bare, Counter(0, PmuEvent.MEM_ACCESS))
    bare.trap()
    assert seen == [0]
    assert value(bare, 0) == 2


def test_accesses_are_watched_only_while_they_are_counted() -> None:
    bare = accessing(a64.ldr(1, 2), a64.b(-4))
    for budget in (4, 4):
        assert not bare.pe.code.strict
        count(bare, Counter(0, PmuEvent.MEM_ACCESS))
        bare.pe.run(budget)
        assert bare.pe.code.strict
        bare.pe.write(PMCR_EL0(0))
        bare.pe.run(2)
    assert value(bare, 0) == 2


# --- access --------------------------------------------------------------------------------


def test_el1_counts_its_own_instructions() -> None:
    bare = Bare()
    bare.set_x(x2=PmuEvent.INST_RETIRED, x3=1, x4=int(PMCR_EL0.build(E=1)))
    bare.trap(
        a64.msr(PMEVTYPER_EL0[0], 2),
        a64.msr(PMCNTENSET_EL0, 3),
        a64.msr(PMCR_EL0, 4),
        a64.mrs(5, PMEVCNTR_EL0[0]),
        a64.NOP,
        a64.NOP,
        a64.mrs(6, PMEVCNTR_EL0[0]),
        a64.hvc(1),
    )
    assert (bare.x(5), bare.x(6)) == (1, 4), "the MSR that starts it counts itself"


def test_el1_starts_a_counter_in_the_middle_of_a_run_and_the_overflow_is_exact() -> None:
    bare = Bare()
    bare.pe.pmu.interrupting = True
    bare.set_x(x2=PmuEvent.INST_RETIRED, x3=1, x4=1, x5=FULL - 5)
    program = (
        a64.msr(PMEVTYPER_EL0[0], 2),
        a64.msr(PMEVCNTR_EL0[0], 5),
        a64.msr(PMINTENSET_EL1, 3),
        a64.msr(PMCNTENSET_EL0, 3),
        a64.msr(PMCR_EL0, 4),
        *[a64.NOP] * 20,
    )
    assert bare.run(*program) is EL2Entry.IRQ
    assert bare.pe.read(ELR_EL2) == CODE + 4 * (5 + 4)


def test_selected_counter() -> None:
    bare = Bare()
    bare.set_x(x2=3, x3=PmuEvent.SW_INCR, x4=77, x7=31)
    bare.trap(
        a64.msr(PMSELR_EL0, 2),
        a64.msr(PMXEVTYPER_EL0, 3),
        a64.msr(PMXEVCNTR_EL0, 4),
        a64.mrs(5, PMXEVCNTR_EL0),
        a64.msr(PMSELR_EL0, 7),
        a64.msr(PMXEVTYPER_EL0, 4),
        a64.mrs(6, PMXEVTYPER_EL0),
        a64.hvc(1),
    )
    assert (bare.x(5), value(bare, 3)) == (77, 77)
    assert (bare.x(6), int(bare.pe.read(PMCCFILTR_EL0))) == (0, 0)


def test_software_increment_is_filtered_by_the_level_that_writes() -> None:
    bare = Bare()
    event = PmuEvent.SW_INCR
    count(bare, Counter(0, event), Counter(1, event | USER_ONLY), Counter(2, PmuEvent.CHAIN))
    bare.set_x(x2=0b111)
    bare.trap(a64.msr(PMSWINC_EL0, 2), a64.msr(PMSWINC_EL0, 2), a64.hvc(1))
    assert [value(bare, n) for n in range(3)] == [2, 0, 0]
    bare.pe.write(PMSWINC_EL0(1))
    assert value(bare, 0) == 2, "EL2 is filtered out"
    bare.pe.write(PMEVTYPER_EL0[0](event | EventType.build(NSH=1)))
    bare.pe.write(PMSWINC_EL0(1))
    assert value(bare, 0) == 3


ENGINES: Final = {
    "Armv8.0": CORTEX_A72,
    "newest": CORTEX_A72.replace(ID_AA64ISAR0_EL1.build(Atomic=2)),
    "newest, PMUv3p5": PMUV3P5.replace(ID_AA64ISAR0_EL1.build(Atomic=2)),
}
MONITORS: Final = sorted(
    (register for register in BY_NAME.values() if is_performance_monitor(register.encoding)),
    key=lambda register: register.encoding,
)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("trap", [0, 1])
def test_every_register_is_reached_or_refused_whether_the_engine_has_it_or_not(
    name: str, trap: int
) -> None:
    bare = Bare(ENGINES[name])
    for register in MONITORS:
        for word in (a64.mrs(5, register), a64.msr(register, 6)):
            bare.set_x(x5=MARK, x6=0)
            bare.pe.write(MDCR_EL2.build(HPMN=6, TPM=trap))
            bare.pe.ic(IC.IALLUIS)
            esr = bare.trap(word, a64.hvc(1)).esr
            reads = bool(word >> 21 & 1)
            if is_undefined(bare.pe, register, reads=reads):
                assert esr == UNDEFINED_AT_EL1
            elif trap:
                assert esr >> 26 == ExceptionClass.SYS64
            else:
                assert esr == HVC_1
                assert (bare.x(5) != MARK) is reads


MARK: Final = 0xDEAD_BEEF_0000
HVC_1: Final = 0x5A00_0001
UNDEFINED_AT_EL1: Final = 0x5A00_0104
"""The HVC of the vector of synchronous exceptions."""


def is_undefined(pe: ProcessingElement, register: type[SystemRegister], *, reads: bool) -> bool:
    """Whether a register is undefined for EL1."""
    if register is PMMIR_EL1:
        return not reads or pe.pmu.version < 5
    if register is PMSWINC_EL0:
        return reads
    if register in (PMCEID0_EL0, PMCEID1_EL0):
        return not reads
    there = register not in (*PMEVCNTR_EL0[6:], *PMEVTYPER_EL0[6:])
    return not there and not pe.read(MDCR_EL2).TPM


UNDEFINED: Final = {
    "write of PMCEID0": a64.msr(PMCEID0_EL0, 1),
    "read of PMSWINC": a64.mrs(1, PMSWINC_EL0),
    "counter 6": a64.mrs(1, PMEVCNTR_EL0[6]),
    "type 30": a64.mrs(1, PMEVTYPER_EL0[30]),
    "PMMIR before PMUv3p4": a64.mrs(1, PMMIR_EL1),
    "no register": a64.mrs(1, PMMIR_EL1) | 1 << 5,
}


@pytest.mark.parametrize("word", UNDEFINED.values(), ids=UNDEFINED)
def test_undefined_accesses(word: int) -> None:
    assert Bare().taken_to_el1(word).esr == 1 << 25


@pytest.mark.parametrize("select", [6, 31])
def test_selection_of_no_event_counter_is_undefined(select: int) -> None:
    bare = Bare()
    bare.set_x(x2=select)
    assert bare.taken_to_el1(a64.msr(PMSELR_EL0, 2), a64.mrs(1, PMXEVCNTR_EL0)).esr == 1 << 25


@pytest.mark.parametrize("register", [PMCR_EL0, PMCCNTR_EL0, PMEVCNTR_EL0[0], PMUSERENR_EL0])
def test_cpu_without_the_extension_has_none_of_its_registers(
    register: type[SystemRegister],
) -> None:
    assert Bare(NO_PMU).taken_to_el1(a64.mrs(1, register)).esr == 1 << 25
    assert Bare(NO_PMU).pe.read(MDCR_EL2).HPMN == 0


def test_el2_traps_all_registers_or_the_control_register() -> None:
    for field, register, trapped in (
        ("TPM", PMCCNTR_EL0, True),
        ("TPM", PMCR_EL0, True),
        ("TPMCR", PMCR_EL0, True),
        ("TPMCR", PMCCNTR_EL0, False),
    ):
        bare = Bare()
        bare.pe.write(MDCR_EL2.build(HPMN=6, **{field: 1}))
        trap = bare.trap(a64.mrs(5, register), a64.hvc(1))
        expected = ExceptionClass.SYS64 if trapped else ExceptionClass.HVC64
        assert trap.esr >> 26 == expected


def test_el2_keeps_counters_for_itself() -> None:
    bare = Bare()
    bare.pe.write(MDCR_EL2.build(HPMN=2, HPME=1))
    count(bare, Counter(1, PmuEvent.INST_RETIRED, 9), Counter(2, PmuEvent.INST_RETIRED))
    bare.set_x(x2=0xFFFF_FFFF, x3=int(PMCR_EL0.build(P=1)))
    bare.trap(
        a64.mrs(4, PMCR_EL0),
        a64.msr(PMCNTENSET_EL0, 2),
        a64.mrs(5, PMCNTENSET_EL0),
        a64.msr(PMCR_EL0, 3),
        a64.NOP,
        a64.hvc(1),
    )
    assert PMCR_EL0(bare.x(4)).N == 2
    assert bare.x(5) == 1 << 31 | 0b11
    assert value(bare, 1) == 0, "reset, and stopped with PMCR_EL0.E"
    assert value(bare, 2) == 6, "counts by HPME"
    assert bare.taken_to_el1(a64.mrs(1, PMEVCNTR_EL0[2])).esr == 1 << 25


ENABLES: Final = {
    "EN": (PMCR_EL0, "both"),
    "CR": (PMCCNTR_EL0, "read"),
    "ER": (PMXEVCNTR_EL0, "read"),
    "SW": (PMSWINC_EL0, "write"),
}


def at_el0(enable: int, word: int) -> Iterator[int]:
    """Yield the syndrome that an instruction of EL0 gets, of EL1 or of the HVC behind it."""
    bare = Bare()
    bare.code(word, a64.svc(7))
    bare.stage1_on()
    bare.pe.write(PMUSERENR_EL0(enable))
    yield bare.taken_to_el1(word, a64.svc(7), pstate=EL0T).esr >> 26


@pytest.mark.parametrize("name", ENABLES)
@pytest.mark.parametrize("write", [False, True])
def test_what_el1_lets_el0_reach(name: str, write: bool) -> None:
    register, way = ENABLES[name]
    word = a64.msr(register, 1) if write else a64.mrs(1, register)
    if register is PMSWINC_EL0 and not write:
        return  # undefined at any level
    bit = int(PMUSERENR_EL0.build(**{name: 1}))
    reached = way in ("both", "write" if write else "read")
    assert list(at_el0(0, word)) == [ExceptionClass.SYS64]
    assert list(at_el0(bit, word)) == [ExceptionClass.SVC64 if reached else ExceptionClass.SYS64]


def test_el0_reads_its_enables_but_cannot_write_them() -> None:
    assert list(at_el0(0, a64.mrs(1, PMUSERENR_EL0))) == [ExceptionClass.SVC64]
    assert list(at_el0(0xF, a64.msr(PMUSERENR_EL0, 1))) == [ExceptionClass.UNKNOWN]
    assert list(at_el0(0xF, a64.mrs(1, PMINTENSET_EL1))) == [ExceptionClass.UNKNOWN]


def test_aborts_resolved_by_el2_do_not_hide_an_overflow_of_cycles() -> None:
    bare = Bare()
    bare.map_ipa(DATA)
    bare.s2.unmap(DATA)
    frame = bare.frame()

    def map_page() -> bool:
        bare.s2.map(DATA, PA(frame), 0x7FC)
        return True

    bare.pe.el2_vector = map_page
    bare.set_x(x2=DATA)
    count(bare, Counter(CYCLES, 0, (1 << 64) - 4, interrupt=True))
    assert bare.run(a64.NOP, a64.NOP, a64.ldr(1, 2), *[a64.NOP] * 9) is EL2Entry.IRQ
    assert bare.pe.retired == 3, "two, the abort, and the load"
    assert not bare.pe.read(HCR_EL2).VI
    assert bare.pe.read(SPSR_EL2) == EL1H
