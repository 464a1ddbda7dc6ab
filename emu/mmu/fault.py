"""A fault: what the MMU answers when a translation is refused."""

from __future__ import annotations

from typing import NamedTuple

from emu.arch.address import IPA
from emu.arch.esr.fsc import FaultStatusCode, FaultType, fsc


class Fault(NamedTuple):
    """Why a translation failed.

    What only the processing element knows (the faulting VA to the byte, the instruction
    syndrome) is added where the exception is taken.
    """

    type: FaultType
    level: int | None
    """Level of the lookup, or None for an external abort on the access itself."""
    stage: int
    """1 or 2: whose table refused; an external abort on a walk belongs to that walk's stage."""
    ipa: IPA = IPA(0)
    """For stage 2: the address it was asked to translate, to the byte."""
    s1ptw: bool = False
    """Stage 2 refused an access made for a stage-1 table walk."""
    update: bool = False
    """That access was a hardware update of a descriptor, a write."""

    @property
    def status(self) -> FaultStatusCode:
        """The fault status code that ESR_ELx reports."""
        return fsc(self.type, self.level)
