"""Decode the system instructions: the words 0xD500_0000 to 0xD53F_FFFF (Arm ARM C5.1).

The 128-bit forms (MRRS, MSRR, SYSP) are not decoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

from emu.arch.a64.maintenance import AT, DC, IC
from emu.arch.a64.operations import SysEncoding
from emu.arch.a64.tlbi import TLBI
from emu.arch.a64.word import SystemWord
from emu.arch.fields import Encoding

__all__ = [
    "AT",
    "DC",
    "IC",
    "OPERATIONS",
    "PSTATE_FIELDS",
    "TLBI",
    "Operation",
    "SystemInstruction",
    "SystemKind",
    "decode_system",
    "is_system",
    "operation",
]

Operation = TLBI | AT | DC | IC

OPERATIONS: dict[SysEncoding, Operation] = {
    member.encoding: member for table in (TLBI, AT, DC, IC) for member in table
}
"""Every SYS operation known, by its encoding."""

CRN_TLBI, CRN_TLBI_NXS = 8, 9

PSTATE_FIELDS = {
    (0, 0): "CFINV",
    (0, 1): "XAFLAG",
    (0, 2): "AXFLAG",
    (0, 3): "UAO",
    (0, 4): "PAN",
    (0, 5): "SPSel",
    (1, 0): "ALLINT",
    (3, 1): "SSBS",
    (3, 2): "DIT",
    (3, 3): "SVCR",
    (3, 4): "TCO",
    (3, 6): "DAIFSet",
    (3, 7): "DAIFClr",
}
"""What MSR (immediate) and its neighbours change, by (op1, op2); the immediate is CRm."""

XZR = 31


class SystemKind(Enum):
    """The groups of system instructions."""

    MSR_IMMEDIATE = "MSR (immediate)"
    HINT = "HINT"
    BARRIER = "barrier"
    """CLREX, DSB, DMB, ISB, SB."""
    WAIT_TIMED = "WFET, WFIT"
    SYS = "SYS"
    SYSL = "SYSL"
    MSR = "MSR"
    MRS = "MRS"


@dataclass(frozen=True, slots=True)
class SystemInstruction:
    """One decoded system instruction."""

    kind: SystemKind
    encoding: Encoding
    """op0, op1, CRn, CRm, op2. For MSR and MRS, the register's address."""
    rt: int
    """The general register read or written; 31 is XZR."""
    is_read: bool = field(init=False)
    """Whether a general register is written: ISS.Direction of a trap (EC 0x18)."""
    operation: Operation | None = field(init=False)
    """The TLBI, AT, DC or IC operation of a SYS, or None."""

    def __post_init__(self) -> None:
        is_sys = self.kind is SystemKind.SYS
        known = operation(SysEncoding(*self.encoding[1:])) if is_sys else None
        object.__setattr__(self, "is_read", self.kind in (SystemKind.MRS, SystemKind.SYSL))
        object.__setattr__(self, "operation", known)


def operation(encoding: SysEncoding) -> Operation | None:
    """Return the operation at ``encoding``, or None if there is none.

    A TLBI with the nXS qualifier gives the operation without it.
    """
    if encoding.CRn == CRN_TLBI_NXS:
        encoding = encoding._replace(CRn=CRN_TLBI)
    return OPERATIONS.get(encoding)


def is_system(word: int) -> bool:
    """Whether ``word`` is in the system instruction space."""
    return word >> 22 == 0xD500_0000 >> 22


_KIND_BY_OP0_AND_L = {
    (1, 0): SystemKind.SYS,
    (1, 1): SystemKind.SYSL,
    (2, 0): SystemKind.MSR,
    (2, 1): SystemKind.MRS,
    (3, 0): SystemKind.MSR,
    (3, 1): SystemKind.MRS,
}


@lru_cache(maxsize=1 << 14)
def decode_system(word: int) -> SystemInstruction | None:
    """Decode a system instruction; None for other words and unallocated ones.

    An MSR or MRS of any encoding is decoded, whether or not such a register exists.
    """
    if not is_system(word):
        return None
    fields = SystemWord(word)
    op0 = fields.op0
    kind = _KIND_BY_OP0_AND_L.get((op0, fields.L)) if op0 else _op0_is_zero(fields)
    if kind is None:
        return None
    encoding = Encoding(op0, fields.op1, fields.CRn, fields.CRm, fields.op2)
    return SystemInstruction(kind, encoding, fields.Rt)


def _op0_is_zero(word: SystemWord) -> SystemKind | None:
    """Tell hints, barriers and writes of PSTATE apart by CRn and op1."""
    if word.L:
        return None
    if word.CRn == 4:
        known = (word.op1, word.op2) in PSTATE_FIELDS and word.Rt == XZR
        return SystemKind.MSR_IMMEDIATE if known else None
    if word.op1 != 3:
        return None
    if word.CRn == 1:
        return SystemKind.WAIT_TIMED if word.CRm == 0 and word.op2 < 2 else None
    if word.Rt != XZR:
        return None
    if word.CRn == 2:
        return SystemKind.HINT
    if word.CRn == 3 and (word.op2 in {2, 4, 5, 6, 7} or (word.op2 == 1 and word.CRm & 3 == 2)):
        return SystemKind.BARRIER
    return None
