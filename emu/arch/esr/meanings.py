"""What the values of ISS and ISS2 fields mean, in words.

Two tables. ``BY_FIELD`` serves every layout that has a field of that name; where a
layout gives the name another meaning, ``BY_LAYOUT`` has the row. A meaning is a table of
values, in which a missing value is reserved, or a function for open-ended numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from emu.arch.esr import iss
from emu.arch.esr.fsc import FaultStatusCode

if TYPE_CHECKING:
    from emu.arch.fields import Layout

Meaning = Mapping[int, str] | Callable[[int], str]

RESERVED = "reserved"


def number(value: int) -> str:  # noqa: ARG001  # the signature of every meaning
    """Say nothing: the value itself is all there is."""
    return ""


def general_register(value: int) -> str:
    """Name general register ``value`` without its width."""
    return "zero register" if value == 31 else f"register {value}"


def control_register(value: int) -> str:
    """Name a CRn or CRm operand as assembly does."""
    return f"C{value}"


def status_code(value: int) -> str:
    """Describe a DFSC or IFSC of an abort."""
    return value.description if isinstance(value, FaultStatusCode) else RESERVED


def flag(clear: str, set_: str) -> Mapping[int, str]:
    """Return the meanings of a one-bit field."""
    return {0: clear, 1: set_}


CONDITIONS = dict(
    enumerate(("EQ", "NE", "CS", "CC", "MI", "PL", "VS", "VC", "HI", "LS", "GE", "LT", "GT", "LE"))
) | {14: "AL: always", 15: "NV: always"}

ERROR_STATE = {0: "recoverable (UER)", 2: "uncontainable (UC)", 3: "restartable (UEO)"}
"""SET of synchronous external aborts."""

WRITE_UPDATE = {
    0: "not a store, or it might have been done",
    2: "a store that was not done",
    3: "a store that was done",
}

BY_FIELD: dict[str, Meaning] = {
    # conditional AArch32 instructions
    "CV": flag("COND is not valid", "COND is valid"),
    "COND": CONDITIONS,
    "CCKNOWNPASS": flag("unconditional, or passed", "conditional, might have failed"),
    # operands
    "CRn": control_register,
    "CRm": control_register,
    "Op0": number,
    "Op1": number,
    "Op2": number,
    "Opc1": number,
    "Opc2": number,
    "RN": general_register,
    "Rn": general_register,
    "Rt": general_register,
    "Rt2": general_register,
    "Raddr": general_register,
    "imm8": number,
    "imm16": number,
    "Comment": number,
    "IMPDEF": lambda _: "implementation defined",
    "Direction": flag("write", "read"),
    "Offset": flag("subtracted", "added"),
    "AM": {
        0: "immediate unindexed",
        1: "immediate post-indexed",
        2: "immediate offset",
        3: "immediate pre-indexed",
        4: "literal unindexed",
        6: "literal offset",
    },
    # WFx
    "RV": flag("RN is not valid", "RN is valid"),
    "TI": {wait: wait.name for wait in iss.TrappedWait},
    # single instructions
    "Instruction": {
        0: "ST64BV",
        1: "ST64BV0",
        2: "LD64B or ST64B",
        3: "TSB CSYNC",
        4: "PSB CSYNC",
    },
    "BTYPE": {
        0: "no branch",
        1: "BR X16, BR X17, or BR from an unguarded page",
        2: "BLR",
        3: "BR from a guarded page",
    },
    "ERET": flag("ERET", "ERETAA or ERETAB"),
    "ERETA": flag("ERETAA, if ERET is 1", "ERETAB"),
    "DnI": flag("instruction key", "data key"),
    "BnA": flag("key A", "key B"),
    "SMTC": {
        0: "access trapped by SMEN, TSM or ESM",
        1: "SIMD or SVE instruction with PSTATE.SM = 1",
        2: "SME instruction with PSTATE.SM = 0",
        3: "SME instruction with PSTATE.ZA = 0",
        4: "access to ZT0 trapped",
    },
    # aborts
    "DFSC": status_code,
    "IFSC": status_code,
    "xFSC": status_code,
    "ISV": flag("instruction not described", "SAS, SSE, SRT, SF and AR are valid"),
    "SAS": {0: "byte", 1: "halfword, 2 bytes", 2: "word, 4 bytes", 3: "doubleword, 8 bytes"},
    "SSE": flag("not sign-extended", "sign-extended"),
    "SRT": general_register,
    "SF": flag("32-bit register", "64-bit register"),
    "AR": flag("no acquire or release", "acquire or release"),
    "LST": {0: "not an LS64 instruction", 1: "ST64BV", 2: "LD64B or ST64B", 3: "ST64BV0"},
    "SET": ERROR_STATE,
    "WU": WRITE_UPDATE,
    "TopLevel": flag("not due to TopLevel", "due to TopLevel"),
    "PFV": flag("PFAR is not valid", "PFAR is valid"),
    "FnP": flag("FAR is precise", "FAR is somewhere in the granule"),
    "FnV": flag("FAR is valid", "FAR is not valid"),
    "EA": flag("", "implementation defined class 1"),
    "VNCR": flag("not by VNCR_EL2", "access through VNCR_EL2"),
    "CM": flag("not cache maintenance", "cache maintenance or AT"),
    "S1PTW": flag("not on a stage 1 walk", "stage 2 fault on a stage 1 walk"),
    "WnR": flag("read", "write"),
    "S2PTW": flag("not on a stage 2 walk", "on a stage 2 walk"),
    "InD": flag("data access", "instruction access"),
    "GPCSC": {
        0x00: "GPT address size fault, level 0",
        0x04: "GPT walk fault, level 0",
        0x05: "GPT walk fault, level 1",
        0x0C: "granule protection fault, level 0",
        0x0D: "granule protection fault, level 1",
        0x14: "external abort on GPT fetch, level 0",
        0x15: "external abort on GPT fetch, level 1",
    },
    # ISS2 of aborts and watchpoints
    "HDBSSF": flag("not by the HDBSS", "by the HDBSS"),
    "TnD": flag("not by a tag write", "tag write to canonically tagged memory"),
    "TagAccess": flag("not by NoTagAccess", "by NoTagAccess"),
    "GCS": flag("not a GCS access", "guarded control stack access"),
    "AssuredOnly": flag("not due to AssuredOnly", "due to AssuredOnly"),
    "Overlay": flag("not due to overlays", "due to overlay permissions"),
    "DirtyBit": flag("not due to dirty state", "due to dirty state"),
    "Xs": general_register,
    # MOPS
    "MemInst": flag("CPY*", "SET*"),
    "isSETG": flag("not SETG*", "SETG*"),
    "Options": number,
    "FromEpilogue": flag("main part", "epilogue"),
    "FormatOption": {0: "option B", 1: "option A", 2: "option A", 3: "option B"},
    "destreg": general_register,
    "srcreg": general_register,
    "sizereg": general_register,
    # floating-point exceptions
    "TFV": flag("IDF to IOF are not valid", "IDF to IOF are valid"),
    "VECITR": number,
    "IDF": flag("", "input denormal"),
    "IXF": flag("", "inexact"),
    "UFF": flag("", "underflow"),
    "OFF": flag("", "overflow"),
    "DZF": flag("", "divide by zero"),
    "IOF": flag("", "invalid operation"),
    # guarded control stack
    "ExType": {0: "data check", 1: "EXLOCK", 2: "trapped GCSSTR or GCSSTTR"},
    "IT": {
        0: "procedure return",
        1: "GCSPOPM",
        2: "procedure return with key A",
        3: "procedure return with key B",
        4: "GCSSS1",
        5: "GCSSS2",
        8: "GCSPOPCX",
        9: "GCSPOPX",
    },
    # SError
    "IDS": flag("the fields below", "implementation defined"),
    "ELS": flag("asynchronous", "triggered by the instruction at ELR"),
    "VFV": flag("FAR is not valid", "FAR is valid"),
    "IESB": flag("not synchronized by IESB", "synchronized by IESB"),
    "AET": {
        0: "uncontainable (UC)",
        1: "unrecoverable (UEU)",
        2: "restartable (UEO)",
        3: "recoverable (UER)",
        6: "corrected (CE)",
    },
    "WnRV": flag("WnR is not valid", "WnR is valid"),
    # debug
    "EX": flag("not a Load-Exclusive", "Load-Exclusive"),
    "WPT": lambda value: f"watchpoint {value}",
    "WPTV": flag("WPT is not valid", "WPT is valid"),
    "WPF": flag("a true match", "might be a false match"),
    # profiling
    "FSC": {0: "PMU", 1: "profiling buffer management", 2: "trace buffer management"},
    "SYNC": flag("asynchronous", "synchronous"),
}
"""Meanings by the field's name."""

DEBUG_EXCEPTION = {0x22: "debug exception"}

BY_LAYOUT: dict[tuple[type[Layout], str], Meaning] = {
    (iss.IssBreakpoint, "IFSC"): DEBUG_EXCEPTION,
    (iss.IssSoftwareStep, "IFSC"): DEBUG_EXCEPTION,
    (iss.IssSoftwareStep, "ISV"): flag("EX is not valid", "EX is valid"),
    (iss.IssWatchpoint, "DFSC"): DEBUG_EXCEPTION,
    (iss.IssSError, "DFSC"): {0x00: "uncategorized", 0x11: "asynchronous SError"},
    (iss.IssSystemRegister128, "Rt"): lambda value: f"registers {2 * value} and {2 * value + 1}",
}
"""Meanings of fields that share their name with another field."""


def meaning(layout: type[Layout], field: str, value: int) -> str:
    """Return what ``value`` means in ``field`` of ``layout``; ``reserved`` if it has no meaning.

    ``value`` is as the field decodes it, so that a status code is a FaultStatusCode.
    """
    known = BY_LAYOUT.get((layout, field), BY_FIELD[field])
    return known(value) if callable(known) else known.get(value, RESERVED)
