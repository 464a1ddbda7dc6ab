"""Breakpoints, watchpoints and software step of one PE (Arm ARM D2).

Nothing of this costs anything while it is unused. The engine knows nothing of it: its own debug
registers stay 0, and PSTATE.SS is kept here.

- A breakpoint is a hook at its address, which stays when the breakpoint goes.
- The pages that a watchpoint reaches are kept from the engine's TLB. An access to one leaves the
  engine, is compared, and is executed by itself with the page there.
- While MDSCR_EL1.SS is set, instructions are executed one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.access import AccessKind
from emu.arch.a64.exceptions import ExceptionInstruction, exception_generation
from emu.arch.a64.loadstore import decode
from emu.arch.a64.maintenance import DC
from emu.arch.a64.system import decode_system
from emu.arch.a64.word import sign_extend
from emu.arch.address import PAGE_SHIFT, VA
from emu.arch.debug.comparators import (
    ADDRESS,
    Breakpoints,
    Comparator,
    Context,
    extent,
    watched_offset,
)
from emu.arch.debug.enabled import SS, DebugControls, is_enabled, is_stepping, ss_after_return
from emu.arch.debug.syndromes import breakpoint_syndrome, step_syndrome, watchpoint_syndrome
from emu.arch.registers.debug import (
    DBGBCR_EL1,
    DBGBVR_EL1,
    DBGPRCR_EL1,
    DBGWCR_EL1,
    DBGWVR_EL1,
    MDSCR_EL1,
    OSDLR_EL1,
    OSLAR_EL1,
    OSLSR_EL1,
)
from emu.arch.registers.exceptions import SPSR_EL1
from emu.arch.registers.identification import CTR_EL0, DCZID_EL0, ID_AA64DFR0_EL1
from emu.arch.registers.translation import CONTEXTIDR_EL1
from emu.arch.registers.virtualization import HCR_EL2, MDCR_EL2
from emu.cpu.exception import ArmException

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement

_ADDRESS_BITS: Final = ADDRESS.bit_length()
_MASK64: Final = (1 << 64) - 1
_PAGES: Final = ADDRESS >> PAGE_SHIFT
_WORD: Final = 4
_MDE: Final = MDSCR_EL1.MDE.in_place
_SS: Final = MDSCR_EL1.SS.in_place
_RETURNS: Final = frozenset(
    {ExceptionInstruction.ERET, ExceptionInstruction.ERETAA, ExceptionInstruction.ERETAB}
)


DEBUG_REGISTERS: Final = frozenset(
    {
        *DBGBVR_EL1,
        *DBGBCR_EL1,
        *DBGWVR_EL1,
        *DBGWCR_EL1,
        MDSCR_EL1,
        OSLAR_EL1,
        OSDLR_EL1,
        DBGPRCR_EL1,
    }
)
"""What decides what is armed."""


class Debug:
    """The debug unit of one PE.

    Attributes
    ----------
    stale
        Whether a register has changed that decides what is armed.
    ss
        PSTATE.SS, in place.
    addresses
        Where breakpoints are armed.
    pages
        First and last page that each armed watchpoint reaches.
    single
        Whether instructions are to be executed one by one.
    refused
        The instruction that is to be executed by itself, because it accesses one of those pages.
    """

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        dfr0 = pe.features.read(ID_AA64DFR0_EL1)
        self._breakpoints = range(dfr0.BRPs + 1)
        self._watchpoints = range(dfr0.WRPs + 1)
        self._first_context_aware = dfr0.BRPs - dfr0.CTX_CMPs
        self.stale = False
        self.ss = 0
        self.addresses: frozenset[VA] = frozenset()
        self.pages: tuple[tuple[int, int], ...] = ()
        self.single = False
        self.refused: VA | None = None
        self._is_armed = False
        self._one_by_one = False
        self._passing: VA | None = None
        self._stepped: tuple[VA, bool] | None = None

    # What the registers say

    def _controls(self) -> DebugControls:
        el2 = self._pe.registers.el2
        double_lock = el2(OSDLR_EL1) and not el2(DBGPRCR_EL1)
        to_el2 = el2(MDCR_EL2) & MDCR_EL2.TDE.in_place or el2(HCR_EL2) & HCR_EL2.TGE.in_place
        locked = el2(OSLSR_EL1) & OSLSR_EL1.OSLK.in_place or double_lock
        return DebugControls(el2(MDSCR_EL1), bool(locked), bool(to_el2))

    @property
    def target(self) -> int:
        """The Exception level that debug exceptions are taken to: 1 or 2."""
        return self._controls().target

    def _context(self) -> Context:
        pe = self._pe
        pe.refresh()
        return Context(pe.read(CONTEXTIDR_EL1), pe.mmu.regime.vmid)

    def _breakpoint_units(self) -> Breakpoints:
        el2 = self._pe.registers.el2
        units = (Comparator(el2(DBGBVR_EL1[n]), el2(DBGBCR_EL1[n])) for n in self._breakpoints)
        return Breakpoints(tuple(units), self._first_context_aware)

    def _watchpoint_units(self) -> tuple[Comparator, ...]:
        el2 = self._pe.registers.el2
        return tuple(Comparator(el2(DBGWVR_EL1[n]), el2(DBGWCR_EL1[n])) for n in self._watchpoints)

    def arm(self) -> None:
        """Follow the registers, and what the probe asks for, while the engine is not running."""
        self.stale = False
        self.refused = None
        self._follow()
        self._pe.engine.break_at(self.addresses | self._pe.probe.addresses)

    def _follow(self) -> None:
        controls = self._controls()
        armed = controls.mdscr & _MDE and not controls.locked
        if not armed and not controls.mdscr & _SS and not self._is_armed:
            return
        self._is_armed = True
        breakpoints = self._breakpoint_units() if armed else Breakpoints((), 0)
        kinds = [breakpoints.type_of(number) for number in range(len(breakpoints.units))]
        self.addresses = frozenset(
            VA(sign_extend(unit.value & ADDRESS & -_WORD, _ADDRESS_BITS) & _MASK64)
            for unit, kind in zip(breakpoints.units, kinds, strict=True)
            if kind is not None and kind.address
        )
        everywhere = any(kind and not kind.address and not kind.linked for kind in kinds)
        self._one_by_one = everywhere or bool(controls.mdscr & _SS)
        self.single = self._steps_anyway
        extents = [extent(unit) for unit in self._watchpoint_units()] if armed else []
        pages = tuple(
            (watched.start >> PAGE_SHIFT, watched.start + watched.size - 1 >> PAGE_SHIFT)
            for watched in extents
            if watched is not None
        )
        if pages != self.pages:
            self.pages = pages
            self._pe.engine.flush_tlb()
        self._is_armed = bool(self.addresses or pages or self._one_by_one)

    # Breakpoints

    def breakpoint(self, pc: VA, pstate: int) -> ArmException | None:
        """Return the exception that comes instead of the instruction at ``pc``."""
        controls = self._controls()
        if not controls.mdscr & _MDE or not is_enabled(controls, pstate):
            return None
        el, context, units = pstate >> 2 & 3, self._context(), self._breakpoint_units()
        if not any(units.matches(number, pc, el, context) for number in self._breakpoints):
            return None
        esr = breakpoint_syndrome(same_el=el == controls.target)
        return ArmException(controls.target, esr, pc)

    # Watchpoints

    def withholds(self, page: int) -> bool:
        """Whether a watchpoint reaches the page of a VA, given shifted by its offset."""
        page &= _PAGES
        return any(first <= page <= last for first, last in self.pages)

    def lets_pass(self, pc: VA, privilege: int) -> bool:
        """Whether the engine may now access a page that is withheld, from inside a refill.

        If not, it is to be left: for an exception, or to execute the instruction by itself.
        """
        if self.is_passing(pc):
            return True
        if pc != self.refused:
            execution = self._pe.execution
            execution.pending = self._watchpoint(pc, el=1 if privilege else 0)
            if execution.pending is None:
                self.execute_alone(pc)
                execution.refused = True
        return False

    def is_passing(self, pc: VA) -> bool:
        """Whether the instruction at ``pc`` is being executed by itself, with its pages there."""
        return pc == self._passing

    def execute_alone(self, pc: VA) -> None:
        """Have the instruction at ``pc`` executed by itself, once the engine has been left."""
        self.refused = pc
        self.single = True

    def _watchpoint(self, pc: VA, *, el: int) -> ArmException | None:
        """Return the exception of the access that the instruction at ``pc`` makes."""
        pe = self._pe
        word = pe.word_at(pc)
        access = decode(word)
        if access is None:
            instruction = decode_system(word)
            if instruction is None or instruction.operation is not DC.ZVA:
                return None
            size = _WORD << pe.features.read(DCZID_EL0).BS
            address = VA(pe.registers.x(instruction.rt) & -size)
            return self._compare(address, size, pc, el=el, read=False, write=True)
        fails = access.exclusive and access.writes and not pe.engine.exclusive
        if access.kind is AccessKind.PREFETCH or fails:
            return None
        address = pe.watch.address_of(access, pc)
        return self._compare(
            address, access.size, pc, el=el, read=access.reads, write=access.writes
        )

    def invalidation(self, va: VA, pc: VA, el: int) -> ArmException | None:
        """Return the exception of DC IVAC, which watchpoints take for a store to the line."""
        if not self.pages:
            return None
        size = _WORD << self._pe.features.read(CTR_EL0).DminLine
        return self._compare(VA(va & -size), size, pc, el=el, read=False, write=True, CM=True)

    def _compare(
        self, address: VA, size: int, pc: VA, *, el: int, read: bool, write: bool, CM: bool = False
    ) -> ArmException | None:
        """Compare an access with all watchpoints; FAR is the first byte that is watched."""
        controls = self._controls()
        pstate = self._pe.engine.state()[1]
        if not is_enabled(controls, pstate):
            return None
        units, context = self._breakpoint_units(), self._context()
        for store in (False, True):
            if not (write if store else read):
                continue
            found = [
                watched_offset(
                    watchpoint,
                    address,
                    size,
                    write=store,
                    el=el,
                    breakpoints=units,
                    context=context,
                )
                for watchpoint in self._watchpoint_units()
            ]
            offsets = [offset for offset in found if offset is not None]
            if offsets:
                same_el = pstate >> 2 & 3 == controls.target
                esr = watchpoint_syndrome(same_el=same_el, write=store, CM=CM)
                far = VA(address + min(offsets) & _MASK64)
                return ArmException(controls.target, esr, pc, far)
        return None

    # Instructions one by one

    @property
    def _steps_anyway(self) -> bool:
        return self._one_by_one or self._pe.icache.once is not None

    def returned(self, spsr: int) -> None:
        """Note that EL2 returns to the state ``spsr``; it has debug exceptions masked."""
        self.refused = None
        self.single = self._steps_anyway
        controls = self._controls() if spsr & SS else None
        steps = controls is not None and is_stepping(controls, spsr)
        self.ss = SS if steps else 0

    def step(self, pc: VA, user: int | None) -> tuple[VA, int]:
        """Execute one instruction, or make a debug exception pending that comes before it.

        Parameters
        ----------
        pc
            Where it is.
        user
            As for :meth:`emu.cpu.execution.Execution.execute`.

        Returns
        -------
        tuple[VA, int]
            PC and PSTATE, as :meth:`emu.cpu.execution.Execution.execute` does. For an exception
            that is pending, it has the SS bit to be saved.
        """
        pc, pstate = self._step(pc, self._pe.engine.state()[1], user)
        exception = self._pe.execution.pending
        if exception is not None:
            pstate |= self.ss
            if exception.target == 1:
                self.ss = 0
        return pc, pstate

    def _step(self, pc: VA, pstate: int, user: int | None) -> tuple[VA, int]:
        pe = self._pe
        execution = pe.execution
        controls = self._controls()
        steps = is_stepping(controls, pstate)
        if steps and not self.ss:
            execution.pending = self._step_exception(controls, pc, pstate)
            return pc, pstate
        word = pe.word_at(pc)
        if self._one_by_one and word:
            execution.pending = self.breakpoint(pc, pstate)
            if execution.pending is not None:
                return pc, pstate
        ss = self._ss_behind(word, controls, pstate)
        before, here, icache = execution.before, pc, pe.icache
        if icache.once is not None:
            icache.before_step(pc)
        self._passing, self.refused = self.refused, None
        pc, pstate = execution.execute(pc, 1, user)
        if self._passing is not None:
            self._passing = None
            pe.engine.flush_tlb()
        if icache.once is not None:
            pending = execution.pending
            over = execution.before != before or (pending is not None and pending.target == 1)
            icache.after_step(here, over=over)
        self.single = self._steps_anyway or self.refused is not None
        if execution.before != before:
            self.ss = ss
            access = decode(word) if steps else None
            is_exclusive = access is not None and access.exclusive and access.reads
            self._stepped = (pc, is_exclusive) if steps and not execution.leaving else None
        return pc, pstate

    def _ss_behind(self, word: int, controls: DebugControls, pstate: int) -> int:
        """Return PSTATE.SS after an instruction: 0, but for exception returns."""
        found = exception_generation(word)
        if found is None or found.instruction not in _RETURNS or not pstate >> 2 & 3:
            return 0
        return ss_after_return(controls, pstate, self._pe.read(SPSR_EL1))

    def _step_exception(self, controls: DebugControls, pc: VA, pstate: int) -> ArmException:
        stepped = self._stepped
        same_el = pstate >> 2 & 3 == controls.target
        exclusive = stepped[1] if stepped is not None and stepped[0] == pc else None
        return ArmException(
            controls.target, step_syndrome(same_el=same_el, stepped_exclusive=exclusive), pc
        )
