"""Exception classes: why an exception was taken (ESR_ELx.EC, Arm ARM D24.2)."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class ExceptionClass(IntEnum):
    """The EC field, named as in KVM's traces (``kvm_arm_exception_class``).

    Where the EC has one code for "from a lower Exception level" and one for
    "without a change of Exception level", the names end in LOW and CUR.
    """

    UNKNOWN = 0x00
    WFx = 0x01
    CP15_32 = 0x03
    CP15_64 = 0x04
    CP14_MR = 0x05
    CP14_LS = 0x06
    FP_ASIMD = 0x07
    CP10_ID = 0x08
    PAC = 0x09
    OTHER = 0x0A
    CP14_64 = 0x0C
    BTI = 0x0D
    ILL = 0x0E
    SVC32 = 0x11
    HVC32 = 0x12
    SMC32 = 0x13
    SYSINSTR128 = 0x14
    SVC64 = 0x15
    HVC64 = 0x16
    SMC64 = 0x17
    SYS64 = 0x18
    SVE = 0x19
    ERET = 0x1A
    FPAC = 0x1C
    SME = 0x1D
    GPC = 0x1E
    IMP_DEF = 0x1F
    IABT_LOW = 0x20
    IABT_CUR = 0x21
    PC_ALIGN = 0x22
    DABT_LOW = 0x24
    DABT_CUR = 0x25
    SP_ALIGN = 0x26
    MOPS = 0x27
    FP_EXC32 = 0x28
    FP_EXC64 = 0x2C
    GCS = 0x2D
    SERROR = 0x2F
    BREAKPT_LOW = 0x30
    BREAKPT_CUR = 0x31
    SOFTSTP_LOW = 0x32
    SOFTSTP_CUR = 0x33
    WATCHPT_LOW = 0x34
    WATCHPT_CUR = 0x35
    BKPT32 = 0x38
    VECTOR32 = 0x3A
    BRK64 = 0x3C
    PROFILING = 0x3D


class ClassFacts(NamedTuple):
    """What is known of an exception class beside its code."""

    meaning: str
    """In words, without a full stop."""

    lowest_el: int = 1
    """The lowest Exception level whose ESR_ELx reports it."""

    always_32bit: bool = False
    """Whether IL is 1 whatever the length of the instruction (ESR_ELx.IL)."""


CLASSES: dict[ExceptionClass, ClassFacts] = {
    ExceptionClass.UNKNOWN: ClassFacts("unknown reason", always_32bit=True),
    ExceptionClass.WFx: ClassFacts("trapped WFI, WFE, WFIT or WFET"),
    ExceptionClass.CP15_32: ClassFacts("trapped AArch32 MCR or MRC, p15"),
    ExceptionClass.CP15_64: ClassFacts("trapped AArch32 MCRR or MRRC, p15"),
    ExceptionClass.CP14_MR: ClassFacts("trapped AArch32 MCR or MRC, p14"),
    ExceptionClass.CP14_LS: ClassFacts("trapped AArch32 LDC or STC"),
    ExceptionClass.FP_ASIMD: ClassFacts("trapped SME, SVE, SIMD or FP access"),
    ExceptionClass.CP10_ID: ClassFacts("trapped AArch32 VMRS, ID group", 2),
    ExceptionClass.PAC: ClassFacts("trapped pointer authentication instruction", 2),
    ExceptionClass.OTHER: ClassFacts("trapped instruction of no other class"),
    ExceptionClass.CP14_64: ClassFacts("trapped AArch32 MRRC, p14"),
    ExceptionClass.BTI: ClassFacts("branch target exception"),
    ExceptionClass.ILL: ClassFacts("illegal Execution state", always_32bit=True),
    ExceptionClass.SVC32: ClassFacts("AArch32 SVC instruction"),
    ExceptionClass.HVC32: ClassFacts("AArch32 HVC instruction", 2),
    ExceptionClass.SMC32: ClassFacts("AArch32 SMC instruction", 2),
    ExceptionClass.SYSINSTR128: ClassFacts("trapped MSRR, MRRS or SYSP"),
    ExceptionClass.SVC64: ClassFacts("SVC instruction"),
    ExceptionClass.HVC64: ClassFacts("HVC instruction", 2),
    ExceptionClass.SMC64: ClassFacts("SMC instruction", 2),
    ExceptionClass.SYS64: ClassFacts("trapped MSR, MRS or System instruction"),
    ExceptionClass.SVE: ClassFacts("trapped SVE access"),
    ExceptionClass.ERET: ClassFacts("trapped ERET, ERETAA or ERETAB", 2),
    ExceptionClass.FPAC: ClassFacts("pointer authentication failed"),
    ExceptionClass.SME: ClassFacts("trapped SME access"),
    ExceptionClass.GPC: ClassFacts("granule protection check", 3),
    ExceptionClass.IMP_DEF: ClassFacts("implementation defined exception to EL3", 3),
    ExceptionClass.IABT_LOW: ClassFacts("instruction abort, lower EL", always_32bit=True),
    ExceptionClass.IABT_CUR: ClassFacts("instruction abort, same EL", always_32bit=True),
    ExceptionClass.PC_ALIGN: ClassFacts("PC alignment fault", always_32bit=True),
    ExceptionClass.DABT_LOW: ClassFacts("data abort, lower EL"),
    ExceptionClass.DABT_CUR: ClassFacts("data abort, same EL"),
    ExceptionClass.SP_ALIGN: ClassFacts("SP alignment fault", always_32bit=True),
    ExceptionClass.MOPS: ClassFacts("memory copy or memory set exception"),
    ExceptionClass.FP_EXC32: ClassFacts("trapped AArch32 floating-point exception"),
    ExceptionClass.FP_EXC64: ClassFacts("trapped floating-point exception"),
    ExceptionClass.GCS: ClassFacts("guarded control stack exception"),
    ExceptionClass.SERROR: ClassFacts("SError", always_32bit=True),
    ExceptionClass.BREAKPT_LOW: ClassFacts("breakpoint, lower EL", always_32bit=True),
    ExceptionClass.BREAKPT_CUR: ClassFacts("breakpoint, same EL", always_32bit=True),
    ExceptionClass.SOFTSTP_LOW: ClassFacts("software step, lower EL", always_32bit=True),
    ExceptionClass.SOFTSTP_CUR: ClassFacts("software step, same EL", always_32bit=True),
    ExceptionClass.WATCHPT_LOW: ClassFacts("watchpoint, lower EL", always_32bit=True),
    ExceptionClass.WATCHPT_CUR: ClassFacts("watchpoint, same EL", always_32bit=True),
    ExceptionClass.BKPT32: ClassFacts("AArch32 BKPT instruction"),
    ExceptionClass.VECTOR32: ClassFacts("AArch32 vector catch", 2, always_32bit=True),
    ExceptionClass.BRK64: ClassFacts("BRK instruction"),
    ExceptionClass.PROFILING: ClassFacts("profiling exception"),
}
"""Every allocated class. An EC without a row here is reserved."""
