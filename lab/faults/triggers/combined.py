"""Triggers made of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from lab.errors import UserError
from lab.faults.parameter import parameter
from lab.faults.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments


def _require_some(trigger: All | Any) -> None:
    if not trigger.triggers:
        raise UserError(f"{type(trigger).__name__}: triggers is at least one trigger, not none")


@dataclass(frozen=True, slots=True)
class All(Trigger):
    """When the last of some triggers comes, in whatever order they do."""

    name: ClassVar[str] = "all"

    triggers: tuple[Trigger, ...] = parameter("the triggers")

    def __post_init__(self) -> None:
        """Check the parameters."""
        _require_some(self)

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        missing = len(self.triggers)

        def come(vcpu: VCPU) -> None:
            nonlocal missing
            missing -= 1
            if not missing:
                fire(vcpu)

        return _together([trigger.arm(moments, come) for trigger in self.triggers])


@dataclass(frozen=True, slots=True)
class Any(Trigger):
    """When the first of some triggers comes."""

    name: ClassVar[str] = "any"

    triggers: tuple[Trigger, ...] = parameter("the triggers")

    def __post_init__(self) -> None:
        """Check the parameters."""
        _require_some(self)

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        cancels: list[Callable[[], None]] = []
        cancel = _together(cancels)
        came = False

        def come(vcpu: VCPU) -> None:
            nonlocal came
            if came:
                return
            came = True
            cancel()
            fire(vcpu)

        cancels.extend(trigger.arm(moments, come) for trigger in self.triggers)
        return cancel


@dataclass(frozen=True, slots=True)
class Then(Trigger):
    """When one trigger comes after another has come."""

    name: ClassVar[str] = "then"

    first: Trigger = parameter("the one that comes first")  # noqa: RUF009  # a field
    second: Trigger = parameter("the one that is waited for from then on")  # noqa: RUF009  # a field

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        cancels: list[Callable[[], None]] = []
        cancels.append(
            self.first.arm(moments, lambda _vcpu: cancels.append(self.second.arm(moments, fire)))
        )
        return _together(cancels)


@dataclass(frozen=True, slots=True)
class Delay(Trigger):
    """Some instructions after another trigger."""

    name: ClassVar[str] = "delay"

    trigger: Trigger = parameter("the other trigger")  # noqa: RUF009  # a field
    instructions: int = parameter("instructions of all vCPUs between the two", minimum=1)

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once."""
        cancels: list[Callable[[], None]] = []

        def wait(_vcpu: VCPU) -> None:
            cancels.append(moments.at(moments.retired + self.instructions, fire))

        cancels.append(self.trigger.arm(moments, wait))
        return _together(cancels)


def _together(cancels: list[Callable[[], None]]) -> Callable[[], None]:
    """Return what calls all of the list, as it is then."""

    def cancel() -> None:
        for one in cancels:
            one()

    return cancel
