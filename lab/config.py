"""What a run is made of: everything that decides its outcome, apart from the guest itself."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from emu.arch.address import IPA
from emu.arch.features import CORTEX_A72
from lab.backing import SMALL_PAGES, Backing
from lab.errors import UserError
from lab.loader.image import Region
from lab.sizes import format_size
from lab.slots import Slot, check_layout
from lab.virtmap import FLASH, MAX_CPUS, RAM_BASE, VIRTIO_COUNT

if TYPE_CHECKING:
    from pathlib import Path

    from lab.drive import Drive

DEFAULT_MEMORY = 64 << 20
DEFAULT_IPA_BITS = 40
MIN_IPA_BITS, MAX_IPA_BITS = 32, 52
"""The widths that the architecture and KVM know at all; the CPU's PARange may allow less."""
PROFILES = ("2012", "2018", "2021", "2021-granule", "6.1", "2026")
"""The names in :data:`hyp.profiles.PROFILES`, without loading them."""
DEFAULT_PROFILE = PROFILES[-1]
EAGER_EXEC = PROFILES[0]
"""The profile, and the rules, by which every page is executable from its first mapping on."""
CACHE_RULES = ("2012", "2018", "2021", "2026")
"""The years in :data:`hyp.icache.RULES`, without loading them."""
ICACHES = ("pipt", "vipt", "aivivt", "vpipt")
"""The names in :class:`emu.arch.registers.identification.IcachePolicy`, in small letters."""
MIN_RING_ENTRIES, MAX_RING_ENTRIES = 256, 65536
"""KVM's limits of a dirty ring: one page of entries, and KVM_DIRTY_RING_MAX_ENTRIES."""
CHUNK_SIZES = {"0": 0, "4K": 1 << 12, "2M": 1 << 21, "1G": 1 << 30}
"""What KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE can be; 0 leaves blocks to faults."""
DEFAULT_MAX_INSNS = 2_000_000_000
GICS = {"none": 0, "2": 2, "3": 3}
"""The interrupt controllers that there are, by version; 0 for none."""
DEFAULT_GIC = 3
VIRTIO = ("legacy", "modern")
"""The names in :class:`hyp.devices.virtio.Version`, in small letters."""
DEFAULT_QUANTUM = 10_000
DEFAULT_RTC_BASE = 1_704_067_200
"""2024-01-01 00:00:00 UTC."""


class DirtyProtect(Enum):
    """Who takes the right to write away again from a page that the log held."""

    AUTO = "auto"
    """KVM_GET_DIRTY_LOG, as it is read."""
    MANUAL = "manual"
    """KVM_CLEAR_DIRTY_LOG (KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2)."""
    INITIALLY_SET = "initially-set"
    """The same, and all pages start dirty (KVM_DIRTY_LOG_INITIALLY_SET)."""


FIRST_SLOT_OF_RAM = 1000
FIRST_SLOT_OF_FLASH = 2000
"""RAM is slot 0; should it be several, the second is slot 1001."""


class RamSlot(NamedTuple):
    """One of several slots that make up RAM."""

    size: int
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """The machine and its limits. Two runs of one image with equal configurations are equal.

    Attributes
    ----------
    memory_size : int
        RAM in bytes, from :data:`RAM_BASE`; memory slot 0.
    backing : Backing
        The host's memory behind RAM.
    dirty_log : bool
        Record the pages of RAM that are written.
    dirty_ring : int
        Record them in a dirty ring of so many entries, not in bitmaps; 0 for bitmaps.
    dirty_protect : DirtyProtect
        How bitmaps are collected.
    dirty_after : int
        Logging starts after so many instructions, at once if it is 0.
    eager_split : int
        Size in bytes of the chunks in which blocks become pages when logging starts; 0
        leaves them to faults.
    harvest_every : int
        The log is collected each time so many instructions have retired, and a copy of
        memory is kept by it; 0 collects it at the end only.
    ipa_bits : int
        Width of guest physical addresses.
    slots : tuple[Slot, ...]
        Memory slots beside RAM.
    bootargs : str
        The kernel command line in the device tree.
    max_insns : int
        The run is stopped after so many instructions.
    nisv_to_user : bool
        ``KVM_CAP_ARM_NISV_TO_USER``: accesses outside the slots whose syndrome is not
        valid come to user space, which answers with an external abort. Without it they
        end the run.
    cpu : str
        The CPU's profile: one of :data:`emu.arch.profiles.NAMES`, or the path of one.
    dic : bool
        ``CTR_EL0.DIC``: instruction caches need no invalidation for coherency.
    idc : bool
        ``CTR_EL0.IDC``: data caches need no cleaning for it.
    icache : str
        ``CTR_EL0.L1Ip``, how the instruction cache finds its lines: one of :data:`ICACHES`.
    cache_rules : str
        Caches are maintained as KVM did in that year, one of :data:`CACHE_RULES`; empty
        for the year of ``kvm_profile``.
    kvm_profile : str
        How KVM handles aborts: the name of one of :data:`hyp.profiles.PROFILES`.
    ram_slots : tuple[RamSlot, ...]
        RAM is not one slot but these, one after the other; what they leave is the last one.
    gic : int
        The version of the interrupt controller, 2 or 3. 0 for none: then no device has an
        interrupt, and there is no clock.
    smp : int
        vCPUs. The first starts, the others wait for PSCI CPU_ON.
    bios : bool
        The guest is firmware: it lies in flash, which is two read-only slots from address 0,
        and starts there. RAM begins with the device tree.
    initrd : Path or None
        A file that goes into memory beside the kernel, and into the device tree.
    seed : int
        From it follows what the guest gets as randomness: ``rng-seed`` in the device tree, and
        what its firmware's TRNG answers.
    kaslr : bool
        The device tree has a ``kaslr-seed``, too: the kernel runs at another virtual address.
    pmu : bool
        The vCPUs have performance monitors.
    quantum : int
        Instructions after which the next vCPU has its turn.
    rtc_base : int
        What the real-time clock shows at first, in seconds since 1970.
    drives : tuple[Drive, ...]
        Disks, which are virtio block devices.
    rng : bool
        There is a virtio entropy device; its bytes follow from ``seed``.
    testdev : bool
        There is a virtio console with the test device of kvm-unit-tests behind it.
    virtio : str
        The interface of virtio devices, one of :data:`VIRTIO`.
    """

    memory_size: int = DEFAULT_MEMORY
    backing: Backing = SMALL_PAGES
    dirty_log: bool = False
    dirty_ring: int = 0
    dirty_protect: DirtyProtect = DirtyProtect.AUTO
    dirty_after: int = 0
    eager_split: int = 0
    harvest_every: int = 0
    ipa_bits: int = DEFAULT_IPA_BITS
    slots: tuple[Slot, ...] = ()
    bootargs: str = ""
    max_insns: int = DEFAULT_MAX_INSNS
    nisv_to_user: bool = False
    cpu: str = CORTEX_A72.name
    dic: bool = False
    idc: bool = False
    icache: str = ICACHES[0]
    cache_rules: str = ""
    kvm_profile: str = DEFAULT_PROFILE
    ram_slots: tuple[RamSlot, ...] = ()
    gic: int = DEFAULT_GIC
    smp: int = 1
    bios: bool = False
    initrd: Path | None = None
    seed: int = 0
    kaslr: bool = False
    pmu: bool = False
    quantum: int = DEFAULT_QUANTUM
    rtc_base: int = DEFAULT_RTC_BASE
    drives: tuple[Drive, ...] = ()
    rng: bool = False
    testdev: bool = False
    virtio: str = VIRTIO[0]

    @property
    def virtio_devices(self) -> tuple[str, ...]:
        """What is behind the virtio transports, from number 0 on."""
        disks = ("disk",) * len(self.drives)
        return (*disks, *("rng",) * self.rng, *("testdev",) * self.testdev)

    @property
    def ram(self) -> Region:
        """The guest's RAM."""
        return Region(RAM_BASE, self.memory_size)

    @property
    def memory(self) -> tuple[Region, ...]:
        """RAM, then the other slots that a guest can be loaded into."""
        return (self.ram, *(slot.region for slot in (*self._slots_of_flash(), *self.slots)))

    @property
    def flash(self) -> Region | None:
        """Where firmware goes, if the guest is that."""
        return Region(FLASH[0].base, FLASH[0].size) if self.bios else None

    @property
    def all_slots(self) -> tuple[Slot, ...]:
        """RAM as slot 0, or from there on, then the others."""
        return (*self._slots_of_ram(), *self._slots_of_flash(), *self.slots)

    def _slots_of_flash(self) -> tuple[Slot, ...]:
        return tuple(
            Slot(
                id=FIRST_SLOT_OF_FLASH + number,
                region=Region(place.base, place.size),
                read_only=True,
            )
            for number, place in enumerate(FLASH if self.bios else ())
        )

    def _slots_of_ram(self) -> tuple[Slot, ...]:
        rest = RamSlot(self.memory_size - sum(part.size for part in self.ram_slots))
        slots, base = [], RAM_BASE
        for number, part in enumerate((*self.ram_slots, rest)):
            slots.append(
                Slot(
                    id=FIRST_SLOT_OF_RAM + number if number else 0,
                    region=Region(base, part.size),
                    read_only=part.read_only,
                    log_dirty=self.dirty_log and not part.read_only,
                    backing=self.backing,
                    area=self.ram,
                )
            )
            base = IPA(base + part.size)
        return tuple(slots)

    def check(self) -> None:
        """Check that such a machine can exist, as far as that does not depend on the CPU.

        Raises
        ------
        UserError
            If the IPA size or the layout of the slots is impossible.
        """
        if not MIN_IPA_BITS <= self.ipa_bits <= MAX_IPA_BITS:
            raise UserError(
                f"--ipa-bits is {MIN_IPA_BITS} to {MAX_IPA_BITS}, not {self.ipa_bits}; "
                f"the default is {DEFAULT_IPA_BITS}"
            )
        cut = sum(part.size for part in self.ram_slots)
        if self.ram_slots and cut >= self.memory_size:
            raise UserError(
                f"RAM of {format_size(self.memory_size)} has no slot behind the first "
                f"{format_size(cut)}; give more with --mem"
            )
        check_layout(self.all_slots, self.ipa_bits)
        self._check_cpus()
        if len(self.virtio_devices) > VIRTIO_COUNT:
            raise UserError(
                f"--drive: there are {VIRTIO_COUNT} places for virtio devices, not "
                f"{len(self.virtio_devices)}; leave some out"
            )
        self._check_dirty_log()
        if self.kvm_profile == EAGER_EXEC and self.cache_rules not in {"", EAGER_EXEC}:
            raise UserError(
                f"--cache-rules {self.cache_rules} make a page executable by a fault that "
                f"--kvm-profile {EAGER_EXEC} refuses; use another profile, or leave them out"
            )

    def _check_cpus(self) -> None:
        if self.gic not in MAX_CPUS:
            raise UserError(f"--gic is one of {', '.join(GICS)}, not {self.gic}")
        most = MAX_CPUS[self.gic]
        if not 1 <= self.smp <= most:
            machine = f"a GICv{self.gic}" if self.gic else "no GIC"
            way_out = "; --gic 3 has more" if self.gic == 2 and self.smp > most else ""
            raise UserError(
                f"--smp is 1 to {most} on a machine with {machine}, not {self.smp}{way_out}"
            )
        if self.quantum < 1:
            raise UserError("--quantum 0 leaves no vCPU a turn; give at least 1")

    def _check_dirty_log(self) -> None:
        given = {
            "--dirty-ring": self.dirty_ring,
            "--dirty-protect": self.dirty_protect is not DirtyProtect.AUTO,
            "--dirty-after": self.dirty_after,
            "--eager-split": self.eager_split,
            "--harvest-every": self.harvest_every,
        }
        if self.dirty_ring:
            self._check_dirty_ring()
        if not any(slot.log_dirty for slot in self.all_slots):
            for option, value in given.items():
                if value:
                    raise UserError(
                        f"{option} has nothing to record; add --dirty-log, or log to a --slot"
                    )
        if self.eager_split not in CHUNK_SIZES.values():
            raise UserError(
                f"--eager-split is one of {', '.join(CHUNK_SIZES)}, not "
                f"{format_size(self.eager_split)}"
            )

    def _check_dirty_ring(self) -> None:
        size = self.dirty_ring
        if size & (size - 1) or not MIN_RING_ENTRIES <= size <= MAX_RING_ENTRIES:
            raise UserError(
                f"--dirty-ring is a power of two from {MIN_RING_ENTRIES} to {MAX_RING_ENTRIES}, "
                f"not {size}"
            )
        if self.dirty_protect is not DirtyProtect.AUTO:
            raise UserError(
                f"--dirty-protect {self.dirty_protect.value} is for bitmaps, a ring protects its "
                "pages when it is reset; use auto, or leave out --dirty-ring"
            )
