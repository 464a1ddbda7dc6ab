"""Instructions that raise, return from or wait for exceptions (Arm ARM C4.1, C6.2)."""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from emu.arch.a64.word import SystemWord
from emu.arch.esr.iss import TrappedWait


class ExceptionInstruction(Enum):
    """The instructions that change the Exception level, or that debug and UDEF use."""

    UDF = "UDF"
    SVC = "SVC"
    HVC = "HVC"
    SMC = "SMC"
    BRK = "BRK"
    HLT = "HLT"
    DCPS1 = "DCPS1"
    DCPS2 = "DCPS2"
    DCPS3 = "DCPS3"
    ERET = "ERET"
    ERETAA = "ERETAA"
    ERETAB = "ERETAB"
    DRPS = "DRPS"


class ExceptionGeneration(NamedTuple):
    """A decoded instruction of this class."""

    instruction: ExceptionInstruction
    imm16: int
    """The immediate; 0 where the instruction has none."""


WITH_IMMEDIATE = {
    0xD400_0001: ExceptionInstruction.SVC,
    0xD400_0002: ExceptionInstruction.HVC,
    0xD400_0003: ExceptionInstruction.SMC,
    0xD420_0000: ExceptionInstruction.BRK,
    0xD440_0000: ExceptionInstruction.HLT,
    0xD4A0_0001: ExceptionInstruction.DCPS1,
    0xD4A0_0002: ExceptionInstruction.DCPS2,
    0xD4A0_0003: ExceptionInstruction.DCPS3,
}
"""By the word with its immediate [20:5] cleared."""

FIXED = {
    0xD69F_03E0: ExceptionInstruction.ERET,
    0xD69F_0BFF: ExceptionInstruction.ERETAA,
    0xD69F_0FFF: ExceptionInstruction.ERETAB,
    0xD6BF_03E0: ExceptionInstruction.DRPS,
}
"""By the whole word."""

_IMM16_SHIFT = 5
_IMM16 = 0xFFFF << _IMM16_SHIFT


@lru_cache(maxsize=1024)
def exception_generation(word: int) -> ExceptionGeneration | None:
    """Return the exception-generating instruction that ``word`` is, or None."""
    if word <= 0xFFFF:
        return ExceptionGeneration(ExceptionInstruction.UDF, word)
    instruction = WITH_IMMEDIATE.get(word & ~_IMM16)
    if instruction is not None:
        return ExceptionGeneration(instruction, (word & _IMM16) >> _IMM16_SHIFT)
    instruction = FIXED.get(word)
    return None if instruction is None else ExceptionGeneration(instruction, 0)


class Wait(NamedTuple):
    """A decoded wait instruction."""

    kind: TrappedWait
    rt: int
    """The register with the deadline of WFIT and WFET; 31 for the others."""


_WFE, _WFI = 0xD503_205F, 0xD503_207F
_WFET, _WFIT = 0xD503_1000, 0xD503_1020
_RT = SystemWord.Rt.mask

WAITS = ((0xFFFF_FFDF, _WFE), (0xFFFF_FFC0, _WFET))
"""(mask, value) of the wait instructions."""


def wait(word: int) -> Wait | None:
    """Return the wait instruction that ``word`` is, or None."""
    if word == _WFI:
        return Wait(TrappedWait.WFI, 31)
    if word == _WFE:
        return Wait(TrappedWait.WFE, 31)
    if word & ~_RT == _WFIT:
        return Wait(TrappedWait.WFIT, word & _RT)
    if word & ~_RT == _WFET:
        return Wait(TrappedWait.WFET, word & _RT)
    return None
