"""Registers of FEAT_RAS for EL1: error records, of which this machine's CPUs have none."""

from __future__ import annotations

from emu.arch.bits import bit, bits
from emu.arch.fields import SystemRegister


class ERRIDR_EL1(SystemRegister, encoding=(3, 0, 5, 3, 0)):
    """Error Record ID Register."""

    NUM = bits(15, 0)


class ERRSELR_EL1(SystemRegister, encoding=(3, 0, 5, 3, 1)):
    """Error Record Select Register."""

    SEL = bits(15, 0)


class ERXFR_EL1(SystemRegister, encoding=(3, 0, 5, 4, 0)):
    """Selected Error Record Feature Register."""


class ERXCTLR_EL1(SystemRegister, encoding=(3, 0, 5, 4, 1)):
    """Selected Error Record Control Register."""


class ERXSTATUS_EL1(SystemRegister, encoding=(3, 0, 5, 4, 2)):
    """Selected Error Record Primary Status Register."""


class ERXADDR_EL1(SystemRegister, encoding=(3, 0, 5, 4, 3)):
    """Selected Error Record Address Register."""


class ERXMISC0_EL1(SystemRegister, encoding=(3, 0, 5, 5, 0)):
    """Selected Error Record Miscellaneous Register 0."""


class ERXMISC1_EL1(SystemRegister, encoding=(3, 0, 5, 5, 1)):
    """Selected Error Record Miscellaneous Register 1."""


class VDISR_EL2(SystemRegister, encoding=(3, 4, 12, 1, 1)):
    """Virtual Deferred Interrupt Status Register: what EL1 has for DISR_EL1."""

    A = bit(31)
    IDS = bit(24)
    ISS = bits(23, 0)


ERROR_RECORDS = (
    ERRIDR_EL1,
    ERRSELR_EL1,
    ERXFR_EL1,
    ERXCTLR_EL1,
    ERXSTATUS_EL1,
    ERXADDR_EL1,
    ERXMISC0_EL1,
    ERXMISC1_EL1,
)
"""What HCR_EL2.TERR traps."""
