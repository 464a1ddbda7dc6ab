"""What each TLBI operation removes from a TLB (Arm ARM C5.5, D8.17)."""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.arch.a64.operations import Stage, TranslationRegime
from emu.arch.a64.tlbi import TLBI, TlbiScope
from emu.arch.a64.tlbi_arguments import TlbiIpa, TlbiRangeIpa, TlbiRangeVa, TlbiVa, level_hint
from emu.arch.address import IPA, VA
from emu.mmu.regime import STAGE1_OFF
from emu.mmu.tlb import GLOBAL, Tlb, TlbContext

ANY_LEVEL: Final = range(4)
_VA_BITS: Final = 56
_PAGE_SHIFT: Final = 12


class Span(NamedTuple):
    """The addresses and leaf levels that an argument names."""

    first: int
    """First address, a page boundary."""
    steps: int
    """How many pages or granules."""
    step: int
    """Bytes between them."""
    levels: range


def invalidate(tlb: Tlb, operation: TLBI, argument: int, vmid: int) -> int:
    """Carry out one TLBI on one PE's TLB.

    Parameters
    ----------
    tlb
        The TLB.
    operation
        Which entries go.
    argument
        The value of Xt.
    vmid
        The current VMID, VTTBR_EL2.VMID.

    Returns
    -------
    int
        How many entries went. Zero means that no engine holds a copy either.
    """
    if operation.regime is not TranslationRegime.EL10:
        return 0
    if operation.scope is TlbiScope.IPA:
        return _by_ipa(tlb, operation, argument, vmid)
    match operation.scope:
        case TlbiScope.ALL:
            return _whole(tlb, operation, None)
        case TlbiScope.VMID:
            return _whole(tlb, operation, vmid)
        case TlbiScope.ASID:
            return sum(c.clear() for c in tlb.contexts_of(vmid, TlbiVa(argument).ASID))
        case _:
            return _by_va(tlb, operation, argument, vmid)


def _whole(tlb: Tlb, operation: TLBI, vmid: int | None) -> int:
    hits = sum(context.clear() for context in tlb.contexts_of(vmid))
    if operation.stages & Stage.S2:
        entries = tlb.stage2.values() if vmid is None else [tlb.stage2_entries(vmid)]
        hits += sum(e.clear() for e in entries)
    return hits


def _by_ipa(tlb: Tlb, operation: TLBI, argument: int, vmid: int) -> int:
    if operation.is_range:
        span = _range_span(TlbiRangeIpa(argument))
    else:
        span = _page_span(TlbiIpa(argument).IPA << _PAGE_SHIFT, TlbiIpa(argument).TTL)
    entries = tlb.stage2_entries(vmid)
    return sum(
        entries.remove(IPA(span.first + i * span.step), span.levels) for i in range(span.steps)
    )


def _by_va(tlb: Tlb, operation: TLBI, argument: int, vmid: int) -> int:
    if operation.is_range:
        span = _range_span(TlbiRangeVa(argument))
    else:
        span = _page_span(TlbiVa(argument).VA << _PAGE_SHIFT, TlbiVa(argument).TTL)
    asid = None if operation.scope is TlbiScope.VA_ALL_ASID else TlbiVa(argument).ASID
    contexts = _matching(tlb, vmid, asid)
    hits = 0
    for i in range(span.steps):
        va = _sign_extended(span.first + i * span.step)
        hits += sum(context.remove(va, span.levels) for context in contexts)
    return hits


def _matching(tlb: Tlb, vmid: int, asid: int | None) -> list[TlbContext]:
    """Return the contexts an operation by VA looks at: one ASID's, and those of no ASID."""
    if asid is None:
        return tlb.contexts_of(vmid)
    return [c for a in (asid, GLOBAL, STAGE1_OFF) for c in tlb.contexts_of(vmid, a)]


def _page_span(address: int, ttl: int) -> Span:
    hint = level_hint(ttl)
    levels = ANY_LEVEL if hint is None else range(hint.level, hint.level + 1)
    return Span(address, 1, 1 << _PAGE_SHIFT, levels)


def _range_span(argument: TlbiRangeVa | TlbiRangeIpa) -> Span:
    shift = argument.granule_shift
    if shift is None:
        return Span(0, 0, 0, ANY_LEVEL)
    level = argument.TTL
    levels = range(level, level + 1) if level else ANY_LEVEL
    return Span(argument.BaseADDR << shift, argument.pages, 1 << shift, levels)


def _sign_extended(va: int) -> VA:
    """Return a VA from the bits that an argument holds: bit 55 fills the top."""
    va &= (1 << _VA_BITS) - 1
    return VA(va | (((1 << 8) - 1) << _VA_BITS if va >> (_VA_BITS - 1) else 0))
