"""The registers of one exception, and what they allow to be said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.arch.address import IPA, PAGE_MASK, PAGE_SHIFT, VA
from emu.arch.esr.classes import CLASSES, ExceptionClass
from emu.arch.esr.fsc import MMU_FAULTS, FaultStatusCode, FaultType
from emu.arch.esr.iss import IssDataAbort, IssInstructionAbort, IssSError, IssWatchpoint

if TYPE_CHECKING:
    from emu.arch.registers.exceptions import HPFAR_EL2, ExceptionSyndrome

EC = ExceptionClass

DATA_ABORTS = frozenset({EC.DABT_LOW, EC.DABT_CUR})
INSTRUCTION_ABORTS = frozenset({EC.IABT_LOW, EC.IABT_CUR})
WATCHPOINTS = frozenset({EC.WATCHPT_LOW, EC.WATCHPT_CUR})

FROM_LOWER_EL = frozenset(
    {EC.IABT_LOW, EC.DABT_LOW, EC.BREAKPT_LOW, EC.SOFTSTP_LOW, EC.WATCHPT_LOW}
)
"""The classes that say that the exception came from a lower Exception level."""

ALWAYS_WITH_FAR = frozenset({EC.PC_ALIGN, EC.GPC})
"""Classes beside aborts and watchpoints that set FAR_ELx (Arm ARM D24.2, FAR_EL2)."""

GRANULE_PROTECTION = frozenset({FaultType.GRANULE_PROTECTION, FaultType.GRANULE_PROTECTION_ON_WALK})


@dataclass(frozen=True, slots=True)
class Report:
    """ESR_ELx, and FAR_ELx and HPFAR_EL2 where they are known, of one exception."""

    esr: ExceptionSyndrome
    far: VA | None
    hpfar: HPFAR_EL2 | None
    taken_to: int
    """The Exception level that took it, 1 to 3. The ESR value itself does not say."""

    @property
    def ec(self) -> ExceptionClass:
        """The class; a plain int when it is reserved."""
        return self.esr.EC

    @property
    def abort(self) -> IssDataAbort | IssInstructionAbort | None:
        """The ISS as that of an abort; None for other classes."""
        if self.ec in DATA_ABORTS:
            return IssDataAbort(self.esr.ISS)
        if self.ec in INSTRUCTION_ABORTS:
            return IssInstructionAbort(self.esr.ISS)
        return None

    @property
    def status(self) -> FaultStatusCode | None:
        """The status code of an abort; None for other classes and reserved codes."""
        abort = self.abort
        if abort is None:
            return None
        code = abort.DFSC if isinstance(abort, IssDataAbort) else abort.IFSC
        return code if isinstance(code, FaultStatusCode) else None

    @property
    def il_is_fixed(self) -> bool:
        """Whether IL is 1 here whatever the length of the instruction."""
        facts = CLASSES.get(self.ec)
        if isinstance(self.abort, IssDataAbort):
            return not self.abort.ISV
        return facts is not None and facts.always_32bit

    @property
    def from_lower_el(self) -> bool:
        """Whether the class says that the exception came from a lower Exception level."""
        return self.ec in FROM_LOWER_EL

    @property
    def origin(self) -> str:
        """Who ran, for the classes that tell."""
        if not self.from_lower_el:
            return f"EL{self.taken_to}"
        return {1: "EL0", 2: "A guest at EL1 or EL0"}.get(self.taken_to, "A lower Exception level")

    @property
    def stage(self) -> int | None:
        """The stage of translation that faulted; None if none did or no one can tell.

        Stage 2 faults are taken to EL2 from a lower level. So are stage 1 faults of EL0
        when HCR_EL2.TGE is 1: see ``stage_is_assumed``.
        """
        if self.abort is None:
            return None
        if self.abort.S1PTW:
            return 2
        if self.status is None or self.status.fault not in MMU_FAULTS:
            return None
        if self.from_lower_el and self.taken_to > 1:
            return 2 if self.taken_to == 2 else None
        return 1

    @property
    def stage_is_assumed(self) -> bool:
        """Whether ``stage`` is 2 only because guests are what EL2 sees most of."""
        abort = self.abort
        if abort is None or self.stage != 2 or abort.S1PTW or self.ipa_page is not None:
            return False
        return not (isinstance(abort, IssDataAbort) and abort.ISV and not abort.LST)

    @property
    def far_is_valid(self) -> bool:
        """Whether this exception writes FAR_ELx (Arm ARM D24.2, FAR_EL2)."""
        if self.abort is not None:
            return not (self.abort.FnV and self.status == FaultStatusCode.EXTERNAL)
        if self.ec in WATCHPOINTS:
            return not IssWatchpoint(self.esr.ISS).FnV
        if self.ec == EC.SERROR:
            iss = IssSError(self.esr.ISS)
            return not iss.IDS and bool(iss.VFV)
        return self.ec in ALWAYS_WITH_FAR

    @property
    def hpfar_is_valid(self) -> bool:
        """Whether this exception writes HPFAR_EL2 (Arm ARM D24.2, HPFAR_EL2).

        It does for faults of stage 2; but for permission faults only with S1PTW: the IPA
        of any other is left to be found by AT.
        """
        if self.abort is None or self.status is None:
            return False
        if self.taken_to != 2 or not self.from_lower_el:
            return False
        fault = self.status.fault
        if fault is FaultType.PERMISSION:
            return bool(self.abort.S1PTW)
        return fault in MMU_FAULTS or fault in GRANULE_PROTECTION

    @property
    def va(self) -> VA | None:
        """The faulting virtual address, if it is known."""
        return self.far if self.far_is_valid else None

    @property
    def ipa_page(self) -> IPA | None:
        """The IPA of the page that faulted, if it is known; of the descriptor with S1PTW."""
        if self.hpfar is None or not self.hpfar_is_valid:
            return None
        return IPA(self.hpfar.FIPA << PAGE_SHIFT)

    @property
    def ipa(self) -> IPA | None:
        """The faulting IPA to the byte: the page, and the offset that stage 1 leaves alone.

        With S1PTW the offset of the descriptor is in no register.
        """
        if self.ipa_page is None or self.va is None or self.abort is None or self.abort.S1PTW:
            return None
        return IPA(self.ipa_page | self.va & PAGE_MASK)
