"""Memory types and how the two stages combine (Arm ARM D8.6).

Attributes are encoded as in MAIR_EL1: Device types as ``0b0000dd00``, Normal memory as a
nibble for the outer and one for the inner cache.
"""

from __future__ import annotations

from typing import Final

DEVICE_nGnRnE: Final = 0x00
NORMAL_WRITE_BACK: Final = 0xFF
"""MAIR_EL1 encodings: what stage 1 gives while it is off, and while HCR_EL2.DC is set."""

NORMAL_NON_CACHEABLE: Final = 0x44
NORMAL_TAGGED: Final = 0xF0
"""Write-Back, with allocation tags (FEAT_MTE2)."""

NORMAL: Final = 0xF0
"""The bits of which Normal memory has at least one, and Device memory none."""

NON_CACHEABLE: Final = 0b0100
"""The nibble of a cache that is not used."""
READ_WRITE_ALLOCATE: Final = 0b11
"""The allocation hints, the low bits of a cacheable nibble."""
WRITE_THROUGH, WRITE_BACK = 0b10, 0b11
"""The high bits of a nibble without a transient hint, and MemAttr's for one cache."""

FWB_NON_CACHEABLE: Final = 0b101
FWB_FORCE_WRITE_BACK: Final = 0b110
FWB_STAGE1: Final = 0b111
"""MemAttr[2:0] with FWB: override stage 1, or leave it as it is."""

INNER_SHAREABLE, OUTER_SHAREABLE = 3, 2


def is_device_attribute(attribute: int) -> bool:
    """Whether an attribute of MAIR_EL1 is a Device type."""
    return not attribute & NORMAL


def combined_is_device(attribute: int, memattr: int, *, fwb: bool) -> bool:
    """Whether both stages together give a Device type.

    Parameters
    ----------
    attribute
        The attribute of MAIR_EL1 that stage 1 selects.
    memattr
        MemAttr[3:0] of the stage-2 leaf.
    fwb
        HCR_EL2.FWB, which changes what ``memattr`` means.
    """
    if fwb and memattr & 0b111 == FWB_FORCE_WRITE_BACK:
        return False
    if not attribute & NORMAL:
        return True
    return not memattr & (0b0100 if fwb else 0b1100)


def combined_attribute(attribute: int, memattr: int, *, fwb: bool) -> int:
    """Return the attribute that both stages together give; parameters as above."""
    if fwb:
        return _combined_fwb(attribute, memattr & 0b111)
    if attribute == NORMAL_TAGGED and memattr != WRITE_BACK << 2 | WRITE_BACK:
        attribute = NORMAL_WRITE_BACK
    if not memattr >> 2:
        device = memattr & 0b11
        return (
            min(attribute >> 2 & 3, device) << 2 if is_device_attribute(attribute) else device << 2
        )
    if is_device_attribute(attribute):
        return attribute
    outer = _combined_nibble(attribute >> 4, memattr >> 2)
    return outer << 4 | _combined_nibble(attribute & 0xF, memattr & 0b11)


def _combined_nibble(nibble: int, policy: int) -> int:
    """Combine one cache's stage-1 nibble with the stage-2 policy: the weaker of the two wins."""
    if nibble == NON_CACHEABLE or policy == NON_CACHEABLE >> 2:
        return NON_CACHEABLE
    write_through = nibble >> 2 in (0b00, WRITE_THROUGH)
    if policy == WRITE_THROUGH and not write_through:
        return WRITE_THROUGH << 2 | nibble & READ_WRITE_ALLOCATE
    return nibble


def _combined_fwb(attribute: int, memattr: int) -> int:
    if memattr == FWB_STAGE1:
        return attribute
    if memattr == FWB_FORCE_WRITE_BACK:
        if is_device_attribute(attribute):
            return NORMAL_WRITE_BACK
        if attribute == NORMAL_TAGGED:
            return attribute
        return _as_write_back(attribute >> 4) << 4 | _as_write_back(attribute & 0xF)
    if memattr == FWB_NON_CACHEABLE:
        return attribute if is_device_attribute(attribute) else NORMAL_NON_CACHEABLE
    return (memattr & 0b11) << 2


def _as_write_back(nibble: int) -> int:
    """Return a nibble as Write-Back, with its hints if it has any."""
    if nibble == NON_CACHEABLE:
        return WRITE_BACK << 2 | READ_WRITE_ALLOCATE
    return nibble | 0b0100


def combined_shareability(attribute: int, sh1: int, sh2: int) -> int:
    """Return the effective shareability of memory that has ``attribute`` in the end.

    The wider of the two stages; Device and Non-cacheable memory is outer shareable.
    """
    weak = is_device_attribute(attribute) or attribute == NORMAL_NON_CACHEABLE
    if weak or OUTER_SHAREABLE in (sh1, sh2):
        return OUTER_SHAREABLE
    return INNER_SHAREABLE if INNER_SHAREABLE in (sh1, sh2) else 0
