"""What triggers that wait for the Nth of something have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.faults.parameter import parameter
from lab.faults.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments


@dataclass(frozen=True, slots=True, kw_only=True)
class Nth(Trigger):
    """The Nth of something that vCPUs do."""

    nth: int = parameter("which one, counted from when it was armed", default=1, minimum=1)
    vcpu: int | None = parameter("only of this vCPU; none: of any", default=None, minimum=0)

    def counting(self, moments: Moments) -> Callable[[VCPU], bool]:
        """Return what is to be called with the vCPU that does it, and says if it is the one."""
        number = moments.number(self.vcpu)
        left = self.nth

        def count(vcpu: VCPU) -> bool:
            nonlocal left
            if number is not None and vcpu.index != number:
                return False
            left -= 1
            return left == 0

        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class NthInContext(Nth):
    """The Nth of something that programs do."""

    el: int | None = parameter(
        "only at this Exception level; none: at any", default=None, choices=(None, 0, 1)
    )
    asid: int | None = parameter(
        "only with this ASID; none: with any, or with stage 1 off",
        default=None,
        minimum=0,
        maximum=0xFFFF,
    )

    def counting(self, moments: Moments) -> Callable[[VCPU], bool]:
        """Return what is to be called with the vCPU that does it, and says if it is the one."""
        count = super(NthInContext, self).counting(moments)
        el, asid = self.el, self.asid

        def count_here(vcpu: VCPU) -> bool:
            probe = vcpu.pe.probe
            if el is not None and probe.level != el:
                return False
            return (asid is None or probe.asid == asid) and count(vcpu)

        return count_here
