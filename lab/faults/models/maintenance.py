"""Maintenance instructions that have no effect, or have it twice.

They are executed and counted all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import DC, IC
from emu.arch.a64.tlbi import TLBI
from emu.cpu.maintenance import Disturbance
from lab.faults.fault import Fault, Injection, Status, invalid
from lab.faults.models.wrong import require_name
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from lab.faults.target import Target

_CLASSES: Final = {
    "TLBI": tuple(TLBI.__members__),
    "IC": tuple(IC.__members__),
    "DC": tuple(DC.__members__),
}
_BARRIERS: Final = ("DSB",)
OPERATIONS: Final[dict[str, frozenset[str]]] = {
    **{name: frozenset(operations) for name, operations in _CLASSES.items()},
    **{one: frozenset({one}) for operations in _CLASSES.values() for one in operations},
    **dict.fromkeys(_BARRIERS, frozenset()),
}
"""Operations by their names, or the name of their class."""
GUEST, HYPERVISOR, ANY = "guest", "hypervisor", "any"
_BY_GUEST: Final = {GUEST: True, HYPERVISOR: False, ANY: None}


@dataclass(frozen=True, kw_only=True)
class MaintenanceFault(Fault):
    """A fault of maintenance instructions of the PE that the vCPU runs on."""

    operation: str = parameter("TLBI, IC, DC, DSB, or one operation, such as VAE1IS or IVAU")
    by: str = parameter("who executes it", default=ANY, choices=tuple(_BY_GUEST))
    before: int = parameter(
        "how many of these are carried out before it: 0 for the next one",
        default=0,
        minimum=0,
        maximum=1 << 30,
    )
    count: int = parameter("to how many it happens", default=1, minimum=1, maximum=1 << 30)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_name(self, "operation", "TLBI, IC, DC, DSB, or one of their operations", OPERATIONS)

    def _disturb(self, target: Target, times: int) -> Injection:
        if self.operation in _BARRIERS:
            return invalid(
                "this machine completes what it does in order, so that DSB has nothing to wait for"
            )
        pe = target.pe
        disturbance = Disturbance(
            OPERATIONS[self.operation], _BY_GUEST[self.by], self.before, self.count, times
        )
        pe.disturbances.append(disturbance)

        def end() -> None:
            pe.disturbances = [other for other in pe.disturbances if other is not disturbance]

        which = "the next" if not self.before else f"after {self.before} others, the next"
        what = "dropped" if times == 0 else "done twice"
        whose = "" if self.by == ANY else f" of the {self.by}"
        detail = f"{which} {self.count} {self.operation}{whose} on PE {pe.index}: {what}"
        return Injection(Status.INJECTED, detail, end=end)


@dataclass(frozen=True, kw_only=True)
class MaintenanceDrop(MaintenanceFault):
    """Maintenance instructions have no effect.

    For one that is to invalidate instruction caches, these are caches from now on: fetches do
    not see stores until an IC operation names their line.
    """

    name = "maintenance-drop"

    def inject(self, target: Target) -> Injection:
        """Have them be dropped."""
        if OPERATIONS[self.operation] & OPERATIONS["IC"]:
            for pe in target.vm.machine.pes:
                pe.icache.use_as_cache()
        return self._disturb(target, 0)


@dataclass(frozen=True, kw_only=True)
class MaintenanceDuplicate(MaintenanceFault):
    """Maintenance instructions are carried out twice. Correct machines do not notice."""

    name = "maintenance-duplicate"

    def inject(self, target: Target) -> Injection:
        """Have them be doubled."""
        return self._disturb(target, 2)
