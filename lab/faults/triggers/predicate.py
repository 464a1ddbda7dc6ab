"""When a function of the user's says so."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from lab.errors import UserError
from lab.faults.parameter import parameter
from lab.faults.target import Target
from lab.faults.trigger import Trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments


def function_named(reference: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` names.

    Raises
    ------
    UserError
        If there is none.
    """
    module, _, name = reference.partition(":")
    if not module or not name:
        raise UserError(f"a function is given as module:name, not {reference!r}")
    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(
            f"cannot import {module} for {reference!r} ({error}); is it on PYTHONPATH?"
        ) from error
    except AttributeError:
        raise UserError(f"module {module} has no {name}; check {reference!r}") from None
    if not callable(found):
        raise UserError(f"{reference!r} is no function but {type(found).__name__}")
    return found  # type: ignore[no-any-return]  # it can be called


@dataclass(frozen=True, slots=True)
class Predicate(Trigger):
    """Before the first instruction for which a function says so.

    The function is called before each instruction of each vCPU, with a
    :class:`~lab.faults.target.Target`. It must change nothing. That costs some ten microseconds
    for each instruction: put ``then`` before it, to begin late.
    """

    name: ClassVar[str] = "predicate"

    function: str = parameter("the function, as module:name")

    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once.

        Raises
        ------
        UserError
            If there is no such function.
        """
        says = function_named(self.function)

        def look(vcpu: VCPU) -> None:
            if says(Target(moments.vm, vcpu)):
                cancel()
                fire(vcpu)

        cancel = moments.each_instruction(look)
        return cancel
