"""The argument register of TLBI operations (Arm ARM C5.5, "TLBI ... input register").

A level hint (TTL) promises that the entry to remove was made from a leaf at that level;
without one, entries of every level go. Ranges cover ``(NUM + 1) << (5 * SCALE + 1)``
granules from their base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from emu.arch.bits import bit, bits
from emu.arch.fields import Layout

if TYPE_CHECKING:
    from emu.arch.address import IPA, VA

GRANULE_SHIFTS = {12: 1, 14: 2, 16: 3}
"""Granule shift -> the TG and TTL[3:2] encoding; 0 means no granule is given."""

_SHIFT_OF = {code: shift for shift, code in GRANULE_SHIFTS.items()}
_FRAME_SHIFT = 12


class TlbiVa(Layout):
    """Argument of the operations by VA, and of those by ASID (which ignore the rest)."""

    ASID = bits(63, 48)
    TTL = bits(47, 44)
    VA = bits(43, 0)


class TlbiIpa(Layout):
    """Argument of the operations by IPA. IPA holds bits [51:12]; [39:36] need FEAT_LPA."""

    NS = bit(63)
    TTL = bits(47, 44)
    IPA = bits(39, 0)


class _TlbiRange(Layout):
    """What both range arguments share.

    BaseADDR counts granules; under TCR_EL1.DS or VTCR_EL2.DS = 1 it counts 64 KiB.
    TTL is the level of the leaf, 0 for any.
    """

    TG = bits(47, 46)
    SCALE = bits(45, 44)
    NUM = bits(43, 39)
    TTL = bits(38, 37)
    BaseADDR = bits(36, 0)

    @property
    def granule_shift(self) -> int | None:
        """Log2 of the granule, or None for the reserved TG = 0 (nothing is invalidated)."""
        return _SHIFT_OF.get(self.TG)

    @property
    def pages(self) -> int:
        """The number of granules covered."""
        return (self.NUM + 1) << (5 * self.SCALE + 1)


class TlbiRangeVa(_TlbiRange):
    """Argument of the range operations by VA (FEAT_TLBIRANGE)."""

    ASID = bits(63, 48)


class TlbiRangeIpa(_TlbiRange):
    """Argument of the range operations by IPA (FEAT_TLBIRANGE)."""

    NS = bit(63)


class LevelHint(NamedTuple):
    """A decoded TTL."""

    granule_shift: int
    level: int


RESERVED_TTL = {0b1000, 0b1100}
"""16 KiB and 64 KiB granules have no leaf at level 0."""

RESERVED_TTL_WITHOUT_LPA2 = {0b0100, 0b1001}
"""Leaves at level 0 (4 KiB) and at level 1 (16 KiB) came with FEAT_LPA2."""


def level_hint(ttl: int, *, lpa2: bool = False) -> LevelHint | None:
    """Return what the four-bit ``ttl`` promises, or None for no hint; reserved values give none."""
    shift = _SHIFT_OF.get(ttl >> 2)
    if shift is None or ttl in RESERVED_TTL or (ttl in RESERVED_TTL_WITHOUT_LPA2 and not lpa2):
        return None
    return LevelHint(shift, ttl & 3)


def _ttl(level: int | None, granule_shift: int) -> int:
    if level is None:
        return 0
    if not 0 <= level <= 3:
        raise ValueError(f"a level hint is 0 to 3, or None for no hint; not {level}")
    return _granule(granule_shift) << 2 | level


def _granule(granule_shift: int) -> int:
    if granule_shift not in GRANULE_SHIFTS:
        raise ValueError(f"a granule is 1 << 12, 14 or 16 bytes, not 1 << {granule_shift}")
    return GRANULE_SHIFTS[granule_shift]


def tlbi_va(va: VA, asid: int = 0, level: int | None = None, granule_shift: int = 12) -> TlbiVa:
    """Return the argument for the page at ``va`` in the address space ``asid``.

    Parameters
    ----------
    va
        Any address in the page; bits [55:12] are used.
    asid
        0 to 0xffff; ignored by the operations for all ASIDs.
    level
        Level of the leaf entry, if known.
    granule_shift
        12, 14 or 16; matters only with a level.

    Raises
    ------
    ValueError
        If the ASID, the level or the granule is none.
    """
    frame = va >> _FRAME_SHIFT & TlbiVa.VA.mask
    return TlbiVa.build(ASID=asid, TTL=_ttl(level, granule_shift), VA=frame)


def tlbi_asid(asid: int) -> TlbiVa:
    """Return the argument for every entry of ``asid``, 0 to 0xffff."""
    return TlbiVa.build(ASID=asid)


def tlbi_ipa(ipa: IPA, level: int | None = None, granule_shift: int = 12) -> TlbiIpa:
    """Return the argument for the page at ``ipa``; parameters as for :func:`tlbi_va`.

    Raises
    ------
    ValueError
        If the IPA has more than 52 bits, or the level or the granule is none.
    """
    return TlbiIpa.build(TTL=_ttl(level, granule_shift), IPA=ipa >> _FRAME_SHIFT)


def range_fields(pages: int) -> tuple[int, int]:
    """Return (SCALE, NUM) of the largest single range of at most ``pages`` granules.

    Raises
    ------
    ValueError
        For fewer than two pages: a range has an even number of granules.
    """
    if pages < 2:
        raise ValueError(f"a range covers at least 2 granules, not {pages}; use the page form")
    scale = next(scale for scale in (3, 2, 1, 0) if pages >> (5 * scale + 1))
    return scale, min(pages >> (5 * scale + 1), 32) - 1


def tlbi_range_va(
    va: VA,
    pages: int,
    asid: int = 0,
    level: int | None = None,
    granule_shift: int = 12,
) -> TlbiRangeVa:
    """Return the argument of one range operation from ``va``.

    It covers as many of the ``pages`` granules as one operation can; read
    :attr:`TlbiRangeVa.pages` for how many, and go on from there.

    Raises
    ------
    ValueError
        As for :func:`tlbi_va` and :func:`range_fields`.
    """
    scale, num = range_fields(pages)
    return TlbiRangeVa.build(
        ASID=asid,
        TG=_granule(granule_shift),
        SCALE=scale,
        NUM=num,
        TTL=_ttl(level, granule_shift) & 3,
        BaseADDR=va >> granule_shift & TlbiRangeVa.BaseADDR.mask,
    )


def tlbi_range_ipa(
    ipa: IPA, pages: int, level: int | None = None, granule_shift: int = 12
) -> TlbiRangeIpa:
    """Return the argument of one range operation from ``ipa``; see :func:`tlbi_range_va`."""
    scale, num = range_fields(pages)
    return TlbiRangeIpa.build(
        TG=_granule(granule_shift),
        SCALE=scale,
        NUM=num,
        TTL=_ttl(level, granule_shift) & 3,
        BaseADDR=ipa >> granule_shift,
    )
