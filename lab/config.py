"""What a run is made of: everything that decides its outcome, apart from the guest itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from emu.arch.address import IPA
from lab.backing import SMALL_PAGES, Backing
from lab.errors import UserError
from lab.loader.image import Region
from lab.sizes import format_size
from lab.slots import Slot, check_layout

RAM_BASE = IPA(0x4000_0000)
DEFAULT_MEMORY = 64 << 20
DEFAULT_IPA_BITS = 40
MIN_IPA_BITS, MAX_IPA_BITS = 32, 52
"""The widths that the architecture and KVM know at all; the CPU's PARange may allow less."""
PROFILES = ("2012", "2018", "2021", "2021-granule", "6.1", "2026")
"""The names in :data:`hyp.profiles.PROFILES`, without loading them."""
DEFAULT_PROFILE = PROFILES[-1]
MIN_RING_ENTRIES, MAX_RING_ENTRIES = 256, 65536
"""KVM's limits of a dirty ring: one page of entries, and KVM_DIRTY_RING_MAX_ENTRIES."""
DEFAULT_MAX_INSNS = 2_000_000_000


FIRST_SLOT_OF_RAM = 1000
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
    dic : bool
        ``CTR_EL0.DIC``: instruction caches need no invalidation for coherency.
    kvm_profile : str
        How KVM handles aborts: the name of one of :data:`hyp.profiles.PROFILES`.
    ram_slots : tuple[RamSlot, ...]
        RAM is not one slot but these, one after the other; what they leave is the last one.
    """

    memory_size: int = DEFAULT_MEMORY
    backing: Backing = SMALL_PAGES
    dirty_log: bool = False
    dirty_ring: int = 0
    ipa_bits: int = DEFAULT_IPA_BITS
    slots: tuple[Slot, ...] = ()
    bootargs: str = ""
    max_insns: int = DEFAULT_MAX_INSNS
    nisv_to_user: bool = False
    dic: bool = False
    kvm_profile: str = DEFAULT_PROFILE
    ram_slots: tuple[RamSlot, ...] = ()

    @property
    def ram(self) -> Region:
        """The guest's RAM."""
        return Region(RAM_BASE, self.memory_size)

    @property
    def memory(self) -> tuple[Region, ...]:
        """RAM, then the other slots that a guest can be loaded into."""
        return (self.ram, *(slot.region for slot in self.slots))

    @property
    def all_slots(self) -> tuple[Slot, ...]:
        """RAM as slot 0, or from there on, then the others."""
        return (*self._slots_of_ram(), *self.slots)

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
        if self.dirty_ring:
            self._check_dirty_ring()

    def _check_dirty_ring(self) -> None:
        size = self.dirty_ring
        if size & (size - 1) or not MIN_RING_ENTRIES <= size <= MAX_RING_ENTRIES:
            raise UserError(
                f"--dirty-ring is a power of two from {MIN_RING_ENTRIES} to {MAX_RING_ENTRIES}, "
                f"not {size}"
            )
        if not any(slot.log_dirty for slot in self.all_slots):
            raise UserError(
                "--dirty-ring has nothing to record; add --dirty-log, or log to a --slot"
            )
