"""From a refused translation to the exception that reports it (Arm ARM D1.3, D8.15).

The MMU says which stage refused and why; the instruction gives the faulting VA to the byte
and the instruction syndrome. Everything here is a pure function of the two.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from emu.arch.a64.access import AccessKind
from emu.arch.a64.loadstore import decode, syndrome
from emu.arch.address import PAGE_SHIFT, VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import MEMORY_ERRORS, FaultType, fsc
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import HPFAR_EL2, ExceptionSyndrome
from emu.cpu.exception import ArmException
from emu.mmu import stage2
from emu.mmu.fault import Fault

S1PTW: Final = IssDataAbort.S1PTW.in_place
WnR: Final = IssDataAbort.WnR.in_place
CM: Final = IssDataAbort.CM.in_place

_EC_SHIFT: Final = ExceptionSyndrome.EC.lsb
_IL: Final = ExceptionSyndrome.IL.in_place
_FIPA_SHIFT: Final = HPFAR_EL2.FIPA.lsb
_FIPA: Final = HPFAR_EL2.FIPA.in_place
_ADDRESS: Final = (1 << 56) - 1
"""A VA without its tag."""


_WITHOUT_IPA: Final = MEMORY_ERRORS | {
    FaultType.PERMISSION,
    FaultType.ALIGNMENT,
    FaultType.TLB_CONFLICT,
}


class AbortKind(NamedTuple):
    """What was being done when translation failed."""

    fetch: bool
    iss: int
    """ISS bits that the instruction gives: WnR, CM."""
    instruction: int = 0
    """ISS[24:14]: ISV and what goes with it; reported for stage 2 only."""


FETCH: Final = AbortKind(fetch=True, iss=0)


@lru_cache(maxsize=4096)
def data_access(word: int, write: bool) -> AbortKind:
    """Describe a load, store or atomic.

    Parameters
    ----------
    word
        The instruction. One that is not understood is described by ``write`` alone.
    write
        Whether the part of the access that failed was a write that a read would have passed.
    """
    access = decode(word)
    if access is None:
        return AbortKind(fetch=False, iss=WnR if write else 0)
    wnr = write if access.kind is AccessKind.ATOMIC else access.is_write
    return AbortKind(fetch=False, iss=WnR if wnr else 0, instruction=syndrome(access))


MAINTENANCE: Final = AbortKind(fetch=False, iss=CM | WnR)
"""Cache maintenance and address translation by VA: CM is 1, and WnR then is too."""

ZEROING: Final = AbortKind(fetch=False, iss=WnR)
"""DC ZVA: a store, not maintenance."""


def faulting_address(address: VA, page: VA) -> VA:
    """Return the address of the first byte that failed, for FAR_ELx.

    Parameters
    ----------
    address
        Where the access starts.
    page
        The page whose translation failed. If the access began on an earlier page, the first
        failing byte is this page's first.
    """
    same = (address & _ADDRESS) >> PAGE_SHIFT == (page & _ADDRESS) >> PAGE_SHIFT
    return address if same else page


def abort(
    fault: Fault, kind: AbortKind, far: VA, pc: VA, el: int, *, external_to_el2: bool = False
) -> ArmException:
    """Return the exception for a fault.

    Parameters
    ----------
    fault
        What the MMU answered.
    kind
        What was being done.
    far
        The faulting VA, to the byte.
    pc
        The instruction.
    el
        The Exception level it runs at: 0 or 1.
    external_to_el2
        HCR_EL2.TEA: external aborts are taken to EL2.
    """
    to_el2 = fault.stage == stage2.STAGE or (external_to_el2 and fault.type in MEMORY_ERRORS)
    lower = to_el2 or el == 0
    esr = _esr(fault.type, fault.level, fault.stage, fault.s1ptw, fault.update, kind, lower)
    if not to_el2:
        return ArmException(1, esr, pc, far)
    return ArmException(2, esr, pc, far, hpfar(fault))


@lru_cache(maxsize=4096)
def _esr(
    fault: FaultType,
    level: int | None,
    stage: int,
    s1ptw: bool,
    update: bool,
    kind: AbortKind,
    lower: bool,
) -> int:
    """Return the syndrome of a fault; ``lower`` says that it is taken from a lower level."""
    iss = fsc(fault, level) | kind.iss
    if s1ptw:
        # What failed is the walk's access, a write only when it updates a descriptor.
        iss = iss & ~WnR | S1PTW | (WnR if update and not kind.fetch else 0)
    elif stage == stage2.STAGE:
        iss |= kind.instruction
    if kind.fetch:
        ec = ExceptionClass.IABT_LOW if lower else ExceptionClass.IABT_CUR
    else:
        ec = ExceptionClass.DABT_LOW if lower else ExceptionClass.DABT_CUR
    return ec << _EC_SHIFT | _IL | iss


def alignment_fault(word: int, far: VA, pc: VA, el: int) -> ArmException:
    """Return the exception for an access that must be aligned and is not (stage 1, to EL1)."""
    fault = Fault(FaultType.ALIGNMENT, None, 1)
    return abort(fault, data_access(word, False), far, pc, el)


def hpfar(fault: Fault) -> int | None:
    """Return HPFAR_EL2 for a stage-2 fault; None where the architecture does not define it.

    Defined for translation, access flag and address size faults, and for every fault of a
    stage-1 walk (Arm ARM, HPFAR_EL2). Not for permission faults: software must translate
    FAR_EL2 itself.
    """
    undefined = fault.type in _WITHOUT_IPA
    if undefined and not fault.s1ptw:
        return None
    return fault.ipa >> PAGE_SHIFT << _FIPA_SHIFT & _FIPA
