"""Faults of the hypervisor's software: a named step that is skipped, doubled or late."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from hyp.steps import Deviation, Step, Wrong
from lab.faults.fault import Fault, Injection, Status
from lab.faults.models.change import how_often
from lab.faults.models.wrong import require_name
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from lab.faults.target import Target

_STEPS = tuple(step.value for step in Step)


@dataclass(frozen=True, kw_only=True)
class StepFault(Fault):
    """A fault of one step of the hypervisor."""

    wrong: ClassVar[Wrong]
    step: str = parameter("one of " + ", ".join(_STEPS))
    before: int = parameter(
        "how many times it is done right before: 0 for the next time",
        default=0,
        minimum=0,
        maximum=1 << 30,
    )
    count: int = parameter("how many times it is done wrong", default=1, minimum=1, maximum=1 << 30)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_name(self, "step", "a step of the hypervisor", _STEPS)

    def inject(self, target: Target) -> Injection:
        """Have it done wrong."""
        steps = target.vm.steps
        deviation = Deviation(Step(self.step), self.wrong, self.before, self.count)
        steps.deviate(deviation)

        def end() -> None:
            steps.conform(deviation)

        after = f"after {self.before} more, " if self.before else ""
        detail = f"{after}{self.step} is {self.wrong.value} {how_often(self.count)}"
        return Injection(Status.INJECTED, detail, end=end)


@dataclass(frozen=True, kw_only=True)
class StepSkip(StepFault):
    """The hypervisor leaves a step out."""

    name = "step-skip"
    wrong = Wrong.SKIPPED


@dataclass(frozen=True, kw_only=True)
class StepDouble(StepFault):
    """The hypervisor does a step twice."""

    name = "step-double"
    wrong = Wrong.DOUBLED


@dataclass(frozen=True, kw_only=True)
class StepLate(StepFault):
    """The hypervisor does a step after the one that should follow it."""

    name = "step-late"
    wrong = Wrong.LATE
