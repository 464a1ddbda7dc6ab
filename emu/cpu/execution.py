"""Runs of the engine: how one begins and ends, and how many instructions it retired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import PAGE_SIZE, VA
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu import instructions
from emu.cpu.blocks import INSTRUCTION_BYTES
from emu.cpu.internals import EngineError

if TYPE_CHECKING:
    from emu.cpu.exception import ArmException
    from emu.cpu.pe import ProcessingElement

LONGEST_BLOCK: Final = PAGE_SIZE // INSTRUCTION_BYTES
"""Instructions in the longest block: blocks do not cross pages."""


class Execution:
    """The run of one PE's engine, and the count of what all runs retired.

    Attributes
    ----------
    running
        Whether the engine has been entered.
    before
        Instructions retired by the runs before this one.
    fetching
        Whether Python runs for the fetch of an instruction, which has not been entered yet.
    pending
        The exception for which the engine is to be left.
    answered
        For one that EL2 has handled: whether it returned to the guest.
    failure
        What Python raised in a callback of the engine.
    failed_at
        Instructions completed then.
    stopped_at
        Instructions completed when a stop was asked for.
    goes_on_at
        Where the guest goes on if the engine's PC does not say so.
    refused
        Whether the engine was refused a page that it may ask for again.
    timer_changed
        Whether a timer may now interrupt at another time than was planned.
    """

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self.running = False
        self.before = 0
        self.fetching = False
        self.pending: ArmException | None = None
        self.answered: bool | None = None
        self.failure: BaseException | None = None
        self.failed_at = 0
        self.stopped_at: int | None = None
        self.goes_on_at: VA | None = None
        self.refused = False
        self.timer_changed = False

    @property
    def leaving(self) -> bool:
        """Whether the engine is to be left, for an exception that was met."""
        return self.answered is not None or self.pending is not None

    @property
    def in_flight(self) -> int:
        """Instructions retired since the engine was entered."""
        pe = self._pe
        return pe.blocks.completed(pe.engine.pc, fetching=self.fetching)

    @property
    def retired(self) -> int:
        """Instructions retired so far."""
        return self.before + self.in_flight if self.running else self.before

    def execute(self, pc: VA, count: int, user: int | None = None) -> tuple[VA, int]:
        """Run the engine for at most ``count`` instructions, and at most ``user`` of EL0.

        Return PC and PSTATE. The engine counts by the block and stops before the block that would
        exceed a count; then it is stopped within that block.
        """
        pe = self._pe
        pe.blocks.grant(count, user, now=pe.clock.now)
        pe.progress.accessed = None
        pe.clock.begin(self)
        self.running = True
        code = pe.engine.start(pc)
        if pe.blocks.left < 0 and not pe.blocks.pending & ~pe.engine.state()[1]:
            code = self._finish(code)
        self.running = False
        if self.failure is not None:
            failure, self.failure = self.failure, None
            self.fetching, self.stopped_at = False, None
            self.before += self.failed_at
            pe.clock.end(self.failed_at)
            raise failure
        pc, pstate = pe.engine.state()
        if self.goes_on_at is not None:
            pc, self.goes_on_at = self.goes_on_at, None
        completed, self.stopped_at = self.stopped_at, None
        if completed is None:
            completed = pe.blocks.completed(pc, fetching=self.fetching)
        refused, self.refused = self.refused, False
        self.fetching = False
        self.timer_changed = pe.probe.leaves = False
        if completed > count:
            raise EngineError(
                f"the engine ran {completed} instructions, not {count}, to PC {pc:#x}"
            )
        if not self.leaving:
            if code and not (pe.strictness.restart or refused):
                raise EngineError(f"the engine stopped at PC {pc:#x} with error {code}")
            if pe.blocks.block[1] == pc:
                self.pending = self._wait(VA(pc - INSTRUCTION_BYTES), pstate)
                completed -= self.pending is not None
        self.before += completed
        pe.progress.user += pe.blocks.of_user(completed)
        pe.clock.end(completed)
        if pe.changed_code.pages:
            pe.changed_code.forget()
        if pe.strictness.restart:
            pe.strictness.choose()
        return pc, pstate

    def _finish(self, code: int) -> int:
        """Execute what the count allows of the block before which the engine stopped."""
        blocks, engine = self._pe.blocks, self._pe.engine
        begin, end = blocks.block
        stop = VA(end + blocks.left * INSTRUCTION_BYTES)
        if stop == begin:
            return code
        blocks.withdraw(LONGEST_BLOCK)
        code = engine.start_until(begin, stop, end)
        self.running = False
        # Else the block would call the hook at its stop for ever. No harm if it stays.
        engine.forget_code_at(*blocks.block)
        return code

    def _wait(self, pc: VA, pstate: int) -> ArmException | None:
        """Return the trap of a WFI, after which the engine stops by itself."""
        pe = self._pe
        return instructions.wait_exception(
            pe.word_at(pc),
            pc,
            pstate >> 2 & 3,
            HCR_EL2(pe.registers.el2(HCR_EL2)),
            pe.read(SCTLR_EL1),
        )

    # Stops, from inside a callback

    def fail(self, failure: BaseException) -> None:
        """Have this raised once the engine has been left."""
        self.failure, self.failed_at = failure, self.in_flight

    def stop_behind(self) -> None:
        """Stop behind the current instruction, or for the exception that is pending.

        The engine may look for the next block before it notices, so what has completed is
        noted now.
        """
        exception = self.pending
        following = VA(self._pe.engine.pc + INSTRUCTION_BYTES)
        self.stopped_at = self._pe.blocks.completed(
            following if exception is None else exception.pc
        )
        self._pe.engine.stop_at(following)

    def stop_fetching(self) -> None:
        """Stop before an instruction that is not to be fetched now: refuse the engine its page."""
        self.fetching = self.refused = True
        self.stopped_at = self._pe.blocks.completed(self._pe.engine.pc, fetching=True)
        self._pe.engine.stop()

    def stop_before_system(self, pc: VA) -> None:
        """Stop before the system instruction at ``pc``, from its hook; the engine may skip it."""
        self.goes_on_at = pc
        self.stop_before(pc)

    def stop_before(self, pc: VA) -> None:
        """Stop before the instruction at ``pc``."""
        self.stopped_at = self._pe.blocks.completed(pc)
        self._pe.engine.stop()
