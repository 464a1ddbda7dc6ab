"""VMSAv8-64 translation table descriptors (Arm ARM D8.3).

The output address fields are those of the 4 KiB granule with 48-bit addresses; larger
granules and blocks ignore its low bits (:class:`emu.arch.granule.Granule`).
"""

from __future__ import annotations

from emu.arch.bits import bit, bits
from emu.arch.fields import Layout
from emu.arch.registers.translation import Shareability


class Descriptor(Layout):
    """What every descriptor has."""

    TYPE = bit(1)
    """1: table, or page at level 3. 0: block."""
    VALID = bit(0)


def swapped(word: int) -> int:
    """Return a descriptor in the other byte order (SCTLR_EL1.EE, SCTLR_EL2.EE)."""
    return int.from_bytes(word.to_bytes(8, "little"), "big")


class Stage1Table(Descriptor):
    """A stage-1 table descriptor. The hierarchical bits restrict all that lies below."""

    NSTable = bit(63)
    APTable = bits(62, 61)
    UXNTable = bit(60)
    PXNTable = bit(59)
    NLTA = bits(47, 12)


class Stage1Leaf(Descriptor):
    """A stage-1 block or page descriptor."""

    PBHA = bits(62, 59)
    SW = bits(58, 55)
    UXN = bit(54)
    PXN = bit(53)
    Contiguous = bit(52)
    DBM = bit(51)
    GP = bit(50)
    OA = bits(47, 12)
    nG = bit(11)
    AF = bit(10)
    SH = bits(9, 8, Shareability)
    AP = bits(7, 6)
    """AP[2:1]: bit [7] read-only, bit [6] accessible from EL0."""
    NS = bit(5)
    AttrIndx = bits(4, 2)


class Stage2Table(Descriptor):
    """A stage-2 table descriptor."""

    NLTA = bits(47, 12)


class Stage2Leaf(Descriptor):
    """A stage-2 block or page descriptor."""

    PBHA = bits(62, 59)
    SW = bits(58, 55)
    XN = bits(54, 53)
    """Bit [54] alone without FEAT_XNX."""
    Contiguous = bit(52)
    DBM = bit(51)
    OA = bits(47, 12)
    AF = bit(10)
    SH = bits(9, 8, Shareability)
    S2AP = bits(7, 6)
    """Bit [7] write, bit [6] read."""
    MemAttr = bits(5, 2)
