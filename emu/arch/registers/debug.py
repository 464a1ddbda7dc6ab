"""Registers of self-hosted debug (Arm ARM D2)."""

from __future__ import annotations

from typing import Any, Final

from emu.arch.bits import bit, bits
from emu.arch.fields import Layout, SystemRegister

NUMBERS: Final = range(16)
"""Numbers that a breakpoint or a watchpoint can have; ID_AA64DFR0_EL1 says which a CPU has."""


class MDSCR_EL1(SystemRegister, encoding=(2, 0, 0, 2, 2)):
    """Monitor Debug System Control Register: software step and breakpoints."""

    EnSTEPOP = bit(50)
    EHBWE = bit(35)
    EnSPM = bit(34)
    TTA = bit(33)
    EMBWE = bit(32)
    TFO = bit(31)
    RXfull = bit(30)
    TXfull = bit(29)
    RXO = bit(27)
    TXU = bit(26)
    INTdis = bits(23, 22)
    TDA = bit(21)
    SC2 = bit(19)
    MDE = bit(15)
    HDE = bit(14)
    KDE = bit(13)
    TDCC = bit(12)
    ERR = bit(6)
    SS = bit(0)


class BreakpointValue(Layout):
    """The address of a breakpoint, ``VA << 2``. RESS is RES0 or a copy of VA's highest bit."""

    RESS = bits(63, 49)
    VA = bits(48, 2)


class BreakpointContext(Layout):
    """What a breakpoint with DBGBCR<n>_EL1.BT of a context type compares."""

    VMID = bits(47, 32)
    ContextID = bits(31, 0)


class BreakpointControl(Layout):
    """What a breakpoint matches, where, and whether it is enabled."""

    BT = bits(23, 20)
    LBN = bits(19, 16)
    SSC = bits(15, 14)
    HMC = bit(13)
    BAS = bits(8, 5)
    PMC = bits(2, 1)
    E = bit(0)


class WatchpointValue(Layout):
    """The address of a watchpoint, ``VA << 2``. RESS is RES0 or a copy of VA's highest bit."""

    RESS = bits(63, 49)
    VA = bits(48, 2)


class WatchpointControl(Layout):
    """What a watchpoint matches, where, and whether it is enabled."""

    MASK = bits(28, 24)
    WT = bit(20)
    LBN = bits(19, 16)
    SSC = bits(15, 14)
    HMC = bit(13)
    BAS = bits(12, 5)
    LSC = bits(4, 3)
    PAC = bits(2, 1)
    E = bit(0)


def _numbered(
    prefix: str, title: str, layout: type[Layout], op2: int
) -> tuple[type[SystemRegister], ...]:
    """Declare one register for each breakpoint or watchpoint."""

    def declare(number: int) -> type[SystemRegister]:
        body: dict[str, Any] = {"__module__": __name__, "__doc__": f"{title} {number}."}
        name, bases = f"{prefix}{number}_EL1", (layout, SystemRegister)
        register: type[SystemRegister] = type(name, bases, body, encoding=(2, 0, 0, number, op2))
        return register

    return tuple(declare(number) for number in NUMBERS)


DBGBVR_EL1: Final = _numbered("DBGBVR", "Breakpoint Value Register", BreakpointValue, 4)
DBGBCR_EL1: Final = _numbered("DBGBCR", "Breakpoint Control Register", BreakpointControl, 5)
DBGWVR_EL1: Final = _numbered("DBGWVR", "Watchpoint Value Register", WatchpointValue, 6)
DBGWCR_EL1: Final = _numbered("DBGWCR", "Watchpoint Control Register", WatchpointControl, 7)


class OSDTRRX_EL1(SystemRegister, encoding=(2, 0, 0, 0, 2)):
    """OS Lock Data Transfer Register, Receive."""

    DTRRX = bits(31, 0)


class MDCCINT_EL1(SystemRegister, encoding=(2, 0, 0, 2, 0)):
    """Monitor DCC Interrupt Enable Register."""

    RX = bit(30)
    TX = bit(29)


class OSDTRTX_EL1(SystemRegister, encoding=(2, 0, 0, 3, 2)):
    """OS Lock Data Transfer Register, Transmit."""

    DTRTX = bits(31, 0)


class OSECCR_EL1(SystemRegister, encoding=(2, 0, 0, 6, 2)):
    """OS Lock Exception Catch Control Register."""

    EDECCR = bits(31, 0)


class MDRAR_EL1(SystemRegister, encoding=(2, 0, 1, 0, 0)):
    """Monitor Debug ROM Address Register: 0 where there is no ROM table."""

    ROMADDR = bits(51, 12)
    Valid = bits(1, 0)


class OSLAR_EL1(SystemRegister, encoding=(2, 0, 1, 0, 4)):
    """OS Lock Access Register: locks and unlocks; write-only."""

    OSLK = bit(0)


class OSLSR_EL1(SystemRegister, encoding=(2, 0, 1, 1, 4)):
    """OS Lock Status Register. OSLM is 0b10 where there is an OS lock: bit [3] and bit [0]."""

    OSLM1 = bit(3)
    nTT = bit(2)
    OSLK = bit(1)
    OSLM0 = bit(0)


class OSDLR_EL1(SystemRegister, encoding=(2, 0, 1, 3, 4)):
    """OS Double Lock Register."""

    DLK = bit(0)


class DBGPRCR_EL1(SystemRegister, encoding=(2, 0, 1, 4, 4)):
    """Debug Power Control Register."""

    CORENPDRQ = bit(0)


class DBGCLAIMSET_EL1(SystemRegister, encoding=(2, 0, 7, 8, 6)):
    """Claim Tag Set Register: reads as ones for the tags that there are."""

    CLAIM = bits(7, 0)


class DBGCLAIMCLR_EL1(SystemRegister, encoding=(2, 0, 7, 9, 6)):
    """Claim Tag Clear Register: reads as the tags."""

    CLAIM = bits(7, 0)


class DBGAUTHSTATUS_EL1(SystemRegister, encoding=(2, 0, 7, 14, 6)):
    """Authentication Status Register: what an external debugger may do."""

    SNID = bits(7, 6)
    SID = bits(5, 4)
    NSNID = bits(3, 2)
    NSID = bits(1, 0)


class MDCCSR_EL0(SystemRegister, encoding=(2, 3, 0, 1, 0)):
    """Monitor DCC Status Register."""

    RXfull = bit(30)
    TXfull = bit(29)


class DBGDTR_EL0(SystemRegister, encoding=(2, 3, 0, 4, 0)):
    """Data Transfer Register, half-duplex."""

    HighWord = bits(63, 32)
    LowWord = bits(31, 0)


class DBGDTRRX_EL0(SystemRegister, encoding=(2, 3, 0, 5, 0)):
    """Data Transfer Register, Receive; what is written there goes to DBGDTRTX_EL0."""

    DTR = bits(31, 0)
