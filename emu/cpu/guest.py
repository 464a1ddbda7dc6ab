"""The guest between EL2's ERET and the next entry to EL2: exceptions are taken here."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar, Final

from emu.arch.address import VA
from emu.arch.debug.enabled import SS
from emu.arch.exceptions import ExceptionKind
from emu.arch.registers.exceptions import ELR_EL2, ESR_EL1, SPSR_EL2, Mode
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu import interrupts
from emu.cpu.blocks import INSTRUCTION_BYTES

if TYPE_CHECKING:
    from emu.cpu.exception import ArmException
    from emu.cpu.pe import ProcessingElement

LIVELOCK_LIMIT: Final = 1000
"""Exceptions in a row without one retired instruction after which the PE gives up."""
EL1_LIVELOCK_LIMIT: Final = 16
"""The same of exceptions that EL1 takes itself: software changes nothing between them, so few
are proof."""

_GUEST_MODES: Final = frozenset({Mode.EL0t, Mode.EL1t, Mode.EL1h})
_MODE: Final = SPSR_EL2.nRW.in_place | SPSR_EL2.M.in_place


class EL2Entry(Enum):
    """Why the guest stopped and EL2 runs."""

    TRAP = "a synchronous exception"
    """Described by ESR_EL2, FAR_EL2, HPFAR_EL2, ELR_EL2 and SPSR_EL2."""
    IRQ = "the budget of instructions is spent, a timer of the PE fires, or a counter overflows"
    """The first is no exception: the exclusive monitor stays."""
    LIVELOCK = "exceptions without progress"
    """The guest takes exception after exception and retires nothing."""


class Guest:
    """What EL1 and EL0 of one PE do."""

    NOT_COMPARED: ClassVar = frozenset(
        {"_met_at", "_met_before", "_met_left", "_stalls", "_stalls_of_el1"}
    )

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self._execution = pe.execution
        self._debug = pe.debug
        self._probe = pe.probe
        self._met_at = VA(0)
        self._met_before, self._met_left = -1, 0
        self._stalls = self._stalls_of_el1 = 0
        self._paused: tuple[VA, int] | None = None
        self._handled = False

    def run(self, budget: int) -> EL2Entry:
        """Do what :meth:`emu.cpu.pe.ProcessingElement.run` says."""
        pe, execution = self._pe, self._execution
        debug = self._debug
        self._stalls = self._stalls_of_el1 = 0
        pe.mmu.forget_walk()  # whoever was EL2's guest may have changed the tables
        deadline = execution.before + budget
        pc = self._return_to_guest(paused=self._is_as_paused())
        while True:
            if debug.stale:
                debug.arm()
            if pe.blocks.pending:
                pc = self._take_virtual_interrupts(pc)
            left = deadline - execution.before
            due = pe.timer.next_interrupt()
            if due is not None:
                left = min(left, due - pe.time)
            user = None
            if pe.pmu.active:
                limit, user, pe.progress.accesses_left = pe.pmu.limits(pe.engine.mode >> 2 & 3)
                left = min(left, limit)
            if left <= 0:
                entry = self._leave(EL2Entry.IRQ, pc)
                if execution.before == deadline and (due is None or due > pe.time):
                    self._pause(pc)
                else:
                    self._probe.taken(2, ExceptionKind.IRQ, None, pe.engine.mode)
                return entry
            if self._probe.armed:
                if self._probe.tell(pc):
                    pc = self._return_to_guest(paused=True)
                    continue
                left, user = self._probe.limits(left, user)
            if debug.single:
                pc, pstate = debug.step(pc, user)
            else:
                pc, pstate = execution.execute(pc, left, user)
            if execution.answered is None:
                if execution.pending is None:
                    continue
                exception, execution.pending = execution.pending, None
                pe.progress.exception(pstate, exception)
                if self._is_stalled(exception):
                    return self._leave(EL2Entry.LIVELOCK, exception.pc)
                if exception.target == 1:
                    pc = pe.registers.enter_el1(exception, pstate)
                    self._probe.taken(1, ExceptionKind.SYNCHRONOUS, exception.esr, pstate)
                    continue
                execution.answered = self._enter_el2(exception, pstate)
            again, execution.answered = execution.answered, None
            if not again:
                return EL2Entry.TRAP
            pc = self._return_to_guest()

    def _pause(self, pc: VA) -> None:
        """Note that the budget alone is spent.

        PEs run in turns that hardware has not: where nothing happens to a PE between two of
        them, the exclusive monitor stays. Else no LDXR and STXR would succeed in short turns.
        """
        self._pe.registers.written = False
        self._paused = pc, self._pe.engine.state()[1]

    def _is_as_paused(self) -> bool:
        """Whether the guest goes on from a pause, and EL2 has changed none of its registers."""
        paused = self.is_paused
        self._paused = None
        return paused

    @property
    def is_paused(self) -> bool:
        """Whether the guest, if it went on now, would go on from a pause."""
        registers = self._pe.registers
        return not registers.written and self._paused == (
            registers.el2(ELR_EL2),
            registers.el2(SPSR_EL2),
        )

    def stay_paused(self) -> None:
        """Have the guest go on from its pause although its registers were changed.

        For who changes them as no software does: there is no exception return.
        """
        registers = self._pe.registers
        registers.written = False
        self._paused = VA(registers.el2(ELR_EL2)), registers.el2(SPSR_EL2)

    def _return_to_guest(self, *, paused: bool = False) -> VA:
        """Make the engine's state that of ELR_EL2 and SPSR_EL2; return the PC."""
        pe = self._pe
        spsr = pe.registers.el2(SPSR_EL2)
        pstate = pe.engine.state()[1]
        if spsr & SS or self._debug.single:
            self._debug.returned(spsr)
            spsr &= ~SS
        if spsr != pstate:
            if spsr & _MODE not in _GUEST_MODES:
                raise ValueError(
                    f"the guest runs in EL0t, EL1t or EL1h (SPSR_EL2.M 0x0, 0x4, 0x5), "
                    f"not with M[4:0] {spsr & 0x1F:#x}"
                )
            pe.registers.set_pstate(spsr, pstate)
        if not paused:
            pe.engine.clear_exclusive()
        return VA(pe.registers.el2(ELR_EL2))

    def show(self, pc: VA) -> None:
        """Let EL2 see where the guest is."""
        self._pe.registers.write(ELR_EL2(pc))
        self._pe.registers.write(SPSR_EL2(self._pe.engine.state()[1] | self._debug.ss))

    def _leave(self, why: EL2Entry, pc: VA) -> EL2Entry:
        self.show(pc)
        return why

    def _enter_el2(self, exception: ArmException, pstate: int) -> bool:
        """Take an exception to EL2 and call its vector; return whether it ERETs."""
        self._pe.registers.enter_el2(exception, pstate)
        self._handled = True
        self._probe.taken(2, ExceptionKind.SYNCHRONOUS, exception.esr, pstate)
        try:
            return self._pe.el2_vector is not None and self._pe.el2_vector()
        finally:
            self._handled = False

    @property
    def is_running(self) -> bool:
        """Whether an instruction of the guest is under way, rather than EL2."""
        return self._execution.running and not self._handled

    def resolved_in_place(self, exception: ArmException, pstate: int) -> bool:
        """Take an abort met in a refill; return whether the access can simply be tried again.

        It can if EL2 returns to the same instruction, changed no register of the guest, left
        the instruction's page mapped, and its ERET has no exclusive monitor to clear. If not,
        the engine must be left first: it would go on with code that it has translated.
        """
        pe, execution = self._pe, self._execution
        if exception.target == 1 or self._debug.single or self._is_stalled(exception):
            execution.pending = exception
            return False
        pe.registers.written = False
        pe.progress.exception(pstate, exception)
        again = self._enter_el2(exception, pstate)
        if (
            again
            and not pe.pmu.active
            and not pe.registers.written
            and not pe.changed_code.pages
            and not (execution.timer_changed and not self._probe.leaves)
            and not pe.strictness.restart
            and not self._debug.stale
            and not pe.engine.exclusive
            and not pe.blocks.pending & ~pstate
            and pe.registers.el2(ELR_EL2) == exception.pc
            and pe.registers.el2(SPSR_EL2) == pstate
            and (execution.fetching or pe.mmu.holds(exception.pc))
        ):
            if not execution.timer_changed:
                if pe.stale:
                    pe.refresh()
                return True
            pe.mmu.misses -= 1  # left for who looks from outside: the access comes again
        execution.answered = again
        return False

    def trapped_in_place(self, exception: ArmException) -> bool:
        """Take the trap of a system instruction in its hook; return whether it is done with.

        It is if EL2 returns behind the instruction and left the rest of the guest's block as it
        was translated. If not, the engine must be left before the instruction.
        """
        pe, execution = self._pe, self._execution
        if self._debug.single or self._is_stalled(exception):
            execution.pending = exception
            return False
        pstate = pe.engine.state()[1]
        pe.registers.reconfigured = False
        pe.progress.exception(pstate)
        again = self._enter_el2(exception, pstate)
        if (
            again
            and not pe.pmu.active
            and not pe.registers.reconfigured
            and not pe.changed_code.pages
            and not execution.timer_changed
            and not pe.strictness.restart
            and not pe.stale
            and not self._debug.stale
            and not pe.blocks.pending & ~pstate
            and pe.registers.el2(ELR_EL2) == exception.pc + INSTRUCTION_BYTES
            and pe.registers.el2(SPSR_EL2) == pstate
            and pe.mmu.holds(exception.pc)
        ):
            pe.engine.clear_exclusive()
            pe.blocks.take_back()
            return True
        execution.answered = again
        return False

    def _take_virtual_interrupts(self, pc: VA) -> VA:
        """Take the virtual interrupt that is due, if there is one; return where to go on."""
        pe = self._pe
        pstate = pe.engine.state()[1]
        interrupt = interrupts.to_take(pe.blocks.pending, pstate)
        if interrupt is None:
            return pc
        pe.progress.exception(pstate)
        vector = pe.registers.take_interrupt(interrupt, pc, pstate | self._debug.ss)
        self._debug.ss = 0
        esr = int(pe.read(ESR_EL1)) if interrupt.kind is ExceptionKind.SERROR else None
        self._probe.taken(1, interrupt.kind, esr, pstate)
        if interrupt.kind is ExceptionKind.SERROR:
            pe.write(HCR_EL2(pe.registers.el2(HCR_EL2)).replace(VSE=0))
        return vector

    def _is_stalled(self, exception: ArmException) -> bool:
        """Count exceptions at one PC between which no instruction has retired."""
        pc, before, left = exception.pc, self._execution.before, self._pe.blocks.left
        again = pc == self._met_at and before == self._met_before and left == self._met_left
        self._met_at, self._met_before, self._met_left = pc, before, left
        self._stalls = self._stalls + 1 if again else 0
        self._stalls_of_el1 = self._stalls_of_el1 + 1 if again and exception.target == 1 else 0
        return self._stalls >= LIVELOCK_LIMIT or self._stalls_of_el1 >= EL1_LIVELOCK_LIMIT
