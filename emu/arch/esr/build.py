"""Build syndromes: the ESR values of aborts and traps.

The values have the fields of ESR_EL1 and ESR_EL2 alike. A64 instructions are 32 bits
wide, so IL is 1 in all of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.iss import (
    IssDataAbort,
    IssFpAccess,
    IssInstructionAbort,
    IssSystemRegister,
    IssWFx,
    TrappedWait,
)
from emu.arch.registers.exceptions import ExceptionSyndrome

if TYPE_CHECKING:
    from emu.arch.esr.fsc import FaultStatusCode
    from emu.arch.fields import Encoding

COND_ALWAYS = 0xE
"""ISS.COND of an exception taken from AArch64, together with CV = 1."""


@lru_cache(maxsize=1024)
def syndrome(ec: ExceptionClass, iss: int = 0, iss2: int = 0) -> ExceptionSyndrome:
    """Return the ESR value of class ``ec`` with the given ISS and ISS2.

    Raises
    ------
    ValueError
        If ``iss`` is wider than 25 bits or ``iss2`` than 24.
    """
    return ExceptionSyndrome.build(EC=ec, IL=1, ISS=iss, ISS2=iss2)


def data_abort(
    code: FaultStatusCode,
    *,
    same_el: bool,
    write: bool = False,
    instruction: int = 0,
    S1PTW: bool = False,
    CM: bool = False,
    FnV: bool = False,
    EA: bool = False,
) -> ExceptionSyndrome:
    """Return the ESR value of a data abort.

    Parameters
    ----------
    code
        DFSC: the fault and its level.
    same_el
        Whether the abort was taken without a change of Exception level.
    write
        WnR, unless CM is set: cache maintenance always reports a write.
    instruction
        ISS[24:14] in place, as ``emu.arch.a64.loadstore.syndrome`` returns it; 0 when
        the instruction is not described.
    S1PTW, CM, FnV, EA
        The bits of these names.

    Raises
    ------
    ValueError
        If ``instruction`` has bits outside [24:14].
    """
    if instruction & ~0x1FF_C000:
        raise ValueError(f"an instruction syndrome is ISS[24:14], not {instruction:#x}")
    fields = IssDataAbort(instruction).replace(
        FnV=FnV, EA=EA, CM=CM, S1PTW=S1PTW, WnR=write or CM, DFSC=code
    )
    return syndrome(ExceptionClass.DABT_CUR if same_el else ExceptionClass.DABT_LOW, fields)


def instruction_abort(
    code: FaultStatusCode,
    *,
    same_el: bool,
    S1PTW: bool = False,
    FnV: bool = False,
    EA: bool = False,
) -> ExceptionSyndrome:
    """Return the ESR value of an instruction abort.

    Parameters
    ----------
    code
        IFSC: the fault and its level.
    same_el
        Whether the abort was taken without a change of Exception level.
    S1PTW, FnV, EA
        The bits of these names.
    """
    fields = IssInstructionAbort.build(FnV=FnV, EA=EA, S1PTW=S1PTW, IFSC=code)
    return syndrome(ExceptionClass.IABT_CUR if same_el else ExceptionClass.IABT_LOW, fields)


def system_register_trap(encoding: Encoding, *, rt: int, read: bool) -> ExceptionSyndrome:
    """Return the ESR value of a trapped MSR, MRS, SYS or SYSL.

    Parameters
    ----------
    encoding
        What was accessed; op0 is 1 for SYS and SYSL.
    rt
        The general register, 0 to 31.
    read
        Whether a general register is written: MRS and SYSL.
    """
    fields = IssSystemRegister.build(
        Op0=encoding.op0,
        Op1=encoding.op1,
        CRn=encoding.CRn,
        CRm=encoding.CRm,
        Op2=encoding.op2,
        Rt=rt,
        Direction=read,
    )
    return syndrome(ExceptionClass.SYS64, fields)


def wait_trap(instruction: TrappedWait, rn: int | None = None) -> ExceptionSyndrome:
    """Return the ESR value of a trapped WFI or WFE, or of WFIT or WFET with register ``rn``."""
    fields = IssWFx.build(CV=1, COND=COND_ALWAYS, TI=instruction)
    if rn is not None:
        fields = fields.replace(RN=rn, RV=1)
    return syndrome(ExceptionClass.WFx, fields)


def fp_access_trap() -> ExceptionSyndrome:
    """Return the ESR value of a trapped SIMD or floating-point instruction."""
    return syndrome(ExceptionClass.FP_ASIMD, IssFpAccess.build(CV=1, COND=COND_ALWAYS))
