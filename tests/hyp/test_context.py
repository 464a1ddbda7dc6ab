"""Which registers are a vCPU's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers import REGISTERS, identification, performance
from emu.arch.registers.ras import ERROR_RECORDS
from hyp.context import SYSTEM_REGISTERS
from hyp.debug import COMPARATORS

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
LAZY: Final = {register.__name__ for register in COMPARATORS}
"""hyp/debug.py moves them when a guest uses them."""
EMULATED_DEBUG: Final = {
    *("OSLAR_EL1", "OSLSR_EL1", "OSDLR_EL1", "DBGPRCR_EL1", "MDRAR_EL1", "DBGAUTHSTATUS_EL1"),
    *("DBGCLAIMSET_EL1", "DBGCLAIMCLR_EL1", "MDCCSR_EL0", "DBGDTR_EL0", "DBGDTRRX_EL0"),
    *("OSDTRRX_EL1", "OSDTRTX_EL1", "OSECCR_EL1"),
}
"""They are KVM's to show, or are not shown."""
DEBUG: Final = LAZY | EMULATED_DEBUG
THE_MACHINES: Final = {
    *("CNTFRQ_EL0", "CNTPCT_EL0", "CNTPCTSS_EL0", "ACTLR_EL1", "ISR_EL1", "DISR_EL1"),
    *(register.__name__ for register in ERROR_RECORDS),
}
VIEWS: Final = {
    *("CNTVCT_EL0", "CNTVCTSS_EL0", "CNTV_TVAL_EL0"),
    *("CurrentEL", "SPSel", "PAN", "UAO", "NZCV", "DAIF", "DIT", "SSBS", "TCO"),
}
"""Of the compare value, the offset, and PSTATE."""


MODULES: Final = (identification.__name__, performance.__name__)
"""Constants of the machine, and the emulated registers of hyp/pmu.py."""


def test_every_register_of_the_machine_is_the_vcpus_or_there_is_a_reason() -> None:
    def is_own(register: type[SystemRegister]) -> bool:
        others = THE_VMS | THE_HYPERVISORS | EMULATED | EMULATED_GIC | THE_MACHINES | VIEWS | DEBUG
        return register.__module__ not in MODULES and register.__name__ not in others

    own = {register.__name__ for register in REGISTERS.values() if is_own(register)}

    assert own == {register.__name__ for register in SYSTEM_REGISTERS}
