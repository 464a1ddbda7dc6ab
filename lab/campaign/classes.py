"""Classes of faults in one place that must come to the same, by when they are injected."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lab.campaign.axis import Pieces
    from lab.campaign.trace import Access


class TimeClass(NamedTuple):
    """One class."""

    time: int
    """When the fault that stands for it is injected: its last moment."""
    weight: int
    """How many moments it has."""


class Times(Protocol):
    """The moments of faults in one place, in classes."""

    @property
    def size(self) -> int:
        """How many moments there are."""

    @property
    def live(self) -> int:
        """How many of them are in classes; the others are masked."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> TimeClass: ...
    def __iter__(self) -> Iterator[TimeClass]: ...
    def class_at(self, index: int) -> int:
        """Return the class of a moment, by its place among those that are in classes."""


class EachTime(Sequence[TimeClass]):
    """Every moment is a class of its own.

    Parameters
    ----------
    times : Pieces or range
        The moments.
    """

    def __init__(self, times: Pieces | range) -> None:
        self._times = times

    @property
    def size(self) -> int:
        """How many moments there are."""
        return len(self._times)

    live = size

    def __len__(self) -> int:
        return len(self._times)

    def __getitem__(self, index: int) -> TimeClass:  # type: ignore[override]  # no slices
        return TimeClass(self._times[index], 1)

    def class_at(self, index: int) -> int:
        """Return the class of a moment."""
        return index


class PrunedTimes(Sequence[TimeClass]):
    """The classes that follow from accesses to the place.

    Parameters
    ----------
    times : Pieces
        The moments at which a fault can be injected.
    accesses : Iterable[Access]
        To the place, by time, one of each time.
    observed : bool
        Whether what the place holds at the end of the run matters.
    """

    def __init__(
        self, times: Pieces, accesses: Iterable[Access], *, observed: bool = False
    ) -> None:
        self.size = len(times)
        self._moments = array("Q")
        weights = array("Q")
        before = 0
        for access in accesses:
            upto = times.below(access.time + 1)
            if access.reads and upto > before:
                self._moments.append(times[upto - 1])
                weights.append(upto - before)
            before = upto
        if observed and self.size > before:
            self._moments.append(times[self.size - 1])
            weights.append(self.size - before)
        self._upto = array("Q", accumulate(weights))

    @property
    def live(self) -> int:
        """How many moments are in classes; the others are masked."""
        return self._upto[-1] if self._upto else 0

    def __len__(self) -> int:
        return len(self._moments)

    def __getitem__(self, index: int) -> TimeClass:  # type: ignore[override]  # no slices
        lower = self._upto[index - 1] if index else 0
        return TimeClass(self._moments[index], self._upto[index] - lower)

    def class_at(self, index: int) -> int:
        """Return the class of a moment, by its place among those that are in classes."""
        return bisect_right(self._upto, index)
