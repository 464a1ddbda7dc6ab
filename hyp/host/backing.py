"""What is behind areas: files in memory, swap space, and shared frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from emu.arch.address import PA
    from emu.memory import PhysicalMemory
    from hyp.frames import FrameAllocator


class Poisoned:
    """What a file holds instead of a page whose memory has failed."""


POISONED: Final = Poisoned()


class HostFile:
    """A file that lives in memory (memfd_create(2)): what shared areas show.

    Parameters
    ----------
    size
        In bytes, a multiple of the page size.
    page_shift
        12, 21 or 30: the size of its pages.
    anonymous
        Whether it is there for its areas alone, and goes with the last of them.

    Attributes
    ----------
    pages
        What is there of the file, by number of the page: a frame, a page in swap
        space, or the remains of one whose memory has failed.
    """

    __slots__ = ("anonymous", "page_shift", "pages", "size")

    def __init__(self, size: int, page_shift: int, *, anonymous: bool) -> None:
        self.anonymous = anonymous
        self.size = size
        self.page_shift = page_shift
        self.pages: dict[int, PA | bytes | Poisoned] = {}


class SharedFrames:
    """Counts the owners of frames that have more than one.

    Copies of an address space share its anonymous pages until one of them is written.

    Parameters
    ----------
    frames
        Where a frame goes back to with its last owner.
    """

    __slots__ = ("_extra", "_frames")

    def __init__(self, frames: FrameAllocator) -> None:
        self._frames = frames
        self._extra: dict[int, int] = {}

    def get(self, frame: PA) -> None:
        """Add an owner."""
        self._extra[frame] = self._extra.get(frame, 0) + 1

    def put(self, frame: PA, size: int) -> None:
        """Take an owner away; the last one frees the frame."""
        extra = self._extra.get(frame)
        if extra is None:
            self._frames.free(frame, size)
        elif extra == 1:
            del self._extra[frame]
        else:
            self._extra[frame] = extra - 1

    def is_shared(self, frame: PA) -> bool:
        """Return whether a frame has more than one owner."""
        return frame in self._extra


class SwapSpace:
    """Pages that have been written out, by number of their place."""

    __slots__ = ("_next", "_pages")

    def __init__(self) -> None:
        self._pages: dict[int, bytes] = {}
        self._next = 1

    def __len__(self) -> int:
        return len(self._pages)

    def write_out(self, memory: PhysicalMemory, frame: PA, size: int) -> int:
        """Keep the contents of a frame; return their place."""
        place = self._next
        self._next += 1
        self._pages[place] = memory.read(frame, size)
        return place

    def read(self, place: int) -> bytes:
        """Return what was written out."""
        return self._pages[place]

    def free(self, place: int) -> None:
        """Forget what was written out."""
        del self._pages[place]
