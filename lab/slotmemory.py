"""The memory of a guest's slots: where the host has it, and what is in it at first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.address import PAGE_SHIFT
from hyp.gmem import GuestMemfdFlags
from hyp.host import HVA
from hyp.memslots import MemoryRegion, MemoryRegion2, MemoryRegionFlags
from lab.backing import Kind
from lab.errors import UserError
from lab.sizes import format_size

if TYPE_CHECKING:
    from pathlib import Path

    from emu.arch.address import IPA
    from hyp.vm import VM
    from lab.backing import Backing
    from lab.config import RunConfig
    from lab.loader.image import Region
    from lab.slots import Slot


class SlotMemory:
    """Makes the memory slots of a VM, and fills them.

    Parameters
    ----------
    vm : VM
        The VM.
    config : RunConfig
        Its slots.
    """

    def __init__(self, vm: VM, config: RunConfig) -> None:
        self._vm, self._config = vm, config
        self._areas: dict[Region, HVA] = {}
        for slot in config.all_slots:
            self._add(slot)

    def slot_of(self, address: IPA) -> Slot:
        """Return the slot of an address that has one."""
        return next(slot for slot in self._config.all_slots if slot.region.contains(address))

    def write(self, address: IPA, data: bytes) -> None:
        """Write to memory that lies in one slot."""
        slot = self._vm.memslots.find(address >> PAGE_SHIFT)
        assert slot is not None, "the loader has checked that the image fits"
        offset = address - slot.base_ipa
        if slot.gmem is None:
            self._vm.host.write(HVA(slot.userspace_addr + offset), data)
        else:
            slot.gmem.write((slot.gmem_pgoff << PAGE_SHIFT) + offset, data)

    def _add(self, slot: Slot) -> None:
        """Make a memory slot with memory of the host behind it."""
        if slot.backing.kind is Kind.GMEM:
            self._add_gmem(slot)
            return
        area = self._areas.get(slot.mapping)
        if area is None:
            area = self._areas[slot.mapping] = self._map(slot.mapping, slot.backing)
        address = HVA(area + slot.region.base - slot.mapping.base)
        if slot.file is not None:
            self._vm.host.write(address, _contents(slot, slot.file))
        region = slot.region
        flags = MemoryRegionFlags(0)
        if slot.read_only:
            flags |= MemoryRegionFlags.READONLY
        if slot.log_dirty and not self._config.dirty_after:
            flags |= MemoryRegionFlags.LOG_DIRTY_PAGES
        self._vm.set_user_memory_region(
            MemoryRegion(slot.id, flags, region.base, region.size, address)
        )

    def _add_gmem(self, slot: Slot) -> None:
        """Make a memory slot with a guest_memfd behind it."""
        backing, region = slot.backing, slot.region
        gmem = self._vm.create_guest_memfd(
            backing.area(region.size), GuestMemfdFlags.MMAP | GuestMemfdFlags.INIT_SHARED
        )
        if slot.file is not None:
            gmem.write(backing.offset, _contents(slot, slot.file))
        flags = MemoryRegionFlags.GUEST_MEMFD
        self._vm.set_user_memory_region2(
            MemoryRegion2(slot.id, flags, region.base, region.size, HVA(0), gmem, backing.offset)
        )

    def _map(self, mapping: Region, backing: Backing) -> HVA:
        area = self._vm.host.mmap(
            backing.area(mapping.size),
            backing.page_size,
            private=backing.kind is not Kind.SHARED,
            thp=backing.kind is Kind.THP,
        )
        return HVA(area + backing.offset)


def _contents(slot: Slot, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            contents = file.read(slot.region.size + 1)
    except OSError as error:
        raise UserError(
            f"slot {slot.id}: cannot read {path}: {error.strerror}; check file="
        ) from error
    if len(contents) > slot.region.size:
        raise UserError(
            f"slot {slot.id}: {path} does not fit its {format_size(slot.region.size)}; raise size="
        )
    return contents
