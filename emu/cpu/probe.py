"""What somebody outside of the machine asks to be told of a PE, and is told between instructions.

Nobody in the machine can tell that there is a probe: no exception is taken, no register or counter
of the guest is used, and what the PE executes is the same. While nothing is asked for, it costs
one look at a flag for each run of the engine.

What is kept here belongs to who looks, not to the machine's state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from emu.arch.address import VA
    from emu.cpu.pe import ProcessingElement

NEVER: Final = 1 << 62
"""A number of retired instructions that no run reaches."""


class Observer(Protocol):
    """Who looks at the PEs of a machine."""

    def before_instruction(self, pe: ProcessingElement) -> None:
        """Act before an instruction of the guest.

        The engine stands still. What EL2 sees is as if it had just been entered: the address of
        the instruction is in ELR_EL2, PSTATE in SPSR_EL2. The guest goes on from what they say
        then, and its exclusive monitor stays. Whatever was due is to be asked for anew.
        """


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
    met
        Whether to tell before the next instruction, for something that was met.
    """

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self.observer: Observer | None = None
        self.armed = False
        self.due = NEVER
        self.due_here = NEVER
        self.each = False
        self.met = False
        self._told: tuple[VA, int] | None = None

    def ask(self, *, due: int = NEVER, due_here: int = NEVER, each: bool = False) -> None:
        """Choose which instructions to tell before, from now on."""
        self.due, self.due_here, self.each = due, due_here, each
        self.armed = each or due < NEVER or due_here < NEVER
        self.plan_again()

    def plan_again(self) -> None:
        """Have a run of the engine that is under way end as soon as Python is done."""
        execution = self._pe.execution
        if execution.running:
            execution.timer_changed = True

    def entered(self) -> None:
        """Note that the PE runs: PEs that wait for it, in a trap, are to count what it retires."""
        for peer in self._pe.peers:
            peer.probe.plan_again()

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
