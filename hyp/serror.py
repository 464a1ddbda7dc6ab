"""SErrors that the machine takes while a guest runs (``kvm_handle_guest_serror``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.esr.iss import IssSError
from hyp.inject import kvm_inject_serror

if TYPE_CHECKING:
    from hyp.vcpu import VCPU

_ASYNCHRONOUS_SERROR: Final = 0b01_0001
_CORRECTED, _RESTARTABLE = 0b110, 0b010
"""AET: nothing was lost, or nothing is needed any more (CE, UEO)."""


def kvm_handle_guest_serror(vcpu: VCPU, esr: int) -> None:
    """Give the guest an SError of its own, unless the hardware says that nothing is lost."""
    iss = IssSError(esr)
    known = vcpu.pe.features.ras and not iss.IDS and iss.DFSC == _ASYNCHRONOUS_SERROR
    if not known or iss.AET not in (_CORRECTED, _RESTARTABLE):
        kvm_inject_serror(vcpu)
