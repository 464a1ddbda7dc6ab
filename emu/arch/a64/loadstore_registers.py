"""Loads and stores of one register or a pair, by addressing form (Arm ARM C4.1).

What is transferred stands in tables of incomplete :class:`MemoryAccess` values; how the
memory is addressed is one function an encoding class, which completes a copy.
"""

from __future__ import annotations

from dataclasses import replace

from emu.arch.a64.access import PROGRAM_COUNTER, AccessKind, Index, MemoryAccess
from emu.arch.a64.word import LoadStoreWord, sign_extend

LOAD, STORE, PREFETCH = AccessKind.LOAD, AccessKind.STORE, AccessKind.PREFETCH


def _general(
    mnemonic: str, kind: AccessKind, size: int, *, signed: bool = False, x: bool = False
) -> MemoryAccess:
    return MemoryAccess(
        mnemonic=mnemonic, kind=kind, size=size, unit=size, sign_extend=signed, sixty_four_bit=x
    )


def _vector(mnemonic: str, kind: AccessKind, size: int) -> MemoryAccess:
    return MemoryAccess(mnemonic=mnemonic, kind=kind, size=size, unit=size, simd=True)


SINGLE = {
    (0, 0, 0): _general("STRB", STORE, 1),
    (0, 0, 1): _general("LDRB", LOAD, 1),
    (0, 0, 2): _general("LDRSB", LOAD, 1, signed=True, x=True),
    (0, 0, 3): _general("LDRSB", LOAD, 1, signed=True),
    (1, 0, 0): _general("STRH", STORE, 2),
    (1, 0, 1): _general("LDRH", LOAD, 2),
    (1, 0, 2): _general("LDRSH", LOAD, 2, signed=True, x=True),
    (1, 0, 3): _general("LDRSH", LOAD, 2, signed=True),
    (2, 0, 0): _general("STR", STORE, 4),
    (2, 0, 1): _general("LDR", LOAD, 4),
    (2, 0, 2): _general("LDRSW", LOAD, 4, signed=True, x=True),
    (3, 0, 0): _general("STR", STORE, 8, x=True),
    (3, 0, 1): _general("LDR", LOAD, 8, x=True),
    (3, 0, 2): _general("PRFM", PREFETCH, 8),
    (0, 1, 0): _vector("STR", STORE, 1),
    (0, 1, 1): _vector("LDR", LOAD, 1),
    (0, 1, 2): _vector("STR", STORE, 16),
    (0, 1, 3): _vector("LDR", LOAD, 16),
    (1, 1, 0): _vector("STR", STORE, 2),
    (1, 1, 1): _vector("LDR", LOAD, 2),
    (2, 1, 0): _vector("STR", STORE, 4),
    (2, 1, 1): _vector("LDR", LOAD, 4),
    (3, 1, 0): _vector("STR", STORE, 8),
    (3, 1, 1): _vector("LDR", LOAD, 8),
}
"""One register, by (size, V, opc); combinations not listed are UNDEFINED."""

LITERAL = {
    (0, 0): _general("LDR", LOAD, 4),
    (1, 0): _general("LDR", LOAD, 8, x=True),
    (2, 0): _general("LDRSW", LOAD, 4, signed=True, x=True),
    (3, 0): _general("PRFM", PREFETCH, 8),
    (0, 1): _vector("LDR", LOAD, 4),
    (1, 1): _vector("LDR", LOAD, 8),
    (2, 1): _vector("LDR", LOAD, 16),
}
"""Literal loads, by (opc, V)."""

PAIR = {
    (0, 0, 0): _general("STP", STORE, 4),
    (0, 0, 1): _general("LDP", LOAD, 4),
    (1, 0, 0): replace(_general("STGP", STORE, 8, x=True), tags=True),
    (1, 0, 1): _general("LDPSW", LOAD, 4, signed=True, x=True),
    (2, 0, 0): _general("STP", STORE, 8, x=True),
    (2, 0, 1): _general("LDP", LOAD, 8, x=True),
    (0, 1, 0): _vector("STP", STORE, 4),
    (0, 1, 1): _vector("LDP", LOAD, 4),
    (1, 1, 0): _vector("STP", STORE, 8),
    (1, 1, 1): _vector("LDP", LOAD, 8),
    (2, 1, 0): _vector("STP", STORE, 16),
    (2, 1, 1): _vector("LDP", LOAD, 16),
}
"""Pairs, by (opc, V, L); the size given is that of one register."""


def _single(word: LoadStoreWord) -> MemoryAccess | None:
    form = SINGLE.get((word.size, word.V, word.opc))
    return form and replace(form, rt=word.Rt, base=word.Rn)


def _single_no_prefetch(word: LoadStoreWord) -> MemoryAccess | None:
    access = _single(word)
    return None if access is None or access.kind is PREFETCH else access


def unsigned_immediate(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn, #imm12 * size]``."""
    access = _single(word)
    return access and replace(access, offset=word.imm12 * access.size)


def unscaled(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn, #imm9]``: LDUR, STUR, PRFUM."""
    access = _single(word)
    if access is None:
        return None
    name = "PRFUM" if access.kind is PREFETCH else access.mnemonic.replace("R", "UR", 1)
    return replace(access, mnemonic=name, offset=sign_extend(word.imm9, 9))


def unprivileged(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn, #imm9]`` with EL0 permissions: LDTR, STTR."""
    access = _single_no_prefetch(word)
    if access is None or access.simd:
        return None
    return replace(
        access,
        mnemonic=access.mnemonic.replace("R", "TR", 1),
        offset=sign_extend(word.imm9, 9),
        unprivileged=True,
    )


def pre_index(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn, #imm9]!``."""
    access = _single_no_prefetch(word)
    return access and replace(access, offset=sign_extend(word.imm9, 9), writeback=True)


def post_index(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn], #imm9``."""
    access = _single_no_prefetch(word)
    return access and replace(access, writeback=True)


def register_offset(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn, Rm, extend #amount]``; the amount is 0 or log2 of the size."""
    access = _single(word)
    if access is None or not word.option & 2:
        return None
    shift = access.size.bit_length() - 1 if word.S else 0
    return replace(access, index=Index(word.Rm, word.option, shift))


def literal(word: LoadStoreWord) -> MemoryAccess | None:
    """``label``: relative to the PC."""
    form = LITERAL.get((word.size, word.V))
    offset = sign_extend(word.imm19, 19) * 4
    return form and replace(form, rt=word.Rt, base=PROGRAM_COUNTER, offset=offset)


def ordered_unscaled(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn, #imm9]``: LDAPUR, STLUR (FEAT_LRCPC2)."""
    access = _single_no_prefetch(word)
    if access is None:
        return None
    infix = "LUR" if access.kind is STORE else "APUR"
    return replace(
        access,
        mnemonic=access.mnemonic.replace("R", infix, 1),
        offset=sign_extend(word.imm9, 9),
        acquire_release=True,
    )


def authenticated(word: LoadStoreWord) -> MemoryAccess:
    """LDRAA, LDRAB: ``[Rn, #S:imm9 * 8]``, optionally pre-indexed (FEAT_PAuth)."""
    key = "B" if word.A else "A"
    return replace(
        _general(f"LDRA{key}", LOAD, 8, x=True),
        rt=word.Rt,
        base=word.Rn,
        offset=sign_extend(word.R_atomic << 9 | word.imm9, 10) * 8,
        writeback=bool(word.W),
        authenticated=True,
    )


def _pair(word: LoadStoreWord) -> MemoryAccess | None:
    form = PAIR.get((word.size, word.V, word.L))
    return form and replace(form, size=form.size * 2, rt=word.Rt, rt2=word.Rt2, base=word.Rn)


def _pair_offset(word: LoadStoreWord, access: MemoryAccess) -> int:
    scale = 16 if access.tags else access.unit
    return sign_extend(word.imm7, 7) * scale


def pair_no_allocate(word: LoadStoreWord) -> MemoryAccess | None:
    """LDNP, STNP: ``[Rn, #imm7 * size]``. There is no LDNPSW and no STGNP."""
    access = _pair(word)
    if access is None or access.mnemonic not in {"LDP", "STP"}:
        return None
    return replace(
        access,
        mnemonic=access.mnemonic.replace("P", "NP"),
        offset=_pair_offset(word, access),
    )


def pair_offset(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn, #imm7 * size]``; STGP counts in granules of 16 bytes."""
    access = _pair(word)
    return access and replace(access, offset=_pair_offset(word, access))


def pair_pre_index(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn, #imm7 * size]!``."""
    access = _pair(word)
    return access and replace(access, offset=_pair_offset(word, access), writeback=True)


def pair_post_index(word: LoadStoreWord) -> MemoryAccess | None:
    """``[Rn], #imm7 * size``."""
    access = _pair(word)
    return access and replace(access, writeback=True)
