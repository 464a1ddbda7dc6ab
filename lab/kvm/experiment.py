"""Runs, written for the VMM that runs on real KVM (``vmm/``)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from emu.arch.address import PAGE_SIZE
from hyp.memslots import MemoryRegionFlags
from hyp.vm import Cap
from lab.backing import Kind
from lab.boot import plan
from lab.config import RunConfig
from lab.errors import UserError
from lab.kvm.initramfs import archive, character_device, file, folder
from lab.virtmap import PL011, TEST_DEVICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lab.kvm.setups import Setup
    from lab.loader import Image
    from lab.slots import Slot

EVENTS: Final = ("kvm_guest_fault", "kvm_access_fault", "kvm_mmio", "kvm_userspace_exit")
"""The tracepoints that are compared."""

HUGE_PAGE: Final = 2 << 20

_SLACK: Final = 512 << 20
"""Memory of the machine beyond that of the guest and two copies of the files, for Linux."""

_TRACING: Final = "/sys/kernel/tracing"
_THP: Final = "/sys/kernel/mm/transparent_hugepage"
_FOR_EVER: Final = 0xFFFF_FFFF
"""Milliseconds."""

_NOT_PASSED_ON: Final = {
    "--dirty-ring": "dirty_ring",
    "--dirty-protect": "dirty_protect",
    "--dirty-after": "dirty_after",
    "--eager-split": "eager_split",
    "--harvest-every": "harvest_every",
    "--max-insns": "max_insns",
    "--cpu": "cpu",
    "--dic": "dic",
    "--idc": "idc",
    "--icache": "icache",
    "--gic": "gic",
    "--bios": "bios",
    "--smp": "smp",
    "--quantum": "quantum",
    "--rtc-base": "rtc_base",
    "--drive": "drives",
    "--rng": "rng",
    "--testdev": "testdev",
    "--virtio": "virtio",
}
"""Options of ``stage2 run`` that the machine with KVM, or the VMM in it, does not have."""


def check_is_passed_on(config: RunConfig) -> None:
    """Check that a run can be the same under KVM.

    Raises
    ------
    UserError
        For an option that would apply to the run here alone.
    """
    default = RunConfig()
    if config.gic == 0:  # as it is there
        default = replace(default, gic=0)
    for option, name in _NOT_PASSED_ON.items():
        if getattr(config, name) != getattr(default, name):
            raise UserError(
                f"{option} is not passed on to KVM and would apply to one run only; leave it out "
                "(what there is: stage2 diff-kvm --list-setups)"
            )


def asks_for_gic(options: Sequence[str]) -> bool:
    """Return whether the options that a guest brings name a GIC or CPUs that take turns.

    The VMM with KVM has neither.
    """
    pairs = set(pairwise(options))
    return "--smp" in options or ("--gic", "2") in pairs or ("--gic", "3") in pairs


@dataclass(frozen=True, slots=True)
class Experiment:
    """One guest in one set-up.

    Attributes
    ----------
    guest : str
        Its title.
    setup : Setup
        What is done beside running it.
    config, image
        As for ``stage2 run``; the configuration is that of the set-up.
    """

    guest: str
    setup: Setup
    config: RunConfig
    image: Image

    @property
    def name(self) -> str:
        """What the reports call it."""
        return f"{self.guest}/{self.setup.name}"

    @property
    def memory(self) -> int:
        """The host's memory that the guest can take, in bytes."""
        slots = {slot.mapping: slot.backing for slot in self.config.all_slots}
        return sum(backing.footprint(area.size) for area, backing in slots.items())


@dataclass(frozen=True, slots=True)
class Machine:
    """What boots to do experiments: the first file system, and its memory in MiB."""

    initramfs: bytes
    memory_mib: int


def machine(vmm: bytes, experiments: Sequence[Experiment]) -> Machine:
    """Return the machine that does experiments under KVM, one after the other, and powers off.

    Parameters
    ----------
    vmm
        The program, built for AArch64 Linux.
    experiments
        What to do.

    Raises
    ------
    UserError
        For a backing that the machine does not have.
    """
    files: dict[str, bytes] = {}
    lines = list(_preparation(experiments))
    for experiment in experiments:
        lines += _lines(experiment, files)
    initramfs = file_system(vmm, lines, files)
    memory = max(experiment.memory for experiment in experiments)
    return Machine(initramfs, (2 * len(initramfs) + memory + _SLACK >> 20) + _huge_mib(experiments))


def file_system(vmm: bytes, lines: Iterable[str], files: Mapping[str, bytes]) -> bytes:
    """Return the first file system of a machine that has the VMM carry out commands.

    Parameters
    ----------
    vmm
        The program, built for AArch64 Linux.
    lines
        The commands, as ``vmm/main.c`` reads them.
    files
        What they name.
    """
    return archive(
        [
            *(folder(name) for name in ("dev", "proc", "sys")),
            character_device("dev/console", 5, 1),
            file("init", vmm),
            file("experiments", "".join(f"{line}\n" for line in lines).encode()),
            *(file(name, data) for name, data in files.items()),
        ]
    )


def _huge_pages(experiment: Experiment) -> int:
    areas = {slot.mapping: slot.backing for slot in experiment.config.all_slots}
    return sum(
        backing.area(area.size) // HUGE_PAGE
        for area, backing in areas.items()
        if backing.page_size == HUGE_PAGE
    )


def _huge_mib(experiments: Iterable[Experiment]) -> int:
    return max(map(_huge_pages, experiments)) * HUGE_PAGE >> 20


def _preparation(experiments: Sequence[Experiment]) -> Iterable[str]:
    yield "write /proc/sys/kernel/printk 1"
    yield f"write /proc/sys/vm/nr_hugepages {max(map(_huge_pages, experiments))}"
    # Nobody but the guests and this VMM is to change how memory is mapped.
    yield f"write {_THP}/khugepaged/scan_sleep_millisecs {_FOR_EVER}"
    yield f"write {_TRACING}/buffer_size_kb 65536"
    for name in EVENTS:
        yield f"write {_TRACING}/events/kvm/{name}/enable 1"
    yield f"uart {PL011.base:#x}"
    yield f"device {TEST_DEVICE.base:#x}"


def _lines(experiment: Experiment, files: dict[str, bytes]) -> Iterable[str]:
    config, setup, image = experiment.config, experiment.setup, experiment.image
    yield f"begin {experiment.name}"
    if setup.needs is not None:
        yield f"needs {setup.needs:d}"
    yield f"vm {config.ipa_bits}"
    if config.nisv_to_user:
        yield f"cap {Cap.ARM_NISV_TO_USER:d} 0"
    for cap, value in setup.all_caps:
        yield f"cap {cap:d} {value}"
    yield from _slots(config.all_slots, files)
    for segment in image.segments:
        yield _load(segment.address, bytes(segment.data), files)
    boot = plan(image, config)
    for address, data in boot.loads:
        yield _load(address, data, files)
    yield "vcpu"
    yield f"pc {image.entry:#x}"
    yield f"x 0 {boot.device_tree:#x}"
    what = {(0, 0): "nothing", (0, 1): "collect", (1, 0): "toggle", (1, 1): "both"}
    at_line = what[setup.at_line.toggle, setup.at_line.collect]
    yield f"line {at_line} {int(bool(setup.manual))}"
    yield "run"


def _slots(slots: Iterable[Slot], files: dict[str, bytes]) -> Iterable[str]:
    areas: dict[object, int] = {}
    for slot in slots:
        region, mapping, backing = slot.region, slot.mapping, slot.backing
        if mapping not in areas:
            if backing.kind is Kind.GMEM or backing.page_size not in (PAGE_SIZE, HUGE_PAGE):
                raise UserError(f"the machine with KVM has no backing {backing}; use 4K or 2M")
            areas[mapping] = len(areas)
            size = backing.area(mapping.size)
            kind = backing.kind.value
            yield f"area {areas[mapping]} {size:#x} {backing.page_size:#x} {kind}"
        flags = MemoryRegionFlags.READONLY if slot.read_only else MemoryRegionFlags(0)
        if slot.log_dirty:
            flags |= MemoryRegionFlags.LOG_DIRTY_PAGES
        offset = backing.offset + region.base - mapping.base
        yield (
            f"slot {slot.id} {region.base:#x} {region.size:#x} {flags:d} "
            f"{areas[mapping]} {offset:#x}"
        )
        if slot.file is not None:
            yield _load(region.base, slot.file.read_bytes(), files)


def _load(address: int, data: bytes, files: dict[str, bytes]) -> str:
    name = hashlib.sha256(data).hexdigest()[:16]
    files[name] = data
    return f"load {address:#x} /{name}"
