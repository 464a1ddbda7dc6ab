"""The distributor: all interrupts of a VM, where they go, and which is the next for a vCPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from hyp.vgic.cpuif import CpuInterface, CpuState, Signal
from hyp.vgic.irq import NR_PRIVATE, NR_SGIS, Config, Irq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LATEST_REVISION: Final = 3
"""KVM_VGIC_IMP_REV_LATEST, as IIDR shows it."""

_LEVEL: Final = Config.LEVEL

MPIDR_AFF210: Final = 0xFF_FFFF
"""The affinity fields that IROUTER keeps: there is no Aff3."""


@dataclass(slots=True)
class DistState:
    """What the distributor remembers. All of it is plain.

    Attributes
    ----------
    enabled
        Whether pending interrupts are forwarded to the CPU interfaces.
    revision
        GICD_IIDR.Revision.
    v2_groups_user_writable
        User space has written GICD_IIDR, so it knows of interrupt groups.
    private, spis
        The interrupts: private ones by vCPU.
    """

    private: list[list[Irq]]
    spis: list[Irq]
    enabled: bool = False
    revision: int = LATEST_REVISION
    v2_groups_user_writable: bool = False

    def copy(self) -> DistState:
        """Return a copy that shares nothing."""
        private = [[replace(irq) for irq in own] for own in self.private]
        return replace(self, private=private, spis=[replace(irq) for irq in self.spis])


class Distributor:
    """The interrupts of a VM with a GICv2 or GICv3.

    Parameters
    ----------
    version
        2 or 3.
    mpidrs
        The affinities of the vCPUs, in the order of their creation.
    nr_irqs
        How many INTIDs there are, a multiple of 32.

    Attributes
    ----------
    cpus
        The CPU interfaces.
    signals
        What each vCPU is signalled, as of the last ``settle``.
    on_signal
        Called with a vCPU's number when what it is signalled has changed.
    losing
        How many times each interrupt is still lost when it becomes pending, by :func:`key_of`.
        None is, unless an experiment says so.
    """

    def __init__(self, version: int, mpidrs: Sequence[int], nr_irqs: int) -> None:
        self.version = version
        self.mpidrs = [mpidr & MPIDR_AFF210 for mpidr in mpidrs]
        self.nr_irqs = nr_irqs
        self.state = DistState(
            private=[
                [self._new_private(cpu, intid) for intid in range(NR_PRIVATE)]
                for cpu in range(len(mpidrs))
            ],
            spis=[self._new_spi(intid) for intid in range(NR_PRIVATE, nr_irqs)],
        )
        self.cpus = [CpuInterface(self, cpu) for cpu in range(len(mpidrs))]
        self.signals = [Signal.NONE] * len(mpidrs)
        self.on_signal: Callable[[int], None] | None = None
        # By vCPU: what it could take now. An interrupt is in one of them at most.
        self._queues: list[dict[int, Irq]] = [{} for _ in mpidrs]
        self.losing: dict[int, int] = {}
        self._queued_on: dict[int, int] = {}
        self._stale = 0

    def _new_private(self, cpu: int, intid: int) -> Irq:
        is_sgi = intid < NR_SGIS
        return Irq(
            intid=intid,
            owner=cpu,
            target=cpu,
            group=self.version - 2,
            config=Config.EDGE if is_sgi else Config.LEVEL,
            enabled=is_sgi,
            targets=1 << cpu if self.version == 2 else 0,
            mpidr=self.mpidrs[cpu],
        )

    def _new_spi(self, intid: int) -> Irq:
        return Irq(intid=intid, owner=None, target=0, group=self.version - 2)

    # --- lookup --------------------------------------------------------------------------

    def irq(self, cpu: int, intid: int) -> Irq | None:
        """Return an interrupt as vCPU ``cpu`` sees it; ``None`` if there is no such INTID."""
        if 0 <= intid < NR_PRIVATE:
            return self.state.private[cpu][intid]
        if NR_PRIVATE <= intid < self.nr_irqs:
            return self.state.spis[intid - NR_PRIVATE]
        return None

    def cpu_by_affinity(self, mpidr: int) -> int | None:
        """Return the vCPU with this affinity."""
        return self.mpidrs.index(mpidr) if mpidr in self.mpidrs else None

    # --- what is next --------------------------------------------------------------------

    def highest_pending(self, cpu: int, group_enabled: Sequence[bool]) -> Irq | None:
        """Return the pending interrupt of highest priority in the enabled groups.

        Of equal priorities, that with the lowest INTID comes first. The architecture
        leaves the choice open.
        """
        if not self.state.enabled:
            return None
        best: Irq | None = None
        for irq in self._queues[cpu].values():
            if group_enabled[irq.group] and (
                best is None or (irq.priority, irq.intid) < (best.priority, best.intid)
            ):
                best = irq
        return best

    # --- changes -------------------------------------------------------------------------

    def requeue(self, irq: Irq) -> None:
        """Take note that anything about ``irq`` may have changed."""
        key = key_of(irq)
        if self.losing and key in self.losing and irq.is_pending:
            self._lose(key, irq)
        before, now = self._queued_on.get(key), irq.waits_on
        if before != now:
            if before is not None:
                del self._queues[before][key]
                del self._queued_on[key]
            if now is not None:
                self._queues[now][key] = irq
                self._queued_on[key] = now
        for cpu in (before, now):
            if cpu is not None:
                self._stale |= 1 << cpu

    def _lose(self, key: int, irq: Irq) -> None:
        """Have an interrupt that became pending not be."""
        irq.pending_latch = irq.line_level = False
        irq.source = 0
        self.losing[key] -= 1
        if not self.losing[key]:
            del self.losing[key]

    def touch(self, cpu: int) -> None:
        """Take note that a CPU interface has changed."""
        self._stale |= 1 << cpu

    def set_enabled(self, *, enabled: bool) -> None:
        """Start or stop forwarding to all CPU interfaces."""
        self.state.enabled = enabled
        self._stale = (1 << len(self.cpus)) - 1

    def settle(self) -> None:
        """Bring the lines of all vCPUs up to date, and tell of those that changed."""
        stale, self._stale = self._stale, 0
        cpu = 0
        while stale:
            if stale & 1:
                signal = self.cpus[cpu].signal
                if signal is not self.signals[cpu]:
                    self.signals[cpu] = signal
                    if self.on_signal is not None:
                        self.on_signal(cpu)
            stale >>= 1
            cpu += 1

    # --- operations on interrupts --------------------------------------------------------

    def inject(self, irq: Irq, *, level: bool) -> None:
        """Move the input of an interrupt (``kvm_vgic_inject_irq``).

        A level-sensitive interrupt follows it; for an edge-triggered one only a rising edge
        counts, and each call with a high level is one.
        """
        if irq.config is _LEVEL:
            irq.line_level = level
        elif level:
            irq.pending_latch = True
        self.requeue(irq)

    def send_v2_sgi(self, irq: Irq, source: int) -> None:
        """Make an SGI of a GICv2 pending, from vCPU ``source``."""
        irq.source |= 1 << source
        irq.pending_latch = True
        self.requeue(irq)

    def set_active(self, irq: Irq, *, active: bool, by: int) -> None:
        """Make an interrupt active or inactive, priorities aside (``vgic_mmio_change_active``).

        Parameters
        ----------
        by
            The vCPU that does: an active SGI of a GICv2 then is one that it has sent.
        """
        irq.active = active
        if not active:
            irq.active_on = None
        elif irq.active_on is None:
            irq.active_on = irq.target
        if active and self.version == 2 and irq.is_sgi:
            irq.active_source = by
        self.requeue(irq)

    def deactivate(self, irq: Irq) -> None:
        """End an active interrupt; if it is pending, it can be taken again."""
        irq.active = False
        irq.active_on = None
        self.requeue(irq)

    def route(self, irq: Irq, target: int | None) -> None:
        """Choose the vCPU of an SPI. It keeps the one that has it active."""
        irq.target = target
        self.requeue(irq)

    # --- snapshots -----------------------------------------------------------------------

    def save(self) -> tuple[DistState, list[CpuState]]:
        """Return a copy of all state."""
        return self.state.copy(), [cpu.state.copy() for cpu in self.cpus]

    def restore(self, saved: tuple[DistState, list[CpuState]]) -> None:
        """Take over what ``save`` of an equal distributor returned; ``saved`` stays as it is."""
        dist, states = saved
        self.state = dist.copy()
        for cpu, state in zip(self.cpus, states, strict=True):
            cpu.state = state.copy()
        self._queues = [{} for _ in self.cpus]
        self._queued_on = {}
        for irq in self._all():
            self.requeue(irq)
        self._stale = (1 << len(self.cpus)) - 1
        self.settle()

    def _all(self) -> Iterator[Irq]:
        for private in self.state.private:
            yield from private
        yield from self.state.spis


def key_of(irq: Irq) -> int:
    """Return a number that no other interrupt of the GIC has."""
    return irq.intid if irq.owner is None else irq.intid - NR_PRIVATE * (irq.owner + 1)
