"""Sentences about exceptions that are neither aborts nor traps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.esr import iss
from emu.arch.esr.meanings import meaning
from emu.arch.esr.sentences.words import address, known, register, where

if TYPE_CHECKING:
    from emu.arch.esr.report import Report

ASYNCHRONOUS_SERROR = 0x11
"""DFSC of an SError whose AET is valid."""


def _at(report: Report) -> str:
    """Say where a debug exception came from."""
    if not report.from_lower_el:
        return f"at EL{report.taken_to}"
    return {1: "at EL0", 2: "at EL1 or EL0"}.get(report.taken_to, "at a lower Exception level")


def pac_fail(report: Report) -> str:
    """Say with which key authentication failed."""
    fail = iss.IssPacFail(report.esr.ISS)
    kind = "data" if fail.DnI else "instruction"
    return f"A pointer failed authentication with {kind} key {'B' if fail.BnA else 'A'}"


def branch_target(report: Report) -> str:
    """Say what the branch to no landing pad was."""
    btype = iss.IssBti(report.esr.ISS).BTYPE
    kind = meaning(iss.IssBti, "BTYPE", btype)
    return f"A branch reached an instruction that is no landing pad for it ({kind})"


def granule_protection(report: Report) -> str:
    """Say what failed in a granule protection check."""
    fault = iss.IssGranuleProtection(report.esr.ISS)
    who = "An instruction fetch" if fault.InD else "A data access"
    reason = known(iss.IssGranuleProtection, "GPCSC", fault.GPCSC, "reserved GPCSC")
    return f"{who} failed the granule protection check: {reason}"


def memory_copy(report: Report) -> str:
    """Say which copy or set instruction met operands it cannot use."""
    fault = iss.IssMemoryCopy(report.esr.ISS)
    name = ("SETG" if fault.isSETG else "SET") if fault.MemInst else "CPY"
    option = meaning(iss.IssMemoryCopy, "FormatOption", fault.FormatOption)
    registers = ", ".join(register(n) for n in (fault.destreg, fault.srcreg, fault.sizereg))
    return f"A {name} instruction found its operands {registers} prepared for {option}"


def fp_exception(report: Report) -> str:
    """Name the floating-point exceptions that occurred."""
    fault = iss.IssFpException(report.esr.ISS)
    if not fault.TFV:
        return "A floating-point exception was trapped; the syndrome does not say which"
    names = [
        meaning(iss.IssFpException, name, 1)
        for name in ("IDF", "IXF", "UFF", "OFF", "DZF", "IOF")
        if iss.IssFpException.FIELDS[name].decode(fault)
    ]
    return f"A floating-point exception was trapped: {', '.join(names) or 'none is named'}"


def guarded_control_stack(report: Report) -> str:
    """Say what the guarded control stack objected to."""
    fault = iss.IssGcs(report.esr.ISS)
    if fault.ExType:
        kind = known(iss.IssGcs, "ExType", fault.ExType, "reserved ExType")
        return f"A guarded control stack exception was taken: {kind}"
    source = known(iss.IssGcs, "IT", fault.IT, "an unknown instruction")
    return f"A guarded control stack data check failed: {source}"


def serror(report: Report) -> str:
    """Say how bad an SError is."""
    error = iss.IssSError(report.esr.ISS)
    if error.IDS:
        return "An SError was taken; its syndrome is implementation defined"
    if error.DFSC != ASYNCHRONOUS_SERROR:
        return "An SError was taken; it is not categorized"
    state = known(iss.IssSError, "AET", error.AET, "of a reserved kind")
    return f"An SError was taken; the error state is {state}{where(report)}"


def breakpoint_hit(report: Report) -> str:
    """Say where a breakpoint was reached."""
    return f"A breakpoint was reached {_at(report)}"


def software_step(report: Report) -> str:
    """Say what was stepped."""
    step = iss.IssSoftwareStep(report.esr.ISS)
    what = "A Load-Exclusive" if step.ISV and step.EX else "An instruction"
    return f"{what} was single-stepped {_at(report)}"


def watchpoint(report: Report) -> str:
    """Say what hit a watchpoint."""
    hit = iss.IssWatchpoint(report.esr.ISS)
    which = f"Watchpoint {hit.WPT}" if hit.WPTV else "A watchpoint"
    what = "cache maintenance" if hit.CM else "a write" if hit.WnR else "a read"
    return f"{which} was hit by {what} {_at(report)}{where(report)}"


def pc_alignment(report: Report) -> str:
    """Give the misaligned PC."""
    value = "" if report.va is None else f": {address(report.va)}"
    return f"The PC was misaligned{value}"


def profiling(report: Report) -> str:
    """Say which unit raised a profiling exception."""
    event = iss.IssProfiling(report.esr.ISS)
    source = known(iss.IssProfiling, "FSC", event.FSC, "unknown source")
    return f"A profiling exception was taken: {source}"
