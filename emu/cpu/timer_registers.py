"""Registers of the generic timer, as EL1 and EL0 reach them (Arm ARM D12.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.timer import (
    CNTFRQ_EL0,
    CNTHCTL_EL2,
    CNTKCTL_EL1,
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTP_TVAL_EL0,
    CNTPCT_EL0,
    CNTPCTSS_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTV_TVAL_EL0,
    CNTVCT_EL0,
    CNTVCTSS_EL0,
)
from emu.cpu.effects import timer_changed
from emu.cpu.exception import ArmException

if TYPE_CHECKING:
    from emu.arch.address import VA
    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement
    from emu.cpu.site import Site

EL0_ENABLE: Final[dict[type[SystemRegister], int]] = {
    CNTVCT_EL0: CNTKCTL_EL1.EL0VCTEN.in_place,
    CNTVCTSS_EL0: CNTKCTL_EL1.EL0VCTEN.in_place,
    CNTPCT_EL0: CNTKCTL_EL1.EL0PCTEN.in_place,
    CNTPCTSS_EL0: CNTKCTL_EL1.EL0PCTEN.in_place,
    CNTFRQ_EL0: CNTKCTL_EL1.EL0VCTEN.in_place | CNTKCTL_EL1.EL0PCTEN.in_place,
    CNTV_CTL_EL0: CNTKCTL_EL1.EL0VTEN.in_place,
    CNTV_CVAL_EL0: CNTKCTL_EL1.EL0VTEN.in_place,
    CNTV_TVAL_EL0: CNTKCTL_EL1.EL0VTEN.in_place,
    CNTP_CTL_EL0: CNTKCTL_EL1.EL0PTEN.in_place,
    CNTP_CVAL_EL0: CNTKCTL_EL1.EL0PTEN.in_place,
    CNTP_TVAL_EL0: CNTKCTL_EL1.EL0PTEN.in_place,
}
"""The CNTKCTL_EL1 bits of which one must be set for EL0 to reach a timer register."""

EL1_ENABLE: Final[dict[type[SystemRegister], int]] = {
    CNTPCT_EL0: CNTHCTL_EL2.EL1PCTEN.in_place,
    CNTPCTSS_EL0: CNTHCTL_EL2.EL1PCTEN.in_place,
    CNTP_CTL_EL0: CNTHCTL_EL2.EL1PCEN.in_place,
    CNTP_CVAL_EL0: CNTHCTL_EL2.EL1PCEN.in_place,
    CNTP_TVAL_EL0: CNTHCTL_EL2.EL1PCEN.in_place,
}
"""The CNTHCTL_EL2 bit that must be set for EL1 and EL0 not to trap to EL2."""


def execute(
    pe: ProcessingElement, site: Site, register: type[SystemRegister], pc: VA, el: int
) -> ArmException | None:
    """Execute MRS or MSR; return the exception if it is trapped instead."""
    if el == 0 and not pe.registers.read(CNTKCTL_EL1) & EL0_ENABLE[register]:
        return ArmException(1, site.esr, pc)
    enable = EL1_ENABLE.get(register)
    if enable is not None and not pe.registers.el2(CNTHCTL_EL2) & enable:
        return ArmException(2, site.esr, pc)
    instruction = site.instruction
    if instruction.is_read:
        pe.registers.set_x(instruction.rt, pe.timer.read(register))
    else:
        pe.timer.write(register, pe.registers.x(instruction.rt))
        timer_changed(pe)
    return None
