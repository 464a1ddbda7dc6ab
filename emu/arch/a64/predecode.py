"""Find the few words of a code page that a processor must know of before it runs them.

An execution engine that runs guest code at full speed cannot look at every instruction.
It looks at each page once, when the page first becomes executable.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from emu.arch.a64.exceptions import WAITS, wait
from emu.arch.a64.search import searcher
from emu.arch.a64.stack import WRITES_SP, may_misalign
from emu.arch.a64.system import is_system

if TYPE_CHECKING:
    from collections.abc import Callable

_WORD = 4

ORDERED = (0x3FA0_0000, 0x0880_0000)
"""(mask, value) of LDAR, STLR, LDLAR and STLLR."""

WATCHED = (
    ORDERED,
    (0x3FE0_FC00, 0x38A0_C000),  # LDAPR
    (0x3F20_0C00, 0x1900_0000),  # LDAPUR, STLUR
    (0xFF20_0400, 0xF820_0400),  # LDRAA, LDRAB
)
"""(mask, value) of the loads and stores that need a look before they execute: those that are
ordered and not exclusive, for their alignment, and those that many CPUs lack."""

UNPRIVILEGED_MASK, UNPRIVILEGED_VALUE = 0x3F20_0C00, 0x3800_0800
"""LDTR and STTR of every size (Arm ARM C4.1, Load/store register (unprivileged))."""

_REGISTER_MASK = 0xFFDF_FFE0
"""An MSR or MRS without its direction and its general register."""

FREE_REGISTERS = frozenset(
    {
        0xD518_4100,  # SP_EL0
        0xD51B_4200,  # NZCV
        0xD51B_4400,  # FPCR
        0xD51B_4420,  # FPSR
        0xD51B_D040,  # TPIDR_EL0
        0xD51B_D060,  # TPIDRRO_EL0
        0xD518_D080,  # TPIDR_EL1
    }
)
"""Registers whose reads and writes concern nobody but the program, as MSR words with Rt = 0."""

_OP0_MASK = 0x0018_0000


class Site(NamedTuple):
    """One word of interest."""

    offset: int
    """Bytes from the start of the page."""
    word: int


class Sites(NamedTuple):
    """What a page holds."""

    system: tuple[Site, ...]
    """System instructions that the predicate chose."""
    unprivileged: tuple[Site, ...]
    """LDTR and STTR."""
    watched: tuple[Site, ...] = ()
    """Those of :data:`WATCHED`."""
    stack: tuple[Site, ...] = ()
    """Those that may leave SP misaligned (:mod:`emu.arch.a64.stack`)."""


def is_free(word: int) -> bool:
    """Whether the system instruction ``word`` never needs interception.

    True for hints and barriers (except WFI, WFE and their timed forms), MSR (immediate),
    and accesses to :data:`FREE_REGISTERS`.
    """
    if not word & _OP0_MASK:
        return wait(word) is None
    return word & _REGISTER_MASK in FREE_REGISTERS


def is_ordered(word: int) -> bool:
    """Whether ``word`` is one of :data:`ORDERED`."""
    mask, value = ORDERED
    return word & mask == value


class _Kind(Enum):
    """What a word is to a scan."""

    SYSTEM = "a system instruction that is not free"
    UNPRIVILEGED = "LDTR or STTR"
    WATCHED = "one of WATCHED"
    STACK = "may leave SP misaligned"


_SYSTEM = (
    (0xFFD0_0000, 0xD510_0000),  # MRS, MSR (register)
    (0xFFC8_0000, 0xD508_0000),  # SYS, SYSL, and half of those again
    *WAITS,
)
"""(mask, value) of system instructions. Of those with op0 = 0 just the ones that are not free:
hints and barriers are many."""
_UNPRIVILEGED = (UNPRIVILEGED_MASK, UNPRIVILEGED_VALUE)
_find = searcher((*_SYSTEM, _UNPRIVILEGED, *WATCHED, *WRITES_SP))


@lru_cache(maxsize=1 << 16)
def _kinds(word: int) -> tuple[_Kind, ...]:
    kinds = []
    if word & UNPRIVILEGED_MASK == UNPRIVILEGED_VALUE:
        kinds.append(_Kind.UNPRIVILEGED)
    elif any(word & mask == value for mask, value in WATCHED):
        kinds.append(_Kind.WATCHED)
    elif is_system(word) and not is_free(word):
        kinds.append(_Kind.SYSTEM)
    if may_misalign(word):
        kinds.append(_Kind.STACK)
    return tuple(kinds)


def scan(page: bytes | memoryview, intercept: Callable[[int], bool]) -> Sites:
    """Return the words of ``page`` that need attention, in address order.

    Parameters
    ----------
    page
        Code, little-endian; any multiple of four bytes, usually 4096.
    intercept
        Says of a system instruction that is not free (:func:`is_free`) whether it matters.

    Raises
    ------
    ValueError
        If ``page`` does not consist of whole words.
    """
    code = bytes(page)
    if len(code) % _WORD:
        raise ValueError(f"code consists of 4-byte words; {len(code)} bytes were given")
    sites: dict[_Kind, list[Site]] = {kind: [] for kind in _Kind}
    for offset, word in _find(code):
        for kind in _kinds(word):
            if kind is not _Kind.SYSTEM or intercept(word):
                sites[kind].append(Site(offset, word))
    return Sites(*(tuple(found) for found in sites.values()))
