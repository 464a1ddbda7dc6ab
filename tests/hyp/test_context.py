"""Which registers are a vCPU's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers import REGISTERS, identification
from hyp.context import SYSTEM_REGISTERS

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

THE_VMS: Final = {"VTTBR_EL2", "VTCR_EL2"}
THE_HYPERVISORS: Final = {"SCTLR_EL2"}
EMULATED: Final = {"CNTP_CTL_EL0", "CNTP_CVAL_EL0", "CNTP_TVAL_EL0"}
"""Theirs are hyp/timer.py's."""
EMULATED_GIC: Final = {
    *("ICC_PMR_EL1", "ICC_DIR_EL1", "ICC_RPR_EL1", "ICC_CTLR_EL1", "ICC_SRE_EL1"),
    *("ICC_SGI0R_EL1", "ICC_SGI1R_EL1", "ICC_ASGI1R_EL1"),
}
"""hyp/vgic has them."""
THE_MACHINES: Final = {"CNTFRQ_EL0", "CNTPCT_EL0", "ACTLR_EL1", "ISR_EL1", "DISR_EL1"}
VIEWS: Final = {
    *("CNTVCT_EL0", "CNTV_TVAL_EL0"),
    *("CurrentEL", "SPSel", "PAN", "UAO", "NZCV", "DAIF", "DIT", "SSBS", "TCO"),
}
"""Of the compare value, the offset, and PSTATE."""


def test_every_register_of_the_machine_is_the_vcpus_or_there_is_a_reason() -> None:
    def is_own(register: type[SystemRegister]) -> bool:
        others = THE_VMS | THE_HYPERVISORS | EMULATED | EMULATED_GIC | THE_MACHINES | VIEWS
        return register.__module__ != identification.__name__ and register.__name__ not in others

    own = {register.__name__ for register in REGISTERS.values() if is_own(register)}

    assert own == {register.__name__ for register in SYSTEM_REGISTERS}
