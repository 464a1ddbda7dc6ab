"""The CPU interface of one vCPU: what it takes, in which order, and what preempts what.

The state is that of ICH_VMCR_EL2 and ICH_AP0R0_EL2, ICH_AP1R0_EL2, which KVM leaves to
hardware. :mod:`hyp.vgic.v2_cpu` and :mod:`hyp.vgic.v3_sysregs` are the two ways to reach it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntFlag
from typing import TYPE_CHECKING, Final

from hyp.vgic.irq import FIRST_SPECIAL, PRIORITY_MASK, PRIORITY_SHIFT

if TYPE_CHECKING:
    from hyp.vgic.dist import Distributor
    from hyp.vgic.irq import Irq

IDLE_PRIORITY: Final = 0xFF
"""The running priority while nothing runs."""

MIN_BPR: Final = (2, 3)
"""The least binary points of Group 0 and 1, with 5 bits of preemption."""


class Signal(IntFlag):
    """What a vCPU is signalled: the virtual interrupt lines."""

    NONE = 0
    IRQ = 1
    FIQ = 2


_NONE: Final = Signal.NONE
_IRQ: Final = Signal.IRQ
_FIQ: Final = Signal.FIQ


@dataclass(slots=True)
class CpuState:
    """What a CPU interface remembers. All of it is plain.

    Attributes
    ----------
    group_enabled, bpr, apr
        By group. A GICv2 has one APR; it is that of Group 1, as KVM on a GICv3 host has it.
    ack_ctl, fiq_en
        GICC_CTLR.AckCtl and FIQEn of a GICv2.
    cbpr
        Group 1 uses the binary point of Group 0.
    eoi_mode
        Priority drop and deactivation are two steps.
    """

    group_enabled: list[bool] = field(default_factory=lambda: [False, False])
    bpr: list[int] = field(default_factory=lambda: list(MIN_BPR))
    apr: list[int] = field(default_factory=lambda: [0, 0])
    pmr: int = 0
    ack_ctl: bool = False
    fiq_en: bool = False
    cbpr: bool = False
    eoi_mode: bool = False

    def copy(self) -> CpuState:
        """Return a copy that shares nothing."""
        return replace(self, group_enabled=[*self.group_enabled], bpr=[*self.bpr], apr=[*self.apr])


class CpuInterface:
    """The CPU interface of vCPU ``number``.

    Parameters
    ----------
    dist
        Whose interrupts it takes.
    number
        The vCPU's number.
    """

    __slots__ = ("dist", "number", "state")

    def __init__(self, dist: Distributor, number: int) -> None:
        self.dist = dist
        self.number = number
        self.state = CpuState()

    # --- priorities ----------------------------------------------------------------------

    def group_priority(self, priority: int, group: int) -> int:
        """Return the part of a priority that decides on preemption (``VPriorityGroup``)."""
        state = self.state
        shift = state.bpr[0] + 1 if group == 0 or state.cbpr else state.bpr[1]
        return priority & 0xFF << shift & 0xFF

    @property
    def running_priority(self) -> int:
        """The group priority of what runs, 0xFF if nothing does."""
        return _lowest(self.state.apr[0] | self.state.apr[1])

    def set_bpr(self, group: int, value: int) -> None:
        """Set a binary point; what is below the least one is the least one."""
        self.state.bpr[group] = max(value & 7, MIN_BPR[group])
        self.dist.touch(self.number)

    def set_pmr(self, value: int) -> None:
        """Set the priority mask; the bits that priorities lack do not exist."""
        self.state.pmr = value & PRIORITY_MASK
        self.dist.touch(self.number)

    def set_group_enabled(self, group: int, *, enabled: bool) -> None:
        """Enable or disable a group of interrupts."""
        self.state.group_enabled[group] = enabled
        self.dist.touch(self.number)

    def set_apr(self, group: int, value: int) -> None:
        """Set the active priorities of a group."""
        self.state.apr[group] = value & 0xFFFF_FFFF
        self.dist.touch(self.number)

    # --- taking interrupts ---------------------------------------------------------------

    @property
    def highest_pending(self) -> Irq | None:
        """The highest-priority pending interrupt of an enabled group, masked or not."""
        return self.dist.highest_pending(self.number, self.state.group_enabled)

    @property
    def signalled(self) -> Irq | None:
        """The highest-priority pending interrupt, if it passes the mask and preempts what runs."""
        irq = self.highest_pending
        if irq is None or irq.priority >= self.state.pmr:
            return None
        if self.group_priority(irq.priority, irq.group) >= self.running_priority:
            return None
        return irq

    @property
    def signal(self) -> Signal:
        """The line that the signalled interrupt asserts."""
        irq = self.signalled
        if irq is None:
            return _NONE
        as_fiq = irq.group == 0 and (self.dist.version == 3 or self.state.fiq_en)
        return _FIQ if as_fiq else _IRQ

    def acknowledge(self, irq: Irq) -> None:
        """Take ``irq``, which is signalled: it becomes active, and its priority runs."""
        priority = self.group_priority(irq.priority, irq.group)
        self.state.apr[self._apr_of(irq.group)] |= 1 << (priority >> PRIORITY_SHIFT)
        irq.take(self.number)
        self.dist.requeue(irq)
        self.dist.touch(self.number)

    def drop_priority(self) -> int:
        """End the highest running priority and return it; 0xFF if nothing runs."""
        apr = self.state.apr
        dropped = self.running_priority
        if dropped != IDLE_PRIORITY:
            bit = 1 << (dropped >> PRIORITY_SHIFT)
            apr[1 if apr[1] & bit else 0] &= ~bit
            self.dist.touch(self.number)
        return dropped

    def active(self, intid: int) -> Irq | None:
        """Return an interrupt that this vCPU has active."""
        irq = self.dist.irq(self.number, intid)
        if irq is None or not irq.active or irq.active_on != self.number:
            return None
        return irq

    def deactivatable(self, intid: int) -> Irq | None:
        """Return what DIR names: active, on any vCPU; ``None`` while EOImode is 0."""
        if not self.state.eoi_mode or intid >= FIRST_SPECIAL:
            return None
        irq = self.dist.irq(self.number, intid)
        return irq if irq is not None and irq.active else None

    def _apr_of(self, group: int) -> int:
        return 1 if self.dist.version == 2 else group


def _lowest(apr: int) -> int:
    """Return the highest priority, which has the lowest bit, of an APR."""
    if not apr:
        return IDLE_PRIORITY
    return (apr & -apr).bit_length() - 1 << PRIORITY_SHIFT
