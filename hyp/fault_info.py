"""What is known about a guest abort (``struct kvm_vcpu_fault_info``).

The architecture leaves HPFAR_EL2 undefined for permission faults; the IPA then
comes from translating FAR_EL2 with ``AT S1E1R`` (arch/arm64/kvm/hyp/fault.h).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import AT
from emu.arch.address import IPA, PAGE_MASK, VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode, FaultType
from emu.arch.esr.iss import IssDataAbort, IssInstructionAbort
from emu.arch.registers.exceptions import ESR_EL2, FAR_EL2, HPFAR_EL2, PAR_EL1

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement

TRANSLATION: Final = FaultType.TRANSLATION
ACCESS_FLAG: Final = FaultType.ACCESS_FLAG
PERMISSION: Final = FaultType.PERMISSION
EXCL_ATOMIC: Final = FaultType.UNSUPPORTED_EXCLUSIVE

_SEA: Final = frozenset(
    {
        FaultType.EXTERNAL,
        FaultType.EXTERNAL_ON_WALK,
        FaultType.PARITY,
        FaultType.PARITY_ON_WALK,
    }
)


def _fault_of(code: int) -> FaultType | None:
    try:
        return FaultStatusCode(code).fault
    except ValueError:
        return None


_FAULTS: Final = tuple(_fault_of(code) for code in range(64))
_IS_SEA: Final = tuple(fault in _SEA for fault in _FAULTS)


_FSC: Final = IssDataAbort.DFSC.in_place
_S1PTW: Final = IssDataAbort.S1PTW.in_place
_WNR: Final = IssDataAbort.WnR.in_place
_FNV: Final = IssInstructionAbort.FnV.in_place
_EC_SHIFT: Final = ESR_EL2.EC.lsb
_EC: Final = ESR_EL2.EC.mask
_FIPA: Final = HPFAR_EL2.FIPA.in_place
_FIPA_TO_IPA: Final = 12 - HPFAR_EL2.FIPA.lsb
_IABT_LOW: Final = int(ExceptionClass.IABT_LOW)


class FaultInfo:
    """One abort, as the kernel's ``kvm_vcpu_trap_*`` and ``kvm_vcpu_abt_*`` tell it.

    Parameters
    ----------
    esr
        ESR_EL2.
    far
        FAR_EL2.
    ipa
        The page of the fault; ``None`` where the hardware does not say.

    Attributes
    ----------
    ec
        The exception class.
    fsc
        The fault status code: type and level.
    fault
        The type of fault; ``None`` for a reserved code.
    is_iabt
        Whether it was an instruction fetch.
    is_s1ptw
        Whether the access was to a stage-1 descriptor.
    is_write
        Whether the page is to be written (``kvm_is_write_fault``). A walk first
        reads: it is a write only when it comes back with a permission fault, to
        set the access flag or the dirty state.
    """

    __slots__ = ("ec", "esr", "far", "fault", "fsc", "ipa", "is_iabt", "is_s1ptw", "is_write")

    def __init__(self, esr: int, far: VA, ipa: IPA | None) -> None:
        self.esr = esr
        self.far = far
        self.ipa = ipa
        self.ec = ec = esr >> _EC_SHIFT & _EC
        self.fsc = fsc = esr & _FSC
        self.fault = fault = _FAULTS[fsc]
        self.is_iabt = is_iabt = ec == _IABT_LOW
        self.is_s1ptw = bool(esr & _S1PTW)
        if esr & _S1PTW:
            self.is_write = fault is PERMISSION
        else:
            self.is_write = not is_iabt and bool(esr & _WNR)

    @property
    def level(self) -> int:
        """The level of a permission fault's leaf (FSC[1:0])."""
        return self.esr & 3

    @property
    def is_sea(self) -> bool:
        """Whether it is a synchronous external abort or ECC error."""
        return _IS_SEA[self.fsc]

    @property
    def is_exec(self) -> bool:
        """Whether the page is to be executed, not just walked through on the way."""
        return self.is_iabt and not self.is_s1ptw

    @property
    def offset(self) -> int:
        """The offset of the access in its page."""
        return self.far & PAGE_MASK

    @property
    def data(self) -> IssDataAbort:
        """The syndrome of a data abort."""
        return IssDataAbort(self.esr)


def populate_fault_info(pe: ProcessingElement, esr: int) -> FaultInfo | None:
    """Read the fault registers after an abort (``__populate_fault_info``).

    Returns
    -------
    FaultInfo or None
        ``None`` if the guest has changed its stage 1 meanwhile, so that the IPA
        cannot be found: the guest is to retry.
    """
    far = VA(pe.word(FAR_EL2))
    if esr & _S1PTW or _FAULTS[esr & _FSC] is not PERMISSION:
        if _IS_SEA[esr & _FSC]:
            return FaultInfo(esr, far, None)
        return FaultInfo(esr, far, IPA((pe.word(HPFAR_EL2) & _FIPA) << _FIPA_TO_IPA))
    ipa = _translate_far(pe, far)
    return None if ipa is None else FaultInfo(esr, far, ipa)


def _translate_far(pe: ProcessingElement, far: VA) -> IPA | None:
    """Translate by the guest's stage 1; the guest's PAR_EL1 survives."""
    saved = pe.read(PAR_EL1)
    pe.at(AT.S1E1R, far)
    result = pe.read(PAR_EL1)
    pe.write(saved)
    if result.F:
        return None
    return IPA(result.PA << PAR_EL1.PA.lsb)


def fnv(esr: int) -> bool:
    """Return whether FAR_EL2 holds nothing: FnV of an external abort."""
    return bool(esr & _FNV)
