"""Registers that an exception writes or is steered by, at EL1 and EL2."""

from __future__ import annotations

from enum import IntEnum

from emu.arch.bits import bit, bits
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.fields import Layout, SystemRegister
from emu.arch.registers.translation import Shareability


class Mode(IntEnum):
    """PSTATE.M of AArch64: the Exception level, and t or h for SP_EL0 or SP_ELx."""

    EL0t = 0b0000
    EL1t = 0b0100
    EL1h = 0b0101
    EL2t = 0b1000
    EL2h = 0b1001
    EL3t = 0b1100
    EL3h = 0b1101


class PSTATE(Layout):
    """Process state as SPSR_ELx saves it from AArch64 (Arm ARM C5.2.19).

    M is bits [3:0]; nRW, bit [4], is 0 in AArch64. The machine keeps its running
    PSTATE in this layout too.
    """

    N = bit(31)
    Z = bit(30)
    C = bit(29)
    V = bit(28)
    TCO = bit(25)
    DIT = bit(24)
    UAO = bit(23)
    PAN = bit(22)
    SS = bit(21)
    IL = bit(20)
    ALLINT = bit(13)
    SSBS = bit(12)
    BTYPE = bits(11, 10)
    D = bit(9)
    A = bit(8)
    I = bit(7)
    F = bit(6)
    nRW = bit(4)
    M = bits(3, 0, Mode)

    @property
    def EL(self) -> int:
        """The Exception level, 0 to 3; 0 for AArch32 User mode."""
        if self.nRW:
            return 0 if self.M == 0 else 1
        return self.M >> 2


class SPSR_EL1(PSTATE, SystemRegister, encoding=(3, 0, 4, 0, 0)):
    """Saved Program Status Register of EL1."""


class SPSR_EL2(PSTATE, SystemRegister, encoding=(3, 4, 4, 0, 0)):
    """Saved Program Status Register of EL2."""


class ELR_EL1(SystemRegister, encoding=(3, 0, 4, 0, 1)):
    """Exception Link Register of EL1: where ERET from EL1 goes."""

    ADDR = bits(63, 0)


class ELR_EL2(SystemRegister, encoding=(3, 4, 4, 0, 1)):
    """Exception Link Register of EL2: the guest's PC while EL2 runs."""

    ADDR = bits(63, 0)


class SP_EL0(SystemRegister, encoding=(3, 0, 4, 1, 0)):
    """Stack pointer of EL0, and of EL1 with SPSel 0."""

    ADDR = bits(63, 0)


class SP_EL1(SystemRegister, encoding=(3, 4, 4, 1, 0)):
    """Stack pointer of EL1."""

    ADDR = bits(63, 0)


class VBAR_EL1(SystemRegister, encoding=(3, 0, 12, 0, 0)):
    """Vector Base Address Register; the address is ``VBA << 11``."""

    VBA = bits(63, 11)


class ExceptionSyndrome(Layout):
    """What every ESR_ELx holds: a class, the instruction length and the class's syndrome."""

    ISS2 = bits(55, 32)
    EC = bits(31, 26, ExceptionClass)
    IL = bit(25)
    ISS = bits(24, 0)


class ESR_EL1(ExceptionSyndrome, SystemRegister, encoding=(3, 0, 5, 2, 0)):
    """Exception Syndrome Register of EL1."""


class ESR_EL2(ExceptionSyndrome, SystemRegister, encoding=(3, 4, 5, 2, 0)):
    """Exception Syndrome Register of EL2."""


class FAR_EL1(SystemRegister, encoding=(3, 0, 6, 0, 0)):
    """Fault Address Register of EL1."""

    VA = bits(63, 0)


class FAR_EL2(SystemRegister, encoding=(3, 4, 6, 0, 0)):
    """Fault Address Register of EL2."""

    VA = bits(63, 0)


class HPFAR_EL2(SystemRegister, encoding=(3, 4, 6, 0, 4)):
    """Hypervisor IPA Fault Address Register: the page of a stage 2 fault is ``FIPA << 12``."""

    NS = bit(63)
    FIPA = bits(47, 4)


class AFSR0_EL1(SystemRegister, encoding=(3, 0, 5, 1, 0)):
    """Auxiliary Fault Status Register 0: implementation defined, no fields."""


class AFSR1_EL1(SystemRegister, encoding=(3, 0, 5, 1, 1)):
    """Auxiliary Fault Status Register 1: implementation defined, no fields."""


class PAR_EL1(SystemRegister, encoding=(3, 0, 7, 4, 0)):
    """Physical Address Register: the result of AT when F is 0.

    When F is 1, read the same word as ``PAR_EL1_FAULT``. The address is ``PA << 12``.
    """

    ATTR = bits(63, 56)
    PA = bits(51, 12)
    NSE = bit(11)
    NS = bit(9)
    SH = bits(8, 7, Shareability)
    F = bit(0)


class PAR_EL1_FAULT(Layout):
    """Physical Address Register: the result of AT when F is 1.

    FST is a fault status code, S is 1 for a fault of stage 2, PTW for one of
    stage 2 in the walk of stage 1. RES1 is bit [11], which reads as one.
    """

    DirtyBit = bit(15)
    Overlay = bit(14)
    TopLevel = bit(13)
    AssuredOnly = bit(12)
    RES1 = bit(11)
    S = bit(9)
    PTW = bit(8)
    FST = bits(6, 1, FaultStatusCode)
    F = bit(0)


class ISR_EL1(SystemRegister, encoding=(3, 0, 12, 1, 0)):
    """Interrupt Status Register: what is pending, masked or not."""

    IS = bit(10)
    FS = bit(9)
    A = bit(8)
    I = bit(7)
    F = bit(6)


class DISR_EL1(SystemRegister, encoding=(3, 0, 12, 1, 1)):
    """Deferred Interrupt Status Register: an SError that ESB consumed."""

    A = bit(31)
    IDS = bit(24)
    WU = bits(17, 16)
    AET = bits(12, 10)
    EA = bit(9)
    WnRV = bit(7)
    WnR = bit(6)
    DFSC = bits(5, 0)


class VSESR_EL2(SystemRegister, encoding=(3, 4, 5, 2, 3)):
    """Virtual SError Exception Syndrome Register: the syndrome HCR_EL2.VSE delivers."""

    IDS = bit(24)
    ISS = bits(23, 0)
