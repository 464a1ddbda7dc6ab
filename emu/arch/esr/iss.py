"""Layouts of ESR_ELx.ISS and ESR_ELx.ISS2, one for each kind of exception (Arm ARM D24.2).

``iss_layout`` finds the one that an ESR value uses. Which value means what is in
``meanings``.
"""

from __future__ import annotations

from enum import IntEnum

from emu.arch.bits import bit, bits
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.fields import Encoding, Layout


class AccessSize(IntEnum):
    """SAS: log2 of the bytes accessed."""

    BYTE = 0
    HALFWORD = 1
    WORD = 2
    DOUBLEWORD = 3


class TrappedWait(IntEnum):
    """TI: which wait instruction was trapped."""

    WFI = 0
    WFE = 1
    WFIT = 2
    WFET = 3


class IssNone(Layout):
    """Classes that say nothing more: all RES0."""


class IssImplementationDefined(Layout):
    """EC IMP_DEF: whatever the implementation says."""

    IMPDEF = bits(24, 0)


class IssWFx(Layout):
    """EC WFx."""

    CV = bit(24)
    COND = bits(23, 20)
    RN = bits(9, 5)
    RV = bit(2)
    TI = bits(1, 0, TrappedWait)


class IssMoveCoprocessor(Layout):
    """EC CP15_32, CP14_MR and CP10_ID: MCR, MRC, VMRS."""

    CV = bit(24)
    COND = bits(23, 20)
    Opc2 = bits(19, 17)
    Opc1 = bits(16, 14)
    CRn = bits(13, 10)
    Rt = bits(9, 5)
    CRm = bits(4, 1)
    Direction = bit(0)


class IssMoveCoprocessor64(Layout):
    """EC CP15_64 and CP14_64: MCRR, MRRC."""

    CV = bit(24)
    COND = bits(23, 20)
    Opc1 = bits(19, 16)
    Rt2 = bits(14, 10)
    Rt = bits(9, 5)
    CRm = bits(4, 1)
    Direction = bit(0)


class IssLoadStoreCoprocessor(Layout):
    """EC CP14_LS: LDC, STC."""

    CV = bit(24)
    COND = bits(23, 20)
    imm8 = bits(19, 12)
    Rn = bits(9, 5)
    Offset = bit(4)
    AM = bits(3, 1)
    Direction = bit(0)


class IssFpAccess(Layout):
    """EC FP_ASIMD."""

    CV = bit(24)
    COND = bits(23, 20)


class IssOther(Layout):
    """EC OTHER: a number for the instruction."""

    Instruction = bits(24, 0)


class IssBti(Layout):
    """EC BTI: the PSTATE.BTYPE that the branch had set."""

    BTYPE = bits(1, 0)


class IssSvc(Layout):
    """EC SVC64 and SVC32."""

    imm16 = bits(15, 0)


class IssHvc(Layout):
    """EC HVC64 and HVC32."""

    imm16 = bits(15, 0)


class IssSmc(Layout):
    """EC SMC64."""

    imm16 = bits(15, 0)


class IssSmc32(Layout):
    """EC SMC32."""

    CV = bit(24)
    COND = bits(23, 20)
    CCKNOWNPASS = bit(19)


class IssSystemRegister(Layout):
    """EC SYS64: MSR, MRS, SYS and SYSL. Direction is 1 for a read."""

    Op0 = bits(21, 20)
    Op2 = bits(19, 17)
    Op1 = bits(16, 14)
    CRn = bits(13, 10)
    Rt = bits(9, 5)
    CRm = bits(4, 1)
    Direction = bit(0)

    @property
    def encoding(self) -> Encoding:
        """What was accessed: a key of ``emu.arch.registers.REGISTERS`` when Op0 is 2 or 3."""
        return Encoding(self.Op0, self.Op1, self.CRn, self.CRm, self.Op2)


class IssSystemRegister128(Layout):
    """EC SYSINSTR128: the register pair starts at ``2 * Rt``."""

    Op0 = bits(21, 20)
    Op2 = bits(19, 17)
    Op1 = bits(16, 14)
    CRn = bits(13, 10)
    Rt = bits(9, 6)
    CRm = bits(4, 1)
    Direction = bit(0)


class IssEret(Layout):
    """EC ERET."""

    ERET = bit(1)
    ERETA = bit(0)


class IssPacFail(Layout):
    """EC FPAC."""

    DnI = bit(1)
    BnA = bit(0)


class IssSme(Layout):
    """EC SME."""

    SMTC = bits(2, 0)


class IssGranuleProtection(Layout):
    """EC GPC."""

    S2PTW = bit(21)
    InD = bit(20)
    GPCSC = bits(19, 14)
    VNCR = bit(13)
    CM = bit(8)
    S1PTW = bit(7)
    WnR = bit(6)
    xFSC = bits(5, 0, FaultStatusCode)


class IssInstructionAbort(Layout):
    """EC IABT_LOW and IABT_CUR."""

    TopLevel = bit(21)
    FnV = bit(10)
    EA = bit(9)
    S1PTW = bit(7)
    IFSC = bits(5, 0, FaultStatusCode)


class IssInstructionAbortExternal(IssInstructionAbort):
    """EC IABT_LOW and IABT_CUR, as read for an external abort."""

    PFV = bit(14)
    SET = bits(12, 11)


class DataAbortCommon(Layout):
    """What all three forms of a data abort hold."""

    ISV = bit(24)
    VNCR = bit(13)
    FnV = bit(10)
    EA = bit(9)
    CM = bit(8)
    S1PTW = bit(7)
    WnR = bit(6)
    DFSC = bits(5, 0, FaultStatusCode)


class IssDataAbort(DataAbortCommon):
    """EC DABT_LOW and DABT_CUR, as read when ISV is 1: the instruction is described."""

    SAS = bits(23, 22, AccessSize)
    SSE = bit(21)
    SRT = bits(20, 16)
    SF = bit(15)
    AR = bit(14)
    LST = bits(12, 11)


class IssDataAbortNoSyndrome(DataAbortCommon):
    """EC DABT_LOW and DABT_CUR, as read when ISV is 0."""

    TopLevel = bit(21)
    FnP = bit(15)
    LST = bits(12, 11)


class IssDataAbortExternal(DataAbortCommon):
    """EC DABT_LOW and DABT_CUR, as read when ISV is 0, for an external abort."""

    WU = bits(17, 16)
    FnP = bit(15)
    PFV = bit(14)
    SET = bits(12, 11)


class IssMemoryCopy(Layout):
    """EC MOPS."""

    MemInst = bit(24)
    isSETG = bit(23)
    Options = bits(22, 19)
    FromEpilogue = bit(18)
    FormatOption = bits(17, 16)
    destreg = bits(14, 10)
    srcreg = bits(9, 5)
    sizereg = bits(4, 0)


class IssFpException(Layout):
    """EC FP_EXC64 and FP_EXC32."""

    TFV = bit(23)
    VECITR = bits(10, 8)
    IDF = bit(7)
    IXF = bit(4)
    UFF = bit(3)
    OFF = bit(2)
    DZF = bit(1)
    IOF = bit(0)


class IssGcs(Layout):
    """EC GCS. Bits [9:5] are Rvalue, not Rn, when ExType is 2."""

    ExType = bits(23, 20)
    Raddr = bits(14, 10)
    Rn = bits(9, 5)
    IT = bits(4, 0)


class IssSError(Layout):
    """EC SERROR, as read when IDS is 0."""

    IDS = bit(24)
    ELS = bit(18)
    WU = bits(17, 16)
    VFV = bit(15)
    PFV = bit(14)
    IESB = bit(13)
    AET = bits(12, 10)
    EA = bit(9)
    WnRV = bit(7)
    WnR = bit(6)
    DFSC = bits(5, 0)


class IssSErrorImplementationDefined(Layout):
    """EC SERROR, as read when IDS is 1."""

    IDS = bit(24)
    IMPDEF = bits(23, 0)


class IssBreakpoint(Layout):
    """EC BREAKPT_LOW, BREAKPT_CUR and VECTOR32."""

    IFSC = bits(5, 0)


class IssSoftwareStep(Layout):
    """EC SOFTSTP_LOW and SOFTSTP_CUR."""

    ISV = bit(24)
    EX = bit(6)
    IFSC = bits(5, 0)


class IssWatchpoint(Layout):
    """EC WATCHPT_LOW and WATCHPT_CUR."""

    WPT = bits(23, 18)
    WPTV = bit(17)
    WPF = bit(16)
    FnP = bit(15)
    VNCR = bit(13)
    FnV = bit(10)
    CM = bit(8)
    WnR = bit(6)
    DFSC = bits(5, 0)


class IssBrk(Layout):
    """EC BRK64 and BKPT32."""

    Comment = bits(15, 0)


class IssProfiling(Layout):
    """EC PROFILING."""

    FSC = bits(5, 1)
    SYNC = bit(0)


class Iss2DataAbort(Layout):
    """ISS2 of a data abort; bit 0 here is ESR_ELx[32]."""

    HDBSSF = bit(11)
    TnD = bit(10)
    TagAccess = bit(9)
    GCS = bit(8)
    AssuredOnly = bit(7)
    Overlay = bit(6)
    DirtyBit = bit(5)
    Xs = bits(4, 0)


class Iss2InstructionAbort(Layout):
    """ISS2 of an instruction abort; bit 0 here is ESR_ELx[32]."""

    HDBSSF = bit(11)
    AssuredOnly = bit(7)
    Overlay = bit(6)
    DirtyBit = bit(5)


class Iss2Watchpoint(Layout):
    """ISS2 of a watchpoint; bit 0 here is ESR_ELx[32]."""

    GCS = bit(8)
