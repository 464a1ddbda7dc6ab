"""Memory slots as they are written on the command line, and the checks on their layout."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from emu.arch.address import IPA, PAGE_SIZE
from lab.backing import BACKINGS, SMALL_PAGES, Backing, Kind, parse_backing
from lab.errors import UserError
from lab.loader.image import Region
from lab.sizes import format_address, format_size, parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

NR_MEMSLOTS = 32767
"""KVM_CAP_NR_MEMSLOTS of arm64: slot ids are 0 to 32766."""

SYNTAX = "id=1,gpa=0x50000000,size=64K[,ro][,log][,backing=2M][,file=PATH]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One memory slot of the guest.

    Attributes
    ----------
    id : int
        Slot number; 0 is RAM.
    region : Region
        Guest physical range.
    read_only : bool
        Guest writes become MMIO exits (``KVM_MEM_READONLY``).
    log_dirty : bool
        Written pages are recorded (``KVM_MEM_LOG_DIRTY_PAGES``).
    backing : Backing
        The host's memory that holds it.
    file : Path or None
        Initial contents; shorter files are followed by zeroes.
    area : Region or None
        The guest memory whose host memory is mapped as one, of which the slot shows its
        part; None if the slot has memory of its own.
    """

    id: int
    region: Region
    read_only: bool = False
    log_dirty: bool = False
    backing: Backing = SMALL_PAGES
    file: Path | None = None
    area: Region | None = None

    @property
    def mapping(self) -> Region:
        """The guest memory that is mapped as one in the host."""
        return self.region if self.area is None else self.area


def parse_slot(spec: str) -> Slot:
    """Return the slot that a ``--slot`` value describes.

    Raises
    ------
    UserError
        If the text does not follow :data:`SYNTAX`.
    """
    fields: dict[str, str] = {}
    for item in spec.split(","):
        key, equals, value = item.strip().partition("=")
        if key not in _KEYS:
            raise _malformed(spec, f"{key!r} is not a key" if key else "an item is empty")
        if key in fields:
            raise _malformed(spec, f"{key!r} is given twice")
        if bool(equals) is not _KEYS[key]:
            raise _malformed(spec, f"{key!r} {'needs a' if _KEYS[key] else 'takes no'} value")
        fields[key] = value
    missing = [key for key in ("id", "gpa", "size") if key not in fields]
    if missing:
        raise _malformed(spec, f"{' and '.join(missing)} missing")
    if not fields["id"].isdecimal():
        raise _malformed(spec, f"id is a number, not {fields['id']!r}")
    return Slot(
        id=int(fields["id"]),
        region=Region(
            IPA(parse_size(fields["gpa"], f"gpa in --slot {spec!r}")),
            parse_size(fields["size"], f"size in --slot {spec!r}"),
        ),
        read_only="ro" in fields,
        log_dirty="log" in fields,
        backing=parse_backing(fields.get("backing", "4K")),
        file=Path(fields["file"]) if "file" in fields else None,
    )


_KEYS = {
    "id": True,
    "gpa": True,
    "size": True,
    "ro": False,
    "log": False,
    "backing": True,
    "file": True,
}
"""The keys of a ``--slot`` value, and whether they take one."""


def check_layout(slots: Sequence[Slot], ipa_bits: int) -> None:
    """Check that the slots can exist together in an IPA space of ``ipa_bits`` bits.

    The hypervisor checks the same and answers with an errno; here the user learns
    which option to change.

    Raises
    ------
    UserError
        For the first slot that is misaligned, out of range, or overlaps another.
    """
    for slot in slots:
        _check_slot(slot, ipa_bits)
    for first, second in combinations(slots, 2):
        if first.id == second.id:
            raise UserError(f"slot id {first.id} is used twice; give every --slot its own id")
        low, high = sorted((first, second), key=lambda slot: slot.region.base)
        if low.region.end > high.region.base:
            raise UserError(
                f"{_title(first)} at {first.region} and {_title(second)} at {second.region} "
                "overlap; move one with gpa="
            )


def _check_slot(slot: Slot, ipa_bits: int) -> None:
    title, region = _title(slot), slot.region
    option = "--mem" if slot.id == 0 else "size="
    if not 0 <= slot.id < NR_MEMSLOTS:
        raise UserError(f"a slot id is 1 to {NR_MEMSLOTS - 1}, not {slot.id}; change id=")
    if region.size == 0:
        raise UserError(f"{title} has size 0; give it at least one page of 4K with {option}")
    if region.base % PAGE_SIZE:
        raise UserError(
            f"{title} starts at {region.base:#x}, which is not page aligned; "
            f"the next page is gpa={-(-region.base // PAGE_SIZE) * PAGE_SIZE:#x}"
        )
    if slot.backing.kind is Kind.GMEM and (slot.log_dirty or slot.read_only):
        others = ", ".join(name for name, known in BACKINGS.items() if known.kind is not Kind.GMEM)
        raise UserError(
            f"{title} is a guest_memfd, which is neither logged nor read-only; "
            f"use another backing: {others}"
        )
    if slot.mapping.size % slot.backing.page_size:
        raise UserError(
            f"{title} has {format_size(slot.mapping.size)}, which is not a multiple of its "
            f"{format_size(slot.backing.page_size)} pages; change {option} or the backing"
        )
    if region.end > 1 << ipa_bits:
        raise UserError(
            f"{title} ends at {format_address(region.end)}, beyond the guest's {ipa_bits}-bit "
            f"addresses ({format_address(1 << ipa_bits)}); shrink it or raise --ipa-bits"
        )


def _title(slot: Slot) -> str:
    return "RAM" if slot.id == 0 else f"slot {slot.id}"


def _malformed(spec: str, why: str) -> UserError:
    return UserError(f"--slot {spec!r}: {why}; write it as {SYNTAX}")
