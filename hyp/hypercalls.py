"""HVC and SMC as function calls (arch/arm64/kvm/hypercalls.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from hyp.psci import PsciFunction, kvm_psci_call
from hyp.smccc import NOT_REQUIRED, NOT_SUPPORTED, SmcccFunction, smccc_set_retval

if TYPE_CHECKING:
    from hyp.exits import Exit
    from hyp.vcpu import VCPU


class ArchFeature(IntEnum):
    """The functions that ARCH_FEATURES is asked about."""

    WORKAROUND_1 = 0x8000_8000
    WORKAROUND_2 = 0x8000_7FFF
    WORKAROUND_3 = 0x8000_3FFF


SMCCC_VERSION_1_1: Final = 0x1_0001
UNAFFECTED: Final = 1

_KVM_UID: Final = (0xB66F_B428, 0xE911_C52E, 0x564B_CAA9, 0x743A_004D)
_FUNCTION_FEATURE: Final = 1

_ARCH_FEATURES: Final[dict[int, int]] = {
    ArchFeature.WORKAROUND_1: UNAFFECTED,
    ArchFeature.WORKAROUND_2: NOT_REQUIRED,
    ArchFeature.WORKAROUND_3: UNAFFECTED,
}
"""The machine does not speculate, so it needs none of the workarounds."""

_PSCI_FUNCTIONS: Final = frozenset(PsciFunction)


def kvm_smccc_call_handler(vcpu: VCPU) -> Exit | None:
    """Serve the call whose function identifier is in W0."""
    function = vcpu.pe.read_x(0) & 0xFFFF_FFFF
    if function in _PSCI_FUNCTIONS:
        return kvm_psci_call(vcpu, PsciFunction(function))
    if function == SmcccFunction.VENDOR_HYP_CALL_UID:
        smccc_set_retval(vcpu, *_KVM_UID)
    else:
        smccc_set_retval(vcpu, _simple_call(vcpu, function))
    return None


def _simple_call(vcpu: VCPU, function: int) -> int:
    """Return the result of a call that has just one."""
    if function == SmcccFunction.VERSION:
        return SMCCC_VERSION_1_1
    if function == SmcccFunction.ARCH_FEATURES:
        return _ARCH_FEATURES.get(vcpu.pe.read_x(1) & 0xFFFF_FFFF, NOT_SUPPORTED)
    if function == SmcccFunction.VENDOR_HYP_FEATURES:
        return _FUNCTION_FEATURE
    return NOT_SUPPORTED
