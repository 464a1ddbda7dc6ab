"""Where triggers hook into a running VM."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from emu.cpu.probe import NEVER
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.address import VA
    from emu.cpu.pe import ProcessingElement
    from hyp.vcpu import VCPU
    from hyp.vm import VM
    from lab.loader.symbols import Symbols

    Act = Callable[[VCPU], None]
    """Called with the vCPU that a moment is about."""
    Asked = Callable[[VCPU], bool]
    """Says whether a moment is the right one. The machine must not be changed."""
    Cancel = Callable[[], None]
    """Forgets about it; once is enough, and more often does nothing."""


class _Planned(NamedTuple):
    """Something to do before an instruction."""

    retired: int
    """Which one: how many have retired before it."""
    turn: int
    """Decides between those of one instruction: the first that was asked for is the first."""
    act: Act


class _Queue:
    """What is to be done at some count of retired instructions, the next one first."""

    def __init__(self) -> None:
        self._heap: list[_Planned] = []
        self._gone: set[int] = set()

    def add(self, planned: _Planned) -> None:
        heappush(self._heap, planned)

    def remove(self, planned: _Planned) -> None:
        if planned in self._heap:
            self._gone.add(planned.turn)

    @property
    def next(self) -> int:
        """The next count, or :data:`NEVER`."""
        while self._heap and self._heap[0].turn in self._gone:
            self._gone.discard(heappop(self._heap).turn)
        return self._heap[0].retired if self._heap else NEVER

    def take(self, retired: int) -> list[_Planned]:
        """Return what is due at a count, and forget it."""
        taken = []
        while self.next <= retired:
            taken.append(heappop(self._heap))
        return taken


class _Place(NamedTuple):
    """Something to do before an instruction at some address."""

    asked: Asked
    act: Act


class Moments:
    """The moments of one VM that triggers can ask for.

    Only what is asked for is looked at, and all of it is found out without the guest's noticing:
    see :mod:`emu.cpu.probe`. Counts are absolute: what has passed already does not come again.

    Parameters
    ----------
    vm : VM
        The VM, with all of its vCPUs.
    symbols : Symbols or None
        Those of the guest.
    """

    def __init__(self, vm: VM, symbols: Symbols | None = None) -> None:
        self.vm, self.symbols = vm, symbols
        self._pes = vm.machine.pes
        self._turns = count()
        self._forget()

    def _forget(self) -> None:
        self._all = _Queue()
        self._own = {pe.index: _Queue() for pe in self._pes}
        self._each: dict[int, Act] = {}
        self._places: dict[VA, dict[int, _Place]] = {}
        self._met: list[_Planned] = []

    @property
    def retired(self) -> int:
        """The instructions that all vCPUs have retired."""
        return self.vm.machine.clock.retired

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

    @property
    def is_busy(self) -> bool:
        """Whether something is to be done before every instruction."""
        return bool(self._each)

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
            pe.probe.open(self)

    def close(self) -> None:
        """Look no longer: nothing stays asked for."""
        self._forget()
        for pe in self._pes:
            pe.probe.close()

    # What can be asked for

    def at(self, retired: int, act: Act, vcpu: int | None = None, *, early: bool = False) -> Cancel:
        """Act once before an instruction that is known by its number.

        Parameters
        ----------
        retired
            How many instructions have retired before it.
        act
            What to do.
        vcpu
            Of which vCPU; None: of all together.
        early
            Whether to act before all others that do so at that instruction.
        """
        queue = self._all if vcpu is None else self._own[self.vm.vcpus[vcpu].pe.index]
        now = self.retired if vcpu is None else self.vm.vcpus[vcpu].pe.retired
        if retired < now:
            return _nothing
        turn = next(self._turns)
        planned = _Planned(retired, turn - NEVER if early else turn, act)
        queue.add(planned)
        self._ask()

        def cancel() -> None:
            queue.remove(planned)
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

    def reaching(self, va: VA, asked: Asked, act: Act) -> Cancel:
        """Act once before the instruction at an address, when ``asked`` says so.

        It is asked each time that a vCPU comes to execute that instruction. One that takes an
        exception of EL1 comes to it again.
        """
        turn = next(self._turns)
        self._places.setdefault(va, {})[turn] = _Place(asked, act)
        self._look()

        def cancel() -> None:
            places = self._places.get(va, {})
            if places.pop(turn, None) is not None and not places:
                del self._places[va]
                self._look()

        return cancel

    # What the probes tell

    def before_instruction(self, pe: ProcessingElement) -> None:
        """Do what is to be done before the instruction that a PE executes next."""
        vcpu = self._running(pe)
        each = list(self._each)
        while planned := self._due(pe):
            for _retired, _turn, act in planned:
                if vcpu is not None:
                    act(vcpu)
        for turn in each:
            if turn in self._each and vcpu is not None:
                self._each[turn](vcpu)
        self._ask()

    def reaches(self, pe: ProcessingElement, va: VA) -> bool:
        """Ask who waits at an address."""
        vcpu, places = self._running(pe), self._places.get(va)
        if vcpu is None or not places:
            return False
        met = [turn for turn, place in places.items() if place.asked(vcpu)]
        for turn in met:
            self._met.append(_Planned(0, turn, places.pop(turn).act))
        return bool(met)

    def _due(self, pe: ProcessingElement) -> list[_Planned]:
        """Return what is to be done now, in its order, and forget it."""
        planned = self._all.take(self.retired) + self._own[pe.index].take(pe.retired) + self._met
        if self._met:
            self._met = []
            self._places = {va: places for va, places in self._places.items() if places}
            self._look()
        return sorted(planned, key=lambda one: one.turn)

    def _running(self, pe: ProcessingElement) -> VCPU | None:
        """Return the vCPU that runs on a PE, if it is one of the VM."""
        vcpu = self.vm.kvm.cpus[pe.index].running
        return vcpu if vcpu is not None and vcpu.vm is self.vm else None

    def _ask(self) -> None:
        due, each = self._all.next, bool(self._each)
        for pe in self._pes:
            pe.probe.ask(due=due, due_here=self._own[pe.index].next, each=each)

    def _look(self) -> None:
        for pe in self._pes:
            pe.probe.look_at(self._places.keys())


def _nothing() -> None:
    """Cancel what was not asked for."""
