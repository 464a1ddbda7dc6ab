"""TLB refills: the path on which the engine enters Python while guest code runs.

The engine asks for one page at a time. Most answers come from the architectural TLB; the
rest is a walk, and what the walk refuses becomes an abort. An abort to EL2 whose handler only
repaired tables is resolved on the spot, without leaving the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from emu.arch.a64.access import AccessKind
from emu.arch.a64.loadstore import decode
from emu.arch.a64.maintenance import DC
from emu.arch.a64.system import decode_system
from emu.arch.address import PAGE_SHIFT, VA
from emu.arch.esr.fsc import FaultType
from emu.arch.registers.exceptions import PSTATE
from emu.cpu import engine, memoryerrors
from emu.cpu.aborts import FETCH, ZEROING, AbortKind, abort, data_access, faulting_address
from emu.cpu.blocks import INSTRUCTION_BYTES
from emu.cpu.instructions import misaligned_pc
from emu.cpu.internals import PC_INDEX, PSTATE_INDEX
from emu.mmu import stage1, stage2
from emu.mmu.fault import Fault
from emu.mmu.permissions import EL0, EL1, EL1_PAN, EXECUTE, READ, WRITE

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement
    from emu.mmu.tlb import TlbEntry

NEEDS: Final = {engine.READ: READ, engine.WRITE: WRITE, engine.FETCH: EXECUTE}


_BEFORE_ACCESSES: Final = frozenset({FaultType.EXTERNAL, FaultType.PARITY, FaultType.TLB_CONFLICT})
"""What the read of an atomic access meets first, whatever is asked for."""

UAO: Final = PSTATE.UAO.in_place
PAN: Final = PSTATE.PAN.in_place


def privilege_of(pstate: int) -> int:
    """Return whose permissions count at ``pstate``."""
    if not pstate >> 2 & 3:
        return EL0
    return EL1_PAN if pstate & PAN else EL1


class Refill:
    """The refill path of one PE."""

    NOT_STATE: ClassVar = frozenset({"_registers", "_touched"})

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self._mmu = pe.mmu
        self._memory = pe.memory
        self._debug = pe.debug
        self._probe = pe.probe
        self._code = pe.code
        self._icache = pe.icache
        self._engine = pe.engine
        self._execution = pe.execution
        self._registers = pe.engine.registers
        self._touched = pe.memory.touched

    def fill(self, va: VA, access: int, result: Any) -> bool:  # noqa: ANN401  # a C array
        """Answer the engine: fill in PA and permissions of the page ``va``, or refuse."""
        execution = self._execution
        if execution.answered is not None or execution.pending is not None:  # it is leaving
            return False  # DC ZVA asks again after a refusal
        pc: VA = self._registers[PC_INDEX]  # type: ignore[assignment]  # NewType calls cost time
        mode = self._registers[PSTATE_INDEX]
        privilege = privilege_of(mode)
        need = NEEDS[access]
        code = self._code
        if need != EXECUTE and pc in code.unprivileged and not mode & UAO:
            privilege = EL0
        if self._pe.stale:
            self._pe.refresh()
            if self._pe.strictness.restart:
                self._execution.fetching = need == EXECUTE
                return False
        mmu = self._mmu
        page = va >> PAGE_SHIFT
        entry = mmu.pages.get(page) or mmu.global_pages.get(page)
        if entry is not None and entry.allowed[privilege] & need:
            mmu.hits += 1
        else:
            walked = self._miss(va, need, privilege, pc)
            if walked is None:
                return False
            entry = walked
        frame, permissions = entry.page, entry.allowed[privilege]
        if self._probe.pages or self._debug.pages or self._memory.failed:
            left = self._not_withheld(va, entry, need, privilege, pc)
            if left is None:
                return False
            permissions = left
        if code.scanned.get(page) != frame:
            if need == EXECUTE:
                code.prepare(va, frame)
            else:
                permissions &= ~EXECUTE
        if permissions & WRITE:
            self._touched.add(frame)
        result[0] = frame
        result[1] = permissions
        if self._icache.copies and frame in self._icache.copies:
            if need == EXECUTE:
                result[0], result[1] = self._icache.copies[frame], EXECUTE
            else:
                result[1] = permissions & ~EXECUTE
        return True

    def _miss(self, va: VA, need: int, privilege: int, pc: VA) -> TlbEntry | None:
        """Return the entry that a walk makes; None if the access must not be made now."""
        single = self._debug.single and not self._pe.blocks.left
        if need == EXECUTE and (single or (self._probe.armed and self._probe.stops_here)):
            self._execution.stop_fetching()
            return None
        self._mmu.misses += 1
        self._execution.fetching = need == EXECUTE
        walked = self._walk(va, need, privilege, pc)
        if walked is None:
            return None
        if self._probe.met:
            self._execution.refused = True  # what was met is told before the access
            self._mmu.hits -= 1  # which asks again, and was counted
            return None
        self._execution.fetching = False
        return walked

    def _not_withheld(
        self, va: VA, entry: TlbEntry, need: int, privilege: int, pc: VA
    ) -> int | None:
        """Return the permissions of a page of which some accesses are looked at one by one.

        None if the access at hand must not be made now.
        """
        permissions = entry.allowed[privilege]
        if self._probe.pages:
            if need == EXECUTE:
                permissions &= EXECUTE
            elif not self._probe.lets_pass(va, pc, entry.page):
                self._mmu.hits -= 1  # it is asked for again
                return None
        if self._debug.pages and self._debug.withholds(va >> PAGE_SHIFT):
            if need == EXECUTE:
                permissions &= EXECUTE
            elif not self._debug.lets_pass(pc, privilege):
                return None
        if entry.page in self._memory.failed and not memoryerrors.lets_pass(
            self._pe, va, entry.page, need, pc
        ):
            return None
        return permissions

    def _walk(self, va: VA, need: int, privilege: int, pc: VA) -> TlbEntry | None:
        """Walk until the access is allowed or an exception leaves the engine."""
        pe = self._pe
        if need == EXECUTE and pc % INSTRUCTION_BYTES:
            pstate = self._engine.state()[1]
            pe.guest.resolved_in_place(misaligned_pc(pc), pstate)  # taken to EL1: never resolved
            return None
        if need == READ and self._mmu.regime.updates and self._is_atomic(pc):
            need = READ | WRITE  # the access is refused as a whole before hardware marks a page
        is_unaligned = None if need == EXECUTE else self._is_unaligned
        while True:
            found = self._mmu.walk(va, need, privilege, is_unaligned)
            if not isinstance(found, Fault):
                if found.is_device and need != EXECUTE and not pe.code.strict:
                    pe.strictness.device_memory_used()
                    return None
                return found
            if self._probe.pages and not self._passes(found, va, need, pc):
                self._mmu.misses -= 1  # it is asked for again
                return None
            if need == EXECUTE:
                kind, far = FETCH, pc
            else:
                found, kind, far = self._describe(found, va, need, privilege, pc)
            pstate = self._engine.state()[1]
            to_el2 = found.stage == stage1.STAGE and pe.external_aborts_to_el2
            exception = abort(found, kind, far, pc, pstate >> 2 & 3, external_to_el2=to_el2)
            if not pe.guest.resolved_in_place(exception, pstate):
                return None

    def _is_unaligned(self) -> bool:
        """Whether Device memory refuses the access that the engine asks for."""
        return self._pe.watch.is_unaligned(VA(self._registers[PC_INDEX]))

    def _passes(self, fault: Fault, va: VA, need: int, pc: VA) -> bool:
        """Whether the abort of an access may be taken now: MMIO is an access, too."""
        if need == EXECUTE or fault.stage != stage2.STAGE or fault.s1ptw:
            return True
        return self._probe.lets_pass(va, pc, None, fault.ipa)

    def _is_atomic(self, pc: VA) -> bool:
        access = decode(self._pe.word_at(pc))
        return access is not None and access.kind is AccessKind.ATOMIC

    def _describe(
        self, fault: Fault, page: VA, need: int, privilege: int, pc: VA
    ) -> tuple[Fault, AbortKind, VA]:
        """Return what the instruction at ``pc`` was doing, and the first byte that failed.

        With the fault, because the engine asks for an atomic access one permission at a time,
        and the architecture for both at each stage. The update of a descriptor comes before
        stage 2 is asked about the data: its fault stays.
        """
        word = self._pe.word_at(pc)
        access = decode(word)
        write = need == WRITE
        if access is not None:
            if access.kind is AccessKind.ATOMIC and fault.type in _BEFORE_ACCESSES:
                write = False
            elif access.kind is AccessKind.ATOMIC and not fault.update:
                read_fault = self._mmu.probe(page, READ, privilege)
                both = self._mmu.probe(page, READ | WRITE, privilege)
                fault = both if isinstance(both, Fault) else fault
                write = read_fault != fault
            address = self._pe.watch.address_of(access, pc)
            return fault, data_access(word, write), faulting_address(address, page)
        instruction = decode_system(word)
        if instruction is not None and instruction.operation is DC.ZVA:
            address = VA(self._pe.registers.x(instruction.rt))
            return fault, ZEROING, faulting_address(address, page)
        return fault, data_access(word, write), page
