"""The performance monitors of one PE, on deterministic time (Arm ARM D13).

Instructions are counted as they retire, cycles are defined by them (:mod:`emu.units.pmu_events`);
no host clock is looked at. The counters are brought up to date whenever Python asks, and the PE is
told how far it may run until one of them overflows.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from emu.arch.registers.performance import (
    COUNTER_NUMBERS,
    CYCLE_COUNTER,
    PMCCFILTR_EL0,
    PMCCNTR_EL0,
    PMCEID0_EL0,
    PMCEID1_EL0,
    PMCNTENCLR_EL0,
    PMCNTENSET_EL0,
    PMCR_EL0,
    PMEVCNTR_EL0,
    PMEVTYPER_EL0,
    PMINTENCLR_EL1,
    PMINTENSET_EL1,
    PMMIR_EL1,
    PMOVSCLR_EL0,
    PMOVSSET_EL0,
    PMSELR_EL0,
    PMSWINC_EL0,
    PMUSERENR_EL0,
    PMUV3P1,
    PMUV3P5,
    PMXEVCNTR_EL0,
    PMXEVTYPER_EL0,
    PmuEvent,
)
from emu.arch.registers.virtualization import MDCR_EL2
from emu.units.pmu_events import (
    ACCESSES,
    EL2,
    FILTER,
    SOURCES,
    Progress,
    counts_at,
    supported_events,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.features import CpuFeatures
    from emu.arch.fields import SystemRegister

EVENT_COUNTERS: Final = 6
"""As Cortex-A57, Cortex-A72 and Neoverse N1 have them."""

UNLIMITED: Final = 1 << 62
"""How far the PE may run if nothing is to overflow."""

_DIVIDER: Final = 64
"""Cycles of PMCR_EL0.D."""

_E, _RESET, _C = PMCR_EL0.E.in_place, PMCR_EL0.P.in_place, PMCR_EL0.C.in_place
_D, _X, _DP = PMCR_EL0.D.in_place, PMCR_EL0.X.in_place, PMCR_EL0.DP.in_place
_LC, _LP = PMCR_EL0.LC.in_place, PMCR_EL0.LP.in_place
_HPME, _HLP = MDCR_EL2.HPME.in_place, MDCR_EL2.HLP.in_place
_CYCLES: Final = 1 << CYCLE_COUNTER
_USERENR: Final = 0xF
_NARROW, _WIDE = 32, 64
"""Bits of a counter at which it overflows."""


class Limits(NamedTuple):
    """How far a PE may run until a counter may overflow."""

    instructions: int
    user: int | None
    """Instructions of EL0; None if no counter tells EL0 from EL1."""
    accesses: int


class _Counting(NamedTuple):
    """A counter that advances with time."""

    number: int
    source: int
    """Which field of :class:`Progress` it follows."""
    levels: tuple[int, ...]
    """At which Exception levels."""


class PerformanceMonitors:
    """The counters, and the registers that control them.

    Parameters
    ----------
    features
        Whether there is such a unit, and of which version.
    progress
        Returns what the PE has executed.
    mdcr
        Returns MDCR_EL2, which is to change between :meth:`sync` and :meth:`plan`.

    Attributes
    ----------
    version
        ID_AA64DFR0_EL1.PMUVer; 0 without a unit.
    counters
        How many event counters there are.
    registers
        Those that live here.
    active
        Whether :meth:`limits` has to be asked before the PE runs.
    counts_accesses
        Whether loads and stores must be counted.
    interrupting
        Whether the interrupt controller passes the overflow interrupt on to the PE.
    """

    NOT_STATE: ClassVar = frozenset({"_readers", "_writers"})

    def __init__(
        self,
        features: CpuFeatures,
        progress: Callable[[], Progress],
        mdcr: Callable[[], int],
    ) -> None:
        self.version = features.pmu_version
        self.counters = EVENT_COUNTERS if self.version else 0
        self._progress = progress
        self._last = Progress((0, 0), (0, 0), (0, 0))
        self._counting: tuple[_Counting, ...] = ()
        self._mdcr = mdcr
        self._control = 0
        self._enabled = 0
        self._interrupts = 0
        self._overflows = 0
        self._select = 0
        self._user = 0
        self._prescaler = 0
        self._counts = [0] * (CYCLE_COUNTER + 1)
        self._types = [0] * (CYCLE_COUNTER + 1)
        self._event_mask = 0xFFFF if self.version >= PMUV3P1 else 0x3FF
        self.active = self.counts_accesses = False
        self.interrupting = False
        identification = sum(1 << event for event in supported_events(self.version))
        self._readers: dict[type[SystemRegister], Callable[[], int]] = {
            PMCR_EL0: lambda: self._control | EVENT_COUNTERS << PMCR_EL0.N.lsb,
            PMCNTENSET_EL0: lambda: self._enabled,
            PMCNTENCLR_EL0: lambda: self._enabled,
            PMOVSSET_EL0: lambda: self._overflows,
            PMOVSCLR_EL0: lambda: self._overflows,
            PMSWINC_EL0: lambda: 0,
            PMSELR_EL0: lambda: self._select,
            PMCEID0_EL0: lambda: identification & 0xFFFF_FFFF,
            PMCEID1_EL0: lambda: identification >> 32,
            PMCCNTR_EL0: lambda: self._counts[CYCLE_COUNTER],
            PMCCFILTR_EL0: lambda: self._types[CYCLE_COUNTER],
            PMXEVTYPER_EL0: lambda: self._types[self._select],
            PMXEVCNTR_EL0: lambda: self._counts[self._select],
            PMUSERENR_EL0: lambda: self._user,
            PMINTENSET_EL1: lambda: self._interrupts,
            PMINTENCLR_EL1: lambda: self._interrupts,
            PMMIR_EL1: lambda: 0,
        }
        self._writers: dict[type[SystemRegister], Callable[[int], None]] = {
            PMCR_EL0: self.write_control,
            PMCNTENSET_EL0: lambda value: self._enable(self._enabled | value),
            PMCNTENCLR_EL0: lambda value: self._enable(self._enabled & ~value),
            PMOVSSET_EL0: lambda value: self._overflow(self._overflows | value),
            PMOVSCLR_EL0: lambda value: self._overflow(self._overflows & ~value),
            PMSWINC_EL0: partial(self.software_increment, level=EL2),
            PMSELR_EL0: self._write_select,
            PMCCNTR_EL0: lambda value: self._write_count(CYCLE_COUNTER, value),
            PMCCFILTR_EL0: lambda value: self._write_type(CYCLE_COUNTER, value),
            PMXEVTYPER_EL0: lambda value: self._write_type(self._select, value),
            PMXEVCNTR_EL0: lambda value: self._write_count(self._select, value),
            PMUSERENR_EL0: self._write_user,
            PMINTENSET_EL1: lambda value: self._enable_interrupts(self._interrupts | value),
            PMINTENCLR_EL1: lambda value: self._enable_interrupts(self._interrupts & ~value),
        }
        for n in COUNTER_NUMBERS:
            self._readers[PMEVCNTR_EL0[n]] = partial(self._counts.__getitem__, n)
            self._readers[PMEVTYPER_EL0[n]] = partial(self._types.__getitem__, n)
            self._writers[PMEVCNTR_EL0[n]] = partial(self._write_count, n)
            self._writers[PMEVTYPER_EL0[n]] = partial(self._write_type, n)
        if not self.version:
            self._readers.clear()
        self.registers = frozenset(self._readers)

    # Registers

    def handles(self, register: type[SystemRegister]) -> bool:
        """Whether ``register`` lives here."""
        return register in self._readers

    def read(self, register: type[SystemRegister]) -> int:
        """Read a register."""
        self.sync()
        return self._readers[register]()

    def write(self, register: type[SystemRegister], value: int) -> None:
        """Write a register; those that are read-only keep their value."""
        self.sync()
        writer = self._writers.get(register)
        if writer is not None:
            writer(int(value))
            self.plan()

    @property
    def first_of_el2(self) -> int:
        """MDCR_EL2.HPMN: event counters from this one on are EL2's own."""
        return min(self._mdcr() & MDCR_EL2.HPMN.mask, EVENT_COUNTERS)

    @property
    def selected(self) -> int:
        """PMSELR_EL0.SEL."""
        return self._select

    def write_control(self, value: int, counters: int = EVENT_COUNTERS) -> None:
        """Write PMCR_EL0; its resets reach the first ``counters`` event counters."""
        self.sync()
        writable = _E | _D | _X | _DP | _LC | (_LP if self.version >= PMUV3P5 else 0)
        self._control = value & writable
        if value & _RESET:
            self._counts[:counters] = [0] * counters
        if value & _C:
            self._counts[CYCLE_COUNTER] = self._prescaler = 0
        self.plan()

    def _write_select(self, value: int) -> None:
        self._select = value & PMSELR_EL0.SEL.mask

    def _write_user(self, value: int) -> None:
        self._user = value & _USERENR

    def _enable(self, counters: int) -> None:
        self._enabled = counters & self._implemented

    def _enable_interrupts(self, counters: int) -> None:
        self._interrupts = counters & self._implemented

    def _overflow(self, counters: int) -> None:
        self._overflows = counters & self._implemented

    def _write_count(self, number: int, value: int) -> None:
        self._counts[number] = value & self._mask(number)

    def _write_type(self, number: int, value: int) -> None:
        event = 0 if number == CYCLE_COUNTER else self._event_mask
        self._types[number] = value & (FILTER | event)

    @property
    def _implemented(self) -> int:
        """The counters that there are, one bit each."""
        return _CYCLES | (1 << EVENT_COUNTERS) - 1

    # Counting

    def _mask(self, number: int) -> int:
        """Return what a counter can hold."""
        wide = number == CYCLE_COUNTER or self.version >= PMUV3P5
        return (1 << (_WIDE if wide else _NARROW)) - 1

    def _overflow_bits(self, number: int) -> int:
        """Return the width at which a counter overflows (PMCR_EL0.LC, LP, MDCR_EL2.HLP)."""
        if number == CYCLE_COUNTER:
            wide = self._control & _LC
        elif number >= self.first_of_el2:
            wide = self._mdcr() & _HLP if self.version >= PMUV3P5 else 0
        else:
            wide = self._control & _LP
        return _WIDE if wide else _NARROW

    def _event(self, number: int) -> int:
        if number == CYCLE_COUNTER:
            return PmuEvent.CPU_CYCLES
        return self._types[number] & self._event_mask

    def _is_on(self, number: int) -> bool:
        if not self._enabled >> number & 1:
            return False
        if self.first_of_el2 <= number < CYCLE_COUNTER:
            return bool(self._mdcr() & _HPME)
        return bool(self._control & _E)

    @property
    def _step(self) -> int:
        """Cycles for one count of the cycle counter."""
        return _DIVIDER if self._control & (_D | _LC) == _D else 1

    def plan(self) -> None:
        """Find which counters advance with time, after a register has changed."""
        counting = []
        for number in (*range(EVENT_COUNTERS), CYCLE_COUNTER) if self._enabled else ():
            if not self._is_on(number):
                continue
            source = SOURCES.get(self._event(number))
            levels = tuple(level for level in (0, 1) if counts_at(self._types[number], level))
            if source is not None and levels:
                counting.append(_Counting(number, source, levels))
        self._counting = tuple(counting)
        self.counts_accesses = any(source == ACCESSES for _, source, _ in counting)
        self.active = bool(counting) or self.interrupt

    def sync(self) -> None:
        """Bring the counters up to date."""
        last, self._last = self._last, self._progress()
        for number, source, levels in self._counting:
            now, before = self._last[source], last[source]
            count = sum(now[level] - before[level] for level in levels)
            if number == CYCLE_COUNTER:
                count, self._prescaler = divmod(self._prescaler + count, self._step)
            self._add(number, count)

    def _add(self, number: int, count: int) -> None:
        """Advance a counter; an overflow of an even one advances the odd one that is chained."""
        bits = self._overflow_bits(number)
        before = self._counts[number]
        wraps = (before & (1 << bits) - 1) + count >> bits
        self._counts[number] = before + count & self._mask(number)
        if not wraps:
            return
        self._overflows |= 1 << number
        chained = number + 1
        if (
            not number & 1
            and chained < EVENT_COUNTERS
            and bits == _NARROW
            and self._event(chained) == PmuEvent.CHAIN
            and self._is_on(chained)
        ):
            self._add(chained, wraps)

    def software_increment(self, counters: int, level: int) -> None:
        """Write PMSWINC_EL0 at an Exception level."""
        self.sync()
        for number in range(EVENT_COUNTERS):
            if (
                counters >> number & 1
                and self._event(number) == PmuEvent.SW_INCR
                and self._is_on(number)
                and counts_at(self._types[number], level)
            ):
                self._add(number, 1)

    # The interrupt

    @property
    def interrupt(self) -> bool:
        """Whether the overflow interrupt is asserted."""
        asserted = self._overflows & self._interrupts
        if not asserted:
            return False
        own = (1 << EVENT_COUNTERS) - (1 << self.first_of_el2)
        if not self._control & _E:
            asserted &= own
        if not self._mdcr() & _HPME:
            asserted &= ~own
        return bool(asserted)

    def limits(self, level: int) -> Limits:
        """Return how far the PE may run until the next overflow.

        Where cycles are counted, an exception may bring the overflow nearer: ask again.

        Parameters
        ----------
        level
            The PE's Exception level. Counters of EL1 alone have no limit while it is at EL0:
            it comes back by an exception.

        Returns
        -------
        Limits
            No instruction if the overflow interrupt is to be taken now.
        """
        self.sync()
        self.active = bool(self._counting) or self.interrupt
        if self.interrupting and self.interrupt:
            return Limits(0, None, 0)
        all_ = accesses = UNLIMITED
        user = UNLIMITED if any(len(levels) == 1 for *_, levels in self._counting) else None
        for number, source, levels in self._counting:
            bits = self._overflow_bits(number)
            left = (1 << bits) - (self._counts[number] & (1 << bits) - 1)
            if number == CYCLE_COUNTER:
                left = left * self._step - self._prescaler
            if source == ACCESSES:
                accesses = min(accesses, left)
            elif user is not None and levels == (0,):
                user = min(user, left)
            elif 0 in levels or level == 1:
                all_ = min(all_, left)
        return Limits(all_, user, accesses)
