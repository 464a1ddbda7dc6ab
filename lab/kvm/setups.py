"""Ways to give a guest its memory, each of which KVM treats otherwise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from emu.arch.address import PAGE_MASK, PAGE_SIZE
from hyp.dirty_log import ManualProtect
from hyp.vm import Cap
from lab.config import RamSlot
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lab.config import RunConfig
    from lab.loader import Image

_NO_PROTECT: Final = ManualProtect(0)
_HUGE: Final = 2 << 20
_CUTS: Final = (1 << 20, (2 << 20) + PAGE_SIZE)
"""Sizes of the first slots: in the block that holds a bundled guest, and a page after a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLine:
    """What user space does each time the guest has printed a line.

    Attributes
    ----------
    collect : bool
        The dirty log of each slot that has one is read; it counts as an event.
    toggle : bool
        Then logging of RAM is turned on if it is off, and off if it is on.
    """

    collect: bool = False
    toggle: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One way to give a guest its memory.

    Attributes
    ----------
    name, summary : str
        What it is chosen by, and what it is.
    options : tuple[str, ...]
        Options of ``stage2 run``.
    ram : Callable
        Into which slots RAM is cut for an image.
    at_line : AtLine
        What happens while the guest runs.
    manual : ManualProtect
        The argument of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. With it, what is read of a dirty
        log is cleared by KVM_CLEAR_DIRTY_LOG.
    caps : tuple[tuple[Cap, int], ...]
        Capabilities to enable, with their arguments.
    needs : Cap or None
        The set-up is left out where KVM does not have this.
    """

    name: str
    summary: str
    options: tuple[str, ...] = ()
    ram: Callable[[RunConfig, Image], Sequence[RamSlot]] = lambda _config, _image: ()
    at_line: AtLine = AtLine()
    manual: ManualProtect = _NO_PROTECT
    caps: tuple[tuple[Cap, int], ...] = ()
    needs: Cap | None = None

    @property
    def all_caps(self) -> tuple[tuple[Cap, int], ...]:
        """The capabilities to enable, manual protection among them."""
        if not self.manual:
            return self.caps
        return ((Cap.MANUAL_DIRTY_LOG_PROTECT2, int(self.manual)), *self.caps)

    def applied(self, config: RunConfig, image: Image) -> RunConfig:
        """Return the configuration with RAM cut into the slots of this set-up."""
        return replace(config, ram_slots=tuple(self.ram(config, image)))


def _several(_config: RunConfig, _image: Image) -> Sequence[RamSlot]:
    return [RamSlot(size) for size in _CUTS]


def _read_only_entry(config: RunConfig, image: Image) -> Sequence[RamSlot]:
    page = image.entry - config.ram.base & ~PAGE_MASK
    return [RamSlot(page), RamSlot(PAGE_SIZE, read_only=True)] if page > 0 else []


ALL: Final = (
    Setup(
        name="plain",
        summary="shared memory by 4K pages, one slot",
        options=("--backing", "4K"),
    ),
    Setup(
        name="private",
        summary="private memory by 4K pages: one that is read is mapped read-only",
        options=("--backing", "private"),
    ),
    Setup(
        name="thp",
        summary="transparent huge pages: blocks of 2M where the host has them",
        options=("--backing", "thp"),
    ),
    Setup(
        name="hugetlb",
        summary="huge pages of hugetlbfs: blocks of 2M",
        options=("--backing", "2M"),
    ),
    Setup(
        name="hugetlb-moved",
        summary="the same, a page off in the slot: no block fits",
        options=("--backing", "2M+4K"),
    ),
    Setup(
        name="thp-moved",
        summary="transparent huge pages, a page off in the slot: no block fits",
        options=("--backing", "thp+4K"),
    ),
    Setup(
        name="slots",
        summary="huge pages, and RAM in three slots that begin within blocks",
        options=("--backing", "2M"),
        ram=_several,
    ),
    Setup(
        name="rom",
        summary="RAM in three slots; the one with the page of the entry point is read-only",
        options=("--backing", "4K"),
        ram=_read_only_entry,
    ),
    Setup(
        name="log",
        summary="dirty logging, read at the end",
        options=("--backing", "4K", "--dirty-log"),
    ),
    Setup(
        name="log-lines",
        summary="dirty logging, read after each line that the guest prints",
        options=("--backing", "4K", "--dirty-log"),
        at_line=AtLine(collect=True),
    ),
    Setup(
        name="log-manual",
        summary="the same with manual protection: all pages begin dirty, reading does not clear",
        options=("--backing", "4K", "--dirty-log"),
        at_line=AtLine(collect=True),
        manual=ManualProtect.ENABLE | ManualProtect.INITIALLY_SET,
    ),
    Setup(
        name="log-thp",
        summary="transparent huge pages and dirty logging, read after each line",
        options=("--backing", "thp", "--dirty-log"),
        at_line=AtLine(collect=True),
    ),
    Setup(
        name="log-toggled",
        summary="huge pages; logging is turned on and off in turn after each line: "
        "blocks are split when they are written",
        options=("--backing", "2M"),
        at_line=AtLine(toggle=True, collect=True),
    ),
    Setup(
        name="log-eager",
        summary="the same, but blocks are split when logging is turned on",
        options=("--backing", "2M"),
        at_line=AtLine(toggle=True, collect=True),
        caps=((Cap.ARM_EAGER_SPLIT_CHUNK_SIZE, _HUGE),),
        needs=Cap.ARM_SUPPORTED_BLOCK_SIZES,
    ),
)
"""The set-ups, in the order in which they are shown."""

AS_RUN: Final = Setup(name="as-run", summary="as stage2 run gives it")
"""What a guest has for which no set-up is chosen."""


def chosen(names: Sequence[str]) -> tuple[Setup, ...]:
    """Return the set-ups that the user names; ``all`` stands for each.

    Raises
    ------
    UserError
        If there is none of a name.
    """
    if not names:
        return (AS_RUN,)
    if "all" in names:
        return ALL
    return tuple(named(name) for name in dict.fromkeys(names))


def named(name: str) -> Setup:
    """Return a set-up.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    for setup in ALL:
        if setup.name == name:
            return setup
    names = ", ".join(setup.name for setup in ALL)
    raise UserError(f"--setup: there is no set-up {name!r}; there are {names}")
