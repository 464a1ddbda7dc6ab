"""Interrupts of the virtual GIC that are lost, or that nobody sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyp.vgic.dist import key_of
from hyp.vgic.irq import NR_PRIVATE
from lab.faults.fault import Fault, Injection, Status, invalid
from lab.faults.models.change import how_often
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from hyp.vgic.dist import Distributor
    from hyp.vgic.irq import Irq
    from lab.faults.target import Target


@dataclass(frozen=True, kw_only=True)
class InterruptFault(Fault):
    """A fault of an interrupt."""

    intid: int = parameter(
        "its number: SGIs are 0 to 15 and PPIs 16 to 31, of the vCPU (27 is the virtual timer's, "
        "30 the physical one's); SPIs begin at 32",
        minimum=0,
        maximum=1019,
    )

    def _find(self, target: Target) -> tuple[Distributor, Irq] | Injection:
        vgic, vcpu = target.vm.vgic, target.vcpu
        if vgic is None or not vgic.initialized:
            return invalid("the VM has no GIC that is initialised")
        dist = vgic.distributor
        irq = dist.irq(vgic.number_of(vcpu), self.intid)
        if irq is None:
            return invalid(f"there is no interrupt {self.intid}; the GIC has {vgic.nr_irqs}")
        return dist, irq

    def _name(self, target: Target) -> str:
        of = f" of vCPU {target.vcpu.index}" if self.intid < NR_PRIVATE else ""
        return f"interrupt {self.intid}{of}"


@dataclass(frozen=True, kw_only=True)
class InterruptSpurious(InterruptFault):
    """An interrupt becomes pending that nobody has sent."""

    name = "interrupt-spurious"

    def inject(self, target: Target) -> Injection:
        """Make it pending."""
        found = self._find(target)
        if isinstance(found, Injection):
            return found
        dist, irq = found
        name = self._name(target)
        if irq.is_pending:
            return invalid(f"{name} is pending already")
        if irq.is_sgi and dist.version == 2:
            dist.send_v2_sgi(irq, irq.owner or 0)
        else:
            irq.pending_latch = True
            dist.requeue(irq)
        dist.settle()
        state = "" if irq.enabled else ", and disabled"
        return Injection(Status.INJECTED, f"{name} is pending{state}")


@dataclass(frozen=True, kw_only=True)
class InterruptLost(InterruptFault):
    """An interrupt is lost: the one that is pending, or the next one that becomes so."""

    name = "interrupt-lost"
    count: int = parameter("how many times", default=1, minimum=1, maximum=1 << 30)

    def inject(self, target: Target) -> Injection:
        """Have it be lost."""
        found = self._find(target)
        if isinstance(found, Injection):
            return found
        dist, irq = found
        which = "the pending" if irq.is_pending else "the next"
        key = key_of(irq)
        dist.losing[key] = self.count
        if irq.is_pending:
            dist.requeue(irq)
            dist.settle()

        def end() -> None:
            dist.losing.pop(key, None)

        detail = f"{which} {self._name(target)} is lost {how_often(self.count)}"
        return Injection(Status.INJECTED, detail, end=end)
