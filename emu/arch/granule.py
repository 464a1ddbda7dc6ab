"""Translation granules: the numbers that tell the table formats apart (Arm ARM D8.2, D8.3).

A table occupies one granule, so it resolves ``shift - 3`` bits of the address. Level 3
entries map one granule; each level above maps that many bits more.

There are two forms with 52-bit addresses: the 64 KiB granule has one whenever the CPU has
52-bit physical addresses (FEAT_LPA); the others have one that TCR_EL1.DS or VTCR_EL2.DS
chooses (FEAT_LPA2).
"""

from __future__ import annotations

from typing import NamedTuple

from emu.arch.registers.translation import TG0, TG1

LAST_LEVEL = 3


class HighAddress(NamedTuple):
    """Where a descriptor keeps the output address bits that do not fit above the others."""

    lsb: int
    """Descriptor bit of the lowest of them."""
    mask: int
    address_lsb: int
    """The address bit that it stands for."""


NO_HIGH_ADDRESS = HighAddress(0, 0, 0)


class Step(NamedTuple):
    """One lookup of a walk."""

    level: int
    shift: int
    """log2 of the bytes that one entry maps."""
    index_mask: int
    """Which bits of the address, shifted, choose the entry."""
    has_blocks: bool
    """Whether a block descriptor is allowed."""


class Granule(NamedTuple):
    """One translation granule, with 48-bit or with 52-bit addresses."""

    name: str
    shift: int
    """log2 of the granule in bytes."""
    stride: int
    """Address bits resolved by one level."""
    block_levels: frozenset[int]
    """Levels at which a block descriptor is allowed."""
    address_mask: int
    """Descriptor bits that are output or next-table address bits of the same number."""
    high: HighAddress
    """The rest of the address."""
    address_bits: int
    """The largest input and output address, in bits: 48 or 52."""

    def level_shift(self, level: int) -> int:
        """Return log2 of the bytes that one entry at ``level`` maps."""
        return self.shift + self.stride * (LAST_LEVEL - level)

    def start_level(self, input_bits: int) -> int:
        """Return the stage-1 start level for an input address of ``input_bits`` bits.

        The highest level whose table would not be a single entry (Arm ARM D8.2.6).
        """
        levels = -(-(input_bits - self.shift) // self.stride)
        return LAST_LEVEL + 1 - levels

    def steps(self, start_level: int, input_bits: int) -> tuple[Step, ...]:
        """Return the lookups of a walk from ``start_level`` to the last level.

        The first index runs over all that is left of the input address: over all concatenated
        tables, too.
        """
        index_bits = max(input_bits - self.level_shift(start_level), 0)
        found = []
        for level in range(start_level, LAST_LEVEL + 1):
            has_blocks = level in self.block_levels
            found.append(Step(level, self.level_shift(level), (1 << index_bits) - 1, has_blocks))
            index_bits = self.stride
        return tuple(found)

    def address(self, descriptor: int) -> int:
        """Return the output or next-table address in a descriptor."""
        lsb, mask, address_lsb = self.high
        return descriptor & self.address_mask | (descriptor >> lsb & mask) << address_lsb


def _granule(
    name: str,
    shift: int,
    block_levels: set[int],
    *,
    top: int = 47,
    high: HighAddress = NO_HIGH_ADDRESS,
) -> Granule:
    mask = (2 << top) - (1 << shift)
    bits = 52 if high.mask else 48
    return Granule(name, shift, shift - 3, frozenset(block_levels), mask, high, bits)


KB4 = _granule("4K", 12, {1, 2})
KB16 = _granule("16K", 14, {2})
KB64 = _granule("64K", 16, {2})

_LPA2 = HighAddress(lsb=8, mask=0b11, address_lsb=50)
_LPA = HighAddress(lsb=12, mask=0b1111, address_lsb=48)

WITH_52_BITS = {
    KB4: _granule("4K", 12, {0, 1, 2}, top=49, high=_LPA2),
    KB16: _granule("16K", 14, {1, 2}, top=49, high=_LPA2),
    KB64: _granule("64K", 16, {1, 2}, high=_LPA),
}
"""The form of each granule with 52-bit addresses."""

BY_TG0 = {TG0.KB4: KB4, TG0.KB64: KB64, TG0.KB16: KB16}
"""TCR_EL1.TG0 and VTCR_EL2.TG0. The reserved value 3 is not in the table."""

BY_TG1 = {TG1.KB16: KB16, TG1.KB4: KB4, TG1.KB64: KB64}
"""TCR_EL1.TG1. The reserved value 0 is not in the table."""

STAGE2_START_LEVEL = {
    KB4: {0: 2, 1: 1, 2: 0, 3: 3},
    KB16: {0: 3, 1: 2, 2: 1, 3: 0},
    KB64: {0: 3, 1: 2, 2: 1},
}
"""VTCR_EL2.SL0 to start level (Arm ARM, VTCR_EL2.SL0). Other values are reserved."""

LEVEL_MINUS_1 = -1
"""Start level with VTCR_EL2.SL2 = 1 and SL0 = 0, for the 4 KiB granule with 52 bits."""

START_LEVEL_NEEDS_PA_BITS = {(KB4, 0): 43, (KB16, 1): 41, (KB64, 1): 43}
"""Stage-2 start levels that are reserved with physical addresses no larger than this."""

MAX_CONCATENATED_BITS = 4
"""Up to 2**4 tables can be concatenated at the stage-2 start level (Arm ARM D8.2.10)."""

ADDRESS_SIZE_BITS = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52, 7: 52}
"""TCR_EL1.IPS, VTCR_EL2.PS and ID_AA64MMFR0_EL1.PARange, in bits."""

MIN_TSZ, MIN_TSZ_52 = 16, 12
MAX_TSZ = 39
MAX_TSZ_SMALL = {KB4: 48, KB16: 48, KB64: 47}
"""The largest TxSZ with FEAT_TTST."""


def table_base(register: int, table_bytes_shift: int, granule: Granule) -> int:
    """Return the table address in a TTBR or VTTBR, aligned to the table's size.

    Bits [47:1] hold the address; those below the table's own size are RES0. With 52-bit
    addresses bits [5:2] are address bits [51:48].
    """
    base = register & ((1 << 48) - (1 << max(table_bytes_shift, 6)))
    if granule.high.mask:
        base |= (register >> 2 & 0xF) << 48
    return base
