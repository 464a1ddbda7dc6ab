"""A virtual machine: the VM file descriptor of KVM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hyp.events import Events
from hyp.host import HostMemory
from hyp.stats import Stats
from hyp.vcpu import VCPU

if TYPE_CHECKING:
    from emu.arch.address import IPA
    from emu.machine import Machine
    from hyp.devices.device import Device
    from hyp.memslots import MemoryRegion


class VM:
    """A virtual machine on a machine."""

    def __init__(self, machine: Machine, ipa_bits: int = 40) -> None:
        self.machine = machine
        self.ipa_bits = ipa_bits
        self.host = HostMemory(machine.memory)
        self.events = Events()
        self.stats = Stats()
        self.vcpus: dict[int, VCPU] = {}

    def set_user_memory_region(self, region: MemoryRegion) -> None:
        """Create, delete, move or reflag a memory slot (KVM_SET_USER_MEMORY_REGION)."""
        raise NotImplementedError

    def create_vcpu(self, index: int) -> VCPU:
        """Create a vCPU (KVM_CREATE_VCPU)."""
        raise NotImplementedError

    def get_dirty_log(self, slot: int) -> bytes:
        """Return and clear the dirty bitmap of a slot (KVM_GET_DIRTY_LOG)."""
        raise NotImplementedError

    def register_device(self, base: IPA, size: int, device: Device) -> None:
        """Let ``device`` serve the accesses to a range of guest physical addresses."""
        raise NotImplementedError

    def destroy(self) -> None:
        """Give back everything the VM holds."""
        raise NotImplementedError
