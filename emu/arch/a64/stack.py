"""Instructions that may leave SP misaligned: not a multiple of 16 (Arm ARM D1.8.2).

Code that keeps to the procedure call standard has few of them: ``MOV SP, Xn``, and what
computes a stack pointer by AND. ADD and SUB of a general register to SP are not looked for,
because exception vectors use them to test SP, nor is MSR SP_EL0, which switches tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SP_ALIGNMENT: Final = 16
_SP: Final = 31


def _base(word: int) -> int:
    return word >> 5 & 0x1F


def _add_immediate(word: int) -> bool:
    shifted = word >> 22 & 1
    return _base(word) != _SP or bool(not shifted and word >> 10 & SP_ALIGNMENT - 1)


def _logical_immediate(word: int) -> bool:
    return word >> 29 & 3 != 3  # ANDS writes XZR


def _single(word: int) -> bool:
    return bool(word >> 12 & SP_ALIGNMENT - 1)


def _pair(word: int) -> bool:
    opc, simd, load = word >> 30, word >> 26 & 1, word >> 22 & 1
    tags = opc == 1 and not (simd or load)  # STGP
    scale = 4 << opc if simd else 16 if tags else 4 << (opc >> 1)
    return bool((word >> 15 & 0x7F) * scale % SP_ALIGNMENT)


def _authenticated(word: int) -> bool:
    return word >> 10 & 3 == 3  # pre-index


def _always(_word: int) -> bool:
    return True


_KINDS: Final[tuple[tuple[int, int, Callable[[int], bool]], ...]] = (
    (0x3F80_001F, 0x1100_001F, _add_immediate),
    (0x1F80_001F, 0x1200_001F, _logical_immediate),
    (0x3B20_07E0, 0x3800_07E0, _single),  # pre- and post-index
    (0x3A80_03E0, 0x2880_03E0, _pair),  # pre- and post-index
    (0xFF20_03E0, 0xF820_03E0, _authenticated),  # LDRAA, LDRAB
    (0xBE80_03E0, 0x0C80_03E0, _always),  # structures, post-index
)
"""(mask, value) of the instructions that write SP, and which of them may misalign it."""

WRITES_SP: Final = tuple((mask, value) for mask, value, _ in _KINDS)
"""(mask, value) of those instructions."""


def may_misalign(word: int) -> bool:
    """Whether SP may be misaligned after ``word`` though it was aligned before."""
    return any(word & mask == value and matters(word) for mask, value, matters in _KINDS)
