"""Memory types, as far as the machine tells them apart: Device or Normal (Arm ARM D8.6)."""

from __future__ import annotations

from typing import Final

DEVICE_nGnRnE: Final = 0x00
NORMAL_WRITE_BACK: Final = 0xFF
"""MAIR_EL1 encodings: what stage 1 gives while it is off, and while HCR_EL2.DC is set."""

FWB_FORCE_WRITE_BACK: Final = 0b110
"""MemAttr[2:0] with FWB: Normal Write-Back, whatever stage 1 says."""


def is_device_attribute(attribute: int) -> bool:
    """Whether an attribute of MAIR_EL1 is a Device type."""
    return not attribute & 0xF0


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
    if not fwb:
        return is_device_attribute(attribute) or not memattr >> 2
    if memattr & 0b111 == FWB_FORCE_WRITE_BACK:
        return False
    return is_device_attribute(attribute) or not memattr & 0b100
