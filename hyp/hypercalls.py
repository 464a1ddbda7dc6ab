"""HVC and SMC as function calls (arch/arm64/kvm/hypercalls.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from hyp.firmware import VENDOR_HYP_BMAP
from hyp.psci import PsciFunction, kvm_psci_call
from hyp.pvtime import kvm_pvtime_call
from hyp.smccc import NOT_REQUIRED, NOT_SUPPORTED, SUCCESS, SmcccFunction, smccc_set_retval
from hyp.trng import TRNG_FUNCTIONS, kvm_trng_call

if TYPE_CHECKING:
    from collections.abc import Callable

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
    call = _CALLS.get(function)
    if call is None or not vcpu.vm.firmware.allows(function):
        smccc_set_retval(vcpu, NOT_SUPPORTED)
    else:
        smccc_set_retval(vcpu, *call(vcpu, function))
    return None


def _version(_vcpu: VCPU, _function: int) -> tuple[int, ...]:
    return (SMCCC_VERSION_1_1,)


def _arch_features(vcpu: VCPU, _function: int) -> tuple[int, ...]:
    """Say whether a function is there; PV_TIME_FEATURES is asked for here, too."""
    asked = vcpu.pe.read_x(1) & 0xFFFF_FFFF
    if asked == SmcccFunction.PV_TIME_FEATURES and vcpu.vm.firmware.allows(asked):
        return (SUCCESS,)
    return (_ARCH_FEATURES.get(asked, NOT_SUPPORTED),)


def _uid(_vcpu: VCPU, _function: int) -> tuple[int, ...]:
    return _KVM_UID


def _vendor_features(vcpu: VCPU, _function: int) -> tuple[int, ...]:
    return (vcpu.vm.firmware.bitmaps[VENDOR_HYP_BMAP],)


_CALLS: Final[dict[int, Callable[[VCPU, int], tuple[int, ...]]]] = {
    SmcccFunction.VERSION: _version,
    SmcccFunction.ARCH_FEATURES: _arch_features,
    SmcccFunction.VENDOR_HYP_CALL_UID: _uid,
    SmcccFunction.VENDOR_HYP_FEATURES: _vendor_features,
    SmcccFunction.PV_TIME_FEATURES: kvm_pvtime_call,
    SmcccFunction.PV_TIME_ST: kvm_pvtime_call,
    **dict.fromkeys(TRNG_FUNCTIONS, kvm_trng_call),
}
"""What each function does, PSCI excepted: its results."""
