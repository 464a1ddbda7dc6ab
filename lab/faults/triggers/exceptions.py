"""When a vCPU takes an exception, or changes its Exception level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from emu.arch.esr.classes import ExceptionClass
from emu.arch.exceptions import ExceptionKind
from lab.errors import UserError
from lab.faults.parameter import parameter
from lab.faults.triggers.nth import Nth

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.cpu.probe import Taken
    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments

_KINDS: Final = tuple(kind.name.lower() for kind in ExceptionKind)
_CLASSES: Final = {kind.name: kind for kind in ExceptionClass}
_EC_SHIFT: Final = 26
_EC: Final = 0x3F


@dataclass(frozen=True, slots=True)
class ExceptionTaken(Nth):  # the name is Python's
    """When a vCPU takes its Nth exception, of those that are described.

    It has been taken: the fault is injected before the first instruction at the vector of EL1,
    or, for one to EL2, before the hypervisor looks at it. Exceptions that the hypervisor
    injects into EL1 count, too. The end of a run's budget is none.
    """

    name: ClassVar[str] = "exception"

    target: int | None = parameter(
        "the Exception level it is taken to; none: either", default=None, choices=(None, 1, 2)
    )
    kind: str | None = parameter("what it is; none: any", default=None, choices=(None, *_KINDS))
    ec: str | int | None = parameter(
        "its class in ESR_ELx, by number or name, such as DABT_LOW; none: any", default=None
    )

    def __post_init__(self) -> None:
        """Check the parameters."""
        super(ExceptionTaken, self).__post_init__()
        self._number()

    def _number(self) -> int | None:
        ec = self.ec
        if isinstance(ec, str):
            if ec not in _CLASSES:
                raise UserError(
                    f"ExceptionTaken: ec is a number or one of {', '.join(_CLASSES)}, not {ec!r}"
                )
            return int(_CLASSES[ec])
        if ec is not None and not 0 <= ec <= _EC:
            raise UserError(f"ExceptionTaken: ec is 0 to {_EC}, not {ec}")
        return ec

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        count, ec = self.counting(moments), self._number()

        def asked(vcpu: VCPU, taken: Taken) -> bool:
            if self.target not in (None, taken.target):
                return False
            if self.kind not in (None, taken.kind.name.lower()):
                return False
            if ec is not None and (taken.esr is None or taken.esr >> _EC_SHIFT & _EC != ec):
                return False
            return count(vcpu)

        return moments.taking(asked, fire)


@dataclass(frozen=True, slots=True)
class Level(Nth):
    """Before the first instruction at EL0 after EL1, or at EL1 after EL0, the Nth time.

    What EL2 does between two instructions of one Exception level is no change.
    """

    name: ClassVar[str] = "level"

    to: int | None = parameter("the new Exception level", default=None, choices=(None, 0, 1))

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        count = self.counting(moments)

        def asked(vcpu: VCPU, level: int) -> bool:
            return self.to in (None, level) and count(vcpu)

        return moments.changing_level(asked, fire)
