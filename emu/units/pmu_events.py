"""What a performance monitor counts: events, at some Exception levels (Arm ARM D13)."""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.arch.registers.performance import PMUV3P1, EventFilter, PmuEvent

_NSH: Final = EventFilter.NSH.in_place
_P, _U = EventFilter.P.in_place, EventFilter.U.in_place
_NSK, _NSU = EventFilter.NSK.in_place, EventFilter.NSU.in_place
FILTER: Final = _P | _U | _NSK | _NSU | _NSH | EventFilter.M.in_place
"""What a filter consists of."""

EL2: Final = 2
"""The level of EL2, which no :class:`Progress` is of: only software increments count there."""


class Progress(NamedTuple):
    """What a PE has executed since it was made, by Exception level: EL0, EL1.

    A cycle is one instruction that retires, or one exception that is taken; an access is a load or
    store that completes.
    """

    instructions: tuple[int, int]
    cycles: tuple[int, int]
    accesses: tuple[int, int]


ACCESSES: Final = 2
SOURCES: Final[dict[int, int]] = {
    PmuEvent.INST_RETIRED: 0,
    PmuEvent.CPU_CYCLES: 1,
    PmuEvent.MEM_ACCESS: ACCESSES,
}
"""The events that advance with time, by the field of :class:`Progress` that counts them."""


def supported_events(pmuver: int) -> frozenset[PmuEvent]:
    """Return the events that are counted, for a version of the extension.

    The PE never stalls, so the later versions' stall events are exactly zero.
    """
    stalls = {PmuEvent.STALL_FRONTEND, PmuEvent.STALL_BACKEND}
    return frozenset(set(PmuEvent) if pmuver >= PMUV3P1 else set(PmuEvent) - stalls)


def counts_at(filter_: int, level: int) -> bool:
    """Whether a counter with this filter counts at an Exception level."""
    if level == EL2:
        return bool(filter_ & _NSH)
    off, inverted = ((_U, _NSU), (_P, _NSK))[level]
    return bool(filter_ & off) == bool(filter_ & inverted)
