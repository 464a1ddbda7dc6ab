"""Registers that say what the processing element is and can do."""

from __future__ import annotations

from enum import IntEnum

from emu.arch.bits import bit, bits
from emu.arch.fields import SystemRegister
from emu.arch.registers.translation import PhysicalAddressSize


class MIDR_EL1(SystemRegister, encoding=(3, 0, 0, 0, 0)):
    """Main ID Register."""

    Implementer = bits(31, 24)
    Variant = bits(23, 20)
    Architecture = bits(19, 16)
    PartNum = bits(15, 4)
    Revision = bits(3, 0)


class MPIDR_EL1(SystemRegister, encoding=(3, 0, 0, 0, 5)):
    """Multiprocessor Affinity Register. RES1 is bit [31], which reads as one."""

    Aff3 = bits(39, 32)
    RES1 = bit(31)
    U = bit(30)
    MT = bit(24)
    Aff2 = bits(23, 16)
    Aff1 = bits(15, 8)
    Aff0 = bits(7, 0)


class REVIDR_EL1(SystemRegister, encoding=(3, 0, 0, 0, 6)):
    """Revision ID Register: implementation defined, no fields."""


class IcachePolicy(IntEnum):
    """How a level 1 instruction cache finds its lines (CTR_EL0.L1Ip)."""

    VPIPT = 0
    """By physical address, and VMID."""
    AIVIVT = 1
    """By virtual address, ASID and VMID; a reserved value since Armv8."""
    VIPT = 2
    """Indexed by virtual, tagged by physical address."""
    PIPT = 3
    """By physical address."""


class CTR_EL0(SystemRegister, encoding=(3, 3, 0, 0, 1)):
    """Cache Type Register. Line sizes are log2 of words (4 bytes); RES1 is bit [31]."""

    TminLine = bits(37, 32)
    RES1 = bit(31)
    DIC = bit(29)
    IDC = bit(28)
    CWG = bits(27, 24)
    ERG = bits(23, 20)
    DminLine = bits(19, 16)
    L1Ip = bits(15, 14, IcachePolicy)
    IminLine = bits(3, 0)


class DCZID_EL0(SystemRegister, encoding=(3, 3, 0, 0, 7)):
    """Data Cache Zero ID Register: DC ZVA clears ``4 << BS`` bytes, or is prohibited (DZP)."""

    DZP = bit(4)
    BS = bits(3, 0)


class CCSIDR_EL1(SystemRegister, encoding=(3, 1, 0, 0, 0)):
    """Current Cache Size ID Register, in its form without FEAT_CCIDX."""

    NumSets = bits(27, 13)
    Associativity = bits(12, 3)
    LineSize = bits(2, 0)


class CLIDR_EL1(SystemRegister, encoding=(3, 1, 0, 0, 1)):
    """Cache Level ID Register."""

    Ttype7 = bits(46, 45)
    Ttype6 = bits(44, 43)
    Ttype5 = bits(42, 41)
    Ttype4 = bits(40, 39)
    Ttype3 = bits(38, 37)
    Ttype2 = bits(36, 35)
    Ttype1 = bits(34, 33)
    ICB = bits(32, 30)
    LoUU = bits(29, 27)
    LoC = bits(26, 24)
    LoUIS = bits(23, 21)
    Ctype7 = bits(20, 18)
    Ctype6 = bits(17, 15)
    Ctype5 = bits(14, 12)
    Ctype4 = bits(11, 9)
    Ctype3 = bits(8, 6)
    Ctype2 = bits(5, 3)
    Ctype1 = bits(2, 0)


class CSSELR_EL1(SystemRegister, encoding=(3, 2, 0, 0, 0)):
    """Cache Size Selection Register: which cache CCSIDR_EL1 describes."""

    TnD = bit(4)
    Level = bits(3, 1)
    InD = bit(0)


class ID_AA64PFR0_EL1(SystemRegister, encoding=(3, 0, 0, 4, 0)):
    """AArch64 Processor Feature Register 0."""

    CSV3 = bits(63, 60)
    CSV2 = bits(59, 56)
    RME = bits(55, 52)
    DIT = bits(51, 48)
    AMU = bits(47, 44)
    MPAM = bits(43, 40)
    SEL2 = bits(39, 36)
    SVE = bits(35, 32)
    RAS = bits(31, 28)
    GIC = bits(27, 24)
    AdvSIMD = bits(23, 20)
    FP = bits(19, 16)
    EL3 = bits(15, 12)
    EL2 = bits(11, 8)
    EL1 = bits(7, 4)
    EL0 = bits(3, 0)


class ID_AA64PFR1_EL1(SystemRegister, encoding=(3, 0, 0, 4, 1)):
    """AArch64 Processor Feature Register 1."""

    PFAR = bits(63, 60)
    DF2 = bits(59, 56)
    MTEX = bits(55, 52)
    THE = bits(51, 48)
    GCS = bits(47, 44)
    MTE_frac = bits(43, 40)
    NMI = bits(39, 36)
    CSV2_frac = bits(35, 32)
    RNDR_trap = bits(31, 28)
    SME = bits(27, 24)
    MPAM_frac = bits(19, 16)
    RAS_frac = bits(15, 12)
    MTE = bits(11, 8)
    SSBS = bits(7, 4)
    BT = bits(3, 0)


class ID_AA64DFR0_EL1(SystemRegister, encoding=(3, 0, 0, 5, 0)):
    """AArch64 Debug Feature Register 0."""

    HPMN0 = bits(63, 60)
    ExtTrcBuff = bits(59, 56)
    BRBE = bits(55, 52)
    MTPMU = bits(51, 48)
    TraceBuffer = bits(47, 44)
    TraceFilt = bits(43, 40)
    DoubleLock = bits(39, 36)
    PMSVer = bits(35, 32)
    CTX_CMPs = bits(31, 28)
    SEBEP = bits(27, 24)
    WRPs = bits(23, 20)
    PMSS = bits(19, 16)
    BRPs = bits(15, 12)
    PMUVer = bits(11, 8)
    TraceVer = bits(7, 4)
    DebugVer = bits(3, 0)


class ID_AA64DFR1_EL1(SystemRegister, encoding=(3, 0, 0, 5, 1)):
    """AArch64 Debug Feature Register 1."""

    ABL_CMPs = bits(63, 56)
    DPFZS = bits(55, 52)
    EBEP = bits(51, 48)
    ITE = bits(47, 44)
    ABLE = bits(43, 40)
    PMICNTR = bits(39, 36)
    SPMU = bits(35, 32)
    CTX_CMPs = bits(31, 24)
    WRPs = bits(23, 16)
    BRPs = bits(15, 8)
    SYSPMUID = bits(7, 0)


class ID_AA64ISAR0_EL1(SystemRegister, encoding=(3, 0, 0, 6, 0)):
    """AArch64 Instruction Set Attribute Register 0."""

    RNDR = bits(63, 60)
    TLB = bits(59, 56)
    TS = bits(55, 52)
    FHM = bits(51, 48)
    DP = bits(47, 44)
    SM4 = bits(43, 40)
    SM3 = bits(39, 36)
    SHA3 = bits(35, 32)
    RDM = bits(31, 28)
    TME = bits(27, 24)
    Atomic = bits(23, 20)
    CRC32 = bits(19, 16)
    SHA2 = bits(15, 12)
    SHA1 = bits(11, 8)
    AES = bits(7, 4)


class ID_AA64ISAR1_EL1(SystemRegister, encoding=(3, 0, 0, 6, 1)):
    """AArch64 Instruction Set Attribute Register 1."""

    LS64 = bits(63, 60)
    XS = bits(59, 56)
    I8MM = bits(55, 52)
    DGH = bits(51, 48)
    BF16 = bits(47, 44)
    SPECRES = bits(43, 40)
    SB = bits(39, 36)
    FRINTTS = bits(35, 32)
    GPI = bits(31, 28)
    GPA = bits(27, 24)
    LRCPC = bits(23, 20)
    FCMA = bits(19, 16)
    JSCVT = bits(15, 12)
    API = bits(11, 8)
    APA = bits(7, 4)
    DPB = bits(3, 0)


class ID_AA64ISAR2_EL1(SystemRegister, encoding=(3, 0, 0, 6, 2)):
    """AArch64 Instruction Set Attribute Register 2."""

    ATS1A = bits(63, 60)
    LUT = bits(59, 56)
    CSSC = bits(55, 52)
    RPRFM = bits(51, 48)
    PCDPHINT = bits(47, 44)
    PRFMSLC = bits(43, 40)
    SYSINSTR_128 = bits(39, 36)
    SYSREG_128 = bits(35, 32)
    CLRBHB = bits(31, 28)
    PAC_frac = bits(27, 24)
    BC = bits(23, 20)
    MOPS = bits(19, 16)
    APA3 = bits(15, 12)
    GPA3 = bits(11, 8)
    RPRES = bits(7, 4)
    WFxT = bits(3, 0)


class ID_AA64MMFR0_EL1(SystemRegister, encoding=(3, 0, 0, 7, 0)):
    """AArch64 Memory Model Feature Register 0."""

    ECV = bits(63, 60)
    FGT = bits(59, 56)
    ExS = bits(47, 44)
    TGran4_2 = bits(43, 40)
    TGran64_2 = bits(39, 36)
    TGran16_2 = bits(35, 32)
    TGran4 = bits(31, 28)
    TGran64 = bits(27, 24)
    TGran16 = bits(23, 20)
    BigEndEL0 = bits(19, 16)
    SNSMem = bits(15, 12)
    BigEnd = bits(11, 8)
    ASIDBits = bits(7, 4)
    PARange = bits(3, 0, PhysicalAddressSize)


class ID_AA64MMFR1_EL1(SystemRegister, encoding=(3, 0, 0, 7, 1)):
    """AArch64 Memory Model Feature Register 1."""

    ECBHB = bits(63, 60)
    CMOW = bits(59, 56)
    TIDCP1 = bits(55, 52)
    nTLBPA = bits(51, 48)
    AFP = bits(47, 44)
    HCX = bits(43, 40)
    ETS = bits(39, 36)
    TWED = bits(35, 32)
    XNX = bits(31, 28)
    SpecSEI = bits(27, 24)
    PAN = bits(23, 20)
    LO = bits(19, 16)
    HPDS = bits(15, 12)
    VH = bits(11, 8)
    VMIDBits = bits(7, 4)
    HAFDBS = bits(3, 0)


class ID_AA64MMFR2_EL1(SystemRegister, encoding=(3, 0, 0, 7, 2)):
    """AArch64 Memory Model Feature Register 2."""

    E0PD = bits(63, 60)
    EVT = bits(59, 56)
    BBM = bits(55, 52)
    TTL = bits(51, 48)
    FWB = bits(43, 40)
    IDS = bits(39, 36)
    AT = bits(35, 32)
    ST = bits(31, 28)
    NV = bits(27, 24)
    CCIDX = bits(23, 20)
    VARange = bits(19, 16)
    IESB = bits(15, 12)
    LSM = bits(11, 8)
    UAO = bits(7, 4)
    CnP = bits(3, 0)
