"""Before an instruction that is known by its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lab.faults.parameter import parameter
from lab.faults.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments


@dataclass(frozen=True, slots=True)
class Retired(Trigger):
    """Before the instruction with a number, in the order in which they execute.

    It costs nothing until then.
    """

    name: ClassVar[str] = "retired"

    count: int = parameter("instructions that have retired before it", minimum=0)
    vcpu: int | None = parameter(
        "the vCPU whose instructions are counted; none: those of all vCPUs",
        default=None,
        minimum=0,
    )

    @property
    def not_before(self) -> int:
        """Instructions, of all vCPUs, that have certainly retired when the moment comes."""
        return self.count

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        return moments.at(self.count, fire, moments.number(self.vcpu))
