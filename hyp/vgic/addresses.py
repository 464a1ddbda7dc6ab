"""Where a VM has its GIC: base addresses, redistributor regions, and what KVM refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from hyp.errors import Errno, KvmError
from hyp.vgic import v2_cpu, v2_dist, v3_dist, v3_redist

if TYPE_CHECKING:
    from emu.arch.address import IPA

UNDEFINED: Final = (1 << 64) - 1
"""VGIC_ADDR_UNDEF: what user space reads of a base that is not set."""

_4K: Final = 0x1000
_64K: Final = 0x1_0000


class _Frame(NamedTuple):
    alignment: int
    size: int


DIST: Final = {2: _Frame(_4K, v2_dist.SIZE), 3: _Frame(_64K, v3_dist.SIZE)}
CPU: Final = _Frame(_4K, v2_cpu.SIZE)


@dataclass(slots=True)
class RedistRegion:
    """Adjacent redistributors.

    Parameters
    ----------
    index
        The region's number for user space.
    base
        Where it begins.
    count
        How many redistributors it has room for; 0 for as many as there are vCPUs.
    """

    index: int
    base: IPA
    count: int

    def size(self, nr_vcpus: int) -> int:
        """Return its size in bytes."""
        return (self.count or nr_vcpus) * v3_redist.SIZE


class Place(NamedTuple):
    """Where the redistributor of a vCPU is: the n-th of a region."""

    region: RedistRegion
    slot: int

    @property
    def base(self) -> int:
        """Its guest physical address."""
        return self.region.base + self.slot * v3_redist.SIZE


def check_iorange(addr: int, alignment: int, size: int, ipa_bits: int) -> None:
    """Refuse a range that is misaligned or not in the guest's address space.

    Raises
    ------
    KvmError
        EINVAL or E2BIG.
    """
    if addr % alignment or size % alignment:
        raise KvmError(Errno.EINVAL, f"{addr:#x} is not aligned; use a multiple of {alignment:#x}")
    if addr + size > 1 << ipa_bits:
        raise KvmError(
            Errno.E2BIG,
            f"{addr:#x} to {addr + size - 1:#x} does not lie within the {ipa_bits} bits of the "
            f"guest's address space; choose a lower base",
        )


class Addresses:
    """The base addresses of a GIC.

    Parameters
    ----------
    version
        2 or 3.
    ipa_bits
        The size of the guest physical address space.

    Attributes
    ----------
    dist, cpu
        The distributor, and the CPU interface of a GICv2; ``None`` until they are set.
    regions
        The redistributor regions of a GICv3, by index.
    """

    def __init__(self, version: int, ipa_bits: int) -> None:
        self._version = version
        self._ipa_bits = ipa_bits
        self.dist: IPA | None = None
        self.cpu: IPA | None = None
        self.regions: list[RedistRegion] = []

    def set_dist(self, base: IPA) -> None:
        """Place the distributor.

        Raises
        ------
        KvmError
            EEXIST if it has its place, EINVAL if it is misaligned, E2BIG beyond the IPA size.
        """
        self._check_unset(self.dist)
        check_iorange(base, *DIST[self._version], self._ipa_bits)
        self.dist = base

    def set_cpu(self, base: IPA) -> None:
        """Place the CPU interface of a GICv2.

        Raises
        ------
        KvmError
            As for :meth:`set_dist`.
        """
        self._check_unset(self.cpu)
        check_iorange(base, *CPU, self._ipa_bits)
        self.cpu = base

    @staticmethod
    def _check_unset(base: IPA | None) -> None:
        if base is not None:
            raise KvmError(Errno.EEXIST, f"the base is {base:#x} already, and cannot be changed")

    # --- redistributors ------------------------------------------------------------------

    def add_region(self, index: int, base: IPA, count: int, nr_vcpus: int) -> None:
        """Add a redistributor region (``vgic_v3_set_redist_base``).

        Parameters
        ----------
        index
            The next free number.
        base
            Where it begins.
        count
            Room for so many; 0 for the only region of a GIC, which grows with the vCPUs.
        nr_vcpus
            How many vCPUs there are now.

        Raises
        ------
        KvmError
            EINVAL for a wrong index, a misaligned base, an overlap, or both kinds of regions;
            EEXIST if the only region exists; E2BIG beyond the IPA size.
        """
        new = RedistRegion(index, base, count)
        size = new.size(nr_vcpus)
        self._check_index(new)
        if not count and self.dist is not None and self._hits_dist(base, size):
            raise KvmError(Errno.EINVAL, f"{base:#x} overlaps the distributor at {self.dist:#x}")
        for known in self.regions:
            if base < known.base + known.size(nr_vcpus) and known.base < base + size:
                raise KvmError(
                    Errno.EINVAL, f"{base:#x} overlaps redistributor region {known.index}"
                )
        check_iorange(base, _64K, size, self._ipa_bits)
        self.regions.append(new)
        if any(self.places(nr_vcpus)) and not self.is_consistent(nr_vcpus):
            self.regions.pop()
            raise KvmError(
                Errno.EINVAL,
                f"with a redistributor region at {base:#x}, the frames of the GIC overlap",
            )

    def _check_index(self, new: RedistRegion) -> None:
        if not self.regions:
            if new.index:
                raise KvmError(Errno.EINVAL, f"the first region has index 0, not {new.index}")
            return
        last = self.regions[-1]
        if not new.count:
            if last.count:
                raise KvmError(
                    Errno.EINVAL,
                    "there are redistributor regions; add another one "
                    "(KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION)",
                )
            raise KvmError(Errno.EEXIST, f"the redistributors are at {last.base:#x} already")
        if new.index != last.index + 1:
            raise KvmError(
                Errno.EINVAL, f"the next region has index {last.index + 1}, not {new.index}"
            )
        if not last.count:
            raise KvmError(
                Errno.EINVAL,
                f"the redistributors are in one region at {last.base:#x} "
                f"(KVM_VGIC_V3_ADDR_TYPE_REDIST), and there can be no other",
            )

    def region(self, index: int) -> RedistRegion:
        """Return a region by its number.

        Raises
        ------
        KvmError
            ENOENT if there is none.
        """
        for region in self.regions:
            if region.index == index:
                return region
        raise KvmError(Errno.ENOENT, f"there is no redistributor region {index}")

    def places(self, nr_vcpus: int) -> list[Place | None]:
        """Return where the redistributor of each vCPU is; ``None`` without room for it."""
        found: list[Place | None] = []
        for region in self.regions:
            room = region.count or nr_vcpus
            used = min(room, nr_vcpus - len(found))
            found += [Place(region, slot) for slot in range(used)]
        return found + [None] * (nr_vcpus - len(found))

    def is_last(self, number: int, nr_vcpus: int) -> bool:
        """Return GICR_TYPER.Last: no redistributor that is in use follows."""
        places = [place for place in self.places(nr_vcpus) if place is not None]
        if number >= len(places):
            return False
        end = places[number].base + v3_redist.SIZE
        region = places[number].region
        for other in places:
            follows_in_region = other.region is region and other.slot > places[number].slot
            if follows_in_region or (other.slot == 0 and other.base == end):
                return False
        return True

    # --- all of them ---------------------------------------------------------------------

    def is_consistent(self, nr_vcpus: int) -> bool:
        """Return whether everything that is set fits (``vgic_v3_check_base``)."""
        for region in self.regions:
            if region.base + region.size(nr_vcpus) > 1 << self._ipa_bits:
                return False
            if self.dist is not None and self._hits_dist(region.base, region.size(nr_vcpus)):
                return False
        if self.dist is None or self.cpu is None:
            return True
        return self.cpu + CPU.size <= self.dist or self.dist + DIST[2].size <= self.cpu

    def _hits_dist(self, base: int, size: int) -> bool:
        assert self.dist is not None
        return base < self.dist + DIST[self._version].size and self.dist < base + size

    def check_complete(self, nr_vcpus: int) -> None:
        """Refuse to run with what is missing or overlaps (``vgic_v[23]_map_resources``).

        Raises
        ------
        KvmError
            ENXIO for a base that is not set, or too few redistributors; EINVAL for an overlap.
        """
        if self._version == 3 and None in self.places(nr_vcpus):
            raise KvmError(
                Errno.ENXIO, f"there are not enough redistributors for {nr_vcpus} vCPUs; add some"
            )
        if self.dist is None or (self._version == 2 and self.cpu is None):
            raise KvmError(Errno.ENXIO, "the GIC has no address yet; set KVM_DEV_ARM_VGIC_GRP_ADDR")
        if not self.is_consistent(nr_vcpus):
            raise KvmError(Errno.EINVAL, "the frames of the GIC overlap; choose other bases")
