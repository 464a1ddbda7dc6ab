"""Registers that control stage 1 of the EL1&0 translation regime."""

from __future__ import annotations

from enum import IntEnum

from emu.arch.bits import bit, bits
from emu.arch.fields import SystemRegister


class TG0(IntEnum):
    """Granule of the lower half: TCR_EL1.TG0 and VTCR_EL2.TG0 (3 is reserved)."""

    KB4 = 0
    KB64 = 1
    KB16 = 2


class TG1(IntEnum):
    """Granule of the upper half: TCR_EL1.TG1, numbered unlike TG0 (0 is reserved)."""

    KB16 = 1
    KB4 = 2
    KB64 = 3


class PhysicalAddressSize(IntEnum):
    """TCR_EL1.IPS, VTCR_EL2.PS and ID_AA64MMFR0_EL1.PARange."""

    BITS_32 = 0
    BITS_36 = 1
    BITS_40 = 2
    BITS_42 = 3
    BITS_44 = 4
    BITS_48 = 5
    BITS_52 = 6
    BITS_56 = 7


class Shareability(IntEnum):
    """An SH field: of a translation control register, a descriptor or PAR_EL1."""

    NON_SHAREABLE = 0
    OUTER_SHAREABLE = 2
    INNER_SHAREABLE = 3


class SCTLR_EL1(SystemRegister, encoding=(3, 0, 1, 0, 0)):
    """System Control Register (Arm ARM D24.2)."""

    TIDCP = bit(63)
    SPINTMASK = bit(62)
    NMI = bit(61)
    EnTP2 = bit(60)
    TCSO = bit(59)
    TCSO0 = bit(58)
    EPAN = bit(57)
    EnALS = bit(56)
    EnAS0 = bit(55)
    EnASR = bit(54)
    TME = bit(53)
    TME0 = bit(52)
    TMT = bit(51)
    TMT0 = bit(50)
    TWEDEL = bits(49, 46)
    TWEDEn = bit(45)
    DSSBS = bit(44)
    ATA = bit(43)
    ATA0 = bit(42)
    TCF = bits(41, 40)
    TCF0 = bits(39, 38)
    ITFSB = bit(37)
    BT1 = bit(36)
    BT0 = bit(35)
    EnFPM = bit(34)
    MSCEn = bit(33)
    CMOW = bit(32)
    EnIA = bit(31)
    EnIB = bit(30)
    LSMAOE = bit(29)
    nTLSMD = bit(28)
    EnDA = bit(27)
    UCI = bit(26)
    EE = bit(25)
    E0E = bit(24)
    SPAN = bit(23)
    EIS = bit(22)
    IESB = bit(21)
    TSCXT = bit(20)
    WXN = bit(19)
    nTWE = bit(18)
    nTWI = bit(16)
    UCT = bit(15)
    DZE = bit(14)
    EnDB = bit(13)
    I = bit(12)
    EOS = bit(11)
    EnRCTX = bit(10)
    UMA = bit(9)
    SED = bit(8)
    ITD = bit(7)
    nAA = bit(6)
    CP15BEN = bit(5)
    SA0 = bit(4)
    SA = bit(3)
    C = bit(2)
    A = bit(1)
    M = bit(0)


class TCR_EL1(SystemRegister, encoding=(3, 0, 2, 0, 2)):
    """Translation Control Register: TTBR0 half in fields ending 0, TTBR1 half in those ending 1."""

    MTX1 = bit(61)
    MTX0 = bit(60)
    DS = bit(59)
    TCMA1 = bit(58)
    TCMA0 = bit(57)
    E0PD1 = bit(56)
    E0PD0 = bit(55)
    NFD1 = bit(54)
    NFD0 = bit(53)
    TBID1 = bit(52)
    TBID0 = bit(51)
    HWU162 = bit(50)
    HWU161 = bit(49)
    HWU160 = bit(48)
    HWU159 = bit(47)
    HWU062 = bit(46)
    HWU061 = bit(45)
    HWU060 = bit(44)
    HWU059 = bit(43)
    HPD1 = bit(42)
    HPD0 = bit(41)
    HD = bit(40)
    HA = bit(39)
    TBI1 = bit(38)
    TBI0 = bit(37)
    AS = bit(36)
    IPS = bits(34, 32, PhysicalAddressSize)
    TG1 = bits(31, 30, TG1)
    SH1 = bits(29, 28, Shareability)
    ORGN1 = bits(27, 26)
    IRGN1 = bits(25, 24)
    EPD1 = bit(23)
    A1 = bit(22)
    T1SZ = bits(21, 16)
    TG0 = bits(15, 14, TG0)
    SH0 = bits(13, 12, Shareability)
    ORGN0 = bits(11, 10)
    IRGN0 = bits(9, 8)
    EPD0 = bit(7)
    T0SZ = bits(5, 0)


class TTBR0_EL1(SystemRegister, encoding=(3, 0, 2, 0, 0)):
    """Translation Table Base Register 0: tables of the lower half.

    BADDR is the table's address from bit 1 up: ``BADDR << 1``. With 52-bit
    addresses its bits [5:2] are address bits [51:48].
    """

    ASID = bits(63, 48)
    BADDR = bits(47, 1)
    CnP = bit(0)


class TTBR1_EL1(SystemRegister, encoding=(3, 0, 2, 0, 1)):
    """Translation Table Base Register 1: tables of the upper half. Fields as in TTBR0_EL1."""

    ASID = bits(63, 48)
    BADDR = bits(47, 1)
    CnP = bit(0)


class MAIR_EL1(SystemRegister, encoding=(3, 0, 10, 2, 0)):
    """Memory Attribute Indirection Register: one byte for each AttrIndx of a descriptor."""

    Attr7 = bits(63, 56)
    Attr6 = bits(55, 48)
    Attr5 = bits(47, 40)
    Attr4 = bits(39, 32)
    Attr3 = bits(31, 24)
    Attr2 = bits(23, 16)
    Attr1 = bits(15, 8)
    Attr0 = bits(7, 0)


class AMAIR_EL1(SystemRegister, encoding=(3, 0, 10, 3, 0)):
    """Auxiliary Memory Attribute Indirection Register: implementation defined, no fields."""


class CONTEXTIDR_EL1(SystemRegister, encoding=(3, 0, 13, 0, 1)):
    """Context ID Register: the process that runs, for debug and trace."""

    PROCID = bits(31, 0)
