"""What somebody outside of the machine asks to be told of a PE, and is told between instructions.

Nobody in the machine can tell that there is a probe: no exception is taken, no register or counter
of the guest is used, and what the PE executes is the same. While nothing is asked for, it costs
one look at a flag for each run of the engine.

What is kept here belongs to who looks, not to the machine's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from emu.arch.address import VA
    from emu.cpu.pe import ProcessingElement

NEVER: Final = 1 << 62
"""A number of retired instructions that no run reaches."""


class Observer(Protocol):
    """Who looks at the PEs of a machine.

    What it is told between two instructions, it may act upon: the engine stands still, and what
    EL2 sees is as if it had just been entered: the address of the next instruction is in ELR_EL2,
    PSTATE in SPSR_EL2. The guest goes on from what they say then, its exclusive monitor stays.
    What it is only asked, it must answer without changing the machine.
    """

    def before_instruction(self, pe: ProcessingElement) -> None:
        """Act before an instruction of the guest. Counts that were due are to be asked for anew."""

    def reaches(self, pe: ProcessingElement, va: VA) -> bool:
        """Return whether to be told before the instruction at one of :attr:`Probe.addresses`."""


class Probe:
    """The probe of one PE.

    Attributes
    ----------
    observer
        Who is told; None for nobody.
    armed
        Whether anything is asked for.
    due
        Before which instruction of all PEs to tell: how many have retired before it.
    due_here
        Likewise, of this PE.
    each
        Whether to tell before every instruction.
    addresses
        Where to ask the observer whether it wants to be told.
    met
        Whether to tell before the next instruction.
    """

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self._forget()

    def _forget(self) -> None:
        self.observer: Observer | None = None
        self.armed = False
        self.due = NEVER
        self.due_here = NEVER
        self.each = False
        self.addresses: frozenset[VA] = frozenset()
        self.met = False
        self._told: tuple[VA, int] | None = None
        self._asked: tuple[VA, int] | None = None

    # For the observer

    def open(self, observer: Observer) -> None:
        """Have an observer, who asks for nothing yet."""
        self.observer = observer

    def close(self) -> None:
        """Have no observer."""
        self.look_at(frozenset())
        self._forget()

    def ask(self, *, due: int = NEVER, due_here: int = NEVER, each: bool = False) -> None:
        """Choose the instructions to tell before, from now on."""
        self.due, self.due_here, self.each = due, due_here, each
        self._changed()

    def look_at(self, addresses: AbstractSet[VA]) -> None:
        """Choose the instructions to ask the observer about, from now on."""
        if addresses != self.addresses:
            debug = self._pe.debug
            self._pe.engine.pass_by(self.addresses - addresses - debug.addresses)
            self.addresses = frozenset(addresses)
            debug.stale = True
            self._changed()

    @property
    def level(self) -> int:
        """The Exception level of the guest, while the engine runs."""
        return self._pe.engine.mode >> 2 & 3

    @property
    def asid(self) -> int:
        """The guest's ASID; -1 while stage 1 is off."""
        self._pe.refresh()
        return self._pe.mmu.regime.asid

    def _changed(self) -> None:
        """Have a run of the engine that is under way end as soon as Python is done."""
        self.armed = bool(
            self.each or self.met or self.due < NEVER or self.due_here < NEVER or self.addresses
        )
        self._plan_again()

    # For the PE

    def _plan_again(self) -> None:
        execution = self._pe.execution
        if execution.running:
            execution.timer_changed = True

    def entered(self) -> None:
        """Note that the PE runs: PEs that wait for it, in a trap, are to count what it retires."""
        for peer in self._pe.peers:
            peer.probe._plan_again()  # noqa: SLF001  # of its own kind

    def tell(self, pc: VA) -> bool:
        """Tell the observer of the instruction at ``pc``, if it is one; return whether it was."""
        pe, here = self._pe, (pc, self._pe.execution.before)
        if not (
            self.met
            or self.due <= pe.clock.retired
            or self.due_here <= pe.execution.before
            or (self.each and here != self._told)
        ):
            return False
        self._told, self.met = here, False
        pe.guest.show(pc)
        if self.observer is not None:
            self.observer.before_instruction(pe)
        return True

    def limit(self, left: int) -> int:
        """Return how many instructions the engine may execute before it is to stand still."""
        if self.each:
            return 1
        pe = self._pe
        return min(left, self.due - pe.clock.retired, self.due_here - pe.execution.before)

    def stops_at(self, va: VA) -> bool:
        """Whether to stop before the instruction at one of the addresses.

        The engine may come there more than once before it executes it.
        """
        execution = self._pe.execution
        here = (va, execution.before + self._pe.blocks.completed(va))
        if here == self._asked or self.observer is None:
            return False
        self._asked = here
        self.met = self.observer.reaches(self._pe, va)
        return self.met
