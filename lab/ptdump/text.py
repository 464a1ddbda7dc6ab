"""The text of ``stage2_page_tables`` in KVM's debugfs (arch/arm64/kvm/ptdump.c).

Linux changed it three times. The columns and the bits that they test are data: one
:class:`Form` for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.address import IPA
from hyp.pte import PTE_AF, PTE_R, PTE_TABLE, PTE_VALID, PTE_W, PTE_XN, Stage2Pte

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lab.ptdump.dump import Dump

MARKER: Final = "---[ Guest IPA ]---"
UNITS: Final = "KMGTPE"


class Column(NamedTuple):
    """``struct ptdump_prot_bits``: what is printed of some bits.

    Attributes
    ----------
    mask, value
        The bits, and what they are compared with.
    equal, other
        What is printed after a blank; nothing at all for ``None``.
    """

    mask: int
    value: int
    equal: str
    other: str | None


def _bits(mask: int, equal: str, other: str) -> Column:
    return Column(mask, mask, equal, other)


def _xnx(code: int, text: str) -> Column:
    return Column(Stage2Pte.XN.in_place, Stage2Pte.XN.encode(code), text, None)


@dataclass(frozen=True, slots=True)
class Form:
    """The text as one version of Linux prints it.

    Attributes
    ----------
    columns
        ``stage2_pte_bits``.
    last_range
        Whether the last range is printed: a range is once something else follows, and
        nothing follows the last.
    """

    columns: tuple[Column, ...]
    last_range: bool

    @property
    def mask(self) -> int:
        """The bits that tell one range from the next."""
        mask = 0
        for column in self.columns:
            mask |= column.mask
        return mask

    def attributes(self, prot: int) -> str:
        """Return the columns for the bits of an entry (``dump_prot``)."""
        texts = (
            column.equal if prot & column.mask == column.value else column.other
            for column in self.columns
        )
        return "".join(f" {text}" for text in texts if text is not None)


_VALID: Final = _bits(PTE_VALID, " ", "F")
_AF: Final = _bits(PTE_AF, "AF", "  ")
_BLOCK: Final = Column(PTE_TABLE, PTE_VALID, "BLK", "   ")
_FEAT_XNX: Final = (
    _VALID,
    _bits(PTE_R, "R", " "),
    _bits(PTE_W, "W", " "),
    _xnx(0b00, "px ux "),
    _xnx(0b01, "PXNux "),
    _xnx(0b10, "PXNUXN"),
    _xnx(0b11, "px UXN"),
    _AF,
    _BLOCK,
)

FORMS: Final = {
    # X stands where execution is *not* allowed.
    "6.13": Form(
        (
            _VALID,
            _bits(PTE_R | PTE_VALID, "R", " "),
            _bits(PTE_W | PTE_VALID, "W", " "),
            Column(PTE_XN | PTE_VALID, PTE_VALID, " ", "X"),
            _bits(PTE_AF | PTE_VALID, "AF", "  "),
            _BLOCK,
        ),
        last_range=False,
    ),
    "6.18": Form(
        (
            _VALID,
            _bits(PTE_R, "R", " "),
            _bits(PTE_W, "W", " "),
            _bits(PTE_XN, "NX", "x "),
            _AF,
            _BLOCK,
        ),
        last_range=False,
    ),
    "6.19": Form(_FEAT_XNX, last_range=False),
    "7.3": Form(_FEAT_XNX, last_range=True),
}
"""By the first version that prints so."""

NEWEST: Final = "7.3"


def page_tables(dump: Dump, linux: str = NEWEST) -> str:
    """Return what the file ``stage2_page_tables`` would hold.

    Parameters
    ----------
    dump
        The tables.
    linux
        The version of Linux: one of :data:`FORMS`.
    """
    form = FORMS[linux]
    lines = [MARKER, *_lines(dump, form)]
    return "".join(f"{line}\n" for line in lines)


def _lines(dump: Dump, form: Form) -> Iterator[str]:
    """Yield a line for each range of equal level and bits (``note_page``)."""
    mask = form.mask
    start, level, prot = IPA(0), dump.runs[0].level, dump.runs[0].pte & mask
    for run in dump.runs:
        if run.level != level or run.pte & mask != prot:
            yield _line(start, run.ipa, level, prot, form)
            start, level, prot = run.ipa, run.level, run.pte & mask
    if form.last_range:
        yield _line(start, IPA(1 << dump.ipa_bits), level, prot, form)


def _line(start: IPA, end: IPA, level: int, prot: int, form: Form) -> str:
    size, unit = (end - start) >> 10, 0
    while not size & 1023 and unit + 1 < len(UNITS):
        size >>= 10
        unit += 1
    attributes = form.attributes(prot) if prot else ""
    return f"0x{start:016x}-0x{end:016x}   {size:9}{UNITS[unit]} {level}{attributes}"
