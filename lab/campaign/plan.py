"""A plan: the experiments of a campaign in their order, and what they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.campaign.outcome import RunFacts
    from lab.campaign.statistics import Interval
    from lab.faults.planned import PlannedFault


class Experiment(NamedTuple):
    """One run with faults."""

    id: int
    """Its place in the plan, from 0 on."""
    faults: tuple[PlannedFault, ...]
    weight: int
    """How many faults it stands for: all of its class, or as often as its class was drawn."""
    location: str
    """Where the first fault is, for people: ``x3``."""
    bit: int | None
    """The bit that the first fault changes, if it names one."""
    time: int
    """Instructions retired before the first fault; where its trigger does not say, the number
    of its trigger among those of its space."""


class Experiments(Sequence[Experiment]):
    """The experiments of a plan, each made when it is asked for."""

    def __init__(self, count: int, make: Callable[[int], Experiment]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Experiment: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Experiment]: ...
    def __getitem__(self, index: int | slice) -> Experiment | Sequence[Experiment]:
        if isinstance(index, slice):
            return [self._make(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"the plan has {self._count} experiments, and none of number {index}")
        return self._make(index % self._count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign will run.

    Attributes
    ----------
    experiments : Sequence[Experiment]
        In the order in which they are run, numbered from 0 on.
    size : int
        Faults in the space.
    classes : int
        Classes of equivalent faults that need a run, in all of the space.
    masked : int
        Faults of the space that nothing reads any more: masked, without a run.
    golden : RunFacts or None
        The run without faults; None where a plan is only to be evaluated.
    hash : str
        Of all that decides the plan and its outcomes: the guest, the configuration, the
        campaign, the golden run, the version of the project. In hexadecimal.
    draws : Sequence[int] or None
        Of a sample: for each draw the number of its experiment. None: all classes are run.
    by_lifetime : bool
        Each draw was of one fault of the space; otherwise of one class, which counts as much
        as it has faults.
    confidence : float
        Of the intervals that :meth:`estimate` gives.
    stop_margin : float or None
        The half width of intervals at which a sample may end early; None: it may not.
    """

    experiments: Sequence[Experiment]
    size: int
    classes: int
    masked: int
    hash: str
    golden: RunFacts | None = None
    draws: Sequence[int] | None = None
    by_lifetime: bool = True
    confidence: float = 0.95
    stop_margin: float | None = None

    def estimate(self, outcomes: Mapping[int, str]) -> dict[str, Interval]:
        """Return the share of each outcome among all faults of the space.

        Parameters
        ----------
        outcomes : Mapping[int, str]
            Of experiments by number. Those that are not there yet are left out: of a sample,
            the draws from the first one on whose experiment is missing.
        """
        from lab.campaign.estimate import estimate  # noqa: PLC0415  # it needs this module

        return estimate(self, outcomes)

    def is_enough(self, outcomes: Mapping[int, str]) -> bool:
        """Whether a sample may end early: all intervals are as narrow as asked for."""
        from lab.campaign.estimate import is_enough  # noqa: PLC0415  # it needs this module

        return is_enough(self, outcomes)
