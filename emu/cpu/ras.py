"""FEAT_RAS for EL1 (Arm ARM D19).

There are no error records: their registers read as zero. Nothing is ever deferred, since an SError
is taken as soon as PSTATE.A allows, and ESB does nothing; but software clears DISR_EL1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.exceptions import DISR_EL1
from emu.arch.registers.ras import ERROR_RECORDS, VDISR_EL2
from emu.arch.registers.virtualization import HCR_EL2

if TYPE_CHECKING:
    from emu.arch.a64.system import SystemInstruction
    from emu.arch.fields import Encoding
    from emu.cpu.pe import ProcessingElement

_RECORDS: Final = frozenset(register.encoding for register in ERROR_RECORDS)
_TERR: Final = HCR_EL2.TERR.in_place
_AMO: Final = HCR_EL2.AMO.in_place


def ras_traps(encoding: Encoding) -> int:
    """Return the bit of HCR_EL2 that traps a register to EL2; 0 for none."""
    return _TERR if encoding in _RECORDS else 0


def access_record(pe: ProcessingElement, instruction: SystemInstruction) -> None:
    """Execute MRS or MSR of a register of error records at EL1."""
    if instruction.is_read:
        pe.registers.set_x(instruction.rt, 0)


def access_deferred(pe: ProcessingElement, instruction: SystemInstruction) -> None:
    """Execute MRS or MSR of DISR_EL1 at EL1. With HCR_EL2.AMO it is VDISR_EL2."""
    registers, rt = pe.registers, instruction.rt
    register = VDISR_EL2 if registers.el2(HCR_EL2) & _AMO else DISR_EL1
    if instruction.is_read:
        registers.set_x(rt, registers.el2(register))
    else:
        registers.write(register(registers.x(rt)))
