"""What the engine calls while guest code runs.

An exception of Python must not pass through C code: it is kept, and raised once the engine has
been left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emu.arch.a64.stack import SP_ALIGNMENT
from emu.arch.address import VA
from emu.arch.registers.control import CPACR_EL1
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu import instructions, system
from emu.cpu.blocks import INSTRUCTION_BYTES
from emu.cpu.engine import Interrupt
from emu.cpu.exception import ArmException
from emu.cpu.internals import EngineError
from emu.cpu.system import Outcome
from emu.mmu.permissions import EXECUTE

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from emu.cpu.site import Site


class Callbacks:
    """The callbacks of one PE's engine; they are made before it."""

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe

    def on_fill(self, _engine: Any, va: VA, access: int, result: Any, _data: Any) -> bool:  # noqa: ANN401  # C
        """Answer for a page that the engine's TLB lacks."""
        pe = self._pe
        execution = pe.execution
        if not execution.running and va in pe.changed_code.pages:
            result[0], result[1] = pe.changed_code.pages[va], EXECUTE
            return True
        if execution.stopped_at is not None or not execution.running:
            return False  # no access of the guest: the engine looks for code behind a stop
        try:
            return pe.refill.fill(va, access, result)
        except BaseException as failure:  # noqa: BLE001  # raised again by Execution.execute
            execution.fail(failure)
            return False

    def on_interrupt(self, _engine: Any, number: int, _data: Any) -> None:  # noqa: ANN401  # C
        """Take note of an exception that an instruction raises."""
        execution = self._pe.execution
        try:
            execution.pending = self._instruction_exception(number)
            if execution.pending is None:
                if self._pe.debug.stale:
                    execution.stop_before(self._pe.engine.pc)
                return
        except BaseException as failure:  # noqa: BLE001  # raised again by Execution.execute
            execution.fail(failure)
        execution.stop_behind()

    def on_system(self, _engine: Any, _register: int, _encoding: Any, _data: Any) -> int:  # noqa: ANN401  # C
        """Execute a system instruction, or return 0 to have the engine do so."""
        pe = self._pe
        execution = pe.execution
        try:
            engine = pe.engine
            pc = engine.pc
            code = pe.code
            site = code.site_now(pe.word_at(pc)) if code.coherent else code.sites.get(pc)
            if site is None:
                pe.code.let_pass(pe.word_at(pc))
                return 0
            if pe.probe.operations and self._is_probed(site, pc):
                return 1
            outcome = system.execute(pe, site, pc, engine.mode >> 2 & 3)
            if outcome is Outcome.NATIVE:
                if pe.probe.met:
                    pe.blocks.end_behind_block()  # which a TLBI ends
                return 0
            if outcome is Outcome.DONE:
                if pe.changed_code.pages or execution.timer_changed or pe.debug.stale:
                    execution.stop_behind()
                return 1
            if outcome.target == 2:
                if not pe.guest.trapped_in_place(outcome):
                    execution.stop_before(pc)
                return 1
            execution.pending = outcome
        except BaseException as failure:  # noqa: BLE001  # raised again by Execution.execute
            execution.fail(failure)
        execution.stop_behind()
        return 1

    def on_code(self, _engine: Any, address: int, _size: int, _data: Any) -> None:  # noqa: ANN401  # C
        """Have a look before the instruction at a watched address."""
        pe = self._pe
        execution, strictness = pe.execution, pe.strictness
        va = VA(address)
        word = pe.code.watched.get(va)
        behind = va in pe.code.behind_stack_writes
        stops, probed = va in pe.debug.addresses, va in pe.probe.addresses
        if execution.stopped_at is None and pe.progress.is_behind_last_access(va):
            execution.stop_before(va)
        passes = word is None and not behind and not stops and not probed
        if passes or execution.stopped_at is not None:
            return
        try:
            if probed and pe.probe.stops_at(va):
                execution.stop_before(va)
                return
            if stops:
                execution.pending = pe.debug.breakpoint(va, pe.engine.state()[1])
            if behind and pe.registers.sp() % SP_ALIGNMENT:
                strictness.stack_misaligned()
            if word is not None and execution.pending is None and not strictness.restart:
                pstate = pe.engine.state()[1]
                execution.pending = pe.watch.before(word, va, pstate)
                if execution.pending is None and pe.pmu.counts_accesses:
                    pe.progress.access(word, va, pstate)
            if execution.pending is None and not strictness.restart:
                return
        except BaseException as failure:  # noqa: BLE001  # raised again by Execution.execute
            execution.fail(failure)
        execution.stop_before(va)

    def _is_probed(self, site: Site, pc: VA) -> bool:
        """Whether the engine is to stop before a system instruction, and does."""
        if site.operation is None or not self._pe.probe.stops_before(site.operation, pc):
            return False
        self._pe.execution.stop_before_system(pc)
        return True

    def _instruction_exception(self, number: int) -> ArmException | None:
        """Return the exception for an event that the engine reports by number.

        None if it lacks the instruction, but the CPU does not: then it is done and skipped.
        """
        pe = self._pe
        pc, pstate = pe.engine.state()
        el = pstate >> 2 & 3
        hcr = HCR_EL2(pe.registers.el2(HCR_EL2))
        if number == Interrupt.SVC:
            word = pe.word_at(VA(pc - INSTRUCTION_BYTES))
            return instructions.supervisor_call(word, pc)
        if number == Interrupt.SMC:  # the engine's PC is behind it, the exception's is not
            pc = VA(pc - INSTRUCTION_BYTES)
            return instructions.secure_monitor_call(pe.word_at(pc), pc, el, hcr)
        if pc % INSTRUCTION_BYTES:
            return instructions.misaligned_pc(pc)
        word = pe.word_at(pc)
        if number == Interrupt.BREAKPOINT:
            return instructions.breakpoint_instruction(word, pc, pe.debug.target)
        if number == Interrupt.DATA_ABORT:
            return pe.watch.misaligned(word, pc, el)
        if number == Interrupt.UNDEFINED:
            refused = instructions.wait_exception(word, pc, el, hcr, pe.read(SCTLR_EL1))
            if refused is not None:
                return refused
            site = pe.code.site(word)
            if site is not None:
                outcome = system.execute(pe, site, pc, el)
                if isinstance(outcome, ArmException):
                    return outcome
                if outcome is Outcome.DONE:
                    pe.engine.skip(pc)
                    return None
            return instructions.undefined_word(word, pc, el, hcr, pe.read(CPACR_EL1))
        raise EngineError(f"exception {number} of the engine at PC {pc:#x} has no AArch64 meaning")
