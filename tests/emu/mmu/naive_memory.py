"""Memory types, written a second time from the Arm ARM alone (D8.6); nothing is shared."""

from __future__ import annotations

from typing import NamedTuple

NON_CACHEABLE, WRITE_THROUGH, WRITE_BACK = 1, 2, 3
"""Policies of a cache, as in MemAttr; the weaker has the lower number."""


class Device(NamedTuple):
    """Device memory: nGnRnE, nGnRE, nGRE and GRE are 0 to 3."""

    kind: int


class Normal(NamedTuple):
    """Normal memory: the policies of the outer and the inner cache."""

    outer: int
    inner: int


Memory = Device | Normal
CACHED = Normal(WRITE_BACK, WRITE_BACK)


def of_mair(attribute: int) -> Memory:
    """Return what an attribute of MAIR_EL1 stands for; allocation hints are left out."""
    if attribute < 0x10:
        return Device(attribute >> 2)
    if attribute == 0xF0:  # tagged
        return CACHED
    policies = {0b00: WRITE_THROUGH, 0b01: WRITE_BACK, 0b10: WRITE_THROUGH, 0b11: WRITE_BACK}
    outer, inner = (
        NON_CACHEABLE if nibble == 0b0100 else policies[nibble >> 2]
        for nibble in (attribute >> 4, attribute & 0xF)
    )
    return Normal(outer, inner)


def combine(first: Memory, memattr: int, *, fwb: bool) -> Memory:
    """Return what stage 2 makes of stage 1's memory type."""
    device = isinstance(first, Device)
    if fwb and memattr & 0b100:
        return {
            0b101: first if device else Normal(NON_CACHEABLE, NON_CACHEABLE),
            0b110: CACHED,
            0b111: first,
        }[memattr & 0b111]
    if fwb:
        return Device(memattr & 0b011)
    if memattr < 0b0100:
        return Device(min(first.kind, memattr) if isinstance(first, Device) else memattr)
    if isinstance(first, Device):
        return first
    return Normal(min(first.outer, memattr >> 2), min(first.inner, memattr & 3))
