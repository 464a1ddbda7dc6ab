"""Exceptions that instructions raise by themselves: calls, breakpoints, undefined words."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from emu.arch.a64.exceptions import ExceptionInstruction, exception_generation, wait
from emu.arch.address import VA
from emu.arch.esr.build import fp_access_trap, syndrome, wait_trap
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.iss import TrappedWait
from emu.arch.registers.control import CPACR_EL1, TrapFrom
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu.blocks import INSTRUCTION_BYTES
from emu.cpu.exception import ArmException

_TSC: Final = HCR_EL2.TSC.in_place
_HCD: Final = HCR_EL2.HCD.in_place
_TWI: Final = HCR_EL2.TWI.in_place
_NTWI: Final = SCTLR_EL1.nTWI.in_place


def supervisor_call(word: int, after: VA) -> ArmException:
    """SVC: taken to EL1, returning behind the instruction."""
    return ArmException(1, _with_immediate(ExceptionClass.SVC64, word), after, retired=True)


def breakpoint_instruction(word: int, pc: VA, target: int) -> ArmException:
    """BRK: taken to where debug exceptions are, returning to the instruction itself."""
    return ArmException(target, _with_immediate(ExceptionClass.BRK64, word), pc)


def secure_monitor_call(word: int, pc: VA, el: int, hcr: int) -> ArmException:
    """SMC: trapped to EL2 by HCR_EL2.TSC, undefined otherwise since there is no EL3."""
    if el == 0 or not hcr & _TSC:
        return undefined(pc)
    return ArmException(2, _with_immediate(ExceptionClass.SMC64, word), pc)


def undefined_word(word: int, pc: VA, el: int, hcr: int, cpacr: CPACR_EL1) -> ArmException:
    """Return the exception for a word that the engine refused.

    HVC is among them, because the engine has no EL2; so are SIMD and floating-point
    instructions while CPACR_EL1.FPEN traps them.
    """
    found = exception_generation(word)
    if found is not None and found.instruction is ExceptionInstruction.HVC:
        if el == 0 or hcr & _HCD:
            return undefined(pc)
        esr = syndrome(ExceptionClass.HVC64, found.imm16)
        return ArmException(2, esr, VA(pc + INSTRUCTION_BYTES), retired=True)
    if _is_simd(word) and _fp_trapped(cpacr, el):
        return ArmException(1, fp_access_trap(), pc)
    return undefined(pc)


def wait_exception(word: int, pc: VA, el: int, hcr: int, sctlr: int) -> ArmException | None:
    """Return the trap of a wait instruction, or None if it simply completes."""
    found = wait(word)
    if found is None:
        return None
    esr = wait_trap(TrappedWait(found.kind))
    if el == 0 and not sctlr & _NTWI:
        return ArmException(1, esr, pc)
    return ArmException(2, esr, pc) if hcr & _TWI else None


def misaligned_pc(pc: VA) -> ArmException:
    """Return the exception of a branch to an address that is no multiple of 4 (EC 0x22)."""
    return ArmException(1, syndrome(ExceptionClass.PC_ALIGN), pc, far=pc)


def misaligned_sp(pc: VA) -> ArmException:
    """Return the exception of an access by an SP that is no multiple of 16 (EC 0x26)."""
    return ArmException(1, syndrome(ExceptionClass.SP_ALIGN), pc)


def undefined(pc: VA) -> ArmException:
    """Return the exception of an instruction that does not exist here (EC 0x00)."""
    return ArmException(1, syndrome(ExceptionClass.UNKNOWN), pc)


@lru_cache(maxsize=1024)
def _with_immediate(ec: ExceptionClass, word: int) -> int:
    found = exception_generation(word)
    return syndrome(ec, 0 if found is None else found.imm16)


def _is_simd(word: int) -> bool:
    """Whether ``word`` lies in the SIMD&FP encodings (Arm ARM C4.1): op0 x111, or V loads."""
    op0 = word >> 25 & 0xF
    return op0 & 0b0111 == 0b0111 or (op0 & 0b0101 == 0b0100 and bool(word >> 26 & 1))


def _fp_trapped(cpacr: CPACR_EL1, el: int) -> bool:
    fpen = cpacr.FPEN
    return fpen != TrapFrom.NONE and (el == 0 or fpen != TrapFrom.EL0)
