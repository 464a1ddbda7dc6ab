"""PSTATE.DIT and PSTATE.SSBS, which the engine keeps but does not know (Arm ARM C5.2).

Nothing here takes another time for other data, and nothing is done speculatively: neither bit
changes anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.system import SystemKind
from emu.arch.registers.exceptions import PSTATE

if TYPE_CHECKING:
    from emu.arch.a64.system import SystemInstruction
    from emu.cpu.pe import ProcessingElement

_BITS: Final = {5: PSTATE.DIT.in_place, 6: PSTATE.SSBS.in_place}
"""By op2 of MRS and MSR."""
_IMMEDIATE_BITS: Final = {2: PSTATE.DIT.in_place, 1: PSTATE.SSBS.in_place}
"""By op2 of MSR (immediate)."""


def access(pe: ProcessingElement, instruction: SystemInstruction) -> None:
    """Execute MRS, MSR or MSR (immediate) of one of them."""
    encoding, rt = instruction.encoding, instruction.rt
    if instruction.kind is SystemKind.MSR_IMMEDIATE:
        bit = _IMMEDIATE_BITS[encoding.op2]
        pe.engine.change_mode(bit, bit if encoding.CRm & 1 else 0)
        return
    bit = _BITS[encoding.op2]
    if instruction.is_read:
        pe.registers.set_x(rt, pe.engine.mode & bit)
    else:
        pe.engine.change_mode(bit, pe.registers.x(rt) & bit)
