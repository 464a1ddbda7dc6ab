"""A virtual CPU: the vCPU file descriptor of KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from hyp.exits import Exit
    from hyp.vm import VM

FOREVER = 1 << 62
"""A budget that no run spends."""


class VCPU:
    """A virtual CPU on a processing element of its own."""

    def __init__(self, vm: VM, index: int, pe: ProcessingElement) -> None:
        self.vm = vm
        self.index = index
        self.pe = pe
        self.immediate_exit = False

    def init(self) -> None:
        """Reset to the architected state (KVM_ARM_VCPU_INIT)."""
        raise NotImplementedError

    def run(self, budget: int = FOREVER) -> Exit:
        """Run the guest until user space is needed (KVM_RUN)."""
        raise NotImplementedError

    def set_mmio_data(self, data: bytes) -> None:
        """Answer an MMIO read; taken up by the next run."""
        raise NotImplementedError

    def get_one_reg(self, reg_id: int) -> int:
        """Read a register (KVM_GET_ONE_REG)."""
        raise NotImplementedError

    def set_one_reg(self, reg_id: int, value: int) -> None:
        """Write a register (KVM_SET_ONE_REG)."""
        raise NotImplementedError
