"""Translation granules: the numbers that tell the table formats apart (Arm ARM D8.2).

A table occupies one granule, so it resolves ``shift - 3`` bits of the address. Level 3
entries map one granule; each level above maps that many bits more.
"""

from __future__ import annotations

from typing import NamedTuple

from emu.arch.registers.translation import TG0, TG1

LAST_LEVEL = 3


class Granule(NamedTuple):
    """One translation granule."""

    name: str
    shift: int
    """log2 of the granule in bytes."""
    stride: int
    """Address bits resolved by one level."""
    block_levels: frozenset[int]
    """Levels at which a block descriptor is allowed (with 48-bit addresses)."""
    address_mask: int
    """Descriptor bits that hold an output or next-table address."""

    def level_shift(self, level: int) -> int:
        """Return log2 of the bytes that one entry at ``level`` maps."""
        return self.shift + self.stride * (LAST_LEVEL - level)

    def start_level(self, input_bits: int) -> int:
        """Return the stage-1 start level for an input address of ``input_bits`` bits.

        The highest level whose table would not be a single entry (Arm ARM D8.2.6).
        """
        levels = -(-(input_bits - self.shift) // self.stride)
        return LAST_LEVEL + 1 - levels


def _granule(name: str, shift: int, block_levels: set[int]) -> Granule:
    address_mask = (1 << 48) - (1 << shift)
    return Granule(name, shift, shift - 3, frozenset(block_levels), address_mask)


KB4 = _granule("4K", 12, {1, 2})
KB16 = _granule("16K", 14, {2})
KB64 = _granule("64K", 16, {2})

GRANULES = (KB4, KB16, KB64)

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

MAX_CONCATENATED_BITS = 4
"""Up to 2**4 tables can be concatenated at the stage-2 start level (Arm ARM D8.2.10)."""

ADDRESS_SIZE_BITS = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52}
"""TCR_EL1.IPS, VTCR_EL2.PS and ID_AA64MMFR0_EL1.PARange, in bits."""


def table_base(baddr_register: int, table_bytes_shift: int) -> int:
    """Return the table address in a TTBR or VTTBR, aligned to the table's size.

    Bits [47:1] hold the address; those below the table's own size are RES0.
    """
    return baddr_register & ((1 << 48) - (1 << max(table_bytes_shift, 6)))
