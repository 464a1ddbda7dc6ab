"""Injects the planned faults of a run, and says what became of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from lab.faults.fault import Status
from lab.faults.moments import Moments
from lab.faults.planned import FaultRecord
from lab.faults.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from hyp.vcpu import VCPU
    from hyp.vm import VM
    from lab.faults.planned import PlannedFault
    from lab.loader.symbols import Symbols

NOT_REACHED = FaultRecord(Status.NOT_REACHED, "its trigger did not come")


class Injector:
    """Injects faults into a VM while somebody runs it.

    It can be armed again and again, for run after run of one VM. Who runs the VM need not know of
    it: the faults are injected between two instructions of the guest, wherever its vCPUs are run.

    Parameters
    ----------
    vm : VM
        The VM, with all of its vCPUs.
    faults : Sequence[PlannedFault]
        The faults of a run. Those of one moment are injected in this order.
    symbols : Symbols or None
        Those of the guest, for triggers that name one.
    """

    def __init__(
        self, vm: VM, faults: Sequence[PlannedFault], symbols: Symbols | None = None
    ) -> None:
        self.vm = vm
        self.faults = tuple(faults)
        self._moments = Moments(vm, symbols)
        self._records = [NOT_REACHED] * len(self.faults)
        self._cancels: list[Callable[[], None]] = []
        self._ends: dict[int, Callable[[], None]] = {}
        self._armed = False

    @property
    def records(self) -> tuple[FaultRecord, ...]:
        """What became of each planned fault since :meth:`arm`, in their order."""
        return tuple(self._records)

    @property
    def is_over(self) -> bool:
        """Whether every fault was injected, or found invalid, and none of them lasts."""
        waits = any(record is NOT_REACHED for record in self._records)
        return not (waits or self._ends or self._moments.is_busy)

    def arm(self, faults: Sequence[PlannedFault] | None = None) -> None:
        """Wait for the moments of the faults, from the VM's present state on.

        Parameters
        ----------
        faults : Sequence[PlannedFault] or None
            Other faults for this run and the next ones.

        Raises
        ------
        UserError
            If there can be no such moment. Nothing is armed then.
        ValueError
            If the VM has an armed injector already.
        """
        if faults is not None:
            self.faults = tuple(faults)
        self._moments.open()
        self._armed = True
        self._records = [NOT_REACHED] * len(self.faults)
        try:
            for number, planned in enumerate(self.faults):
                cancel = planned.trigger.arm(self._moments, self._injecting(number))
                self._cancels.append(cancel)
        except BaseException:
            self.disarm()
            raise

    def disarm(self) -> None:
        """Wait no longer, and take away the faults that still last: nothing stays behind.

        What was changed once stays changed.
        """
        if not self._armed:
            return
        self._armed = False
        for cancel in self._cancels:
            cancel()
        self._cancels.clear()
        self._moments.close()
        ends, self._ends = self._ends, {}
        for end in ends.values():
            end()

    def __enter__(self) -> Self:
        self.arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.disarm()

    def _injecting(self, number: int) -> Callable[[VCPU], None]:
        return lambda vcpu: self._inject(number, vcpu)

    def _inject(self, number: int, vcpu: VCPU) -> None:
        """Inject a fault: its trigger has come."""
        if not self._armed or self._records[number] is not NOT_REACHED:
            return
        planned, moments = self.faults[number], self._moments
        at, pc = moments.retired, vcpu.pc
        injection = planned.fault.inject(Target(self.vm, vcpu))
        self._records[number] = FaultRecord(injection.status, injection.detail, at, pc, vcpu.index)
        hold, end = injection.hold, injection.end
        release = None if hold is None else moments.each_instruction(lambda _vcpu: hold())
        if end is not None:
            self._ends[number] = end
        if planned.lifespan is None or (hold is None and end is None):
            return

        def expire(_vcpu: VCPU) -> None:
            if release is not None:
                release()
            if end is not None:
                del self._ends[number]
                end()

        moments.at(at + planned.lifespan, expire, early=True)
