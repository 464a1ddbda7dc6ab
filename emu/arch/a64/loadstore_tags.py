"""Loads and stores of allocation tags (FEAT_MTE2; Arm ARM C4.1, Load/store memory tags)."""

from __future__ import annotations

from emu.arch.a64.access import AccessKind, MemoryAccess
from emu.arch.a64.word import LoadStoreWord, sign_extend

GRANULE = 16
"""Bytes that share one tag."""

STORES = (("STG", 1), ("STZG", 1), ("ST2G", 2), ("STZ2G", 2))
"""Mnemonic and number of granules, by opc, where op2 is not 0."""

BLOCKS = {
    0: ("STZGM", AccessKind.STORE),
    2: ("STGM", AccessKind.STORE),
    3: ("LDGM", AccessKind.LOAD),
}
"""Block forms, by opc, where op2 and imm9 are 0."""

LDG_OPC = 1

POST_INDEX, OFFSET, PRE_INDEX = 1, 2, 3
"""The addressing forms in op2."""


def memory_tags(word: LoadStoreWord) -> MemoryAccess | None:
    """LDG, STG, STZG, ST2G, STZ2G and the block forms.

    A block form is given as its first granule: how far it reaches is GMID_EL1.BS or
    DCZID_EL0.BS, and it never leaves the block that holds the address.
    """
    offset = sign_extend(word.imm9, 9) * GRANULE
    if word.op2:
        mnemonic, granules = STORES[word.opc]
        return MemoryAccess(
            mnemonic=mnemonic,
            kind=AccessKind.STORE,
            size=granules * GRANULE,
            unit=GRANULE,
            rt=word.Rt,
            base=word.Rn,
            offset=0 if word.op2 == POST_INDEX else offset,
            writeback=word.op2 != OFFSET,
            tags=True,
        )
    if word.opc == LDG_OPC:
        return _rounded(word, "LDG", AccessKind.LOAD, offset)
    row = BLOCKS.get(word.opc)
    return _rounded(word, *row, 0) if row and not word.imm9 else None


def _rounded(word: LoadStoreWord, mnemonic: str, kind: AccessKind, offset: int) -> MemoryAccess:
    return MemoryAccess(
        mnemonic=mnemonic,
        kind=kind,
        size=GRANULE,
        unit=GRANULE,
        rt=word.Rt,
        base=word.Rn,
        offset=offset,
        round_to=GRANULE,
        tags=True,
    )
