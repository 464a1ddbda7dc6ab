"""Exclusive and ordered accesses, and the atomics of FEAT_LSE and FEAT_LS64 (Arm ARM C4.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.a64.access import AccessKind, MemoryAccess

if TYPE_CHECKING:
    from emu.arch.a64.word import LoadStoreWord

SIZE_SUFFIX = ("B", "H", "", "")
"""Mnemonic suffix by log2 of the size."""

MEMORY_OPERATIONS = {
    (0, 0): "LDADD",
    (0, 1): "LDCLR",
    (0, 2): "LDEOR",
    (0, 3): "LDSET",
    (0, 4): "LDSMAX",
    (0, 5): "LDSMIN",
    (0, 6): "LDUMAX",
    (0, 7): "LDUMIN",
    (1, 0): "SWP",
}
"""Atomic memory operations, by (o3, opc), for every size, A and R."""

SIXTY_FOUR_BYTES = {
    1: ("ST64B", AccessKind.STORE, 2),
    2: ("ST64BV0", AccessKind.STORE, 3),
    3: ("ST64BV", AccessKind.STORE, 1),
    5: ("LD64B", AccessKind.LOAD, 2),
}
"""(mnemonic, kind, LST) of the 64-byte accesses, by opc, where size = 3, o3 = 1 and A = R = 0."""

LDAPR_OPC = 4
"""LDAPR lies among the memory operations with o3 = 1, A = 1, R = 0."""


def _order_suffix(acquire: int, release: int) -> str:
    return ("", "L", "A", "AL")[acquire << 1 | release]


def exclusive_or_ordered(word: LoadStoreWord) -> MemoryAccess | None:
    """Tell the four groups apart by o2 and o1."""
    if word.o2:
        return _compare_and_swap(word) if word.o1 else _ordered(word)
    if not word.o1:
        return _exclusive(word)
    return _exclusive_pair(word) if word.size & 2 else _compare_and_swap_pair(word)


def _exclusive(word: LoadStoreWord) -> MemoryAccess:
    stem = ("STXR", "STLXR", "LDXR", "LDAXR")[word.L << 1 | word.o0]
    size = 1 << word.size
    return MemoryAccess(
        mnemonic=stem + SIZE_SUFFIX[word.size],
        kind=AccessKind.LOAD if word.L else AccessKind.STORE,
        size=size,
        unit=size,
        rt=word.Rt,
        base=word.Rn,
        sixty_four_bit=word.size == 3,
        acquire_release=bool(word.o0),
        exclusive=True,
    )


def _exclusive_pair(word: LoadStoreWord) -> MemoryAccess:
    size = 2 << word.size
    return MemoryAccess(
        mnemonic=("STXP", "STLXP", "LDXP", "LDAXP")[word.L << 1 | word.o0],
        kind=AccessKind.LOAD if word.L else AccessKind.STORE,
        size=size,
        unit=size,
        rt=word.Rt,
        rt2=word.Rt2,
        base=word.Rn,
        sixty_four_bit=word.size == 3,
        acquire_release=bool(word.o0),
        exclusive=True,
    )


def _ordered(word: LoadStoreWord) -> MemoryAccess:
    """LDAR, STLR; LDLAR, STLLR (FEAT_LOR).

    The limited-order forms report AR = 0: their semantics are not the acquire and release
    that ISS.AR names.
    """
    stem = ("STLLR", "STLR", "LDLAR", "LDAR")[word.L << 1 | word.o0]
    size = 1 << word.size
    return MemoryAccess(
        mnemonic=stem + SIZE_SUFFIX[word.size],
        kind=AccessKind.LOAD if word.L else AccessKind.STORE,
        size=size,
        unit=size,
        rt=word.Rt,
        base=word.Rn,
        sixty_four_bit=word.size == 3,
        acquire_release=bool(word.o0),
        limited_order=not word.o0,
    )


def _compare_and_swap(word: LoadStoreWord) -> MemoryAccess | None:
    if word.Rt2 != 31:
        return None
    size = 1 << word.size
    return MemoryAccess(
        mnemonic="CAS" + _order_suffix(word.L, word.o0) + SIZE_SUFFIX[word.size],
        kind=AccessKind.ATOMIC,
        size=size,
        unit=size,
        rt=word.Rt,
        base=word.Rn,
        sixty_four_bit=word.size == 3,
        acquire_release=bool(word.L or word.o0),
    )


def _compare_and_swap_pair(word: LoadStoreWord) -> MemoryAccess | None:
    """CASP: both register pairs start at an even register."""
    if word.Rt2 != 31 or word.Rs & 1 or word.Rt & 1:
        return None
    size = 8 << word.size
    return MemoryAccess(
        mnemonic="CASP" + _order_suffix(word.L, word.o0),
        kind=AccessKind.ATOMIC,
        size=size,
        unit=size,
        rt=word.Rt,
        rt2=word.Rt + 1,
        base=word.Rn,
        sixty_four_bit=word.size == 1,
        acquire_release=bool(word.L or word.o0),
    )


def memory_operation(word: LoadStoreWord) -> MemoryAccess | None:
    """LD<op>, SWP, LDAPR and the 64-byte accesses."""
    name = MEMORY_OPERATIONS.get((word.o3, word.opc_atomic))
    if name is None:
        return _load_acquire_rcpc(word) if word.A else _sixty_four_bytes(word)
    size = 1 << word.size
    return MemoryAccess(
        mnemonic=name + _order_suffix(word.A, word.R_atomic) + SIZE_SUFFIX[word.size],
        kind=AccessKind.ATOMIC,
        size=size,
        unit=size,
        rt=word.Rt,
        base=word.Rn,
        sixty_four_bit=word.size == 3,
        acquire_release=bool(word.A or word.R_atomic),
    )


def _load_acquire_rcpc(word: LoadStoreWord) -> MemoryAccess | None:
    """LDAPR (FEAT_LRCPC): an ordinary load in the space of the atomics."""
    if word.opc_atomic != LDAPR_OPC or word.R_atomic:
        return None
    size = 1 << word.size
    return MemoryAccess(
        mnemonic="LDAPR" + SIZE_SUFFIX[word.size],
        kind=AccessKind.LOAD,
        size=size,
        unit=size,
        rt=word.Rt,
        base=word.Rn,
        sixty_four_bit=word.size == 3,
        acquire_release=True,
    )


def _sixty_four_bytes(word: LoadStoreWord) -> MemoryAccess | None:
    """Eight registers from an even Rt up to X22 (FEAT_LS64)."""
    row = SIXTY_FOUR_BYTES.get(word.opc_atomic)
    if row is None or word.size != 3 or word.R_atomic or word.Rt & 1 or word.Rt > 22:
        return None
    mnemonic, kind, lst = row
    return MemoryAccess(
        mnemonic=mnemonic,
        kind=kind,
        size=64,
        unit=64,
        rt=word.Rt,
        base=word.Rn,
        sixty_four_bit=True,
        lst=lst,
    )
