"""What a campaign is: the guest, the machine, the fault space, and what is run of it.

Everything is declared once, by :func:`lab.faults.parameter.parameter`: the checks, the keys of
campaign files (:mod:`lab.campaign.read`) and the documentation follow from that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lab.campaign.axis import Combinations, values_of
from lab.campaign.known import model_called, trigger_called
from lab.errors import UserError
from lab.faults.parameter import check_parameters, parameter, parameters_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.config import RunConfig
    from lab.target import Target

MODES: Final = ("exhaustive", "sample")
WEIGHTINGS: Final = ("lifetime", "uniform")
_SPARE_EXCEPTIONS: Final = 100
"""Of a run, beyond those that follow from the golden run, which may have few."""
FOR_EVER: Final = None
"""A lifespan."""
TOUCHED: Final = "touched"
"""Stands for all addresses that the golden run has something to do with."""
TOUCHABLE: Final = ("memory", "descriptor")
"""What the names of fault models begin with whose address can be that."""


class _Checked:
    """Checks its parameters when it is made."""

    __slots__ = ()

    def __post_init__(self) -> None:
        check_parameters(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(_Checked):
    """How long runs may last."""

    max_insns: int = parameter(
        "The golden run must end within so many instructions.", default=100_000_000, minimum=1
    )
    hang_factor: float = parameter(
        "A run that takes so many times the golden run's instructions, or exceptions, hangs.",
        default=4.0,
    )

    def __post_init__(self) -> None:
        check_parameters(self)
        if not self.hang_factor > 1:
            raise UserError(
                f"hang-factor is more than 1, such as 4, not {self.hang_factor}: a run that ends "
                "as the golden one would hang"
            )

    def hang_limit(self, golden: int) -> int:
        """Return the instructions after which a run hangs, by those of the golden run."""
        return int(golden * self.hang_factor) + 1

    def exception_limit(self, golden: int) -> int:
        """Return the exceptions after which a run hangs, by those of the golden run.

        A guest that executes next to nothing but exceptions takes long to retire instructions.
        """
        return int(golden * self.hang_factor) + _SPARE_EXCEPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling(_Checked):
    """How a sample is drawn, and when there is enough of it."""

    n: int | None = parameter("Draws; or give margin.", default=None, minimum=1)
    margin: float | None = parameter(
        "Half the width of the intervals wanted, such as 0.01; n follows from it.", default=None
    )
    confidence: float = parameter("Of the intervals.", default=0.95)
    weighting: str = parameter(
        "What is drawn: a fault (classes by their lifetime), or a class (each as likely).",
        default="lifetime",
        choices=WEIGHTINGS,
    )
    sequential: bool = parameter(
        "End early when all intervals are as narrow as margin says.", default=False
    )

    def __post_init__(self) -> None:
        check_parameters(self)
        if self.n is None and self.margin is None:
            raise UserError(
                "a sample needs n or margin; give the number of draws, such as n = 1000"
            )
        for name, value in (("margin", self.margin), ("confidence", self.confidence)):
            if value is not None and not 0 < value < 1:
                raise UserError(f"{name} is between 0 and 1, not {value}")
        if self.sequential and self.margin is None:
            raise UserError("sequential needs a margin to end at; give one, such as margin = 0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes(_Checked):
    """What the guest says of itself, and what the user looks at."""

    detected_words: tuple[str, ...] = parameter(
        "The guest noticed the fault if its console has one of these, and the golden run's not.",
        default=(),
    )
    detected_codes: tuple[int, ...] = parameter(
        "The guest noticed the fault if it ends with one of these exit codes.", default=()
    )
    panic_words: tuple[str, ...] = parameter(
        "The guest crashed if its console has one of these, and the golden run's not.", default=()
    )
    panic_codes: tuple[int, ...] = parameter(
        "The guest crashed if it ends with one of these exit codes.", default=()
    )
    predicates: tuple[str, ...] = parameter(
        "Functions of the user's, module:function, that may name an outcome of their own.",
        default=(),
    )

    def __post_init__(self) -> None:
        check_parameters(self)
        for predicate in self.predicates:
            module, colon, function = predicate.partition(":")
            names = (*module.split("."), *function.split("."))
            if not colon or not all(name.isidentifier() for name in names):
                raise UserError(
                    f"a predicate is written module:function, such as checks:is_wrong, "
                    f"not {predicate!r}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """When faults are injected: a trigger, and the values of its parameters.

    Attributes
    ----------
    trigger : str
        Its name, of :data:`lab.faults.trigger.Trigger.kinds`. Empty for each instruction of
        ``windows`` and ``symbols``, or of all of the golden run where there is none of those.
    parameters : Mapping[str, Any]
        Of the trigger: a value, or a list or range of values.
    windows : tuple[range, ...]
        Counts of retired instructions.
    symbols : tuple[str, ...]
        Functions of the guest: while one executes.
    """

    trigger: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    windows: tuple[range, ...] = ()
    symbols: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.trigger and (self.windows or self.symbols):
            raise UserError(
                f"the trigger {self.trigger!r} says when; windows and symbols are instead of it"
            )
        if self.trigger:
            check_values(trigger_called(self.trigger), self.parameters)
        for window in self.windows:
            if window.start < 0 or window.step != 1 or not window:
                raise UserError(
                    f"a window is a range of instructions from 0 on, the first and the last, "
                    f"not {window.start} to {window.stop - 1}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSpace:
    """Faults of one model: all combinations of the values of its parameters, and moments.

    Attributes
    ----------
    model : str
        Its name, of :data:`lab.faults.fault.Fault.models`.
    parameters : Mapping[str, Any]
        Of the model: a value, or a list or range of values.
    when : When
        The moments.
    lifespans : tuple[int or None, ...]
        Of faults that stay: instructions, or None for ever.
    also : tuple[FaultSpace, ...]
        Further faults of the same run: one of each.
    """

    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    when: When = field(default_factory=When)
    lifespans: tuple[int | None, ...] = (FOR_EVER,)
    also: tuple[FaultSpace, ...] = ()

    def __post_init__(self) -> None:
        check_values(model_called(self.model), self.parameters)
        for lifespan in self.lifespans:
            if lifespan is not None and lifespan < 1:
                raise UserError(f"a lifespan is 1 instruction or more, not {lifespan}")
        if not self.lifespans:
            raise UserError("lifespans is empty: no fault would be injected; leave it out")
        if any(further.also for further in self.also):
            raise UserError("a further fault of a run has none of its own; list them side by side")


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign(_Checked):
    """A campaign, made in Python or read from a file by :func:`lab.campaign.read.read_campaign`.

    Attributes
    ----------
    machine : tuple[str, ...]
        Options of ``stage2 run``, as on its command line.
    """

    name: str = parameter("A title for reports.")
    guest: str = parameter("A bundled guest's name, or a file.")
    spaces: tuple[FaultSpace, ...] = field(default=())
    machine: tuple[str, ...] = field(default=())
    mode: str = parameter(
        "Run all classes of faults, or a sample.", default="exhaustive", choices=MODES
    )
    seed: int = parameter("What a sample follows from.", default=0, minimum=0)
    prune: bool = parameter(
        "Run one fault of those that must come to the same, by what the golden run reads and "
        "writes.",
        default=True,
    )
    limits: Limits = field(default_factory=Limits)
    sample: Sampling | None = None
    outcome: Outcomes = field(default_factory=Outcomes)

    def __post_init__(self) -> None:
        check_parameters(self)
        if not self.spaces:
            raise UserError(f"the campaign {self.name!r} has no fault space; add a [[space]]")
        if self.mode == "sample" and self.sample is None:
            raise UserError("mode sample needs a size; add [sample] with n or margin")
        if self.mode != "sample" and self.sample is not None:
            raise UserError('[sample] is for mode = "sample"; set that, or leave the table out')

    def configuration(self, target: Target) -> RunConfig:
        """Return the machine: the options of ``stage2 run``, with the golden run's limit.

        Parameters
        ----------
        target : Target
            The guest, opened by :func:`lab.target.open_target`.

        Raises
        ------
        UserError
            If the options are none of that command, or their values impossible.
        """
        from lab.campaign.machine import configuration  # noqa: PLC0415  # start-up time

        return configuration(self, target)


def check_values(kind: type, given: Mapping[str, Any]) -> None:
    """Check the values of the parameters of a model or trigger.

    Raises
    ------
    UserError
        For a parameter that there is not, an impossible value, an empty list, or a parameter
        that must be given and is not.
    """
    from lab.campaign.known import check_names  # noqa: PLC0415

    known = parameters_of(kind)
    check_names(kind, given)
    axes = {name: values_of(value) for name, value in given.items()}
    if given.get("address") == TOUCHED:
        if getattr(kind, "name", "").partition("-")[0] not in TOUCHABLE:
            raise UserError(
                f'address = "{TOUCHED}" is for faults of memory and descriptors; give addresses'
            )
        axes["address"] = (0,)
    for name, values in axes.items():
        if not (values.start < values.stop if isinstance(values, range) else values):
            raise UserError(f"{name} has no value: no fault would be injected; give at least one")
        for value in (values[0], values[-1]) if isinstance(values, range) else values:
            if not known[name].allows(value):
                shown = f"{value:#x}" if isinstance(value, int) and value > 9 else repr(value)
                raise UserError(f"{name} is {known[name].expected}, not {shown}")
    combinations = Combinations(axes)
    # What depends on several parameters is found out by the object.
    for index in {0, len(combinations) - 1}:
        kind(**combinations[index])
