"""Where faults are injected."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from emu.memory import PhysicalMemory
    from hyp.vcpu import VCPU
    from hyp.vm import VM


class Target(NamedTuple):
    """A VM at the moment of a trigger."""

    vm: VM
    vcpu: VCPU
    """The one that the trigger was about: it runs, or ran last."""

    @property
    def pe(self) -> ProcessingElement:
        """What that vCPU runs on."""
        return self.vcpu.pe

    @property
    def memory(self) -> PhysicalMemory:
        """All of physical memory, translation tables included."""
        return self.vm.machine.memory
