"""When the hypervisor, or the MMU, reports an event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hyp.events import Event as HypervisorEvent
from lab.errors import UserError
from lab.faults.near import nearest
from lab.faults.parameter import parameter
from lab.faults.triggers.nth import Nth
from lab.faults.triggers.predicate import function_named
from lab.tlbtrace import TlbFill, TlbInvalidate

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments

_OF_TLB: Final[tuple[type[HypervisorEvent], ...]] = (TlbFill, TlbInvalidate)
EVENTS: Final[dict[str, type[HypervisorEvent]]] = {
    kind.name: kind for kind in (*HypervisorEvent.__subclasses__(), *_OF_TLB)
}
"""All events by name: KVM's tracepoints, and our own of the MMU."""


@dataclass(frozen=True, slots=True)
class Event(Nth):
    """When the Nth event of a kind is reported, of those that match.

    EL2 runs then, and the fault is injected at once. For a TLB fill or a TLBI of the guest it
    is injected before the next instruction: the access that the entry is for, or what is behind
    the TLBI. For what comes before a TLBI, see ``maintenance``.
    """

    name: ClassVar[str] = "event"

    event: str = parameter("its name in a trace, such as kvm_guest_fault or tlb_invalidate")
    where: Mapping[str, Any] | tuple[tuple[str, Any], ...] = parameter(
        "values that its fields must have: numbers, or names of enumerations", default=()
    )
    function: str | None = parameter(
        "a function, as module:name, that is called with the event and must say so, too",
        default=None,
    )

    def __post_init__(self) -> None:
        """Check the parameters."""
        super(Event, self).__post_init__()
        if isinstance(self.where, Mapping):
            object.__setattr__(self, "where", tuple(self.where.items()))
        if self.event not in EVENTS:
            raise UserError(
                f"Event: no event is called {self.event!r}{nearest(self.event, EVENTS)}"
            )
        known = [field.name for field in fields(EVENTS[self.event])]
        for name, _ in self._where:
            if name not in known:
                raise UserError(
                    f"Event: {self.event} has no field {name!r}; its fields are {', '.join(known)}"
                )

    @property
    def _where(self) -> tuple[tuple[str, Any], ...]:
        return tuple(self.where.items()) if isinstance(self.where, Mapping) else self.where

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once.

        Raises
        ------
        UserError
            If there is no such function.
        """
        count, kind = self.counting(moments), EVENTS[self.event]
        says = None if self.function is None else function_named(self.function)

        def asked(vcpu: VCPU, event: HypervisorEvent) -> bool:
            if type(event) is not kind:
                return False
            if not all(_is(getattr(event, name), wanted) for name, wanted in self._where):
                return False
            if says is not None and not says(event):
                return False
            return count(vcpu)

        return moments.reporting(asked, fire, of_tlb=kind in _OF_TLB)


def _is(value: object, wanted: object) -> bool:
    if isinstance(value, Enum) and isinstance(wanted, str):
        return value.name.lower() == wanted.lower()
    return value == wanted
