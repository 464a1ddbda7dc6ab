"""A machine, the VMM process's memory on it with the model beside it, and what may happen to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.machine import Machine
from hyp.host import HVA, READ_WRITE, SIZE_2M, HostProt
from tests.hyp.invariants.guest import PROGRAM, VECTORS, refused
from tests.hyp.invariants.model import PAGE, Area, File
from tests.hyp.invariants.racing import RacingHost, Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.features import CpuFeatures
    from hyp.host.fork import Fork
    from hyp.host.userfault import UserfaultMessage

RAM: Final = 96 << 20
SMALL: Final = 24
LARGE: Final = 1024
BLOCK: Final = SIZE_2M // PAGE

PROTECTIONS: Final = {
    "any_access": READ_WRITE,
    "read_only": HostProt.READ,
    "no_access": HostProt.NONE,
}


class World:
    """The host: areas of every kind.

    Attributes
    ----------
    areas
        The areas. Three of them show one file.
    supplies
        Whether user space supplies pages when it is asked to.
    on_change
        Called with area and page that the VMM process has changed.
    failed
        How many bytes of memory have failed.
    """

    def __init__(self, features: CpuFeatures) -> None:
        self.machine = Machine(RAM, pe_count=2, features=features)
        self.watcher = Watcher()
        self.host = host = RacingHost(self.machine.memory, self.watcher)
        self.supplies = True
        self.on_change: Callable[[Area, int], None] = lambda _area, _page: None
        self.failed = 0
        self.forks: list[tuple[Fork, dict[int, bytes]]] = []
        small, large = SMALL * PAGE, LARGE * PAGE
        self.program = host.mmap(PAGE)
        host.write(self.program, b"".join(word.to_bytes(4, "little") for word in PROGRAM))
        host.write(HVA(self.program + VECTORS + 0x200), (0x1400_0000).to_bytes(4, "little"))
        self.memfd, shown = host.memfd(small), File()
        self.areas = (
            Area("shared", host.mmap(small), SMALL, file=File()),
            Area("private", host.mmap(small, private=True), SMALL, private=True),
            Area("file", host.mmap(small, file=self.memfd), SMALL, file=shown),
            Area("alias", host.mmap(small, file=self.memfd), SMALL, file=shown),
            Area(
                "copy",
                host.mmap(small, private=True, file=self.memfd),
                SMALL,
                private=True,
                file=shown,
            ),
            Area("thp", host.mmap(large, private=True, thp=True), LARGE, private=True),
            Area("huge", host.mmap(large, SIZE_2M), LARGE, file=File(), granule=BLOCK),
            Area(
                "userfault",
                host.mmap(small),
                SMALL,
                file=File(),
                missing=set(range(SMALL)),
            ),
        )
        self.supplied = next(area for area in self.areas if area.missing is not None)
        host.on_write = self._take
        host.userfault_register(HVA(self.supplied.start), small, self._supply)

    def _take(self, hva: int) -> None:
        for area in self.areas:
            page = (hva - area.start) // PAGE
            if 0 <= page < area.npages:
                area.take(page)

    def _supply(self, message: UserfaultMessage) -> None:
        if not self.supplies:
            return
        area = self.supplied
        page = (message.address - area.start) // PAGE
        data = bytes([page + 1]) * PAGE
        self.host.userfault_copy(message.address, data)
        assert area.missing is not None
        area.missing.remove(page)
        area.write(page, 0, data)
        self.on_change(area, page)

    # --- what happens to pages -----------------------------------------------------------

    def write(self, area: Area, page: int, offset: int, data: bytes) -> None:
        """Let the VMM process write."""
        if not refused(lambda: self.host.write(HVA(area.hva(page) + offset), data)):
            area.write(page, offset, data)
            self.on_change(area, page)

    def check(self, area: Area, page: int) -> None:
        """Let the VMM process read a page."""
        hva, read = HVA(area.hva(page)), bytearray()
        if not refused(lambda: read.extend(self.host.read(hva, PAGE))):
            assert not area.is_lost(page)
            assert read == area.read(page), f"page {page} of {area.name} reads as something else"
        else:
            assert area.is_lost(page) or (area.missing is not None and page in area.missing)

    def swap_out(self, area: Area, page: int, npages: int) -> None:
        """Write pages out."""
        self.host.swap_out(HVA(area.hva(page)), npages * PAGE)

    def migrate(self, area: Area, page: int) -> None:
        """Move a page."""
        refused(lambda: self.host.migrate(HVA(area.hva(page))))

    def discard(self, area: Area, page: int, npages: int) -> None:
        """Forget pages."""
        pages = whole(area, page, npages)
        self.host.discard(HVA(area.hva(pages.start)), len(pages) * PAGE)
        area.discard(pages)
        for each in pages:
            self.on_change(area, each)

    def protect(self, area: Area, page: int, npages: int, prot: HostProt) -> None:
        """Change what may be done with pages."""
        pages = whole(area, page, npages)
        self.host.mprotect(HVA(area.hva(pages.start)), len(pages) * PAGE, prot)
        for forbidden, right in (
            (area.unreadable, HostProt.READ),
            (area.unwritable, HostProt.WRITE),
        ):
            forbidden.difference_update(pages)
            if not prot & right:
                forbidden.update(pages)

    def fail(self, area: Area, page: int) -> None:
        """Let memory fail."""
        if not refused(lambda: self.host.hwpoison(HVA(area.hva(page)))):
            area.fail(page)
            self.failed += area.granule * PAGE
            for each in whole(area, page, 1):
                self.on_change(area, each)

    def collapse(self, area: Area, page: int) -> None:
        """Make a huge page of small ones."""
        refused(lambda: self.host.collapse(HVA(area.hva(page))))

    def split(self, area: Area, page: int) -> None:
        """Make small pages of a huge one."""
        self.host.split_huge_page(area.hva(page))

    def age(self, area: Area, page: int, npages: int) -> None:
        """Ask which pages were used, and start afresh."""
        self.host.age(HVA(area.hva(page)), npages * PAGE)

    def fork(self) -> None:
        """Copy the process, or give the copy up."""
        if self.forks:
            self.check_fork(*self.forks.pop())
            return
        held = {
            area.hva(page): bytes(data)
            for area in self.areas
            for page, data in area.own.items()
            if not area.is_lost(page)
        }
        self.forks.append((self.host.fork(), held))

    @staticmethod
    def check_fork(fork: Fork, held: dict[int, bytes]) -> None:
        """Check that a copy has what the process had, and close it."""
        for hva, data in held.items():
            assert fork.read(hva, PAGE) == data, f"the fork has something else at {hva:#x}"
        fork.close()

    # --- the end -------------------------------------------------------------------------

    def close(self) -> None:
        """Check all memory, give everything back, and see that it has come back."""
        host = self.host
        for area in self.areas:
            for page in range(area.npages):
                if area.is_touched(page):
                    self.check(area, page)
        while self.forks:
            self.check_fork(*self.forks.pop())
        for area in self.areas:
            host.munmap(HVA(area.start), area.npages * PAGE)
        host.munmap(self.program, PAGE)
        host.close(self.memfd)
        zeroes = sum(1 << shift for shift in host._zeroes)
        assert host.frames.allocated == zeroes + self.failed, "a page is lost"
        assert len(host.swap) == 0
        assert not self.watcher.open


def whole(area: Area, page: int, npages: int) -> range:
    """Return as much of a range as is in the area, in whole pages of the host."""
    granule = area.granule
    first = page - page % granule
    return range(first, min(-(-(page + npages) // granule) * granule, area.npages))
