"""Advanced SIMD structures: LD1 to LD4, ST1 to ST4, LD1R to LD4R (Arm ARM C4.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from emu.arch.a64.access import AccessKind, MemoryAccess

if TYPE_CHECKING:
    from emu.arch.a64.word import LoadStoreWord

MULTIPLE = {
    # opcode: (structure elements, registers)
    0b0000: (4, 4),
    0b0010: (1, 4),
    0b0100: (3, 3),
    0b0110: (1, 3),
    0b0111: (1, 1),
    0b1000: (2, 2),
    0b1010: (1, 2),
}
"""(elements of a structure, registers) of multiple structures, by opcode."""

REPLICATE = 3
"""The scale field of LD1R to LD4R."""


def _access(word: LoadStoreWord, name: str, size: int, unit: int) -> MemoryAccess:
    return MemoryAccess(
        mnemonic=("LD" if word.L else "ST") + name,
        kind=AccessKind.LOAD if word.L else AccessKind.STORE,
        size=size,
        unit=unit,
        rt=word.Rt,
        base=word.Rn,
        simd=True,
    )


def multiple(word: LoadStoreWord) -> MemoryAccess | None:
    """Whole registers. De-interleaving needs more than one lane: no LD2 {V.1D}."""
    row = MULTIPLE.get(word.opcode)
    if row is None:
        return None
    selem, registers = row
    if word.size_structure == 3 and not word.Q and selem > 1:
        return None
    return _access(word, str(selem), registers * (8 << word.Q), 1 << word.size_structure)


def multiple_post_index(word: LoadStoreWord) -> MemoryAccess | None:
    """As :func:`multiple`, with the base updated."""
    access = multiple(word)
    return access and replace(access, writeback=True)


def single(word: LoadStoreWord) -> MemoryAccess | None:
    """One lane of one to four registers, or one element replicated to every lane."""
    scale = word.opcode_single >> 1
    selem = ((word.opcode_single & 1) << 1 | word.R_structure) + 1
    if scale == REPLICATE:
        if not word.L or word.S:
            return None
        unit = 1 << word.size_structure
        return _access(word, f"{selem}R", unit * selem, unit)
    log2_unit = _lane_scale(word, scale)
    if log2_unit is None:
        return None
    unit = 1 << log2_unit
    return _access(word, str(selem), unit * selem, unit)


def _lane_scale(word: LoadStoreWord, scale: int) -> int | None:
    """Return log2 of the lane size; the index bits left over must be zero."""
    size = word.size_structure
    if scale == 1 and size & 1:
        return None
    if scale == 2:
        if size & 2 or (size & 1 and word.S):
            return None
        return 3 if size & 1 else 2
    return scale


def single_post_index(word: LoadStoreWord) -> MemoryAccess | None:
    """As :func:`single`, with the base updated."""
    access = single(word)
    return access and replace(access, writeback=True)
