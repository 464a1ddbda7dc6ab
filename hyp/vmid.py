"""What the VMs of one machine share: its memory's owner, and the VMIDs.

Two VMs with one VMID would use each other's TLB entries, and two owners of one memory would
hand out the same page twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from hyp.errors import Errno, KvmError
from hyp.host import HostMemory

if TYPE_CHECKING:
    from emu.machine import Machine

_hosts: WeakKeyDictionary[Machine, HostMemory] = WeakKeyDictionary()
_last_vmids: WeakKeyDictionary[Machine, int] = WeakKeyDictionary()


def host_of(machine: Machine) -> HostMemory:
    """Return the address space of the VMM process that owns the machine's memory."""
    host = _hosts.get(machine)
    if host is None:
        host = _hosts[machine] = HostMemory(machine.memory)
    return host


def next_vmid(machine: Machine, bits: int) -> int:
    """Return a VMID that no VM on ``machine`` has been given.

    Raises
    ------
    KvmError
        ENOMEM when all VMIDs of ``bits`` bits are used: there is no rollover.
    """
    vmid = _last_vmids.get(machine, 0) + 1
    if vmid >> bits:
        raise KvmError(
            Errno.ENOMEM,
            f"all {(1 << bits) - 1} VMIDs of this machine have been given out; "
            "pass the vmid of a VM that is no more, or use another machine",
        )
    _last_vmids[machine] = vmid
    return vmid
