"""What the PE checks before an instruction executes, because the engine does not.

The engine enforces alignment of exclusive and atomic accesses only. Ordered accesses are
watched always; all loads and stores are while unaligned ones may fault: with SCTLR_EL1.A, with
stage 1 off, once a page of RAM has been used as Device memory, and once SP has been misaligned.
That mode costs a call of Python for each of them, so it lasts no longer than it must.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from emu.arch.a64.access import STACK_POINTER, AccessKind
from emu.arch.a64.loadstore import MemoryAccess, decode, effective_address
from emu.arch.a64.maintenance import DC
from emu.arch.a64.stack import SP_ALIGNMENT
from emu.arch.a64.system import decode_system
from emu.arch.address import PAGE_MASK, VA
from emu.arch.esr.fsc import FaultType
from emu.arch.registers.translation import SCTLR_EL1
from emu.cpu import system
from emu.cpu.aborts import ZEROING, abort, alignment_fault, data_access
from emu.cpu.alignment import is_unaligned, must_fault
from emu.cpu.instructions import misaligned_sp, undefined
from emu.cpu.internals import EngineError
from emu.cpu.refill import privilege_of
from emu.mmu.fault import Fault
from emu.mmu.permissions import READ, WRITE

if TYPE_CHECKING:
    from emu.cpu.aborts import AbortKind
    from emu.cpu.exception import ArmException
    from emu.cpu.pe import ProcessingElement


class Watch:
    """The checks of one PE."""

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe

    def address_of(self, access: MemoryAccess, pc: VA) -> VA:
        """Return the first byte that the instruction at ``pc`` accesses."""
        registers = self._pe.registers
        sp = registers.sp() if access.base == STACK_POINTER else VA(0)
        return effective_address(access, registers.x, sp, pc)

    def before(self, word: int, pc: VA, pstate: int) -> ArmException | None:
        """Return the exception that the instruction ``word`` raises before its access."""
        access = decode(word)
        if access is None:
            return self._before_zeroing(word, pc, pstate)
        if not self._exists(access, word):
            return undefined(pc)
        if self._stack_refuses(access, pstate):
            return misaligned_sp(pc)
        if access.exclusive or access.kind in (AccessKind.ATOMIC, AccessKind.PREFETCH):
            return None
        address = self.address_of(access, pc)
        if not is_unaligned(access, address):
            return None
        pe = self._pe
        pe.refresh()
        controls = pe.mmu.regime.stage1
        lse2 = pe.features.lse2
        el = pstate >> 2 & 3
        if must_fault(access, checked=controls.checked, lse2=lse2, nAA=controls.nAA):
            return alignment_fault(word, address, pc, el)
        need = (READ if access.reads else 0) | (WRITE if access.writes else 0)
        kind = data_access(word, False)
        return self._in_device_memory(address, access.size, need, kind, pc, pstate)

    def _stack_refuses(self, access: MemoryAccess, pstate: int) -> bool:
        """Whether SP is the base, misaligned, and checked at this Exception level."""
        if access.base != STACK_POINTER or access.kind is AccessKind.PREFETCH:
            return False
        sctlr = self._pe.read(SCTLR_EL1)
        checked = sctlr.SA if pstate >> 2 & 3 else sctlr.SA0
        return bool(checked and self._pe.registers.sp() % SP_ALIGNMENT)

    def _exists(self, access: MemoryAccess, word: int) -> bool:
        """Whether the CPU has the instruction; the engine's newest model has more of them."""
        features = self._pe.features
        if access.limited_order:
            return features.lor
        if access.authenticated:
            return features.pauth
        if word & LRCPC2_MASK == LRCPC2_VALUE:
            return features.lrcpc2
        return word & LRCPC_MASK != LRCPC_VALUE or features.lrcpc

    def _before_zeroing(self, word: int, pc: VA, pstate: int) -> ArmException | None:
        """Check DC ZVA: it may be trapped, and Device memory refuses it."""
        site = self._pe.code.site(word)
        assert site is not None
        assert site.operation is DC.ZVA
        outcome = system.trapped(self._pe, site, pc, pstate >> 2 & 3)
        if outcome is not None:
            return outcome
        address = VA(self._pe.registers.x(site.instruction.rt))
        return self._in_device_memory(address, 1, WRITE, ZEROING, pc, pstate)

    def _in_device_memory(
        self, address: VA, size: int, need: int, kind: AbortKind, pc: VA, pstate: int
    ) -> ArmException | None:
        """Return the fault of an unaligned access if any page of it is Device memory.

        Other faults are left to the access itself.
        """
        pe = self._pe
        privilege = privilege_of(pstate)
        if pc in pe.code.unprivileged:
            privilege = 0
        pe.refresh()
        for page in range(address & ~PAGE_MASK, address + size, PAGE_MASK + 1):
            found = pe.mmu.walk(max(VA(page), address), need, privilege, lambda: True)
            if isinstance(found, Fault):
                if found.type is FaultType.ALIGNMENT:
                    return abort(found, kind, address, pc, pstate >> 2 & 3)
                return None
        return None

    def is_unaligned(self, pc: VA) -> bool:
        """Whether Device memory refuses the access of the instruction at ``pc``."""
        word = self._pe.word_at(pc)
        access = decode(word)
        if access is None:
            instruction = decode_system(word)
            return instruction is not None and instruction.operation is DC.ZVA
        return is_unaligned(access, self.address_of(access, pc))

    def misaligned(self, word: int, pc: VA, el: int) -> ArmException:
        """Return the exception for an access that the engine itself found misaligned."""
        access = decode(word)
        if access is None:
            raise EngineError(f"data abort of the engine at PC {pc:#x} by the word {word:#010x}")
        return alignment_fault(word, self.address_of(access, pc), pc, el)


LRCPC_MASK, LRCPC_VALUE = 0x3FE0_FC00, 0x38A0_C000
"""LDAPR."""
LRCPC2_MASK, LRCPC2_VALUE = 0x3F20_0C00, 0x1900_0000
"""LDAPUR and STLUR."""
