"""One run, written for the VMM that runs on real KVM (``vmm.c``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hyp.memslots import MemoryRegionFlags
from hyp.vm import Cap
from lab.backing import SMALL_PAGES, Backing
from lab.devicetree import PL011_BASE, device_tree, place_device_tree
from lab.errors import UserError
from lab.kvm.initramfs import Entry, archive, character_device, file, folder
from lab.testdevice import TEST_DEVICE_BASE

if TYPE_CHECKING:
    from lab.config import RunConfig
    from lab.loader import Image

EVENTS: Final = ("kvm_guest_fault", "kvm_access_fault", "kvm_mmio", "kvm_userspace_exit")
"""The tracepoints that are compared."""

HUGE_PAGE: Final = 2 << 20

_BACKINGS: Final = {SMALL_PAGES: "4K", Backing(HUGE_PAGE): "2M"}


def initramfs(vmm: bytes, config: RunConfig, image: Image) -> bytes:
    """Return the file system of a machine that runs ``image`` under KVM and powers off.

    Parameters
    ----------
    vmm
        The program, built for AArch64 Linux.
    config, image
        As for ``stage2 run``.
    """
    blob = device_tree(config.ram, 1, config.bootargs)
    tree_at = place_device_tree(image, config.ram, len(blob))
    contents = {segment.address: segment.data for segment in image.segments} | {tree_at: blob}
    huge = sum(slot.region.size for slot in config.all_slots if slot.backing.page_size == HUGE_PAGE)
    lines = [f"hugepages {huge // HUGE_PAGE}", f"vm {config.ipa_bits}"]
    if config.nisv_to_user:
        lines.append(f"cap {Cap.ARM_NISV_TO_USER:d} 0")
    files: list[Entry] = []
    for slot in config.all_slots:
        flags = MemoryRegionFlags.READONLY if slot.read_only else MemoryRegionFlags(0)
        if slot.log_dirty:
            flags |= MemoryRegionFlags.LOG_DIRTY_PAGES
        region = slot.region
        backing = _BACKINGS.get(slot.backing)
        if backing is None:
            raise UserError(
                f"diff-kvm has no backing {slot.backing}; use {' or '.join(_BACKINGS.values())}"
            )
        lines.append(f"slot {slot.id} {region.base:#x} {region.size:#x} {flags:d} {backing}")
        if slot.file is not None:
            lines.append(f"load {region.base:#x} /slot{slot.id}")
            files.append(file(f"slot{slot.id}", slot.file.read_bytes()))
    for number, (address, data) in enumerate(contents.items()):
        lines.append(f"load {address:#x} /part{number}")
        files.append(file(f"part{number}", bytes(data)))
    lines += [f"uart {PL011_BASE:#x}", f"device {TEST_DEVICE_BASE:#x}", "vcpu"]
    lines += [f"pc {image.entry:#x}", f"x 0 {tree_at:#x}"]
    lines += [f"event {name}" for name in EVENTS]
    lines.append("run")
    return archive(
        [
            *(folder(name) for name in ("dev", "proc", "sys")),
            character_device("dev/console", 5, 1),
            file("init", vmm),
            file("experiment", "".join(f"{line}\n" for line in lines).encode()),
            *files,
        ]
    )
