"""What a fault model is, and what becomes of a fault."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from lab.faults.parameter import check_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.faults.target import Target


class Status(Enum):
    """What became of a planned fault: one of these, never nothing."""

    INJECTED = "injected"
    NOT_REACHED = "not reached"
    """Its trigger did not come before the run was over."""
    INVALID = "invalid"
    """Its trigger came, and there was nothing that it could change."""


class Injection(NamedTuple):
    """What an attempt to inject a fault came to."""

    status: Status
    detail: str
    """What changed, old and new value: ``x3: 0x10 -> 0x14``; or why nothing did."""
    hold: Callable[[], None] | None = None
    """Makes it so again: called before every instruction for as long as the fault lasts. Of
    faults that stay, such as a bit that is stuck."""
    end: Callable[[], None] | None = None
    """Takes the fault away at the end of its life. None if there is nothing to take away."""


def invalid(why: str) -> Injection:
    """Return that a fault could not be injected."""
    return Injection(Status.INVALID, why)


class Fault(ABC):
    """A fault model with its parameters: a frozen dataclass that can be pickled.

    Parameters are fields declared with :func:`lab.faults.parameter.parameter`. A subclass with a
    ``name`` is known to campaign files by it.
    """

    __slots__ = ()
    name: ClassVar[str] = ""
    models: ClassVar[dict[str, type[Fault]]] = {}
    """All fault models by name, once their modules are imported."""

    def __init_subclass__(cls) -> None:
        if cls.name:
            Fault.models[cls.name] = cls

    def __post_init__(self) -> None:
        check_parameters(self)

    @abstractmethod
    def inject(self, target: Target) -> Injection:
        """Inject the fault now.

        The machine is between two instructions of the guest, or EL2 runs. Nothing else but what
        the model says may change: no counter, no time, no other entry of a TLB.
        """
