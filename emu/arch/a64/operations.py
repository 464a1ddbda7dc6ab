"""What the operations of the SYS space have in common (Arm ARM C5.1.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, IntFlag
from typing import NamedTuple


class SysEncoding(NamedTuple):
    """An operation's address in SYS and SYSL, where op0 is always 1."""

    op1: int
    CRn: int
    CRm: int
    op2: int


class Stage(IntFlag):
    """The stages of translation an operation concerns."""

    S1 = 1
    S2 = 2
    S12 = 3


class TranslationRegime(IntEnum):
    """The translation regime an operation concerns, by the Exception level that controls it."""

    EL10 = 1
    """EL1&0: stage 1 and stage 2."""
    EL2 = 2
    """EL2, or EL2&0 when HCR_EL2.E2H is 1."""


class Shareability(Enum):
    """Which PEs an operation reaches."""

    NONE = ""
    """The PE that executes it, unless HCR_EL2.FB widens it."""
    INNER = "IS"
    OUTER = "OS"


@dataclass(frozen=True, eq=False)
class SysOperation:
    """The encoding that every operation has. Mixed into the enumerations of operations."""

    op1: int
    CRn: int
    CRm: int
    op2: int

    @property
    def encoding(self) -> SysEncoding:
        """Where the operation lies in the SYS space."""
        return SysEncoding(self.op1, self.CRn, self.CRm, self.op2)

    def word(self, rt: int = 31) -> int:
        """Return the instruction word, with ``rt`` as its argument register."""
        return (
            0xD508_0000 | self.op1 << 16 | self.CRn << 12 | self.CRm << 8 | self.op2 << 5 | rt & 31
        )
