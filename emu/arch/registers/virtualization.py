"""Registers with which EL2 controls a guest."""

from __future__ import annotations

from enum import IntEnum

from emu.arch.bits import bit, bits
from emu.arch.fields import SystemRegister
from emu.arch.registers.translation import TG0, PhysicalAddressSize, Shareability


class BarrierShareability(IntEnum):
    """HCR_EL2.BSU: the least shareability a guest's barriers get."""

    NO_EFFECT = 0
    INNER_SHAREABLE = 1
    OUTER_SHAREABLE = 2
    FULL_SYSTEM = 3


class SCTLR_EL2(SystemRegister, encoding=(3, 4, 1, 0, 0)):
    """System Control Register of EL2, as far as it concerns the EL1&0 regime."""

    EE = bit(25)
    """The byte order of EL2's data accesses and of stage-2 walks."""


class HCR_EL2(SystemRegister, encoding=(3, 4, 1, 1, 0)):
    """Hypervisor Configuration Register: what traps to EL2, what is virtual."""

    TWEDEL = bits(63, 60)
    TWEDEn = bit(59)
    TID5 = bit(58)
    DCT = bit(57)
    ATA = bit(56)
    TTLBOS = bit(55)
    TTLBIS = bit(54)
    EnSCXT = bit(53)
    TOCU = bit(52)
    AMVOFFEN = bit(51)
    TICAB = bit(50)
    TID4 = bit(49)
    GPF = bit(48)
    FIEN = bit(47)
    FWB = bit(46)
    NV2 = bit(45)
    AT = bit(44)
    NV1 = bit(43)
    NV = bit(42)
    API = bit(41)
    APK = bit(40)
    TME = bit(39)
    MIOCNCE = bit(38)
    TEA = bit(37)
    TERR = bit(36)
    TLOR = bit(35)
    E2H = bit(34)
    ID = bit(33)
    CD = bit(32)
    RW = bit(31)
    TRVM = bit(30)
    HCD = bit(29)
    TDZ = bit(28)
    TGE = bit(27)
    TVM = bit(26)
    TTLB = bit(25)
    TPU = bit(24)
    TPCP = bit(23)
    TSW = bit(22)
    TACR = bit(21)
    TIDCP = bit(20)
    TSC = bit(19)
    TID3 = bit(18)
    TID2 = bit(17)
    TID1 = bit(16)
    TID0 = bit(15)
    TWE = bit(14)
    TWI = bit(13)
    DC = bit(12)
    BSU = bits(11, 10, BarrierShareability)
    FB = bit(9)
    VSE = bit(8)
    VI = bit(7)
    VF = bit(6)
    AMO = bit(5)
    IMO = bit(4)
    FMO = bit(3)
    PTW = bit(2)
    SWIO = bit(1)
    VM = bit(0)


class MDCR_EL2(SystemRegister, encoding=(3, 4, 1, 1, 1)):
    """Monitor Debug Configuration Register: traps of debug and performance monitors."""

    HPMFZS = bit(36)
    MTPME = bit(28)
    TDCC = bit(27)
    HLP = bit(26)
    HCCD = bit(23)
    TTRF = bit(19)
    HPMD = bit(17)
    TPMS = bit(14)
    E2PB = bits(13, 12)
    TDRA = bit(11)
    TDOSA = bit(10)
    TDA = bit(9)
    TDE = bit(8)
    HPME = bit(7)
    TPM = bit(6)
    TPMCR = bit(5)
    HPMN = bits(4, 0)
    """The event counters that EL1 and EL0 have; EL2 has the rest."""


class VTCR_EL2(SystemRegister, encoding=(3, 4, 2, 1, 2)):
    """Virtualization Translation Control Register: the shape of stage 2.

    The start level is ``2 - SL0`` with the 4 KiB granule and ``3 - SL0`` with
    16 KiB and 64 KiB. RES1 is bit [31], which software writes as one.
    """

    HDBSS = bit(45)
    HAFT = bit(44)
    TL0 = bit(41)
    GCSH = bit(40)
    D128 = bit(38)
    S2POE = bit(37)
    S2PIE = bit(36)
    TL1 = bit(35)
    AssuredOnly = bit(34)
    SL2 = bit(33)
    DS = bit(32)
    RES1 = bit(31)
    NSA = bit(30)
    NSW = bit(29)
    HWU62 = bit(28)
    HWU61 = bit(27)
    HWU60 = bit(26)
    HWU59 = bit(25)
    HD = bit(22)
    HA = bit(21)
    VS = bit(19)
    PS = bits(18, 16, PhysicalAddressSize)
    TG0 = bits(15, 14, TG0)
    SH0 = bits(13, 12, Shareability)
    ORGN0 = bits(11, 10)
    IRGN0 = bits(9, 8)
    SL0 = bits(7, 6)
    T0SZ = bits(5, 0)


class VTTBR_EL2(SystemRegister, encoding=(3, 4, 2, 1, 0)):
    """Virtualization Translation Table Base Register; the address is ``BADDR << 1``."""

    VMID = bits(63, 48)
    BADDR = bits(47, 1)
    CnP = bit(0)


class VMPIDR_EL2(SystemRegister, encoding=(3, 4, 0, 0, 5)):
    """Virtualization Multiprocessor ID Register: what a guest reads from MPIDR_EL1."""

    Aff3 = bits(39, 32)
    RES1 = bit(31)
    U = bit(30)
    MT = bit(24)
    Aff2 = bits(23, 16)
    Aff1 = bits(15, 8)
    Aff0 = bits(7, 0)


class VPIDR_EL2(SystemRegister, encoding=(3, 4, 0, 0, 0)):
    """Virtualization Processor ID Register: what a guest reads from MIDR_EL1."""

    Implementer = bits(31, 24)
    Variant = bits(23, 20)
    Architecture = bits(19, 16)
    PartNum = bits(15, 4)
    Revision = bits(3, 0)
