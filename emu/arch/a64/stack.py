"""Instructions that may leave SP misaligned: not a multiple of 16 (Arm ARM D1.8.2).

Code that keeps to the procedure call standard has few of them: ``MOV SP, Xn``, and what
computes a stack pointer by AND. ADD and SUB of a general register to SP are not looked for,
because exception vectors use them to test SP, nor is MSR SP_EL0, which switches tasks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SP_ALIGNMENT: Final = 16
_SP: Final = 31
_WORD: Final = 4

POSSIBLE: Final = re.compile(
    rb"(?s)(?=[\x1f\x3f\x5f\x7f\x9f\xbf\xdf\xff]..[\x11\x51\x91\xd1\x12\x32\x52\x92\xb2\xd2]"
    rb"|[\xe0-\xff][\x03-\xff].[\x0c\x0d\x28\x29\x2c\x2d\x38\x3c\x4c\x4d\x68\x69\x6c\x6d\x78"
    rb"\x7c\xa8\xa9\xac\xad\xb8\xbc\xf8\xfc])"
)
"""Wherever such a word may stand: by Rd or Rn, and by its top byte."""


def _base(word: int) -> int:
    return word >> 5 & 0x1F


def _add_immediate(word: int) -> bool:
    shifted = word >> 22 & 1
    return _base(word) != _SP or bool(not shifted and word >> 10 & SP_ALIGNMENT - 1)


def _logical_immediate(word: int) -> bool:
    return word >> 29 & 3 != 3  # ANDS writes XZR


def _single(word: int) -> bool:
    return _base(word) == _SP and bool(word >> 12 & SP_ALIGNMENT - 1)


def _pair(word: int) -> bool:
    opc, simd, load = word >> 30, word >> 26 & 1, word >> 22 & 1
    tags = opc == 1 and not (simd or load)  # STGP
    scale = 4 << opc if simd else 16 if tags else 4 << (opc >> 1)
    return _base(word) == _SP and bool((word >> 15 & 0x7F) * scale % SP_ALIGNMENT)


def _with_base_sp(word: int) -> bool:
    return _base(word) == _SP


_KINDS: Final[tuple[tuple[int, int, Callable[[int], bool]], ...]] = (
    (0x3F80_001F, 0x1100_001F, _add_immediate),
    (0x1F80_001F, 0x1200_001F, _logical_immediate),
    (0x3B20_0400, 0x3800_0400, _single),  # pre- and post-index
    (0x3A80_0000, 0x2880_0000, _pair),  # pre- and post-index
    (0xFF20_0C00, 0xF820_0C00, _with_base_sp),  # LDRAA, LDRAB, pre-index
    (0xBE80_0000, 0x0C80_0000, _with_base_sp),  # structures, post-index
)
"""(mask, value) of the instructions that write SP, and which of them may misalign it."""


def may_misalign(word: int) -> bool:
    """Whether SP may be misaligned after ``word`` though it was aligned before."""
    return any(word & mask == value and matters(word) for mask, value, matters in _KINDS)


def misaligning(code: bytes) -> Iterator[tuple[int, int]]:
    """Yield offset and word of every instruction in ``code`` that may misalign SP."""
    for match in POSSIBLE.finditer(code):
        offset = match.start()
        if offset % _WORD == 0:
            word = int.from_bytes(code[offset : offset + _WORD], "little")
            if may_misalign(word):
                yield offset, word
