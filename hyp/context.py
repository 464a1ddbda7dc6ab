"""A vCPU's registers while no PE holds them (``struct kvm_cpu_context``, hyp/sysreg-sr.h).

The context is everything that a guest, or EL2 on its behalf, finds where it left it. What is
the VM's, VTTBR_EL2 and VTCR_EL2, is no part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from emu.arch.fields import SystemRegister
from emu.arch.registers.control import (
    CPACR_EL1,
    FPCR,
    FPSR,
    TPIDR_EL0,
    TPIDR_EL1,
    TPIDRRO_EL0,
)
from emu.arch.registers.debug import MDCCINT_EL1, MDSCR_EL1
from emu.arch.registers.exceptions import (
    AFSR0_EL1,
    AFSR1_EL1,
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    ESR_EL2,
    FAR_EL1,
    FAR_EL2,
    HPFAR_EL2,
    PAR_EL1,
    SP_EL0,
    SP_EL1,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
    VSESR_EL2,
)
from emu.arch.registers.gic import ICH_HCR_EL2
from emu.arch.registers.ras import VDISR_EL2
from emu.arch.registers.timer import (
    CNTHCTL_EL2,
    CNTKCTL_EL1,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTVOFF_EL2,
)
from emu.arch.registers.translation import (
    AMAIR_EL1,
    CONTEXTIDR_EL1,
    MAIR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
)
from emu.arch.registers.virtualization import HCR_EL2, MDCR_EL2, VMPIDR_EL2, VPIDR_EL2

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement

R = TypeVar("R", bound=SystemRegister)

GUEST_REGISTERS: Final[tuple[type[SystemRegister], ...]] = (
    AFSR0_EL1,
    AFSR1_EL1,
    AMAIR_EL1,
    CNTKCTL_EL1,
    CONTEXTIDR_EL1,
    CPACR_EL1,
    ELR_EL1,
    ESR_EL1,
    FAR_EL1,
    FPCR,
    FPSR,
    MAIR_EL1,
    MDCCINT_EL1,
    MDSCR_EL1,
    PAR_EL1,
    SCTLR_EL1,
    SPSR_EL1,
    SP_EL0,
    SP_EL1,
    TCR_EL1,
    TPIDRRO_EL0,
    TPIDR_EL0,
    TPIDR_EL1,
    TTBR0_EL1,
    TTBR1_EL1,
    VBAR_EL1,
    CNTVOFF_EL2,
    CNTV_CVAL_EL0,
    CNTV_CTL_EL0,
    # The guest's PC and PSTATE while EL2 runs, and what EL2 was told of the last exit.
    ELR_EL2,
    SPSR_EL2,
    ESR_EL2,
    FAR_EL2,
    HPFAR_EL2,
)
"""What reset sets to zero, apart from a few that :mod:`hyp.reset` names."""

CONTROLS: Final[tuple[type[SystemRegister], ...]] = (
    HCR_EL2,
    MDCR_EL2,
    ICH_HCR_EL2,
    VSESR_EL2,
    VDISR_EL2,
    VMPIDR_EL2,
    VPIDR_EL2,
    CNTHCTL_EL2,
)
"""What EL2 has set up for this vCPU."""

SYSTEM_REGISTERS: Final = GUEST_REGISTERS + CONTROLS


class KvmCpuContext:
    """The registers of a vCPU.

    Attributes
    ----------
    x
        X0 to X30.
    q
        Q0 to Q31.
    system
        The values of :data:`SYSTEM_REGISTERS`.
    """

    __slots__ = ("q", "system", "x")

    def __init__(self) -> None:
        self.x = [0] * 31
        self.q = [0] * 32
        self.system: dict[type[SystemRegister], int] = dict.fromkeys(SYSTEM_REGISTERS, 0)

    def read(self, register: type[R]) -> R:
        """Read a system register."""
        return register(self.system[register])

    def write(self, value: SystemRegister) -> None:
        """Write a system register."""
        assert type(value) in self.system, f"{value!r} is no part of a vCPU's context"
        self.system[type(value)] = int(value)

    def save(self, pe: ProcessingElement) -> None:
        """Take the registers of ``pe`` (``__sysreg_save_state``, ``__fpsimd_save_state``)."""
        self.x = pe.read_all_x()
        self.q = pe.read_all_q()
        self.system = dict(zip(SYSTEM_REGISTERS, pe.read_list(SYSTEM_REGISTERS), strict=True))

    def restore(self, pe: ProcessingElement) -> None:
        """Give them to ``pe`` (``__sysreg_restore_state``, ``__fpsimd_restore_state``)."""
        pe.write_all_x(self.x)
        pe.write_all_q(self.q)
        pe.write_list(SYSTEM_REGISTERS, list(self.system.values()))
