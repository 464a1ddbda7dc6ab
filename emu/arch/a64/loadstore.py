"""Decode the A64 loads and stores.

:func:`decode` takes an instruction word and returns the :class:`MemoryAccess` it makes,
or None when the word is not a load or store, or is one that is UNDEFINED. The encoding
classes are the rows of Arm ARM C4.1 "Loads and Stores"; each row names the function that
reads the remaining fields.

Not decoded: SVE and SME, memory copy and set (FEAT_MOPS), guarded control stacks
(FEAT_GCS), read-check-write (FEAT_THE), the 128-bit atomics (FEAT_LSE128), floating-point
atomics (FEAT_LSFE), the unprivileged atomics and pairs (FEAT_LSUI) and the third RCpc
extension (FEAT_LRCPC3). Their words give None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from emu.arch.a64 import loadstore_atomics as atomics
from emu.arch.a64 import loadstore_registers as registers
from emu.arch.a64 import loadstore_structures as structures
from emu.arch.a64 import loadstore_tags as tags
from emu.arch.a64.access import (
    PROGRAM_COUNTER,
    STACK_POINTER,
    AccessKind,
    Index,
    MemoryAccess,
    effective_address,
    syndrome,
)
from emu.arch.a64.word import LoadStoreWord

__all__ = [
    "PROGRAM_COUNTER",
    "STACK_POINTER",
    "AccessKind",
    "Index",
    "MemoryAccess",
    "decode",
    "effective_address",
    "syndrome",
]

Decoder = Callable[[LoadStoreWord], MemoryAccess | None]


class EncodingClass(NamedTuple):
    """The words with ``word & mask == value``, and how to read them."""

    mask: int
    value: int
    decoder: Decoder


ENCODING_CLASSES = (
    # Advanced SIMD structures
    EncodingClass(0xBFBF_0000, 0x0C00_0000, structures.multiple),
    EncodingClass(0xBFA0_0000, 0x0C80_0000, structures.multiple_post_index),
    EncodingClass(0xBF9F_0000, 0x0D00_0000, structures.single),
    EncodingClass(0xBF80_0000, 0x0D80_0000, structures.single_post_index),
    # exclusive, ordered, compare and swap
    EncodingClass(0x3F00_0000, 0x0800_0000, atomics.exclusive_or_ordered),
    # memory tags; LDAPUR and STLUR
    EncodingClass(0xFF20_0000, 0xD920_0000, tags.memory_tags),
    EncodingClass(0x3F20_0C00, 0x1900_0000, registers.ordered_unscaled),
    # literal
    EncodingClass(0x3B00_0000, 0x1800_0000, registers.literal),
    # pairs
    EncodingClass(0x3B80_0000, 0x2800_0000, registers.pair_no_allocate),
    EncodingClass(0x3B80_0000, 0x2880_0000, registers.pair_post_index),
    EncodingClass(0x3B80_0000, 0x2900_0000, registers.pair_offset),
    EncodingClass(0x3B80_0000, 0x2980_0000, registers.pair_pre_index),
    # one register
    EncodingClass(0x3B20_0C00, 0x3800_0000, registers.unscaled),
    EncodingClass(0x3B20_0C00, 0x3800_0400, registers.post_index),
    EncodingClass(0x3B20_0C00, 0x3800_0800, registers.unprivileged),
    EncodingClass(0x3B20_0C00, 0x3800_0C00, registers.pre_index),
    EncodingClass(0x3F20_0C00, 0x3820_0000, atomics.memory_operation),
    EncodingClass(0x3B20_0C00, 0x3820_0800, registers.register_offset),
    EncodingClass(0xFF20_0400, 0xF820_0400, registers.authenticated),
    EncodingClass(0x3B00_0000, 0x3900_0000, registers.unsigned_immediate),
)
"""Arm ARM C4.1 "Loads and Stores". No word belongs to two rows."""

_TOP_SHIFT = 24
_TOP_BITS = 0x3F
_BY_TOP = tuple(
    tuple(
        row
        for row in ENCODING_CLASSES
        if not (top << _TOP_SHIFT ^ row.value) & row.mask & _TOP_BITS << _TOP_SHIFT
    )
    for top in range(_TOP_BITS + 1)
)
"""The rows that a word with bits [29:24] = index can belong to."""


@lru_cache(maxsize=1 << 16)
def decode(word: int) -> MemoryAccess | None:
    """Return the data memory access of the instruction ``word``.

    None when it makes none that is decoded here; see the module for what is left out.
    Answers are remembered, so that asking again for the same word costs a lookup.
    """
    for row in _BY_TOP[word >> _TOP_SHIFT & _TOP_BITS]:
        if word & row.mask == row.value:
            return row.decoder(LoadStoreWord(word))
    return None
