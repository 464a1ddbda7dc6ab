"""Virtual interrupts: those that EL2 makes pending for EL1 and EL0 (Arm ARM D1.3.6)."""

from __future__ import annotations

from typing import Final, NamedTuple

from emu.arch.esr.build import syndrome
from emu.arch.esr.classes import ExceptionClass
from emu.arch.exceptions import ExceptionKind
from emu.arch.registers.exceptions import PSTATE
from emu.arch.registers.virtualization import HCR_EL2

MADE_PENDING: Final = HCR_EL2.VSE.in_place | HCR_EL2.VI.in_place | HCR_EL2.VF.in_place
"""What EL2 sets in HCR_EL2 to make an interrupt pending."""
_ENABLE_SHIFT: Final = HCR_EL2.VI.lsb - HCR_EL2.IMO.lsb
"""From AMO, IMO, FMO, which enable virtual interrupts, to VSE, VI, VF."""
_SERROR_ISS: Final = (1 << 25) - 1


class VirtualInterrupt(NamedTuple):
    """One kind of virtual interrupt."""

    mask: int
    """Its bit of PSTATE.DAIF, which is also that of HCR_EL2 which makes it pending."""
    kind: ExceptionKind


VIRTUAL_INTERRUPTS: Final = (
    VirtualInterrupt(PSTATE.A.in_place, ExceptionKind.SERROR),
    VirtualInterrupt(PSTATE.F.in_place, ExceptionKind.FIQ),
    VirtualInterrupt(PSTATE.I.in_place, ExceptionKind.IRQ),
)
"""In the order in which they are taken; it is IMPLEMENTATION DEFINED."""


def pending(hcr: int) -> int:
    """Return the virtual interrupts that wait, at their bits in PSTATE.DAIF.

    Parameters
    ----------
    hcr
        HCR_EL2. Only what AMO, IMO and FMO route to EL2 has a virtual form.
    """
    return hcr & MADE_PENDING & hcr << _ENABLE_SHIFT


def to_take(waiting: int, pstate: int) -> VirtualInterrupt | None:
    """Return the interrupt that is taken next, or None if there is none that is not masked."""
    unmasked = waiting & ~pstate
    if not unmasked:
        return None
    return next(interrupt for interrupt in VIRTUAL_INTERRUPTS if unmasked & interrupt.mask)


def serror_syndrome(vsesr: int, *, ras: bool) -> int:
    """Return ESR_EL1 of a virtual SError: with FEAT_RAS, what VSESR_EL2 says."""
    return syndrome(ExceptionClass.SERROR, vsesr & _SERROR_ISS if ras else 0)
