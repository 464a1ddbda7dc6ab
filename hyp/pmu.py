"""The performance monitors of a vCPU (arch/arm64/kvm/pmu-emul.c).

The guest's registers trap. Its counters are those of the PE: each that counts with time is backed
by the PE's counter of the same number, as a perf event would, which is started so that it
overflows when the guest's does. SW_INCR and CHAIN are counted here, whatever the filter says, as
KVM does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from emu.arch.registers.performance import (
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
    PMOVSCLR_EL0,
    PMOVSSET_EL0,
    PMSELR_EL0,
    PMUSERENR_EL0,
    PMUV3P1,
    PMUV3P5,
    EventFilter,
    PmuEvent,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hyp.cpufeature import HostFeatures
    from hyp.vcpu import VCPU

_PMCR_MASK: Final = 0xFF
"""What of PMCR_EL0 can be written (ARMV8_PMU_PMCR_MASK)."""
_USERENR_MASK: Final = 0xF
_E, _LP, _LC = PMCR_EL0.E.in_place, PMCR_EL0.LP.in_place, PMCR_EL0.LC.in_place
_RESET_EVENTS, _RESET_CYCLES = PMCR_EL0.P.in_place, PMCR_EL0.C.in_place
_LEVELS: Final = EventFilter.P.in_place | EventFilter.U.in_place
_CYCLE: Final = 1 << CYCLE_COUNTER
_EVENTS_BELOW: Final = _CYCLE - 1
_NOT_BACKED: Final = frozenset({PmuEvent.SW_INCR, PmuEvent.CHAIN})


def guest_pmu_version(features: HostFeatures) -> int:
    """Return PMUVer for guests: that of the host, up to FEAT_PMUv3p5."""
    return min(features.pmu_version, PMUV3P5)


@dataclass(slots=True)
class ArmPmu:
    """What the vCPUs of a VM have in common.

    Parameters
    ----------
    version
        ID_AA64DFR0_EL1.PMUVer of its vCPUs; 0 if they have none.
    nr_counters
        The event counters that they have (PMCR_EL0.N).
    counts_others
        Whether events are counted that the filter does not name; None without a filter.
    exceptions
        The events that the filter treats otherwise.
    """

    version: int
    nr_counters: int
    counts_others: bool | None = None
    exceptions: set[int] = field(default_factory=set)

    @property
    def event_mask(self) -> int:
        """The bits of an event's number (``kvm_pmu_event_mask``)."""
        return 0xFFFF if self.version >= PMUV3P1 else 0x3FF

    def allows(self, event: int) -> bool:
        """Whether the filter lets an event count."""
        return self.counts_others is None or self.counts_others is not (event in self.exceptions)


class Pmu:
    """``struct kvm_pmu`` of a vCPU, and its registers.

    Parameters
    ----------
    vcpu
        Whose it is.

    Attributes
    ----------
    control, enabled, interrupts, overflows, select, user
        PMCR_EL0 without N, PMCNTENSET_EL0, PMINTENSET_EL1, PMOVSSET_EL0, PMSELR_EL0,
        PMUSERENR_EL0.
    types
        PMEVTYPER<n>_EL0; that of number 31 is PMCCFILTR_EL0.
    irq
        The INTID of the overflow interrupt; None until user space has chosen one.
    created
        Whether user space has initialised it (KVM_ARM_VCPU_PMU_V3_INIT).
    level
        Whether the overflow interrupt is asserted.
    on_level
        Called with the level whenever it changes.
    """

    control: int
    enabled: int
    interrupts: int
    overflows: int
    select: int
    user: int
    types: list[int]

    def __init__(self, vcpu: VCPU) -> None:
        self._vcpu = vcpu
        self.irq: int | None = None
        self.created = False
        self.level = False
        self.on_level: Callable[[bool], None] | None = None
        self._backed: dict[int, int] = {}
        self.reset()

    def reset(self) -> None:
        """Give the registers their values after reset (``kvm_pmu_vcpu_reset``)."""
        self._release(_CYCLE | _EVENTS_BELOW)
        self.control = 0 if self._vcpu.vm.features.aarch32_el0 else _LC
        self.enabled = self.interrupts = self.overflows = self.select = self.user = 0
        self.types = [0] * (CYCLE_COUNTER + 1)
        self._counts = [0] * (CYCLE_COUNTER + 1)
        self._update_level()

    @property
    def _shared(self) -> ArmPmu:
        return self._vcpu.vm.arm_pmu

    @property
    def counters(self) -> int:
        """The counters that the guest has, one bit each (``kvm_pmu_accessible_counter_mask``)."""
        return _CYCLE | (1 << self._shared.nr_counters) - 1

    # --- registers -----------------------------------------------------------------------

    def read_control(self) -> int:
        """PMCR_EL0 with its number of counters (``kvm_vcpu_read_pmcr``)."""
        return self.control | self._shared.nr_counters << PMCR_EL0.N.lsb

    def write_control(self, value: int) -> None:
        """Write PMCR_EL0 (``kvm_pmu_handle_pmcr``)."""
        value &= _PMCR_MASK
        self.set_control(value)
        if value & _RESET_CYCLES:
            self.write_count(CYCLE_COUNTER, 0)
        if value & _RESET_EVENTS:
            for number in range(self._shared.nr_counters):
                self.write_count(number, 0)

    def set_nr_counters(self, number: int) -> None:
        """Have all vCPUs so many event counters, before the first run and if the PE has them."""
        vm = self._vcpu.vm
        if number <= vm.features.pmu_counters and not vm.has_run_once:
            self._shared.nr_counters = number

    def set_control(self, value: int) -> None:
        """Set what PMCR_EL0 keeps."""
        if not self._vcpu.vm.features.aarch32_el0:
            value |= _LC
        if self._shared.version < PMUV3P5:
            value &= ~_LP
        self._change(self.counters, control=value & _PMCR_MASK & ~(_RESET_EVENTS | _RESET_CYCLES))

    def set_enabled(self, counters: int) -> None:
        """Set PMCNTENSET_EL0."""
        counters &= self.counters
        self._change(counters ^ self.enabled, enabled=counters)

    def set_interrupts(self, counters: int) -> None:
        """Set PMINTENSET_EL1."""
        self._change(0, interrupts=counters & self.counters)

    def set_overflows(self, counters: int) -> None:
        """Set PMOVSSET_EL0."""
        self._collect()
        self._change(0, overflows=counters & self.counters)

    def read_overflows(self) -> int:
        """PMOVSSET_EL0."""
        self._collect()
        return self.overflows

    def write_user(self, value: int) -> None:
        """Write PMUSERENR_EL0."""
        self.user = value & _USERENR_MASK

    def write_type(self, number: int, value: int) -> None:
        """Write PMEVTYPER<n>_EL0 or PMCCFILTR_EL0 (``kvm_pmu_set_counter_event_type``)."""
        self._collect()
        self._release(1 << number)
        self.types[number] = value & (_LEVELS | self._shared.event_mask)
        self._back(1 << number)

    def read_count(self, number: int) -> int:
        """Read a counter (``kvm_pmu_get_counter_value``)."""
        self._collect()
        return self._count(number)

    def write_count(self, number: int, value: int) -> None:
        """Write a counter (``kvm_pmu_set_counter_value``)."""
        self._collect()
        self._release(1 << number)
        self._counts[number] = value & self._mask(number)
        self._back(1 << number)

    def events(self, half: int) -> int:
        """PMCEID0_EL0 or PMCEID1_EL0: what the PE counts and the filter allows.

        Software increments and chains are always there.
        """
        host = int(self._vcpu.pe.read(PMCEID1_EL0 if half else PMCEID0_EL0))
        own = 0 if half else 1 << PmuEvent.SW_INCR | 1 << PmuEvent.CHAIN
        allowed = sum(1 << n for n in range(32) if self._shared.allows(half << 5 | n))
        return host & allowed | own

    def software_increment(self, counters: int) -> None:
        """Write PMSWINC_EL0 (``kvm_pmu_software_increment``)."""
        self._collect()
        self._increment(counters & self.counters & _EVENTS_BELOW, PmuEvent.SW_INCR)
        self._update_level()

    # --- counting ------------------------------------------------------------------------

    def _mask(self, number: int) -> int:
        wide = number == CYCLE_COUNTER or self._shared.version >= PMUV3P5
        return (1 << (64 if wide else 32)) - 1

    def _overflow_bits(self, number: int) -> int:
        """Return the width at which a counter overflows (``kvm_pmc_has_64bit_overflow``)."""
        return 64 if self.control & (_LC if number == CYCLE_COUNTER else _LP) else 32

    def _event(self, number: int) -> int:
        if number == CYCLE_COUNTER:
            return PmuEvent.CPU_CYCLES
        return self.types[number] & self._shared.event_mask

    def _increment(self, counters: int, event: int) -> None:
        """Count one event in software (``kvm_pmu_counter_increment``)."""
        if not self.control & _E:
            return
        for number in _numbers(counters & self.enabled):
            if self._event(number) != event:
                continue
            self._counts[number] = self._counts[number] + 1 & self._mask(number)
            if not self._counts[number] & (1 << self._overflow_bits(number)) - 1:
                self._overflowed(number)

    def _overflowed(self, number: int) -> None:
        """Note the overflow of a counter, which another may be chained to."""
        self.overflows |= 1 << number
        chained = number + 1
        if not number & 1 and chained < CYCLE_COUNTER and self._overflow_bits(number) == 32:
            self._increment(1 << chained, PmuEvent.CHAIN)

    def _change(self, counters: int, **registers: int) -> None:
        """Change registers on which it depends whether some counters count."""
        self._collect()
        self._release(counters)
        for name, value in registers.items():
            setattr(self, name, value)
        self._back(counters)
        self._update_level()

    # --- the PE's counters ---------------------------------------------------------------

    def load(self) -> None:
        """Have the PE count for this vCPU, which comes to it."""
        pe = self._vcpu.pe
        pe.write(PMCR_EL0.build(E=1, LC=1, LP=self._shared.version >= PMUV3P5))
        pe.pmu.interrupting = True
        self._back(self.counters)

    def put(self) -> None:
        """Stop the PE's counters, since the vCPU leaves it."""
        self._collect()
        self._release(self.counters)
        self._vcpu.pe.pmu.interrupting = False

    def handle_irq(self) -> None:
        """Serve the PE's overflow interrupt (``kvm_pmu_perf_overflow``)."""
        self._collect()
        self._update_level()

    def _collect(self) -> None:
        """Take over the overflows of the PE's counters."""
        if not self._backed:
            return
        pe = self._vcpu.pe
        status = int(pe.read(PMOVSSET_EL0))
        if not status:
            return
        pe.write(PMOVSCLR_EL0(status))
        for number in _numbers(status):
            self._release(1 << number)
            self._overflowed(number)
            self._back(1 << number)
        self._update_level()

    def _back(self, counters: int) -> None:
        """Start the PE's counters that stand behind some of the guest's, where they count.

        (``kvm_pmu_create_perf_event``)
        """
        if self._vcpu.loaded_on is None or not self.control & _E:
            return
        pe = self._vcpu.pe
        for number in _numbers(counters & self.enabled & self.counters):
            event = self._event(number)
            if event in _NOT_BACKED or not self._shared.allows(event):
                continue
            bits = self._overflow_bits(number)
            start = -((1 << bits) - (self._counts[number] & (1 << bits) - 1)) & self._pe_mask(
                number
            )
            filter_ = self.types[number] & _LEVELS
            if number == CYCLE_COUNTER:
                pe.write(PMCCFILTR_EL0(filter_))
                pe.write(PMCCNTR_EL0(start))
            else:
                pe.write(PMEVTYPER_EL0[number](filter_ | event))
                pe.write(PMEVCNTR_EL0[number](start))
            pe.write(PMINTENSET_EL1(1 << number))
            pe.write(PMCNTENSET_EL0(1 << number))
            self._backed[number] = start

    def _release(self, counters: int) -> None:
        """Stop the PE's counters behind some of the guest's, and keep what they have counted.

        (``kvm_pmu_release_perf_event``)
        """
        for number in _numbers(counters):
            if number in self._backed:
                self._counts[number] = self._count(number)
                self._vcpu.pe.write(PMCNTENCLR_EL0(1 << number))
                self._vcpu.pe.write(PMINTENCLR_EL1(1 << number))
                del self._backed[number]

    def _count(self, number: int) -> int:
        start = self._backed.get(number)
        if start is None:
            return self._counts[number]
        pe = self._vcpu.pe
        register = PMCCNTR_EL0 if number == CYCLE_COUNTER else PMEVCNTR_EL0[number]
        counted = int(pe.read(register)) - start & self._pe_mask(number)
        return self._counts[number] + counted & self._mask(number)

    def _pe_mask(self, number: int) -> int:
        """Return what the PE's counter of a number can hold."""
        wide = number == CYCLE_COUNTER or self._vcpu.vm.features.pmu_version >= PMUV3P5
        return (1 << (64 if wide else 32)) - 1

    # --- the interrupt -------------------------------------------------------------------

    def _update_level(self) -> None:
        """Tell of a change of the overflow interrupt (``kvm_pmu_update_state``)."""
        level = bool(self.control & _E and self.overflows & self.interrupts)
        if level != self.level:
            self.level = level
            if self.on_level is not None:
                self.on_level(level)


def kvm_pmu_load(vcpu: VCPU) -> None:
    """Do what concerns the performance monitors when a vCPU comes to a PE.

    EL0's accesses are to trap to EL2, too, and none to be undefined for what PMSELR_EL0 holds
    (``__activate_traps_common``).
    """
    if vcpu.vm.features.pmu_version:
        vcpu.pe.write(PMUSERENR_EL0(_USERENR_MASK))
        vcpu.pe.write(PMSELR_EL0(0))
    if vcpu.pmu is not None:
        vcpu.pmu.load()


def _numbers(counters: int) -> Iterator[int]:
    """Yield the numbers of counters, ascending."""
    while counters:
        lowest = counters & -counters
        yield lowest.bit_length() - 1
        counters ^= lowest
