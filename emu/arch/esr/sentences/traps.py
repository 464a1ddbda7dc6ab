"""Sentences about instructions that trapped or that call a higher Exception level."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.a64.operations import SysEncoding
from emu.arch.a64.system import CRN_TLBI_NXS, PSTATE_FIELDS, operation
from emu.arch.esr import iss
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.sentences.words import known, register
from emu.arch.registers import REGISTERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.esr.report import Report

CRN_MSR_IMMEDIATE = 4
LAST_FLAG_OPERATION = (0, 2)
"""The (op1, op2) of AXFLAG; what comes after it in PSTATE_FIELDS is written by MSR (immediate)."""


def call(instruction: str) -> Callable[[Report], str]:
    """Return the sentence of an instruction whose ISS is its 16-bit immediate."""

    def say(report: Report) -> str:
        return f"{instruction} #{iss.IssSvc(report.esr.ISS).imm16:#x} was executed"

    return say


def wait(report: Report) -> str:
    """Say which of the wait instructions was trapped."""
    trap = iss.IssWFx(report.esr.ISS)
    operand = f" {register(trap.RN)}" if trap.TI >= iss.TrappedWait.WFIT and trap.RV else ""
    return f"{trap.TI.name}{operand} was trapped"


def system_instruction(trap: iss.IssSystemRegister) -> str:
    """Write a trapped MSR, MRS, SYS or SYSL as assembly."""
    op0, op1, CRn, CRm, op2 = trap.encoding
    name = register(trap.Rt)
    if op0 >= 2:
        register_class = REGISTERS.get(trap.encoding)
        generic = f"S{op0}_{op1}_C{CRn}_C{CRm}_{op2}"
        target = generic if register_class is None else register_class.__name__
        return f"MRS {name}, {target}" if trap.Direction else f"MSR {target}, {name}"
    if op0 == 0:
        field = PSTATE_FIELDS.get((op1, op2))
        if CRn == CRN_MSR_IMMEDIATE and field is not None and (op1, op2) > LAST_FLAG_OPERATION:
            return f"MSR {field}, #{CRm}"
        return f"A system instruction (op0 0, op1 {op1}, C{CRn}, C{CRm}, op2 {op2})"
    if trap.Direction:
        return f"SYSL {name}, #{op1}, C{CRn}, C{CRm}, #{op2}"
    operand = "" if trap.Rt == 31 else f", {name}"
    named = operation(SysEncoding(op1, CRn, CRm, op2))
    if named is None:
        return f"SYS #{op1}, C{CRn}, C{CRm}, #{op2}{operand}"
    qualifier = "NXS" if CRn == CRN_TLBI_NXS else ""
    return f"{type(named).__name__} {named.name}{qualifier}{operand}"


def system(report: Report) -> str:
    """Say which system register or instruction was trapped."""
    return f"{system_instruction(iss.IssSystemRegister(report.esr.ISS))} was trapped"


def system_128(report: Report) -> str:
    """Say which 128-bit system register was trapped."""
    trap = iss.IssSystemRegister128(report.esr.ISS)
    target = f"S{trap.Op0}_{trap.Op1}_C{trap.CRn}_C{trap.CRm}_{trap.Op2}"
    pair = f"{register(2 * trap.Rt)}, {register(2 * trap.Rt + 1)}"
    if trap.Direction:
        return f"MRRS {pair}, {target} was trapped"
    return f"MSRR {target}, {pair} was trapped"


def coprocessor(report: Report) -> str:
    """Say which MCR or MRC was trapped."""
    trap = iss.IssMoveCoprocessor(report.esr.ISS)
    number = 15 if report.ec == ExceptionClass.CP15_32 else 14
    name = "MRC" if trap.Direction else "MCR"
    operands = f"{trap.Opc1}, R{trap.Rt}, c{trap.CRn}, c{trap.CRm}, {trap.Opc2}"
    return f"AArch32 {name} p{number}, {operands} was trapped"


def coprocessor_64(report: Report) -> str:
    """Say which MCRR or MRRC was trapped."""
    trap = iss.IssMoveCoprocessor64(report.esr.ISS)
    number = 15 if report.ec == ExceptionClass.CP15_64 else 14
    name = "MRRC" if trap.Direction else "MCRR"
    operands = f"{trap.Opc1}, R{trap.Rt}, R{trap.Rt2}, c{trap.CRm}"
    return f"AArch32 {name} p{number}, {operands} was trapped"


def load_store_coprocessor(report: Report) -> str:
    """Say whether LDC or STC was trapped."""
    name = "LDC" if iss.IssLoadStoreCoprocessor(report.esr.ISS).Direction else "STC"
    return f"AArch32 {name} p14, c5 was trapped"


def other(report: Report) -> str:
    """Name an instruction that has no class of its own."""
    number = iss.IssOther(report.esr.ISS).Instruction
    return f"{known(iss.IssOther, 'Instruction', number, 'An unknown instruction')} was trapped"


def eret(report: Report) -> str:
    """Say which of the exception returns was trapped."""
    trap = iss.IssEret(report.esr.ISS)
    name = ("ERETAB" if trap.ERETA else "ERETAA") if trap.ERET else "ERET"
    return f"{name} was trapped"


def sme(report: Report) -> str:
    """Say why an SME instruction was trapped."""
    code = iss.IssSme(report.esr.ISS).SMTC
    return f"SME use was trapped: {known(iss.IssSme, 'SMTC', code, 'for an unknown reason')}"
