"""MRS and MSR of debug registers, and their traps (Arm ARM D19.3, MDCR_EL2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.system import SystemKind
from emu.arch.debug.registers import OP0, READ_ONLY, WRITE_ONLY, is_implemented, shown
from emu.arch.esr.build import system_register_trap
from emu.arch.fields import Encoding
from emu.arch.registers import REGISTERS
from emu.arch.registers.debug import (
    DBGBCR_EL1,
    DBGBVR_EL1,
    DBGPRCR_EL1,
    DBGWCR_EL1,
    DBGWVR_EL1,
    MDCCINT_EL1,
    MDRAR_EL1,
    MDSCR_EL1,
    OSDLR_EL1,
    OSLAR_EL1,
    OSLSR_EL1,
)
from emu.arch.registers.identification import ID_AA64DFR0_EL1
from emu.arch.registers.virtualization import MDCR_EL2
from emu.cpu.exception import ArmException
from emu.cpu.instructions import undefined

if TYPE_CHECKING:
    from emu.arch.a64.system import SystemInstruction
    from emu.arch.address import VA
    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement

_DUMMY: Final = Encoding(2, 0, 0, 1, 0)
"""An encoding that the engine reads as zero, and that belongs to no register."""

_READ, _WRITE = True, False
_BOTH_WAYS: Final[tuple[type[SystemRegister], ...]] = (
    *DBGBVR_EL1[:6],
    *DBGBCR_EL1[:6],
    *DBGWVR_EL1[:4],
    *DBGWCR_EL1[:4],
    MDCCINT_EL1,
    MDSCR_EL1,
    OSDLR_EL1,
)
IN_ENGINE: Final = frozenset(
    {
        (_DUMMY, _READ),
        (MDRAR_EL1.encoding, _READ),
        (OSLAR_EL1.encoding, _WRITE),
        (OSLSR_EL1.encoding, _READ),
        *((register.encoding, is_read) for register in _BOTH_WAYS for is_read in (_READ, _WRITE)),
    }
)
"""The accesses that the engine knows, each with whether it is a read. It must never make one:
it has breakpoints and a step of its own. Others arrive as undefined instructions."""

_TRAPS: Final[dict[type[SystemRegister], int]] = {
    MDRAR_EL1: MDCR_EL2.TDRA.in_place,
    OSLAR_EL1: MDCR_EL2.TDOSA.in_place,
    OSLSR_EL1: MDCR_EL2.TDOSA.in_place,
    OSDLR_EL1: MDCR_EL2.TDOSA.in_place,
    DBGPRCR_EL1: MDCR_EL2.TDOSA.in_place,
}
"""The bit of MDCR_EL2 that traps a register; TDA traps all others, and TDE implies every one."""

_EL0_OP1: Final = 3


def is_debug(instruction: SystemInstruction) -> bool:
    """Whether an instruction is an MRS or MSR of a debug register."""
    kinds = (SystemKind.MRS, SystemKind.MSR)
    return instruction.encoding.op0 == OP0 and instruction.kind in kinds


def execute(
    pe: ProcessingElement, instruction: SystemInstruction, pc: VA, el: int
) -> ArmException | None:
    """Execute an MRS or MSR of a debug register; return the exception that it takes instead."""
    register = REGISTERS.get(instruction.encoding)
    reads = instruction.is_read
    if (
        register is None
        or register in (WRITE_ONLY if reads else READ_ONLY)
        or not is_implemented(register, pe.features.read(ID_AA64DFR0_EL1))
        or (el == 0 and instruction.encoding.op1 != _EL0_OP1)
    ):
        return undefined(pc)
    el2 = pe.registers.el2
    to_el1 = el == 0 and el2(MDSCR_EL1) & MDSCR_EL1.TDCC.in_place
    trap = _TRAPS.get(register, MDCR_EL2.TDA.in_place) | MDCR_EL2.TDE.in_place
    if to_el1 or el2(MDCR_EL2) & trap:
        esr = system_register_trap(instruction.encoding, rt=instruction.rt, read=reads)
        return ArmException(1 if to_el1 else 2, esr, pc)
    if reads:
        pe.registers.set_x(instruction.rt, shown(register, el2))
    else:
        pe.registers.write(register(pe.registers.x(instruction.rt)))
        pe.debug.stale = True
    return None
