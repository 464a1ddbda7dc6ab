"""Where triggers hook into a running VM."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from emu.cpu.probe import NEVER
from lab.errors import UserError
from lab.faults.hearing import Hearing
from lab.faults.queue import Planned, Queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.a64.system import Operation
    from emu.arch.address import IPA, PA, VA
    from emu.cpu.pe import ProcessingElement
    from emu.cpu.probe import DataAccess, Taken
    from hyp.events import Event
    from hyp.vcpu import VCPU
    from hyp.vm import VM
    from lab.loader.symbols import Symbols

    Act = Callable[[VCPU], None]
    """Called with the vCPU that a moment is about."""
    Asked = Callable[[VCPU], bool]
    """Says whether a moment is the right one. The machine must not be changed."""
    Cancel = Callable[[], None]
    """Forgets about it; once is enough, and more often does nothing."""

T = TypeVar("T")


class _Moment(NamedTuple, Generic[T]):
    """Something to do when something is met that may be the right one."""

    asked: Callable[[VCPU, T], bool]
    act: Act


class _Watched(NamedTuple):
    """Something to do when memory is accessed that is watched."""

    moment: _Moment[DataAccess]
    watches: Callable[[ProcessingElement, VA, PA | None, IPA | None], bool]
    """Says whether an access to a page may be one. See :meth:`emu.cpu.probe.Observer.watches`."""


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
        self._hearing = Hearing(vm, self._reported, self._tlb_changed)
        self._forget()

    def _forget(self) -> None:
        self._all = Queue()
        self._own = {pe.index: Queue() for pe in self._pes}
        self._each: dict[int, Act] = {}
        self._places: dict[VA, dict[int, _Moment[None]]] = {}
        self._operations: dict[int, _Moment[Operation]] = {}
        self._levels: dict[int, _Moment[int]] = {}
        self._exceptions: dict[int, _Moment[Taken]] = {}
        self._events: dict[int, _Moment[Event]] = {}
        self._accesses: dict[int, _Watched] = {}
        self._of_tlb: dict[int, _Moment[Event]] = {}
        self._met: list[Planned] = []

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
        self._hearing.stop()
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
        planned = Planned(retired, turn - NEVER if early else turn, act)
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
        self._places.setdefault(va, {})[turn] = _Moment(lambda vcpu, _: asked(vcpu), act)
        self._look()

        def cancel() -> None:
            places = self._places.get(va, {})
            if places.pop(turn, None) is not None and not places:
                del self._places[va]
                self._look()

        return cancel

    def maintaining(self, asked: Callable[[VCPU, Operation], bool], act: Act) -> Cancel:
        """Act once before a TLBI, DC, IC or AT of a guest, when ``asked`` says so of it."""
        return self._wait(self._operations, asked, act)

    def changing_level(self, asked: Callable[[VCPU, int], bool], act: Act) -> Cancel:
        """Act once before the first instruction at EL0 or EL1, when ``asked`` says so of it."""
        return self._wait(self._levels, asked, act)

    def taking(self, asked: Callable[[VCPU, Taken], bool], act: Act) -> Cancel:
        """Act once after an exception was taken, when ``asked`` says so of it.

        That is before the first instruction at its vector, or before EL2 looks at it.
        """
        return self._wait(self._exceptions, asked, act)

    def accessing(
        self,
        watches: Callable[[ProcessingElement, VA, PA | None, IPA | None], bool],
        asked: Callable[[VCPU, DataAccess], bool],
        act: Act,
    ) -> Cancel:
        """Act once before a load or store, when ``asked`` says so of it.

        Parameters
        ----------
        watches
            Says of which pages it wants to be asked, as the probe's observer does.
        asked
            Says whether an access is the right one.
        act
            What to do.
        """
        turn = next(self._turns)
        self._accesses[turn] = _Watched(_Moment(asked, act), watches)
        self._ask_about()

        def cancel() -> None:
            if self._accesses.pop(turn, None) is not None:
                self._ask_about()

        return cancel

    def reporting(
        self, asked: Callable[[VCPU, Event], bool], act: Act, *, of_tlb: bool = False
    ) -> Cancel:
        """Act once when an event is reported, when ``asked`` says so of it.

        Parameters
        ----------
        asked
            Called with all events of the hypervisor, or with those of the TLB.
        act
            What to do.
        of_tlb
            Which of the two.
        """
        moments, turn = self._of_tlb if of_tlb else self._events, next(self._turns)
        moments[turn] = _Moment(asked, act)
        self._hear()

        def cancel() -> None:
            if moments.pop(turn, None) is not None and not self._events and not self._of_tlb:
                self._hearing.stop()

        return cancel

    def _hear(self) -> None:
        """Listen where somebody waits for something, and nowhere else."""
        self._hearing.listen(events=bool(self._events), of_tlb=bool(self._of_tlb))

    def _reported(self, event: Event) -> None:
        """Ask who waits for an event of the hypervisor: EL2 runs."""
        vcpu = self.vm.vcpus.get(event.vcpu) or self._somebody(self.vm.kvm.current.pe)
        if self._meet(vcpu, self._events, event):
            self._hear()
            self._act_now(vcpu)

    def _tlb_changed(self, pe: ProcessingElement, event: Event) -> None:
        """Ask who waits for an event of the TLB, which may be of the guest."""
        vcpu = self._somebody(pe)
        if not self._meet(vcpu, self._of_tlb, event):
            return
        self._hear()
        if pe.guest.is_running:
            pe.probe.tell_next()
        else:
            self._act_now(vcpu)

    def _somebody(self, pe: ProcessingElement) -> VCPU:
        """Return the vCPU that runs on a PE, or else the first one."""
        return self._running(pe) or self.vm.vcpus[min(self.vm.vcpus)]

    def _wait(
        self, moments: dict[int, _Moment[T]], asked: Callable[[VCPU, T], bool], act: Act
    ) -> Cancel:
        turn = next(self._turns)
        moments[turn] = _Moment(asked, act)
        self._ask_about()

        def cancel() -> None:
            if moments.pop(turn, None) is not None:
                self._ask_about()

        return cancel

    def _ask_about(self) -> None:
        for pe in self._pes:
            pe.probe.ask_about(
                operations=bool(self._operations),
                levels=bool(self._levels),
                exceptions=bool(self._exceptions),
                pages=bool(self._accesses),
            )

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
        return self._meet(self._running(pe), self._places.get(va, {}), None)

    def maintains(self, pe: ProcessingElement, operation: Operation) -> bool:
        """Ask who waits for a maintenance instruction."""
        return self._meet(self._running(pe), self._operations, operation)

    def changes_level(self, pe: ProcessingElement, level: int) -> bool:
        """Ask who waits for a change of the Exception level."""
        return self._meet(self._running(pe), self._levels, level)

    def watches(self, pe: ProcessingElement, page: VA, pa: PA | None, ipa: IPA | None) -> bool:
        """Ask who waits for accesses to a page."""
        return any(watched.watches(pe, page, pa, ipa) for watched in self._accesses.values())

    def accesses(self, pe: ProcessingElement, access: DataAccess) -> bool:
        """Ask who waits for an access."""
        moments = {turn: watched.moment for turn, watched in self._accesses.items()}
        met = self._meet(self._running(pe), moments, access)
        self._accesses = {turn: self._accesses[turn] for turn in moments}
        return met

    def takes(self, pe: ProcessingElement, taken: Taken) -> bool:
        """Ask who waits for an exception."""
        vcpu = self._running(pe)
        met = self._meet(vcpu, self._exceptions, taken)
        if met and vcpu is not None and taken.target == 2:
            self._act_now(vcpu)
            return False
        return met

    def _meet(self, vcpu: VCPU | None, moments: dict[int, _Moment[T]], what: T) -> bool:
        """Note what is to be done, of all that waits; return whether there is anything."""
        if vcpu is None:
            return False
        met = [turn for turn, moment in moments.items() if moment.asked(vcpu, what)]
        for turn in met:
            self._met.append(Planned(0, turn, moments.pop(turn).act))
        return bool(met)

    def _act_now(self, vcpu: VCPU) -> None:
        """Do what was met at once: EL2 runs."""
        met, self._met = self._met, []
        for planned in sorted(met, key=lambda one: one.turn):
            planned.act(vcpu)
        self._ask()
        self._ask_about()

    def _due(self, pe: ProcessingElement) -> list[Planned]:
        """Return what is to be done now, in its order, and forget it."""
        planned = self._all.take(self.retired) + self._own[pe.index].take(pe.retired) + self._met
        if self._met:
            self._met = []
            self._places = {va: places for va, places in self._places.items() if places}
            self._look()
            self._ask_about()
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
