"""Registers of the generic timer."""

from __future__ import annotations

from emu.arch.bits import bit, bits
from emu.arch.fields import Layout, SystemRegister


class TimerControl(Layout):
    """What the control register of every timer holds."""

    ISTATUS = bit(2)
    IMASK = bit(1)
    ENABLE = bit(0)


class CNTFRQ_EL0(SystemRegister, encoding=(3, 3, 14, 0, 0)):
    """Counter-timer Frequency Register, in Hz."""

    ClockFreq = bits(31, 0)


class CNTPCT_EL0(SystemRegister, encoding=(3, 3, 14, 0, 1)):
    """Counter-timer Physical Count Register."""

    PhysicalCount = bits(63, 0)


class CNTVCT_EL0(SystemRegister, encoding=(3, 3, 14, 0, 2)):
    """Counter-timer Virtual Count Register: the physical count less CNTVOFF_EL2."""

    VirtualCount = bits(63, 0)


class CNTPCTSS_EL0(SystemRegister, encoding=(3, 3, 14, 0, 5)):
    """Counter-timer Self-Synchronized Physical Count Register (FEAT_ECV)."""

    SSPhysicalCount = bits(63, 0)


class CNTVCTSS_EL0(SystemRegister, encoding=(3, 3, 14, 0, 6)):
    """Counter-timer Self-Synchronized Virtual Count Register (FEAT_ECV)."""

    SSVirtualCount = bits(63, 0)


class CNTP_TVAL_EL0(SystemRegister, encoding=(3, 3, 14, 2, 0)):
    """EL1 physical timer: ticks until it fires, signed."""

    TimerValue = bits(31, 0)


class CNTP_CTL_EL0(TimerControl, SystemRegister, encoding=(3, 3, 14, 2, 1)):
    """EL1 physical timer: control."""


class CNTP_CVAL_EL0(SystemRegister, encoding=(3, 3, 14, 2, 2)):
    """EL1 physical timer: the count at which it fires."""

    CompareValue = bits(63, 0)


class CNTV_TVAL_EL0(SystemRegister, encoding=(3, 3, 14, 3, 0)):
    """EL1 virtual timer: ticks until it fires, signed."""

    TimerValue = bits(31, 0)


class CNTV_CTL_EL0(TimerControl, SystemRegister, encoding=(3, 3, 14, 3, 1)):
    """EL1 virtual timer: control."""


class CNTV_CVAL_EL0(SystemRegister, encoding=(3, 3, 14, 3, 2)):
    """EL1 virtual timer: the count at which it fires."""

    CompareValue = bits(63, 0)


class CNTKCTL_EL1(SystemRegister, encoding=(3, 0, 14, 1, 0)):
    """Counter-timer Kernel Control Register: what EL0 may reach."""

    EVNTIS = bit(17)
    EL0PTEN = bit(9)
    EL0VTEN = bit(8)
    EVNTI = bits(7, 4)
    EVNTDIR = bit(3)
    EVNTEN = bit(2)
    EL0VCTEN = bit(1)
    EL0PCTEN = bit(0)


class CNTHCTL_EL2(SystemRegister, encoding=(3, 4, 14, 1, 0)):
    """Counter-timer Hypervisor Control Register, in its form for HCR_EL2.E2H = 0."""

    CNTPMASK = bit(19)
    CNTVMASK = bit(18)
    EVNTIS = bit(17)
    EL1NVVCT = bit(16)
    EL1NVPCT = bit(15)
    EL1TVCT = bit(14)
    EL1TVT = bit(13)
    ECV = bit(12)
    EVNTI = bits(7, 4)
    EVNTDIR = bit(3)
    EVNTEN = bit(2)
    EL1PCEN = bit(1)
    EL1PCTEN = bit(0)


class CNTVOFF_EL2(SystemRegister, encoding=(3, 4, 14, 0, 3)):
    """Counter-timer Virtual Offset Register."""

    VirtualOffset = bits(63, 0)
