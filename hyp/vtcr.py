"""The shape of a VM's stage 2: levels, concatenated start tables, VTCR_EL2, VTTBR_EL2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from emu.arch.address import PA, PAGE_SHIFT, PAGE_SIZE
from emu.arch.registers.translation import TG0, Shareability
from emu.arch.registers.virtualization import VTCR_EL2, VTTBR_EL2
from hyp.errors import Errno, KvmError
from hyp.pte import GRANULE_SHIFT, LAST_LEVEL, PTRS_PER_PTE

if TYPE_CHECKING:
    from hyp.cpufeature import HostFeatures

DEFAULT_IPA_BITS: Final = 40
MIN_IPA_BITS: Final = 32

_CONCATENATION_BITS: Final = 4
_WRITE_BACK: Final = 1


def ipa_bits_of_type(vm_type: int, limit: int) -> int:
    """Return the IPA size that KVM_CREATE_VM's type asks for.

    Parameters
    ----------
    vm_type
        0 for 40 bits, else the number of bits.
    limit
        The largest size that the machine supports.

    Raises
    ------
    KvmError
        EINVAL if it is below 32 or beyond the limit.
    """
    bits = vm_type or DEFAULT_IPA_BITS
    if not MIN_IPA_BITS <= bits <= limit:
        raise KvmError(
            Errno.EINVAL,
            f"an IPA size of {bits} bits is not possible; "
            f"use {MIN_IPA_BITS} to {limit}, or 0 for {DEFAULT_IPA_BITS}",
        )
    return bits


@dataclass(frozen=True, slots=True)
class Stage2Geometry:
    """How many levels a stage 2 has, and how large its top is.

    Parameters
    ----------
    ia_bits
        The IPA size in bits.
    start_level
        The level of the top tables: 0, 1 or 2.
    pgd_size
        Their size in bytes; up to 16 tables stand side by side (Arm ARM D8.2.9).
    """

    ia_bits: int
    start_level: int
    pgd_size: int

    @classmethod
    def of(cls, ia_bits: int) -> Self:
        """Return the shape for an IPA size: the fewest levels, two at least."""
        levels = (ia_bits - _CONCATENATION_BITS - 4) // (PAGE_SHIFT - 3)
        start_level = LAST_LEVEL + 1 - max(levels, 2)
        entries = 1 << (ia_bits - GRANULE_SHIFT[start_level])
        pages = max(entries // PTRS_PER_PTE, 1)
        return cls(ia_bits, start_level, pages * PAGE_SIZE)

    @property
    def levels(self) -> int:
        """How many levels a walk has."""
        return LAST_LEVEL + 1 - self.start_level

    @property
    def cache_min_pages(self) -> int:
        """``kvm_mmu_cache_min_pages``: tables that one mapping can need; the top exists."""
        return self.levels - 1

    def vtcr(self, features: HostFeatures) -> VTCR_EL2:
        """Return the control register for this shape (``kvm_get_vtcr``)."""
        return VTCR_EL2.build(
            RES1=1,
            T0SZ=64 - self.ia_bits,
            SL0=2 - self.start_level,
            IRGN0=_WRITE_BACK,
            ORGN0=_WRITE_BACK,
            SH0=Shareability.INNER_SHAREABLE,
            TG0=TG0.KB4,
            PS=features.pa_range,
            VS=features.vmid_bits == 16,
            HA=features.hw_af,
        )


def vttbr(pgd: PA, vmid: int) -> VTTBR_EL2:
    """Return the base register for tables at ``pgd``, tagged with ``vmid``."""
    return VTTBR_EL2.build(BADDR=pgd >> 1, VMID=vmid)
