"""Accesses to physical memory that has failed (:class:`emu.memory.FailedRange`).

The engine knows nothing of it. Pages with such bytes are kept from its TLB, as those of watchpoints
are: each instruction that accesses one leaves the engine, is compared, and is executed by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.access import AccessKind
from emu.arch.a64.loadstore import decode
from emu.arch.a64.maintenance import DC
from emu.arch.a64.system import decode_system
from emu.arch.address import PA, PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, VA
from emu.arch.registers.identification import DCZID_EL0
from emu.cpu.aborts import FETCH, ZEROING, abort, data_access, faulting_address
from emu.mmu import stage1
from emu.mmu.fault import Fault
from emu.mmu.permissions import EXECUTE

if TYPE_CHECKING:
    from emu.cpu.aborts import AbortKind
    from emu.cpu.exception import ArmException
    from emu.cpu.pe import ProcessingElement

_WORD: Final = 4
_ADDRESS: Final = (1 << 56) - 1


def lets_pass(pe: ProcessingElement, page: VA, frame: PA, need: int, pc: VA) -> bool:
    """Whether the engine may now have a page with failed bytes, from inside a refill.

    If not, it is to be left: for an exception, or to execute the instruction by itself.

    Parameters
    ----------
    pe
        The PE.
    page, frame
        The page, and where it is.
    need
        What the access needs.
    pc
        The instruction.
    """
    debug, execution = pe.debug, pe.execution
    if need == EXECUTE and debug.single and not pe.blocks.left:
        execution.stop_fetching()
        return False
    exception = _error(pe, page, frame, need, pc)
    if exception is not None:
        execution.fetching = need == EXECUTE
        execution.pending = exception
        return False
    if debug.is_passing(pc):
        return True
    debug.execute_alone(pc)
    if need == EXECUTE:
        execution.stop_fetching()
    else:
        execution.refused = True
    return False


def _error(pe: ProcessingElement, page: VA, frame: PA, need: int, pc: VA) -> ArmException | None:
    """Return the exception of an access, if any byte of it on this page has failed."""
    if need == EXECUTE:
        address, size, kind = pc, _WORD, FETCH
    else:
        found = _data_access(pe, pc)
        if found is None:
            return None
        address, size, kind = found
    offset = 0
    if (address & _ADDRESS) >> PAGE_SHIFT == (page & _ADDRESS) >> PAGE_SHIFT:
        offset = address & PAGE_MASK
    else:
        size -= PAGE_SIZE - (address & PAGE_MASK)
    error = pe.memory.error(PA(frame + offset), min(size, PAGE_SIZE - offset))
    if error is None:
        return None
    el = pe.engine.mode >> 2 & 3
    far = pc if need == EXECUTE else faulting_address(address, page)
    fault = Fault(error, None, stage1.STAGE)
    return abort(fault, kind, far, pc, el, external_to_el2=pe.external_aborts_to_el2)


def _data_access(pe: ProcessingElement, pc: VA) -> tuple[VA, int, AbortKind] | None:
    """Return address, size and description of what the instruction at ``pc`` accesses."""
    word = pe.word_at(pc)
    access = decode(word)
    if access is not None:
        fails = access.exclusive and access.writes and not pe.engine.exclusive
        if access.kind is AccessKind.PREFETCH or fails:
            return None
        return pe.watch.address_of(access, pc), access.size, data_access(word, False)
    instruction = decode_system(word)
    if instruction is None or instruction.operation is not DC.ZVA:
        return None
    size = _WORD << pe.features.read(DCZID_EL0).BS
    return VA(pe.registers.x(instruction.rt) & -size), size, ZEROING
