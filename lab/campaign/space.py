"""The fault space: every fault that a campaign could inject, and the classes among them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lab.campaign.axis import Combinations, Pieces, values_of
from lab.campaign.classes import EachTime, PrunedTimes, TimeClass, Times
from lab.campaign.known import model_called, trigger_called
from lab.campaign.place import Bytes, Nowhere, Place, Register, bit_of, name_of, place_of, together
from lab.campaign.spec import TOUCHED
from lab.errors import UserError
from lab.faults.planned import PlannedFault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lab.campaign.spec import Campaign, FaultSpace, When
    from lab.campaign.trace import Trace
    from lab.faults.fault import Fault
    from lab.faults.trigger import Trigger

INSTRUCTION_TRIGGER: Final = "retired"
"""The trigger of faults that are injected before an instruction known by its number."""
INSTRUCTION_PARAMETER: Final = "count"
_KEPT: Final = 1 << 14
"""Faults of a part that are kept: most places have many moments."""
_LIFESPAN: Final = "a fault's lifespan"
"""An axis beside the parameters of a model; no parameter has such a name."""


class Member(NamedTuple):
    """A class of faults of the space, as one experiment stands for it."""

    faults: tuple[PlannedFault, ...]
    weight: int
    location: str
    bit: int | None
    time: int


class Part:
    """The faults of one table of the campaign, one fault a run.

    Parameters
    ----------
    space : FaultSpace
        The table.
    moments : Callable[[Fault], Times]
        The moments of the faults in a place, in classes.
    trigger : Callable[[int], Trigger]
        The trigger of a moment.
    """

    def __init__(
        self,
        space: FaultSpace,
        moments: Callable[[Fault], Times],
        trigger: Callable[[int], Trigger],
    ) -> None:
        self._model = model_called(space.model)
        axes = {name: values_of(value) for name, value in space.parameters.items()}
        self._places = Combinations({**axes, _LIFESPAN: space.lifespans})
        self._trigger = trigger
        self._fault = lru_cache(_KEPT)(self._make)
        self._times = [moments(self._fault(i)[0]) for i in range(len(self._places))]
        self._classes = [0, *accumulate(map(len, self._times))]
        self._live = [0, *accumulate(times.live for times in self._times)]
        self.size = sum(times.size for times in self._times)

    @property
    def live(self) -> int:
        """The faults that are in classes; the others are masked."""
        return self._live[-1]

    def __len__(self) -> int:
        return self._classes[-1]

    def __getitem__(self, index: int) -> Member:
        place = bisect_right(self._classes, index) - 1
        time, weight = self._times[place][index - self._classes[place]]
        fault, lifespan = self._fault(place)
        planned = PlannedFault(self._trigger(time), fault, lifespan)
        return Member((planned,), weight, name_of(fault), bit_of(fault), time)

    def class_at(self, index: int) -> int:
        """Return the class of a fault, by its place among those that are in classes."""
        place = bisect_right(self._live, index) - 1
        return self._classes[place] + self._times[place].class_at(index - self._live[place])

    def _make(self, place: int) -> tuple[Fault, int | None]:
        """Make the fault of a place, and say how long it stays."""
        values = self._places[place]
        lifespan = values.pop(_LIFESPAN)
        return self._model(**values), lifespan


class Together:
    """Several faults a run: one of each part. All of them are classes of their own.

    Parameters
    ----------
    parts : Sequence[Part]
        The parts; the faults of the last one change first.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.size = self.live = prod(map(len, parts))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Member:
        members = []
        for part in reversed(self._parts):
            index, place = divmod(index, len(part))
            members.append(part[place])
        members.reverse()
        faults = tuple(fault for member in members for fault in member.faults)
        location = " + ".join(member.location for member in members)
        return members[0]._replace(faults=faults, weight=1, location=location)

    def class_at(self, index: int) -> int:
        """Return the class of a fault."""
        return index


class Space:
    """All faults of a campaign: its parts, one after the other.

    Parameters
    ----------
    parts : Sequence[Part or Together]
        The parts.

    Attributes
    ----------
    size, live : int
        Faults, and those of them that are in classes; the others are masked.
    """

    def __init__(self, parts: Sequence[Part | Together]) -> None:
        self._parts = parts
        self._classes = [0, *accumulate(map(len, parts))]
        self._live = [0, *accumulate(part.live for part in parts)]
        self.size = sum(part.size for part in parts)
        self.live = self._live[-1]

    def __len__(self) -> int:
        return self._classes[-1]

    def __getitem__(self, index: int) -> Member:
        if not 0 <= index < len(self):
            raise IndexError(f"the space has {len(self)} classes, and none of number {index}")
        part = bisect_right(self._classes, index) - 1
        return self._parts[part][index - self._classes[part]]

    def class_at(self, index: int) -> int:
        """Return the class of a fault, by its place among those that are in classes."""
        part = bisect_right(self._live, index) - 1
        return self._classes[part] + self._parts[part].class_at(index - self._live[part])


def enumerate_space(
    campaign: Campaign, golden: Trace, symbols: Mapping[str, range] | None = None
) -> Space:
    """Return the fault space of a campaign.

    Parameters
    ----------
    campaign : Campaign
        What to inject, and when.
    golden : Trace
        What the guest does without faults: how long it runs, and if the campaign prunes, what
        it reads and writes.
    symbols : Mapping[str, range] or None
        Where the guest's functions are, for those that the campaign names.

    Raises
    ------
    UserError
        If the campaign names an unknown symbol, or moments behind the golden run's end.
    """
    spaces = [each for space in campaign.spaces for each in with_addresses(space, golden)]
    return Space([_part(campaign, space, golden, symbols or {}) for space in spaces])


def with_addresses(space: FaultSpace, golden: Trace) -> list[FaultSpace]:
    """Return a space with the addresses that :data:`TOUCHED` stands for, in several if need be.

    Raises
    ------
    UserError
        If there is no such address.
    """
    if any(member.parameters.get("address") == TOUCHED for member in space.also):
        raise UserError(f'address = "{TOUCHED}" is for the first fault of a run; give addresses')
    if space.parameters.get("address") != TOUCHED:
        return [space]
    keys = ("space", "size", "stage", "level")
    given = {key: values_of(space.parameters[key]) for key in keys if key in space.parameters}
    found = []
    for values in Combinations(given):
        addresses = _addresses(values, golden)
        if addresses:
            parameters = {**space.parameters, **values, "address": addresses}
            found.append(replace(space, parameters=parameters))
    if not found:
        raise UserError(
            f'{space.model}: nothing that address = "{TOUCHED}" could stand for is accessed in the '
            "golden run; give addresses"
        )
    return found


def _addresses(values: Mapping[str, Any], golden: Trace) -> list[int]:
    if values.get("space") in ("pa", "ipa"):
        return golden.memory_accessed(values["space"], values.get("size", 1))
    if values.get("stage") == 2 and values.get("level") in range(len(golden.table_shifts)):
        return golden.descriptors_accessed(values["level"])
    raise UserError(
        f'address = "{TOUCHED}" is for memory with space "pa" or "ipa", and for descriptors with '
        "stage 2 and a level from 0 to 3"
    )


def _part(
    campaign: Campaign, space: FaultSpace, golden: Trace, symbols: Mapping[str, range]
) -> Part | Together:
    if not space.also:
        return _single(space, golden, symbols, prune=campaign.prune)
    members = (space, *space.also)
    return Together([_single(member, golden, symbols, prune=False) for member in members])


def _single(space: FaultSpace, golden: Trace, symbols: Mapping[str, range], *, prune: bool) -> Part:
    if space.when.trigger:
        kind = trigger_called(space.when.trigger)
        values = {name: values_of(value) for name, value in space.when.parameters.items()}
        triggers = Combinations(values)
        return Part(space, lambda _: EachTime(range(len(triggers))), lambda i: kind(**triggers[i]))
    kind = trigger_called(INSTRUCTION_TRIGGER)
    times = _times(space.when, golden, symbols)
    every = EachTime(times)
    known: dict[Place, Times] = {}

    def moments(fault: Fault) -> Times:
        place = place_of(fault, golden) if prune else None
        if place is None:
            return every
        if place not in known:
            known[place] = classes_of(place, times, golden)
        return known[place]

    return Part(space, moments, lambda time: kind(**{INSTRUCTION_PARAMETER: time}))


def _times(when: When, golden: Trace, symbols: Mapping[str, range]) -> Pieces:
    """Return the instructions before which faults are injected."""
    times = Pieces([range(golden.length)])
    for window in when.windows:
        if window.stop > golden.length:
            raise UserError(
                f"the window {window.start} to {window.stop - 1} goes beyond the golden run, whose "
                f"last instruction is number {golden.length - 1}; end it there"
            )
    if when.windows:
        times = times.common(Pieces(when.windows))
    if when.symbols:
        inside = golden.times_in([symbols[name] for name in when.symbols])
        times = times.common(inside)
        if not times:
            names = ", ".join(when.symbols)
            raise UserError(f"the golden run does not execute {names} then; choose another symbol")
    return times


class _Several(Sequence[TimeClass]):
    """The classes of a place that every vCPU has one of: those of each, one after the other."""

    def __init__(self, each: Sequence[Times]) -> None:
        self._each = each
        self._classes = [0, *accumulate(map(len, each))]
        self._live = [0, *accumulate(times.live for times in each)]
        self.size = sum(times.size for times in each)
        self.live = self._live[-1]

    def __len__(self) -> int:
        return self._classes[-1]

    def __getitem__(self, index: int) -> TimeClass:  # type: ignore[override]  # no slices
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} classes, and none of number {index}")
        which = bisect_right(self._classes, index) - 1
        return self._each[which][index - self._classes[which]]

    def class_at(self, index: int) -> int:
        which = bisect_right(self._live, index) - 1
        return self._classes[which] + self._each[which].class_at(index - self._live[which])


def classes_of(place: Place, times: Pieces, golden: Trace) -> Times:
    """Return the classes of faults in a place that are injected at some of these times."""
    match place:
        case Nowhere():
            return PrunedTimes(times, [])
        case Register(name):
            return _Several(
                [
                    PrunedTimes(times.common(golden.times_of(v)), golden.of_register(v, name))
                    for v in golden.vcpus
                ]
            )
        case Bytes(pa, size, appears):
            each = [golden.of_byte(pa + i, appears=appears) for i in range(size)]
            return PrunedTimes(times, together(each))
