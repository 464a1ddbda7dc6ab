"""Stage-2 descriptors as the Arm ARM describes them (D8.3), and walks through them.

Written down a second time, for the tests: nothing here is taken from ``emu``. The 4 KiB granule
with 48-bit addresses and little-endian tables, without FEAT_XNX, hardware access flag, dirty state.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    Read = Callable[[int], "int | None"]
    """Eight bytes of physical memory; None where there is none."""

VALID, TABLE_OR_PAGE = 1 << 0, 1 << 1
S2AP_R, S2AP_W = 1 << 6, 1 << 7
AF, XN = 1 << 10, 1 << 54
ADDRESS = ((1 << 48) - 1) & ~0xFFF
SHIFTS = (39, 30, 21, 12)
LAST = 3


class Effect(Enum):
    """What a bit of a descriptor decides."""

    TYPE = "whether it is valid, and whether it is a table"
    ADDRESS = "where it leads"
    ACCESS_FLAG = "whether it has been used"
    PERMISSION = "what is allowed"
    ATTRIBUTE = "cacheability and shareability"
    NOTHING = "nothing"


class Field(NamedTuple):
    """Bits of a descriptor."""

    high: int
    low: int
    name: str
    effect: Effect


TABLE = (
    Field(63, 51, "ignored", Effect.NOTHING),
    Field(50, 48, "RES0", Effect.NOTHING),
    Field(47, 12, "next-level table address", Effect.ADDRESS),
    Field(11, 2, "ignored", Effect.NOTHING),
    Field(1, 0, "type", Effect.TYPE),
)

_UPPER = (
    Field(63, 59, "ignored", Effect.NOTHING),
    Field(58, 55, "ignored: for software", Effect.NOTHING),
    Field(54, 54, "XN", Effect.PERMISSION),
    Field(53, 53, "RES0 without FEAT_XNX", Effect.NOTHING),
    Field(52, 52, "Contiguous: a hint", Effect.NOTHING),
    Field(51, 51, "DBM: ignored with VTCR_EL2.HD 0", Effect.NOTHING),
    Field(50, 48, "RES0", Effect.NOTHING),
)
_LOWER = (
    Field(10, 10, "AF", Effect.ACCESS_FLAG),
    Field(9, 8, "SH", Effect.ATTRIBUTE),
    Field(7, 6, "S2AP", Effect.PERMISSION),
    Field(5, 2, "MemAttr", Effect.ATTRIBUTE),
    Field(1, 0, "type", Effect.TYPE),
)
PAGE = (
    *_UPPER,
    Field(47, 12, "output address", Effect.ADDRESS),
    Field(11, 11, "RES0", Effect.NOTHING),
    *_LOWER,
)
BLOCK_2M = (
    *_UPPER,
    Field(47, 21, "output address", Effect.ADDRESS),
    Field(20, 17, "RES0", Effect.NOTHING),
    Field(16, 16, "RES0 without FEAT_BBM", Effect.NOTHING),
    Field(15, 11, "RES0", Effect.NOTHING),
    *_LOWER,
)


def field_of(word: int, level: int, bit: int) -> Field:
    """Return the field of a valid descriptor that a bit belongs to."""
    leaf = PAGE if level == LAST else BLOCK_2M
    layout = TABLE if is_table(word, level) else leaf
    return next(field for field in layout if field.low <= bit <= field.high)


def is_table(word: int, level: int) -> bool:
    return level < LAST and word & 3 == VALID | TABLE_OR_PAGE


class Refused(Enum):
    """Why a walk or an access goes no further."""

    TRANSLATION = "translation fault"
    ACCESS_FLAG = "access flag fault"
    PERMISSION = "permission fault"
    ADDRESS_SIZE = "address size fault"
    WALK_ABORT = "external abort on the walk"
    ABORT = "external abort"


class Controls(NamedTuple):
    """VTTBR_EL2 and VTCR_EL2."""

    base: int
    start_level: int
    input_bits: int
    output_bits: int

    @classmethod
    def of(cls, vttbr: int, vtcr: int) -> Controls:
        """Decode them (D24.2): T0SZ, SL0 of the 4 KiB granule, PS."""
        start_level = {0: 2, 1: 1, 2: 0}[vtcr >> 6 & 3]
        output_bits = (32, 36, 40, 42, 44, 48)[vtcr >> 16 & 7]
        base = vttbr & ((1 << 48) - 2)
        return cls(base, start_level, 64 - (vtcr & 0x3F), output_bits)

    def entry(self, table: int, level: int, ipa: int) -> int:
        """Return the PA of the descriptor for ``ipa`` in a table of some level.

        Tables of the first level may stand side by side: their index has more than 9 bits.
        """
        width = self.input_bits if level == self.start_level else SHIFTS[level] + 9
        return table + ((ipa & (1 << width) - 1) >> SHIFTS[level]) * 8


class Found(NamedTuple):
    """Where a walk ends."""

    at: int
    """PA of the last descriptor that it read."""
    level: int
    word: int
    refused: Refused | None = None

    def output(self, ipa: int) -> int:
        """Return where a leaf leads."""
        inside = (1 << SHIFTS[self.level]) - 1
        return self.word & ADDRESS & ~inside | ipa & inside

    def allows(self, access: str) -> bool:
        """Whether a leaf allows a "read", "write" or "fetch"."""
        return not self.word & XN if access == "fetch" else bool(self.word & _ALLOWS[access])


_ALLOWS = {"read": S2AP_R, "write": S2AP_W}


def walk(read: Read, controls: Controls, ipa: int, access: str) -> Found:
    """Walk to ``ipa`` for an access."""
    table, level = controls.base, controls.start_level
    while True:
        at = controls.entry(table, level, ipa)
        word = read(at)
        if word is None:
            return Found(at, level, 0, Refused.WALK_ABORT)
        entry = Found(at, level, word)
        goes_on = is_table(word, level)
        is_leaf = bool(word & TABLE_OR_PAGE) if level == LAST else not goes_on and level > 0
        if not word & VALID or not (goes_on or is_leaf):
            return entry._replace(refused=Refused.TRANSLATION)
        output = word & ADDRESS if goes_on else entry.output(0)
        if output >> controls.output_bits:
            return entry._replace(refused=Refused.ADDRESS_SIZE)
        if goes_on:
            table, level = output, level + 1
        elif not word & AF:
            return entry._replace(refused=Refused.ACCESS_FLAG)
        else:
            return entry if entry.allows(access) else entry._replace(refused=Refused.PERMISSION)


def descriptor_at(read: Read, controls: Controls, ipa: int, level: int) -> int:
    """Return the PA of the descriptor of a level on the way to ``ipa``."""
    table = controls.base
    for above in range(controls.start_level, level):
        table = (read(controls.entry(table, above, ipa)) or 0) & ADDRESS
    return controls.entry(table, level, ipa)


def live(read: Read, controls: Controls) -> list[Found]:
    """Return all valid descriptors that walks can reach, tables before what is in them."""
    found: list[Found] = []

    def look(table: int, level: int, entries: int) -> None:
        for at in range(table, table + 8 * entries, 8):
            word = read(at)
            if word is not None and word & VALID:
                found.append(Found(at, level, word))
                if is_table(word, level):
                    look(word & ADDRESS, level + 1, 512)

    first = controls.start_level
    look(controls.base, first, 1 << controls.input_bits - SHIFTS[first])
    return found
