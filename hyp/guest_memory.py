"""Guest physical memory as the hypervisor itself reads and writes it (virt/kvm/kvm_main.c).

``kvm_read_guest`` and ``kvm_write_guest`` go page by page through the memory slots to the
VMM process's memory, as devices do. What cannot be accessed is an :class:`~hyp.errors.Errno`,
never an exception: a guest chooses the addresses.

No instruction cache is told of a write. As with a device's DMA on hardware, a guest that
executes what was written does its own IC IVAU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import IPA, PA, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE
from hyp.errors import Errno, KvmError
from hyp.host import HVA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hyp.memslots import MemorySlot
    from hyp.vcpu import VCPU
    from hyp.vm import VM


def kvm_read_guest(vm: VM, ipa: IPA, size: int) -> bytes | Errno:
    """Read guest physical memory, across pages and slots.

    Returns
    -------
    bytes or Errno
        EFAULT if any of it has no slot, or its memory cannot be had.
    """
    parts = []
    for at, length in _pages(ipa, size):
        slot = vm.memslots.find(at >> PAGE_SHIFT)
        part = None if slot is None else _read_page(vm, slot, at, length)
        if part is None:
            return Errno.EFAULT
        parts.append(part)
    return b"".join(parts)


def kvm_write_guest(vm: VM, ipa: IPA, data: bytes) -> Errno:
    """Write guest physical memory, across pages and slots, and mark the pages dirty.

    Returns
    -------
    Errno
        EFAULT for the first page that has no slot, or a read-only one, or whose memory
        cannot be had; ENXIO for one whose slot is logged where no mark can be left. The
        pages before it are written, as in KVM.
    """
    done = 0
    for at, length in _pages(ipa, len(data)):
        error = _write_page(vm, at, data[done : done + length])
        if error:
            return error
        done += length
    return Errno.OK


def kvm_get_running_vcpu(vm: VM) -> VCPU | None:
    """Return the vCPU of ``vm`` on whose behalf the hypervisor runs now.

    ``None`` while user space runs.
    """
    kvm = vm.kvm
    for cpu in kvm.cpus:
        if cpu.pe is kvm.current.pe and cpu.running is not None and cpu.running.vm is vm:
            return cpu.running
    return None


def _pages(ipa: int, size: int) -> Iterator[tuple[IPA, int]]:
    """Cut a range at page boundaries."""
    end = ipa + size
    while ipa < end:
        length = min(end - ipa, PAGE_SIZE - (ipa & PAGE_MASK))
        yield IPA(ipa), length
        ipa += length


def _read_page(vm: VM, slot: MemorySlot, ipa: IPA, size: int) -> bytes | None:
    try:
        if slot.gmem is not None:
            return slot.gmem.read(_gmem_offset(slot, ipa), size)
        hva = _hva(vm, slot, ipa, write=False)
        return None if hva is None else vm.host.read(hva, size)
    except KvmError:
        return None


def _write_page(vm: VM, ipa: IPA, data: bytes) -> Errno:
    slot = vm.memslots.find(ipa >> PAGE_SHIFT)
    if slot is None or slot.readonly:
        return Errno.EFAULT
    vcpu = _marking_vcpu(vm)
    if slot.logs_dirty and vcpu is None and slot.dirty_bitmap is None:
        return Errno.ENXIO
    try:
        if slot.gmem is not None:
            slot.gmem.write(_gmem_offset(slot, ipa), data)
        else:
            hva = _hva(vm, slot, ipa, write=True)
            if hva is None:
                return Errno.EFAULT
            vm.host.write(hva, data)
    except KvmError:
        return Errno.EFAULT
    vm.dirty_log.mark_page_dirty_in_slot(slot, ipa >> PAGE_SHIFT, vcpu)
    return Errno.OK


def _marking_vcpu(vm: VM) -> VCPU | None:
    """Return the vCPU whose ring takes the mark; ``None`` if the slot's bitmap must.

    Beyond its soft limit a ring has room for the faults of one entry only.
    """
    vcpu = kvm_get_running_vcpu(vm)
    if vcpu is None or vcpu.dirty_ring is None or vcpu.dirty_ring.is_soft_full:
        return None
    return vcpu


def _gmem_offset(slot: MemorySlot, ipa: IPA) -> int:
    return (ipa - slot.base_ipa) + (slot.gmem_pgoff << PAGE_SHIFT)


def _hva(vm: VM, slot: MemorySlot, ipa: IPA, *, write: bool) -> HVA | None:
    """Return where the VMM process has an address, if it may be accessed so."""
    hva = HVA(slot.hva_of(ipa >> PAGE_SHIFT) + (ipa & PAGE_MASK))
    vma = vm.host.vma_lookup(hva)
    if vma is None or not (vma.writable if write else vma.readable):
        return None
    if vma.pfn is not None and not vm.machine.memory.contains(PA(vma.pfn + hva - vma.start)):
        return None
    return hva
