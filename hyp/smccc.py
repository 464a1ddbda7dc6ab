"""SMC calling convention: HVC and SMC as function calls (arch/arm64/kvm/hypercalls.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from hyp.psci import PsciFunction, kvm_psci_call

if TYPE_CHECKING:
    from hyp.exits import Exit
    from hyp.vcpu import VCPU


class SmcccFunction(IntEnum):
    """The function identifiers known here, PSCI excepted."""

    VERSION = 0x8000_0000
    ARCH_FEATURES = 0x8000_0001
    VENDOR_HYP_FEATURES = 0x8600_0000
    VENDOR_HYP_CALL_UID = 0x8600_FF01


class ArchFeature(IntEnum):
    """The functions that ARCH_FEATURES is asked about."""

    WORKAROUND_1 = 0x8000_8000
    WORKAROUND_2 = 0x8000_7FFF
    WORKAROUND_3 = 0x8000_3FFF


SMCCC_VERSION_1_1: Final = 0x1_0001
NOT_SUPPORTED: Final = -1
UNAFFECTED: Final = 1
NOT_REQUIRED: Final = -2

_KVM_UID: Final = (0xB66F_B428, 0xE911_C52E, 0x564B_CAA9, 0x743A_004D)

_FUNCTION_FEATURE: Final = 1

_ARCH_FEATURES: Final[dict[int, int]] = {
    ArchFeature.WORKAROUND_1: UNAFFECTED,
    ArchFeature.WORKAROUND_2: NOT_REQUIRED,
    ArchFeature.WORKAROUND_3: UNAFFECTED,
}
"""The machine does not speculate, so it needs none of the workarounds."""

_PSCI_FUNCTIONS: Final = frozenset(PsciFunction)


def smccc_set_retval(vcpu: VCPU, a0: int, a1: int = 0, a2: int = 0, a3: int = 0) -> None:
    """Put the results of a call into x0 to x3."""
    for register, value in enumerate((a0, a1, a2, a3)):
        vcpu.pe.write_x(register, value & (1 << 64) - 1)


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
