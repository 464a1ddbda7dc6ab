"""MMU notifiers, the host's side: who shares the address space and must hear of its changes.

Between ``invalidate_range_start`` and ``invalidate_range_end`` of a range nobody may
use what they know of it. Start is called before the host's tables change, end after.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from emu.arch.address import PA
    from hyp.host.vma import HVA


class MmuNotifier(Protocol):
    """``struct mmu_notifier_ops``."""

    def invalidate_range_start(self, start: HVA, end: HVA) -> None:
        """Forget the range: it is about to change."""

    def invalidate_range_end(self, start: HVA, end: HVA) -> None:
        """Know that the range has changed."""

    def change_pte(self, hva: HVA, pa: PA) -> None:
        """Know, while the page is invalidated, what is there from now on, read-only."""

    def clear_young(self, start: HVA, end: HVA) -> bool:
        """Return whether a page of the range was used, and say from now on that none was."""

    def clear_flush_young(self, start: HVA, end: HVA) -> bool:
        """Do as ``clear_young``, and let no TLB keep a used page."""

    def test_young(self, hva: HVA) -> bool:
        """Return whether the page was used."""


class Notifiers:
    """The notifiers of one address space, in the order of registration.

    They are not kept alive: a VM that is gone is not told.
    """

    __slots__ = ("_registered",)

    def __init__(self) -> None:
        self._registered: list[weakref.ref[MmuNotifier]] = []

    def __iter__(self) -> Iterator[MmuNotifier]:
        """Yield those that exist."""
        for reference in self._registered:
            notifier = reference()
            if notifier is not None:
                yield notifier

    def register(self, notifier: MmuNotifier) -> None:
        """Tell ``notifier`` of every change from now on."""
        self._registered = [known for known in self._registered if known() is not None]
        self._registered.append(weakref.ref(notifier))

    def unregister(self, notifier: MmuNotifier) -> None:
        """Tell ``notifier`` no longer."""
        self._registered = [known for known in self._registered if known() is not notifier]

    def change_pte(self, hva: HVA, pa: PA) -> None:
        """Tell of a page that has taken another's place, in the middle of its invalidation."""
        for notifier in self:
            notifier.change_pte(hva, pa)

    def invalidate(self, start: HVA, end: HVA) -> Invalidation:
        """Return a context in which the host's tables for the range may change."""
        return Invalidation(self, start, end)


class Invalidation:
    """One change: start on entering, end on leaving, to the same notifiers."""

    __slots__ = ("_end", "_notifiers", "_start")

    def __init__(self, notifiers: Notifiers, start: HVA, end: HVA) -> None:
        self._notifiers = list(notifiers)
        self._start = start
        self._end = end

    def __enter__(self) -> None:
        for notifier in self._notifiers:
            notifier.invalidate_range_start(self._start, self._end)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for notifier in self._notifiers:
            notifier.invalidate_range_end(self._start, self._end)
