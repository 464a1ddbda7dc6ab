"""Which of X0 to X30 an instruction reads, and which it overwrites without reading them.

The rows are those of Arm ARM C4.1, with the places of their register fields. Where a row stands
for several instructions, it says that a register is read if any of them may: who asks wants to
know what a changed register can be seen by. What is in no row may read all of them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from emu.arch.a64.access import AccessKind, MemoryAccess
from emu.arch.a64.loadstore import decode

ALL: Final = frozenset(range(31))
"""X0 to X30. Number 31 is XZR or SP, and not looked at."""

D, N, A, M = 0, 5, 10, 16
"""Where the fields Rd (or Rt), Rn, Ra (or Rt2) and Rm (or Rs) begin. All have five bits."""
LR: Final = 30
_POINTER_AUTHENTICATION: Final = (16, 17, LR)
"""What hints that sign or check pointers use."""


class RegisterUse(NamedTuple):
    """The general registers of one instruction."""

    reads: frozenset[int]
    overwrites: frozenset[int]
    """Those that are written as a whole. None of them is read if it is not in ``reads``."""


EVERYTHING: Final = RegisterUse(ALL, frozenset())


class _Row(NamedTuple):
    """The words with ``word & mask == value``."""

    mask: int
    value: int
    reads: tuple[int, ...] = ()
    """Places of fields."""
    writes: tuple[int, ...] = ()
    fixed: tuple[int, ...] = ()
    """Registers that are read without a field."""
    links: bool = False
    """Whether it writes the link register."""


_ROWS: Final = (
    # data processing, immediate
    _Row(0x1F00_0000, 0x1000_0000, (), (D,)),  # ADR, ADRP
    _Row(0x1F80_0000, 0x1100_0000, (N,), (D,)),  # ADD, SUB
    _Row(0x1F80_0000, 0x1180_0000, (N,), (D,)),  # with tags
    _Row(0x1F80_0000, 0x1200_0000, (N,), (D,)),  # AND, ORR, EOR
    _Row(0x7F80_0000, 0x7280_0000, (D,)),  # MOVK
    _Row(0x1F80_0000, 0x1280_0000, (), (D,)),  # MOVN, MOVZ
    _Row(0x7F80_0000, 0x3300_0000, (N, D)),  # BFM
    _Row(0x1F80_0000, 0x1300_0000, (N,), (D,)),  # SBFM, UBFM
    _Row(0x1F80_0000, 0x1380_0000, (N, M), (D,)),  # EXTR
    # branches
    _Row(0xFE00_0000, 0x5400_0000),  # B.cond
    _Row(0xFC00_0000, 0x1400_0000),  # B
    _Row(0xFC00_0000, 0x9400_0000, links=True),  # BL
    _Row(0x7C00_0000, 0x3400_0000, (D,)),  # CBZ, CBNZ, TBZ, TBNZ
    _Row(0xFFFF_FC1F, 0xD63F_0000, (N,), links=True),  # BLR
    _Row(0xFF9F_FC1F, 0xD61F_0000, (N,)),  # BR, RET
    _Row(0xFFFF_FFFF, 0xD69F_03E0),  # ERET
    _Row(0xFE00_0000, 0xD600_0000, (N, D), fixed=(LR,)),  # with pointer authentication
    # exceptions and system
    _Row(0xFFE0_001F, 0xD400_0001),  # SVC
    _Row(0xFFE0_001F, 0xD420_0000),  # BRK
    _Row(0xFFFF_FF1F, 0xD503_201F),  # NOP, YIELD, WFE, WFI, SEV, SEVL
    _Row(0xFFFF_F01F, 0xD503_201F, fixed=_POINTER_AUTHENTICATION),  # other hints
    _Row(0xFFE0_0000, 0xD520_0000, (), (D,)),  # MRS, SYSL
    _Row(0xFFE0_0000, 0xD500_0000, (D,)),  # MSR, SYS, barriers
    # data processing, register
    _Row(0x1F00_0000, 0x0A00_0000, (N, M), (D,)),  # AND, ORR, EOR, BIC
    _Row(0x1F00_0000, 0x0B00_0000, (N, M), (D,)),  # ADD, SUB, shifted and extended
    _Row(0x1FE0_FC00, 0x1A00_0000, (N, M), (D,)),  # ADC, SBC
    _Row(0x1FE0_0000, 0x1A00_0000, (N,)),  # RMIF, SETF
    _Row(0x1FE0_0000, 0x1A40_0000, (N, M)),  # CCMP, CCMN
    _Row(0x1FE0_0000, 0x1A80_0000, (N, M), (D,)),  # CSEL
    _Row(0x5FE0_0000, 0x1AC0_0000, (N, M), (D,)),  # UDIV, LSLV, CRC32
    _Row(0x5FFF_0000, 0x5AC0_0000, (N,), (D,)),  # RBIT, REV, CLZ
    _Row(0x5FE0_0000, 0x5AC0_0000, (N, D)),  # PACIA
    _Row(0x1F00_0000, 0x1B00_0000, (N, M, A), (D,)),  # MADD, SMULH
    # SIMD and floating point: some have a general register in one of these fields
    _Row(0x0E00_0000, 0x0E00_0000, (N, D)),
)
_LOADS_AND_STORES: Final = 0x0A00_0000, 0x0800_0000


def _field(word: int, place: int) -> int:
    return word >> place & 31


@lru_cache(maxsize=1 << 14)
def register_use(word: int) -> RegisterUse:
    """Return which general registers the instruction ``word`` reads and overwrites.

    An instruction that raises an exception instead has read some of them and written none.
    """
    mask, value = _LOADS_AND_STORES
    if word & mask == value:
        access = decode(word)
        # 64-byte accesses have eight registers.
        return EVERYTHING if access is None or access.lst else _of_access(word, access)
    for row in _ROWS:
        if word & row.mask == row.value:
            reads = {_field(word, place) for place in row.reads} | set(row.fixed)
            writes = {_field(word, place) for place in row.writes} | ({LR} if row.links else set())
            return RegisterUse(ALL & reads, ALL & writes)
    return EVERYTHING


def _of_access(word: int, access: MemoryAccess) -> RegisterUse:
    reads = {access.base}
    if access.index is not None:
        reads.add(access.index.register)
    pair = {access.rt} if access.rt2 is None else {access.rt, access.rt2}
    if access.kind is AccessKind.ATOMIC or access.exclusive or access.simd:
        # Rs, the status, or the offset of a post-index. CASP has pairs: Rs and Rt are even.
        reads |= {_field(word, M), _field(word, M) | 1}
    if access.kind is AccessKind.ATOMIC:
        reads |= {access.rt, access.rt | 1}
    if access.simd or access.kind is AccessKind.PREFETCH:
        return RegisterUse(ALL & reads, frozenset())
    if access.kind is AccessKind.LOAD and not access.tags:
        return RegisterUse(ALL & reads, ALL & pair)
    return RegisterUse(ALL & (reads | pair), frozenset())
