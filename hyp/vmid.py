"""VMIDs: one for each VM that runs, given anew when they run out (arch/arm64/kvm/vmid.c).

A VMID is good for one generation. When no VMID is free a new generation begins: every entry of
every TLB goes, and each VM gets a VMID of the new generation when it is next loaded. Those
that are loaded on a CPU at that moment keep theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_NONE: Final = 0
"""VMID 0 is the host's, so this is nobody's."""


@dataclass(slots=True)
class KvmVmid:
    """A VM's VMID (``struct kvm_vmid``).

    Parameters
    ----------
    id
        The generation, and the VMID in the low bits; 0 before the first.
    """

    id: int = _NONE


class VmidAllocator:
    """The VMIDs of a machine.

    Parameters
    ----------
    bits
        8 or 16.
    cpus
        How many CPUs there are; fewer than VMIDs.

    Attributes
    ----------
    generation
        The current one, a multiple of the number of VMIDs.
    """

    def __init__(self, bits: int, cpus: int) -> None:
        self._first_version = 1 << bits
        self._invalid = self._first_version  # what is active where nothing is loaded
        self.generation = self._first_version
        self._map = bytearray(self._first_version)
        self._next = 1
        self._active = [_NONE] * cpus
        self._reserved = [_NONE] * cpus

    def number(self, vmid: KvmVmid) -> int:
        """Return what VTTBR_EL2.VMID holds for a VM."""
        return vmid.id & self._first_version - 1

    def is_current(self, vmid: KvmVmid) -> bool:
        """Whether a VMID is of the current generation (``vmid_gen_match``)."""
        return not (vmid.id ^ self.generation) & -self._first_version

    def update(self, vmid: KvmVmid, cpu: int, flush: Callable[[], None]) -> bool:
        """Have a VM that is loaded on ``cpu`` own a VMID (``kvm_arm_vmid_update``).

        Parameters
        ----------
        vmid
            The VM's.
        cpu
            The number of the CPU.
        flush
            Empties all TLBs; called when a generation begins.

        Returns
        -------
        bool
            Whether the VM has another than before.
        """
        updated = not self.is_current(vmid)
        if updated:
            self._renew(vmid, flush)
        self._active[cpu] = vmid.id
        return updated

    def clear_active(self, cpu: int) -> None:
        """Note that no VM is loaded on ``cpu`` any more (``kvm_arm_vmid_clear_active``)."""
        self._active[cpu] = self._invalid

    def _renew(self, vmid: KvmVmid, flush: Callable[[], None]) -> None:
        """Give a VM a VMID of this generation, of the old number if possible (``new_vmid``)."""
        if vmid.id != _NONE:
            number = self.number(vmid)
            again = self.generation | number
            if self._move_reserved(vmid.id, again) or not self._map[number]:
                self._map[number] = True
                vmid.id = again
                return
        free = self._map.find(0, self._next)
        if free < 0:
            self.generation += self._first_version
            self._flush_context(flush)
            free = self._map.find(0, 1)
        self._map[free] = True
        self._next = free
        vmid.id = self.generation | free

    def _flush_context(self, flush: Callable[[], None]) -> None:
        """Free all VMIDs but those of loaded VMs."""
        self._map = bytearray(self._first_version)
        for cpu, active in enumerate(self._active):
            # A CPU that has not been entered since the last rollover still uses what that kept.
            kept = active or self._reserved[cpu]
            self._active[cpu] = _NONE
            self._reserved[cpu] = kept
            self._map[kept & self._first_version - 1] = True
        flush()

    def _move_reserved(self, old: int, new: int) -> bool:
        """Have a kept VMID be of the new generation; return whether it was kept."""
        kept = [cpu for cpu, reserved in enumerate(self._reserved) if reserved == old]
        for cpu in kept:
            self._reserved[cpu] = new
        return bool(kept)
