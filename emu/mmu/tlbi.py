"""What each TLBI operation removes from a TLB (Arm ARM C5.5, D8.17)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.a64.operations import Stage, TranslationRegime
from emu.arch.a64.tlbi import TLBI, TlbiScope
from emu.arch.a64.tlbi_arguments import TlbiIpa, TlbiRangeIpa, TlbiRangeVa, TlbiVa, level_hint
from emu.arch.address import IPA, VA
from emu.mmu.regime import STAGE1_OFF
from emu.mmu.tlb import GLOBAL, Tlb, TlbContext

if TYPE_CHECKING:
    from emu.arch.bits import Bits

ANY_LEVEL: Final = range(4)
_BY_VA: Final = (TlbiScope.VA, TlbiScope.VA_ALL_ASID)
_MASK64: Final = (1 << 64) - 1
_PAGE_SHIFT: Final = 12
_VA: Final = TlbiVa.VA.in_place
_VA_SIGN: Final = 1 << TlbiVa.VA.msb
_ABOVE_VA: Final = (1 << 64 - _PAGE_SHIFT) - 1 & ~_VA
_TTL_SHIFT: Final = TlbiVa.TTL.lsb
_TTL: Final = TlbiVa.TTL.mask
_ASID_SHIFT: Final = TlbiVa.ASID.lsb


class Span(NamedTuple):
    """The addresses and leaf levels that an argument names."""

    first: int
    """First address, a page boundary. A VA is signed: bit 55 fills the top."""
    size: int
    """Bytes, a multiple of the page size."""
    levels: range


class Invalidation(NamedTuple):
    """One TLBI that was executed."""

    operation: TLBI
    argument: int
    vmid: int
    """The VMID it was for."""
    pc: VA | None
    """Where the guest executed it; None for EL2."""
    reached: int
    """The number of PEs that carried it out."""
    hits: int
    """The entries that went, on all PEs it reached. With 0 it changed nothing."""


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
    scope = operation.scope
    if scope in _BY_VA:
        return _by_va(tlb, operation, argument, vmid)
    if scope is TlbiScope.IPA:
        return _by_ipa(tlb, operation, argument, vmid)
    if scope is TlbiScope.ASID:
        return sum(c.clear() for c in tlb.contexts_of(vmid, TlbiVa(argument).ASID))
    return _whole(tlb, operation, None if scope is TlbiScope.ALL else vmid)


def _whole(tlb: Tlb, operation: TLBI, vmid: int | None) -> int:
    hits = sum(context.clear() for context in tlb.contexts_of(vmid))
    if operation.stages is not Stage.S1:
        entries = tlb.stage2.values() if vmid is None else [tlb.stage2_entries(vmid)]
        hits += sum(e.clear() for e in entries)
    return hits


def span(operation: TLBI, argument: int) -> Span | None:
    """Return the addresses that an operation names; None if it is not by address."""
    if not operation.scope.by_address:
        return None
    if operation.scope is TlbiScope.IPA:
        if operation.is_range:
            return _range_span(TlbiRangeIpa(argument), TlbiRangeIpa(argument).BaseADDR)
        return _page_span(TlbiIpa(argument).IPA, TlbiIpa(argument).TTL)
    if operation.is_range:
        base = _signed(TlbiRangeVa(argument).BaseADDR, TlbiRangeVa.BaseADDR)
        return _range_span(TlbiRangeVa(argument), base)
    return _page_span(_signed(TlbiVa(argument).VA, TlbiVa.VA), TlbiVa(argument).TTL)


def named_page(operation: TLBI, argument: int) -> int | None:
    """Return VA >> 12 of the one page that an operation by VA names; None for all others."""
    if operation.is_range or operation.scope not in _BY_VA:
        return None
    return _named_page(argument)


def _named_page(argument: int) -> int:
    """Return VA >> 12 of an argument: its highest bit fills the top of the VA."""
    frame = argument & _VA
    return frame | _ABOVE_VA if frame & _VA_SIGN else frame


def _by_ipa(tlb: Tlb, operation: TLBI, argument: int, vmid: int) -> int:
    named = span(operation, argument)
    assert named is not None
    entries = tlb.stage2_entries(vmid)
    if named.size >> _PAGE_SHIFT > len(entries):
        return entries.remove_range(named.first, named.size, named.levels)
    pages = range(named.first, named.first + named.size, 1 << _PAGE_SHIFT)
    return sum(entries.remove(IPA(ipa), named.levels) for ipa in pages)


def _by_va(tlb: Tlb, operation: TLBI, argument: int, vmid: int) -> int:
    asid = None if operation.scope is TlbiScope.VA_ALL_ASID else argument >> _ASID_SHIFT
    hits = 0
    if not operation.is_range:
        page = _named_page(argument)
        levels = _levels(argument >> _TTL_SHIFT & _TTL)
        for context in _matching(tlb, vmid, asid):
            hits += context.remove(page, levels)
        return hits
    named = span(operation, argument)
    assert named is not None
    for context in _matching(tlb, vmid, asid):
        if named.size >> _PAGE_SHIFT > len(context.pages):
            hits += context.remove_range(named.first, named.size, named.levels)
            continue
        for address in range(named.first, named.first + named.size, 1 << _PAGE_SHIFT):
            hits += context.remove((address & _MASK64) >> _PAGE_SHIFT, named.levels)
    return hits


def _matching(tlb: Tlb, vmid: int, asid: int | None) -> list[TlbContext]:
    """Return the contexts an operation by VA looks at: one ASID's, and those of no ASID."""
    if asid is None:
        return tlb.contexts_of(vmid)
    tags = (asid, GLOBAL, STAGE1_OFF)
    return [tlb.contexts[vmid, tag] for tag in tags if (vmid, tag) in tlb.contexts]


def _page_span(frame: int, ttl: int) -> Span:
    return Span(frame << _PAGE_SHIFT, 1 << _PAGE_SHIFT, _levels(ttl))


def _levels(ttl: int) -> range:
    """Return the levels of the leaves that go."""
    hint = level_hint(ttl) if ttl else None
    return ANY_LEVEL if hint is None else range(hint.level, hint.level + 1)


def _range_span(argument: TlbiRangeVa | TlbiRangeIpa, base: int) -> Span:
    shift = argument.granule_shift
    if shift is None:
        return Span(0, 0, ANY_LEVEL)
    level = argument.TTL
    levels = range(level, level + 1) if level else ANY_LEVEL
    return Span(base << shift, argument.pages << shift, levels)


def _signed(value: int, field: Bits[int]) -> int:
    """Read a field as a signed number: the highest bit it holds fills the top of a VA."""
    width = field.msb - field.lsb + 1
    return value - (value >> width - 1 << width)
