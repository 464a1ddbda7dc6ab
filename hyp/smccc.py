"""The SMC calling convention: function identifiers in x0, results in x0 to x3."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hyp.vcpu import VCPU


class SmcccFunction(IntEnum):
    """The function identifiers known here, PSCI excepted."""

    VERSION = 0x8000_0000
    ARCH_FEATURES = 0x8000_0001
    VENDOR_HYP_FEATURES = 0x8600_0000
    VENDOR_HYP_CALL_UID = 0x8600_FF01
    TRNG_VERSION = 0x8400_0050
    TRNG_FEATURES = 0x8400_0051
    TRNG_GET_UUID = 0x8400_0052
    TRNG_RND = 0x8400_0053
    TRNG_RND_64 = 0xC400_0053
    PV_TIME_FEATURES = 0xC500_0020
    PV_TIME_ST = 0xC500_0021


SUCCESS: Final = 0
NOT_SUPPORTED: Final = -1
NOT_REQUIRED: Final = -2

_RESULT_REGISTERS: Final = 4
_MASK_64: Final = (1 << 64) - 1


def smccc_set_retval(vcpu: VCPU, *results: int) -> None:
    """Put the results of a call into x0 to x3; those not given are zero."""
    padded = (*results, 0, 0, 0)[:_RESULT_REGISTERS]
    for register, value in enumerate(padded):
        vcpu.pe.write_x(register, value & _MASK_64)
