"""Registers of the Performance Monitors Extension (Arm ARM D13)."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from emu.arch.bits import Bits, bit, bits
from emu.arch.fields import Layout, SystemRegister

COUNTER_NUMBERS: Final = range(31)
"""Numbers that an event counter can have. The cycle counter is number 31 where both have one."""
CYCLE_COUNTER: Final = 31

PMUV3P1, PMUV3P4, PMUV3P5 = 4, 5, 6
"""Values of ID_AA64DFR0_EL1.PMUVer."""


class PmuEvent(IntEnum):
    """Events by number, as far as they are of use here."""

    SW_INCR = 0x00
    """The software wrote to PMSWINC_EL0."""
    INST_RETIRED = 0x08
    CPU_CYCLES = 0x11
    MEM_ACCESS = 0x13
    """An access to data memory."""
    CHAIN = 0x1E
    """The even counter below has overflowed."""
    STALL_FRONTEND = 0x23
    STALL_BACKEND = 0x24


class EventFilter(Layout):
    """At which Exception levels a counter does not count; NSK, NSU: where that differs from P, U.

    The levels are those of the Non-secure state.
    """

    P = bit(31)
    U = bit(30)
    NSK = bit(29)
    NSU = bit(28)
    NSH = bit(27)
    M = bit(26)


class EventType(EventFilter):
    """What an event counter counts. Before FEAT_PMUv3p1 an event has 10 bits."""

    evtCount = bits(15, 0)


class CounterSet(Layout):
    """One bit for each counter."""

    C = bit(31)
    P = bits(30, 0)


class PMCR_EL0(SystemRegister, encoding=(3, 3, 9, 12, 0)):
    """Performance Monitors Control Register."""

    FZS = bit(32)
    IMP = bits(31, 24)
    IDCODE = bits(23, 16)
    N = bits(15, 11)
    FZO = bit(9)
    LP = bit(7)
    LC = bit(6)
    DP = bit(5)
    X = bit(4)
    D = bit(3)
    C = bit(2)
    P = bit(1)
    E = bit(0)


class PMCNTENSET_EL0(CounterSet, SystemRegister, encoding=(3, 3, 9, 12, 1)):
    """Count Enable Set Register."""


class PMCNTENCLR_EL0(CounterSet, SystemRegister, encoding=(3, 3, 9, 12, 2)):
    """Count Enable Clear Register."""


class PMOVSCLR_EL0(CounterSet, SystemRegister, encoding=(3, 3, 9, 12, 3)):
    """Overflow Flag Status Clear Register."""


class PMSWINC_EL0(SystemRegister, encoding=(3, 3, 9, 12, 4)):
    """Software Increment Register."""

    P = bits(30, 0)


class PMSELR_EL0(SystemRegister, encoding=(3, 3, 9, 12, 5)):
    """Event Counter Selection Register: whom PMXEVTYPER_EL0 and PMXEVCNTR_EL0 stand for."""

    SEL = bits(4, 0)


class PMCEID0_EL0(SystemRegister, encoding=(3, 3, 9, 12, 6)):
    """Common Event Identification Register 0: events 0x0000 to 0x001F and from 0x4000."""

    IDhi = bits(63, 32)
    ID = bits(31, 0)


class PMCEID1_EL0(SystemRegister, encoding=(3, 3, 9, 12, 7)):
    """Common Event Identification Register 1: events 0x0020 to 0x003F and from 0x4020."""

    IDhi = bits(63, 32)
    ID = bits(31, 0)


class PMCCNTR_EL0(SystemRegister, encoding=(3, 3, 9, 13, 0)):
    """Cycle Count Register."""

    CCNT = bits(63, 0)


class PMXEVTYPER_EL0(EventType, SystemRegister, encoding=(3, 3, 9, 13, 1)):
    """Selected Event Type Register."""


class PMXEVCNTR_EL0(SystemRegister, encoding=(3, 3, 9, 13, 2)):
    """Selected Event Count Register."""

    PMEVCNTR = bits(63, 0)


class PMUSERENR_EL0(SystemRegister, encoding=(3, 3, 9, 14, 0)):
    """User Enable Register: what EL0 may reach."""

    ER = bit(3)
    CR = bit(2)
    SW = bit(1)
    EN = bit(0)


class PMINTENSET_EL1(CounterSet, SystemRegister, encoding=(3, 0, 9, 14, 1)):
    """Interrupt Enable Set Register."""


class PMINTENCLR_EL1(CounterSet, SystemRegister, encoding=(3, 0, 9, 14, 2)):
    """Interrupt Enable Clear Register."""


class PMOVSSET_EL0(CounterSet, SystemRegister, encoding=(3, 3, 9, 14, 3)):
    """Overflow Flag Status Set Register."""


class PMMIR_EL1(SystemRegister, encoding=(3, 0, 9, 14, 6)):
    """Machine Identification Register (FEAT_PMUv3p4)."""

    SLOTS = bits(7, 0)


class PMCCFILTR_EL0(EventFilter, SystemRegister, encoding=(3, 3, 14, 15, 7)):
    """Cycle Count Filter Register."""


def _row(
    name: str, purpose: str, CRm: int, base: type[Layout] | None = None, **fields: Bits[Any]
) -> tuple[type[SystemRegister], ...]:
    """Declare a register for each event counter: CRn is 14, CRm and op2 hold the number."""
    bases = (SystemRegister,) if base is None else (base, SystemRegister)
    return tuple(
        type(
            f"{name}{n}_EL0",
            bases,
            {
                "__doc__": f"{purpose} {n}.",
                "__module__": __name__,
                **{key: Bits(field.msb, field.lsb, None) for key, field in fields.items()},
            },
            encoding=(3, 3, 14, CRm | n >> 3, n & 7),
        )
        for n in COUNTER_NUMBERS
    )


PMEVCNTR_EL0: Final = _row("PMEVCNTR", "Event Count Register", 8, EventCount=bits(63, 0))
"""PMEVCNTR<n>_EL0, by n."""
PMEVTYPER_EL0: Final = _row("PMEVTYPER", "Event Type Register", 12, EventType)
"""PMEVTYPER<n>_EL0, by n."""
