"""Which layout reads the ISS and ISS2 of an ESR value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.esr import iss
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import EXTERNAL_ABORTS, FaultStatusCode
from emu.arch.registers.exceptions import ExceptionSyndrome

if TYPE_CHECKING:
    from emu.arch.fields import Layout

ISS_LAYOUTS: dict[ExceptionClass, type[Layout]] = {
    ExceptionClass.UNKNOWN: iss.IssNone,
    ExceptionClass.WFx: iss.IssWFx,
    ExceptionClass.CP15_32: iss.IssMoveCoprocessor,
    ExceptionClass.CP15_64: iss.IssMoveCoprocessor64,
    ExceptionClass.CP14_MR: iss.IssMoveCoprocessor,
    ExceptionClass.CP14_LS: iss.IssLoadStoreCoprocessor,
    ExceptionClass.FP_ASIMD: iss.IssFpAccess,
    ExceptionClass.CP10_ID: iss.IssMoveCoprocessor,
    ExceptionClass.PAC: iss.IssNone,
    ExceptionClass.OTHER: iss.IssOther,
    ExceptionClass.CP14_64: iss.IssMoveCoprocessor64,
    ExceptionClass.BTI: iss.IssBti,
    ExceptionClass.ILL: iss.IssNone,
    ExceptionClass.SVC32: iss.IssSvc,
    ExceptionClass.HVC32: iss.IssHvc,
    ExceptionClass.SMC32: iss.IssSmc32,
    ExceptionClass.SYSINSTR128: iss.IssSystemRegister128,
    ExceptionClass.SVC64: iss.IssSvc,
    ExceptionClass.HVC64: iss.IssHvc,
    ExceptionClass.SMC64: iss.IssSmc,
    ExceptionClass.SYS64: iss.IssSystemRegister,
    ExceptionClass.SVE: iss.IssNone,
    ExceptionClass.ERET: iss.IssEret,
    ExceptionClass.FPAC: iss.IssPacFail,
    ExceptionClass.SME: iss.IssSme,
    ExceptionClass.GPC: iss.IssGranuleProtection,
    ExceptionClass.IMP_DEF: iss.IssImplementationDefined,
    ExceptionClass.IABT_LOW: iss.IssInstructionAbort,
    ExceptionClass.IABT_CUR: iss.IssInstructionAbort,
    ExceptionClass.PC_ALIGN: iss.IssNone,
    ExceptionClass.DABT_LOW: iss.IssDataAbort,
    ExceptionClass.DABT_CUR: iss.IssDataAbort,
    ExceptionClass.SP_ALIGN: iss.IssNone,
    ExceptionClass.MOPS: iss.IssMemoryCopy,
    ExceptionClass.FP_EXC32: iss.IssFpException,
    ExceptionClass.FP_EXC64: iss.IssFpException,
    ExceptionClass.GCS: iss.IssGcs,
    ExceptionClass.SERROR: iss.IssSError,
    ExceptionClass.BREAKPT_LOW: iss.IssBreakpoint,
    ExceptionClass.BREAKPT_CUR: iss.IssBreakpoint,
    ExceptionClass.SOFTSTP_LOW: iss.IssSoftwareStep,
    ExceptionClass.SOFTSTP_CUR: iss.IssSoftwareStep,
    ExceptionClass.WATCHPT_LOW: iss.IssWatchpoint,
    ExceptionClass.WATCHPT_CUR: iss.IssWatchpoint,
    ExceptionClass.BKPT32: iss.IssBrk,
    ExceptionClass.VECTOR32: iss.IssBreakpoint,
    ExceptionClass.BRK64: iss.IssBrk,
    ExceptionClass.PROFILING: iss.IssProfiling,
}
"""The ISS layout of every allocated class; where a bit of the ISS decides, its first form."""

ISS2_LAYOUTS: dict[ExceptionClass, type[Layout]] = {
    ExceptionClass.IABT_LOW: iss.Iss2InstructionAbort,
    ExceptionClass.IABT_CUR: iss.Iss2InstructionAbort,
    ExceptionClass.DABT_LOW: iss.Iss2DataAbort,
    ExceptionClass.DABT_CUR: iss.Iss2DataAbort,
    ExceptionClass.WATCHPT_LOW: iss.Iss2Watchpoint,
    ExceptionClass.WATCHPT_CUR: iss.Iss2Watchpoint,
}
"""The ISS2 layout of the classes that have one; RES0 for all others."""


def iss_layout(esr: int) -> type[Layout] | None:
    """Return the layout of ``esr``'s ISS; None when its EC is reserved."""
    syndrome = ExceptionSyndrome(esr)
    layout = ISS_LAYOUTS.get(syndrome.EC)
    if layout is iss.IssDataAbort and not iss.IssDataAbort(syndrome.ISS).ISV:
        if _is_external(iss.IssDataAbort(syndrome.ISS).DFSC):
            return iss.IssDataAbortExternal
        return iss.IssDataAbortNoSyndrome
    if layout is iss.IssInstructionAbort and _is_external(iss.IssInstructionAbort(esr).IFSC):
        return iss.IssInstructionAbortExternal
    if layout is iss.IssSError and iss.IssSError(syndrome.ISS).IDS:
        return iss.IssSErrorImplementationDefined
    return layout


def _is_external(code: int) -> bool:
    """Whether a status code is that of an external abort; a reserved one is not."""
    return isinstance(code, FaultStatusCode) and code.fault in EXTERNAL_ABORTS


def iss2_layout(esr: int) -> type[Layout] | None:
    """Return the layout of ``esr``'s ISS2; None when it is RES0 for its EC."""
    return ISS2_LAYOUTS.get(ExceptionSyndrome(esr).EC)
