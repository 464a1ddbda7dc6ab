"""Stage-1 tables for the guests: four levels of 4 KiB, VA = IPA."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA, PAGE_SIZE
from emu.arch.descriptors import Stage1Leaf
from emu.arch.registers.translation import (
    MAIR_EL1,
    SCTLR_EL1,
    TCR_EL1,
    TG0,
    TTBR0_EL1,
    PhysicalAddressSize,
    Shareability,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

ENTRIES: Final = 512
TABLE: Final = 0b11
_NORMAL, _DEVICE = 0, 1

MAIR: Final = MAIR_EL1.build(Attr0=0xFF, Attr1=0x00)
TCR: Final = TCR_EL1.build(
    T0SZ=16,
    EPD1=1,
    TG0=TG0.KB4,
    SH0=Shareability.INNER_SHAREABLE,
    IRGN0=1,
    ORGN0=1,
    IPS=PhysicalAddressSize.BITS_44,
)
SCTLR: Final = SCTLR_EL1(0x00C5_0078).replace(M=1, C=1, I=1)

_MEMORY: Final = Stage1Leaf.build(
    TYPE=1, VALID=1, AF=1, SH=Shareability.INNER_SHAREABLE, AttrIndx=_NORMAL, UXN=1
)
_IO: Final = Stage1Leaf.build(TYPE=1, VALID=1, AF=1, AttrIndx=_DEVICE, UXN=1, PXN=1)


def ttbr(base: IPA) -> TTBR0_EL1:
    """Return TTBR0_EL1 for tables at ``base``."""
    return TTBR0_EL1(base)


def identity_map(
    base: IPA, memory: Iterable[int], devices: Iterable[int] = (), blocks: Iterable[int] = ()
) -> bytes:
    """Return tables, to be placed at ``base``.

    Parameters
    ----------
    base
        Where they will lie; the first is of level 0.
    memory, devices
        The pages to map, by address, as normal and as Device memory.
    blocks
        The 2 MiB to map by one entry each, as normal memory.
    """
    tables = [[0] * ENTRIES]
    leaves = [(page, _MEMORY, 12) for page in memory] + [(page, _IO, 12) for page in devices]
    leaves += [(block, _MEMORY.replace(TYPE=0), 21) for block in blocks]
    for page, attributes, leaf_shift in leaves:
        table = tables[0]
        for shift in range(39, leaf_shift, -9):
            index = page >> shift & (ENTRIES - 1)
            if not table[index]:
                table[index] = base + len(tables) * PAGE_SIZE | TABLE
                tables.append([0] * ENTRIES)
            table = tables[((table[index] & -PAGE_SIZE) - base) // PAGE_SIZE]
        table[page >> leaf_shift & (ENTRIES - 1)] = page | attributes
    return b"".join(struct.pack(f"<{ENTRIES}Q", *table) for table in tables)
