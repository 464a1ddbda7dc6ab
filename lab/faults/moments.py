"""Where triggers hook into a running VM."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from emu.cpu.probe import NEVER
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.cpu.pe import ProcessingElement
    from hyp.vcpu import VCPU
    from hyp.vm import VM

    Act = Callable[[VCPU], None]
    """Called with the vCPU that a moment is about."""
    Cancel = Callable[[], None]
    """Forgets about it; once is enough, and more often does nothing."""


class _Timed(NamedTuple):
    """Something to do before an instruction that is known by its number."""

    retired: int
    turn: int
    """Decides between those of one instruction: the first that was asked for is the first."""
    act: Act


class _Queue:
    """What is to be done at some count of retired instructions, the next one first."""

    def __init__(self) -> None:
        self._heap: list[_Timed] = []
        self._gone: set[int] = set()

    def add(self, timed: _Timed) -> None:
        heappush(self._heap, timed)

    def remove(self, timed: _Timed) -> None:
        if timed in self._heap:
            self._gone.add(timed.turn)

    @property
    def next(self) -> int:
        """The next count, or :data:`NEVER`."""
        while self._heap and self._heap[0].turn in self._gone:
            self._gone.discard(heappop(self._heap).turn)
        return self._heap[0].retired if self._heap else NEVER

    def pop(self, retired: int) -> _Timed | None:
        """Return what is due at a count, and forget it."""
        return heappop(self._heap) if self.next <= retired else None


class Moments:
    """The moments of one VM that triggers can ask for.

    Only what is asked for is looked at, and all of it is found out without the guest's noticing:
    see :mod:`emu.cpu.probe`. Counts are absolute: what has passed already does not come again.

    Parameters
    ----------
    vm : VM
        The VM, with all of its vCPUs.
    """

    def __init__(self, vm: VM) -> None:
        self.vm = vm
        self._pes = vm.machine.pes
        self._turns = count()
        self._all = _Queue()
        self._own = {pe.index: _Queue() for pe in self._pes}
        self._each: dict[int, Act] = {}

    @property
    def retired(self) -> int:
        """The instructions that all vCPUs have retired."""
        return self.vm.machine.clock.retired

    def open(self) -> None:
        """Begin to look.

        Raises
        ------
        ValueError
            If somebody looks at this machine already.
        """
        if any(pe.probe.observer is not None for pe in self._pes):
            raise ValueError("somebody looks at this machine already: disarm that injector first")
        for pe in self._pes:
            pe.probe.observer = self

    def close(self) -> None:
        """Look no longer: nothing stays asked for."""
        self._all = _Queue()
        self._own = {pe.index: _Queue() for pe in self._pes}
        self._each.clear()
        self._ask()
        for pe in self._pes:
            pe.probe.observer = None

    def number(self, vcpu: int | None) -> int | None:
        """Return the number of a vCPU, or None for any.

        Raises
        ------
        UserError
            If the VM has no such vCPU.
        """
        if vcpu is not None and vcpu not in self.vm.vcpus:
            known = ", ".join(map(str, self.vm.vcpus))
            raise UserError(f"the VM has no vCPU {vcpu}; use one of {known}")
        return vcpu

    # What can be asked for

    def at(self, retired: int, act: Act, vcpu: int | None = None) -> Cancel:
        """Act once before an instruction that is known by its number.

        Parameters
        ----------
        retired
            How many instructions have retired before it.
        act
            What to do.
        vcpu
            Of which vCPU; None: of all together.
        """
        queue = self._all if vcpu is None else self._own[self.vm.vcpus[vcpu].pe.index]
        now = self.retired if vcpu is None else self.vm.vcpus[vcpu].pe.retired
        if retired < now:
            return _nothing
        timed = _Timed(retired, next(self._turns), act)
        queue.add(timed)
        self._ask()

        def cancel() -> None:
            queue.remove(timed)
            self._ask()

        return cancel

    def each_instruction(self, act: Act) -> Cancel:
        """Act before every instruction of every vCPU, from the next one on."""
        turn = next(self._turns)
        self._each[turn] = act
        self._ask()

        def cancel() -> None:
            self._each.pop(turn, None)
            self._ask()

        return cancel

    # What the probes tell

    def before_instruction(self, pe: ProcessingElement) -> None:
        """Do what is to be done before the instruction that a PE executes next."""
        vcpu = self.vm.kvm.cpus[pe.index].running
        each = list(self._each.items())
        for queue, retired in ((self._all, self.retired), (self._own[pe.index], pe.retired)):
            while (timed := queue.pop(retired)) is not None:
                if vcpu is not None and vcpu.vm is self.vm:
                    timed.act(vcpu)
        if vcpu is not None and vcpu.vm is self.vm:
            for turn, act in each:
                if turn in self._each:
                    act(vcpu)
        self._ask()

    def _ask(self) -> None:
        due, each = self._all.next, bool(self._each)
        for pe in self._pes:
            pe.probe.ask(due=due, due_here=self._own[pe.index].next, each=each)


def _nothing() -> None:
    """Cancel what was not asked for."""
