"""Say in one English sentence what an exception was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.sentences import aborts, events, traps

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.esr.report import Report


def _text(words: str) -> Callable[[Report], str]:
    """Return a sentence that needs nothing from the ISS."""
    return lambda _: words


SENTENCES: dict[ExceptionClass, Callable[[Report], str]] = {
    ExceptionClass.UNKNOWN: _text("An instruction was UNDEFINED, or the reason is unknown"),
    ExceptionClass.WFx: traps.wait,
    ExceptionClass.CP15_32: traps.coprocessor,
    ExceptionClass.CP15_64: traps.coprocessor_64,
    ExceptionClass.CP14_MR: traps.coprocessor,
    ExceptionClass.CP14_LS: traps.load_store_coprocessor,
    ExceptionClass.FP_ASIMD: _text("An SME, SVE, SIMD or floating-point instruction was trapped"),
    ExceptionClass.CP10_ID: _text("AArch32 VMRS of an ID register was trapped"),
    ExceptionClass.PAC: _text("A pointer authentication instruction was trapped"),
    ExceptionClass.OTHER: traps.other,
    ExceptionClass.CP14_64: traps.coprocessor_64,
    ExceptionClass.BTI: events.branch_target,
    ExceptionClass.ILL: _text("An instruction was executed in the Illegal Execution state"),
    ExceptionClass.SVC32: traps.call("AArch32 SVC"),
    ExceptionClass.HVC32: traps.call("AArch32 HVC"),
    ExceptionClass.SMC32: _text("AArch32 SMC was executed"),
    ExceptionClass.SYSINSTR128: traps.system_128,
    ExceptionClass.SVC64: traps.call("SVC"),
    ExceptionClass.HVC64: traps.call("HVC"),
    ExceptionClass.SMC64: traps.call("SMC"),
    ExceptionClass.SYS64: traps.system,
    ExceptionClass.SVE: _text("An SVE instruction was trapped"),
    ExceptionClass.ERET: traps.eret,
    ExceptionClass.FPAC: events.pac_fail,
    ExceptionClass.SME: traps.sme,
    ExceptionClass.GPC: events.granule_protection,
    ExceptionClass.IMP_DEF: _text("An implementation defined exception was taken to EL3"),
    ExceptionClass.IABT_LOW: aborts.abort,
    ExceptionClass.IABT_CUR: aborts.abort,
    ExceptionClass.PC_ALIGN: events.pc_alignment,
    ExceptionClass.DABT_LOW: aborts.abort,
    ExceptionClass.DABT_CUR: aborts.abort,
    ExceptionClass.SP_ALIGN: _text("A load or store used an SP that was not a multiple of 16"),
    ExceptionClass.MOPS: events.memory_copy,
    ExceptionClass.FP_EXC32: events.fp_exception,
    ExceptionClass.FP_EXC64: events.fp_exception,
    ExceptionClass.GCS: events.guarded_control_stack,
    ExceptionClass.SERROR: events.serror,
    ExceptionClass.BREAKPT_LOW: events.breakpoint_hit,
    ExceptionClass.BREAKPT_CUR: events.breakpoint_hit,
    ExceptionClass.SOFTSTP_LOW: events.software_step,
    ExceptionClass.SOFTSTP_CUR: events.software_step,
    ExceptionClass.WATCHPT_LOW: events.watchpoint,
    ExceptionClass.WATCHPT_CUR: events.watchpoint,
    ExceptionClass.BKPT32: traps.call("AArch32 BKPT"),
    ExceptionClass.VECTOR32: _text("An AArch32 exception vector was caught"),
    ExceptionClass.BRK64: traps.call("BRK"),
    ExceptionClass.PROFILING: events.profiling,
}
"""How to say each class."""


def sentence(report: Report) -> str:
    """Return one sentence, with its full stop, for any ESR value."""
    say = SENTENCES.get(report.ec)
    if say is None:
        return f"Exception class {int(report.ec):#04x} is reserved; nothing is known of its ISS."
    return f"{say(report)}."
