"""What a trigger is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from lab.faults.parameter import check_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.vcpu import VCPU
    from lab.faults.moments import Moments


class Trigger(ABC):
    """A moment of a run with its parameters: a frozen dataclass that can be pickled.

    Parameters are fields declared with :func:`lab.faults.parameter.parameter`. A subclass with a
    ``name`` is known to campaign files by it.
    """

    __slots__ = ()
    name: ClassVar[str] = ""
    kinds: ClassVar[dict[str, type[Trigger]]] = {}
    """All triggers by name, once their modules are imported."""

    def __init_subclass__(cls) -> None:
        if cls.name:
            Trigger.kinds[cls.name] = cls

    def __post_init__(self) -> None:
        check_parameters(self)

    @property
    def not_before(self) -> int:
        """Instructions, of all vCPUs, that have certainly retired when the moment comes."""
        return 0

    @abstractmethod
    def arm(self, moments: Moments, fire: Callable[[VCPU], None]) -> Callable[[], None]:
        """Have ``fire`` called at this moment, once, with the vCPU that it is about.

        Returns
        -------
        Callable[[], None]
            Forgets about it.
        """
