"""FEAT_RAS for EL1: registers that no engine has (Arm ARM D19).

There are no error records: their registers read as zero. Nothing is ever deferred, since an SError
is taken as soon as PSTATE.A allows, and ESB does nothing; but software clears DISR_EL1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.exceptions import DISR_EL1
from emu.arch.registers.ras import ERRIDR_EL1, ERROR_RECORDS, ERXFR_EL1, VDISR_EL2
from emu.arch.registers.virtualization import HCR_EL2

if TYPE_CHECKING:
    from emu.arch.a64.system import SystemInstruction
    from emu.arch.fields import Encoding
    from emu.cpu.pe import ProcessingElement

_RECORDS: Final = frozenset(register.encoding for register in ERROR_RECORDS)
_REGISTERS: Final = _RECORDS | {DISR_EL1.encoding}
_READ_ONLY: Final = frozenset({ERRIDR_EL1.encoding, ERXFR_EL1.encoding})
_TERR: Final = HCR_EL2.TERR.in_place
_AMO: Final = HCR_EL2.AMO.in_place


def is_ras(encoding: Encoding) -> bool:
    """Whether a register is one of these."""
    return encoding in _REGISTERS


def is_allowed(instruction: SystemInstruction) -> bool:
    """Whether an access goes a way that the register has; if not, it is UNDEFINED."""
    return instruction.is_read or instruction.encoding not in _READ_ONLY


def ras_traps(encoding: Encoding) -> int:
    """Return the bit of HCR_EL2 that traps a register to EL2; 0 for none."""
    return _TERR if encoding in _RECORDS else 0


def access(pe: ProcessingElement, instruction: SystemInstruction) -> None:
    """Execute MRS or MSR of one of them at EL1. With HCR_EL2.AMO, DISR_EL1 is VDISR_EL2."""
    registers, rt = pe.registers, instruction.rt
    if instruction.encoding in _RECORDS:
        if instruction.is_read:
            registers.set_x(rt, 0)
    elif registers.el2(HCR_EL2) & _AMO:
        if instruction.is_read:
            registers.set_x(rt, registers.el2(VDISR_EL2))
        else:
            registers.write(VDISR_EL2(registers.x(rt)))
    elif instruction.is_read:
        registers.set_x(rt, registers.el2(DISR_EL1))
    else:
        registers.write(DISR_EL1(registers.x(rt)))
