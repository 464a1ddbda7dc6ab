"""AT: address translation instructions, whose answer is PAR_EL1 (Arm ARM C5.4, PAR_EL1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.operations import Stage
from emu.arch.address import IPA
from emu.arch.descriptors import Stage1Leaf
from emu.arch.esr.fsc import FaultType
from emu.arch.registers.exceptions import PAR_EL1, PAR_EL1_FAULT
from emu.mmu import stage1
from emu.mmu.attributes import combined_attribute, combined_shareability
from emu.mmu.fault import Fault
from emu.mmu.permissions import EL1_PAN, READ, WRITE

if TYPE_CHECKING:
    from emu.arch.a64.maintenance import AT
    from emu.arch.address import VA
    from emu.mmu.mmu import Mmu

SH_SHIFT: Final = Stage1Leaf.SH.lsb
_PA_SHIFT: Final = PAR_EL1.PA.lsb


def address_translate(mmu: Mmu, operation: AT, va: VA, *, pan: bool) -> PAR_EL1 | Fault:
    """Carry out an AT operation of the EL1&0 regime.

    Parameters
    ----------
    mmu
        Whose regime translates. The TLB is not used for the stage-1 part.
    operation
        Which access is tried, and through which stages.
    va
        The address to translate.
    pan
        PSTATE.PAN, for the operations that honour it.

    Returns
    -------
    PAR_EL1 or Fault
        A fault is reported in PAR_EL1 by :func:`fault_report`, or taken as an exception:
        the PE decides.
    """
    need = WRITE if operation.write else READ
    privilege = EL1_PAN if operation.pan and pan else operation.el
    found = mmu.stage1(va, privilege)
    if isinstance(found, Fault):
        return found
    if found.allowed[privilege] & need != need:
        return Fault(FaultType.PERMISSION, found.level, stage1.STAGE)
    refused = mmu.mark_accessed(found, write=operation.write)
    if refused is not None:
        return refused
    address: int = (va & stage1.ADDRESS_BITS) + found.offset
    attribute, sh1, sh2 = found.attribute, found.descriptor >> SH_SHIFT & 3, 0
    if operation.stages & Stage.S2:
        second = mmu.stage2(IPA(address), need, privilege)
        if isinstance(second, Fault):
            return second
        address += second.offset
        if mmu.regime.stage2.enabled:
            fwb = mmu.regime.stage2.fwb
            attribute = combined_attribute(attribute, second.memattr, fwb=fwb)
            sh2 = second.descriptor >> SH_SHIFT & 3
    return PAR_EL1.build(
        ATTR=attribute,
        PA=address >> _PA_SHIFT & PAR_EL1.PA.mask,
        NSE=1,  # RES1 without FEAT_RME
        NS=1,
        SH=combined_shareability(attribute, sh1, sh2),
    )


def fault_report(fault: Fault) -> PAR_EL1:
    """Return PAR_EL1 for a translation that failed."""
    return PAR_EL1(
        PAR_EL1_FAULT.build(RES1=1, S=fault.stage == 2, PTW=fault.s1ptw, FST=fault.status, F=1)
    )
