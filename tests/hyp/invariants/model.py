"""What a guest must read, told without page tables: bytes of host pages, and a list of slots.

Nothing here comes from ``hyp``. An area is a row of pages of the VMM process; a slot shows
a part of one to a guest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

PAGE: Final = 4096
ZERO: Final = bytes(PAGE)


class Outcome(Enum):
    """What an access of a guest comes to."""

    DONE = "done"
    MMIO = "user space does it"
    NO_SYNDROME = "user space would do it, and is not told what"
    ABORT = "the guest takes an abort"
    EFAULT = "KVM_RUN fails"
    SIGBUS = "the memory has failed"
    BLOCKED = "the page is still to be supplied"


class Kind(Enum):
    """What a guest does at an address."""

    READ = "read"
    WRITE = "write"
    EXEC = "exec"
    ATOMIC = "atomic"

    @property
    def writes(self) -> bool:
        """Whether memory is written."""
        return self in (Kind.WRITE, Kind.ATOMIC)


@dataclass(eq=False)
class File:
    """What shared areas show: pages by number; one that is not there is zero."""

    pages: dict[int, bytearray] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)


@dataclass(eq=False)
class Area:
    """A row of pages of the VMM process.

    Attributes
    ----------
    own
        Of a private area: the pages that have been written, and so are no longer the file's.
    lost
        Pages whose memory failed under this area.
    missing
        Pages that user space is to supply; ``None`` if nobody is asked.
    """

    name: str
    start: int
    npages: int
    private: bool = False
    file: File | None = None
    granule: int = 1
    own: dict[int, bytearray] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    unreadable: set[int] = field(default_factory=set)
    unwritable: set[int] = field(default_factory=set)
    missing: set[int] | None = None

    def hva(self, page: int) -> int:
        """Return where the VMM process sees a page."""
        return self.start + page * PAGE

    def read(self, page: int) -> bytes | bytearray:
        """Return what a page holds."""
        if page in self.own:
            return self.own[page]
        return ZERO if self.file is None else self.file.pages.get(page, ZERO)

    def write(self, page: int, offset: int, data: bytes) -> None:
        """Store bytes."""
        pages = self.own
        if not self.private:
            assert self.file is not None
            pages = self.file.pages
        if page not in pages:
            pages[page] = bytearray(self.read(page))
        pages[page][offset : offset + len(data)] = data

    def take(self, page: int) -> None:
        """Make a page of a private area its own: somebody is about to write it."""
        if self.private and page not in self.own:
            self.own[page] = bytearray(self.read(page))

    def discard(self, pages: range) -> None:
        """Forget pages: zeros are left, or what the file has."""
        for page in pages:
            self.own.pop(page, None)
            self.lost.discard(page)
            if not self.private:
                assert self.file is not None
                self.file.pages.pop(page, None)
                self.file.lost.discard(page)
            if self.missing is not None:
                self.missing.add(page)

    def fail(self, page: int) -> None:
        """Let the memory of a page fail: of as much as the host knows as one page."""
        first = page - page % self.granule
        for each in range(first, first + self.granule):
            if each not in self.own and self.file is not None:
                self.file.lost.add(each)
            self.own.pop(each, None)
            self.lost.add(each)

    def is_lost(self, page: int) -> bool:
        """Return whether a page's memory has failed."""
        if page in self.lost:
            return True
        return page not in self.own and self.file is not None and page in self.file.lost

    def is_touched(self, page: int) -> bool:
        """Return whether a page may be other than zero."""
        return page in self.own or (self.file is not None and page in self.file.pages)

    def changes_with(self, other: Area, page: int) -> bool:
        """Return whether a page is another now that ``other`` has been written there."""
        if self is other:
            return True
        shared = not other.private and self.file is other.file
        return shared and page not in self.own


@dataclass(frozen=True)
class Slot:
    """A part of an area, shown to a guest.

    Parameters
    ----------
    number
        The slot's number.
    gfn, npages
        Where the guest sees it, and how much.
    area, first
        Where it begins in the VMM process.
    """

    number: int
    gfn: int
    npages: int
    area: Area
    first: int
    readonly: bool = False
    logging: bool = False

    def holds(self, gfn: int) -> bool:
        """Return whether a page of the guest is the slot's."""
        return self.gfn <= gfn < self.gfn + self.npages

    def page(self, gfn: int) -> int:
        """Return which page of the area the guest sees at ``gfn``."""
        return self.first + gfn - self.gfn

    def overlaps(self, gfn: int, npages: int) -> bool:
        """Return whether a page is both the slot's and in the range."""
        return self.gfn < gfn + npages and gfn < self.gfn + self.npages

    def moved(self, gfn: int) -> Slot:
        """Return the slot as it is elsewhere."""
        return replace(self, gfn=gfn)

    def logged(self, on: bool) -> Slot:
        """Return the slot with logging on or off."""
        return replace(self, logging=on)


@dataclass
class GuestMemory:
    """The slots of one guest, and what is written through them.

    Attributes
    ----------
    written
        By logged slot: the pages written since its log was taken last.
    maybe
        By logged slot: pages that its log may name as well.
    """

    slots: dict[int, Slot] = field(default_factory=dict)
    written: dict[int, set[int]] = field(default_factory=dict)
    maybe: dict[int, set[int]] = field(default_factory=dict)

    def find(self, gfn: int) -> Slot | None:
        """Return the slot of a page."""
        for slot in self.slots.values():
            if slot.holds(gfn):
                return slot
        return None

    def outcome(self, kind: Kind, gfn: int, *, old: bool, supplied: bool) -> Outcome:
        """Return what an access must come to.

        Parameters
        ----------
        kind, gfn
            The access.
        old
            Whether it is KVM of 2012, which knew no read-only slots and sent no signals.
        supplied
            Whether user space supplies pages when they are missed.
        """
        slot = self.find(gfn)
        if slot is not None and kind is Kind.ATOMIC:
            # The page is read before it is written.
            first = self.outcome(Kind.READ, gfn, old=old, supplied=supplied)
            if first is not Outcome.DONE:
                return first
        if slot is None or (slot.readonly and kind.writes):
            if kind is Kind.EXEC:
                return Outcome.ABORT
            return Outcome.NO_SYNDROME if kind is Kind.ATOMIC else Outcome.MMIO
        page, area = slot.page(gfn), slot.area
        if page in area.unreadable or (kind.writes and page in area.unwritable):
            return Outcome.EFAULT
        if area.is_lost(page):
            return Outcome.EFAULT if old else Outcome.SIGBUS
        if area.missing is not None and page in area.missing and not supplied:
            return Outcome.BLOCKED
        return Outcome.DONE

    def read(self, gfn: int, offset: int, size: int) -> bytes:
        """Return what the guest must read."""
        slot = self.find(gfn)
        assert slot is not None
        return bytes(slot.area.read(slot.page(gfn))[offset : offset + size])

    def write(self, gfn: int, offset: int, data: bytes) -> Slot:
        """Store what the guest writes; return the slot."""
        slot = self.find(gfn)
        assert slot is not None
        slot.area.write(slot.page(gfn), offset, data)
        if slot.logging:
            self.written[slot.number].add(gfn - slot.gfn)
        return slot
