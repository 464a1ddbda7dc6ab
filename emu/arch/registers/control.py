"""Registers of execution state: traps of EL0 and EL1, thread pointers, PSTATE by MRS."""

from __future__ import annotations

from enum import IntEnum

from emu.arch.bits import bit, bits
from emu.arch.fields import SystemRegister


class TrapFrom(IntEnum):
    """CPACR_EL1.FPEN, ZEN and SMEN: which Exception levels trap (2 means the same as 0)."""

    EL0_AND_EL1 = 0
    EL0 = 1
    NONE = 3


class CPACR_EL1(SystemRegister, encoding=(3, 0, 1, 0, 2)):
    """Architectural Feature Access Control Register."""

    TCPAC = bit(31)
    TAM = bit(30)
    E0POE = bit(29)
    TTA = bit(28)
    SMEN = bits(25, 24, TrapFrom)
    FPEN = bits(21, 20, TrapFrom)
    ZEN = bits(17, 16, TrapFrom)


class ACTLR_EL1(SystemRegister, encoding=(3, 0, 1, 0, 1)):
    """Auxiliary Control Register: implementation defined, no fields."""


class TPIDR_EL0(SystemRegister, encoding=(3, 3, 13, 0, 2)):
    """Thread pointer that EL0 reads and writes."""

    ThreadID = bits(63, 0)


class TPIDRRO_EL0(SystemRegister, encoding=(3, 3, 13, 0, 3)):
    """Thread pointer that EL0 only reads."""

    ThreadID = bits(63, 0)


class TPIDR_EL1(SystemRegister, encoding=(3, 0, 13, 0, 4)):
    """Thread pointer of EL1."""

    ThreadID = bits(63, 0)


class CurrentEL(SystemRegister, encoding=(3, 0, 4, 2, 2)):
    """Current Exception level."""

    EL = bits(3, 2)


class SPSel(SystemRegister, encoding=(3, 0, 4, 2, 0)):
    """Stack Pointer Select: 0 for SP_EL0, 1 for SP_ELx."""

    SP = bit(0)


class PAN(SystemRegister, encoding=(3, 0, 4, 2, 3)):
    """Privileged Access Never, as MRS and MSR see PSTATE.PAN."""

    PAN = bit(22)


class UAO(SystemRegister, encoding=(3, 0, 4, 2, 4)):
    """User Access Override, as MRS and MSR see PSTATE.UAO."""

    UAO = bit(23)


class NZCV(SystemRegister, encoding=(3, 3, 4, 2, 0)):
    """Condition flags."""

    N = bit(31)
    Z = bit(30)
    C = bit(29)
    V = bit(28)


class DAIF(SystemRegister, encoding=(3, 3, 4, 2, 1)):
    """Interrupt mask bits."""

    D = bit(9)
    A = bit(8)
    I = bit(7)
    F = bit(6)


class FPCR(SystemRegister, encoding=(3, 3, 4, 4, 0)):
    """Floating-point Control Register: rounding, flushing to zero, trapped exceptions."""


class FPSR(SystemRegister, encoding=(3, 3, 4, 4, 1)):
    """Floating-point Status Register: the cumulative exceptions, and saturation."""


class DIT(SystemRegister, encoding=(3, 3, 4, 2, 5)):
    """Data Independent Timing, as MRS and MSR see PSTATE.DIT."""

    DIT = bit(24)


class SSBS(SystemRegister, encoding=(3, 3, 4, 2, 6)):
    """Speculative Store Bypass Safe, as MRS and MSR see PSTATE.SSBS."""

    SSBS = bit(12)


class TCO(SystemRegister, encoding=(3, 3, 4, 2, 7)):
    """Tag Check Override, as MRS and MSR see PSTATE.TCO."""

    TCO = bit(25)
