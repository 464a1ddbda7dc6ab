"""PSCI: how a guest turns CPUs and the machine on and off (arch/arm64/kvm/psci.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from emu.arch.address import VA
from hyp.exits import Exit, SystemEvent, SystemEventType
from hyp.reset import MPIDR_AFFINITY
from hyp.smccc import SmcccFunction, smccc_set_retval

if TYPE_CHECKING:
    from hyp.vcpu import VCPU


class PsciFunction(IntEnum):
    """Function identifiers. Those ending in 64 take 64-bit arguments."""

    VERSION = 0x8400_0000
    CPU_SUSPEND = 0x8400_0001
    CPU_OFF = 0x8400_0002
    CPU_ON = 0x8400_0003
    AFFINITY_INFO = 0x8400_0004
    MIGRATE_INFO_TYPE = 0x8400_0006
    SYSTEM_OFF = 0x8400_0008
    SYSTEM_RESET = 0x8400_0009
    FEATURES = 0x8400_000A
    SYSTEM_SUSPEND = 0x8400_000E
    SYSTEM_RESET2 = 0x8400_0012
    SYSTEM_OFF2 = 0x8400_0015
    CPU_SUSPEND_64 = 0xC400_0001
    CPU_ON_64 = 0xC400_0003
    AFFINITY_INFO_64 = 0xC400_0004
    SYSTEM_SUSPEND_64 = 0xC400_000E
    SYSTEM_RESET2_64 = 0xC400_0012
    SYSTEM_OFF2_64 = 0xC400_0015


class PsciResult(IntEnum):
    """What a call returns in x0."""

    SUCCESS = 0
    NOT_SUPPORTED = -1
    INVALID_PARAMS = -2
    DENIED = -3
    ALREADY_ON = -4
    ON_PENDING = -5
    INTERNAL_FAILURE = -6


class AffinityState(IntEnum):
    """What AFFINITY_INFO returns."""

    ON = 0
    OFF = 1


PSCI_VERSION_1_3: Final = 0x1_0003
MIGRATE_TOS_NOT_PRESENT: Final = 2

_RESET2_FLAG: Final = 1
_OFF2_FLAG: Final = 1
_VENDOR_RESET: Final = 1 << 31
_HIBERNATE_OFF: Final = 1
_MAX_AFFINITY_LEVEL: Final = 3

_SUPPORTED: Final = frozenset(PsciFunction) - {
    PsciFunction.SYSTEM_SUSPEND,
    PsciFunction.SYSTEM_SUSPEND_64,
}


def kvm_psci_call(vcpu: VCPU, function: PsciFunction) -> Exit | None:
    """Serve a PSCI call."""
    width = 64 if function >> 30 & 1 else 32
    arguments = [vcpu.pe.read_x(n) & (1 << width) - 1 for n in (1, 2, 3)]
    if function in (PsciFunction.SYSTEM_OFF, PsciFunction.SYSTEM_RESET):
        kind = (
            SystemEventType.SHUTDOWN
            if function is PsciFunction.SYSTEM_OFF
            else SystemEventType.RESET
        )
        return _system_event(vcpu, kind, 0)
    if function in (PsciFunction.SYSTEM_RESET2, PsciFunction.SYSTEM_RESET2_64):
        return _system_reset2(vcpu, arguments[0])
    if function in (PsciFunction.SYSTEM_OFF2, PsciFunction.SYSTEM_OFF2_64):
        return _system_off2(vcpu, arguments[0], arguments[1])
    if function in (PsciFunction.CPU_SUSPEND, PsciFunction.CPU_SUSPEND_64):
        # Nothing can be pending that would not wake the CPU at once.
        smccc_set_retval(vcpu, PsciResult.SUCCESS)
        return None
    if function is PsciFunction.CPU_OFF:
        vcpu.powered_off = True
        return None
    smccc_set_retval(vcpu, _query(vcpu, function, arguments))
    return None


def _query(vcpu: VCPU, function: PsciFunction, arguments: list[int]) -> int:
    """Return the result of a call that concerns another CPU, or nothing at all."""
    if function is PsciFunction.VERSION:
        return PSCI_VERSION_1_3
    if function is PsciFunction.MIGRATE_INFO_TYPE:
        return MIGRATE_TOS_NOT_PRESENT
    if function is PsciFunction.FEATURES:
        return _features(arguments[0] & 0xFFFF_FFFF)
    if function in (PsciFunction.CPU_ON, PsciFunction.CPU_ON_64):
        return _cpu_on(vcpu, *arguments)
    if function in (PsciFunction.AFFINITY_INFO, PsciFunction.AFFINITY_INFO_64):
        return _affinity_info(vcpu, arguments[0], arguments[1])
    return PsciResult.NOT_SUPPORTED


def _features(function: int) -> PsciResult:
    supported = function == SmcccFunction.VERSION or function in _SUPPORTED
    return PsciResult.SUCCESS if supported else PsciResult.NOT_SUPPORTED


def _cpu_on(vcpu: VCPU, target: int, entry: int, context_id: int) -> PsciResult:
    if target & ~MPIDR_AFFINITY:
        return PsciResult.INVALID_PARAMS
    other = vcpu.vm.vcpu_by_mpidr(target)
    if other is None:
        return PsciResult.INVALID_PARAMS
    if not other.powered_off:
        return PsciResult.ALREADY_ON
    other.power_on(VA(entry), context_id)
    return PsciResult.SUCCESS


def _affinity_info(vcpu: VCPU, target: int, lowest_level: int) -> int:
    if target & ~MPIDR_AFFINITY or lowest_level > _MAX_AFFINITY_LEVEL:
        return PsciResult.INVALID_PARAMS
    mask = MPIDR_AFFINITY & ~((1 << 8 * lowest_level) - 1)
    group = [v for v in vcpu.vm.vcpus.values() if not (v.mpidr ^ target) & mask]
    if not group:
        return PsciResult.INVALID_PARAMS
    return AffinityState.OFF if all(v.powered_off for v in group) else AffinityState.ON


def _system_reset2(vcpu: VCPU, reset_type: int) -> Exit | None:
    """Reset with a type: 0 for a warm reset, or from 1 << 31 up a vendor's own."""
    if 0 < reset_type < _VENDOR_RESET:
        smccc_set_retval(vcpu, PsciResult.INVALID_PARAMS)
        return None
    return _system_event(vcpu, SystemEventType.RESET, _RESET2_FLAG)


def _system_off2(vcpu: VCPU, kind: int, cookie: int) -> Exit | None:
    """Power off to hibernate; 0 stands for the only kind there is."""
    if kind not in (0, _HIBERNATE_OFF) or cookie:
        smccc_set_retval(vcpu, PsciResult.INVALID_PARAMS)
        return None
    return _system_event(vcpu, SystemEventType.SHUTDOWN, _OFF2_FLAG)


def _system_event(vcpu: VCPU, kind: SystemEventType, flags: int) -> SystemEvent:
    """Stop all CPUs. Should user space run them again, the call has failed."""
    smccc_set_retval(vcpu, PsciResult.INTERNAL_FAILURE)
    for other in vcpu.vm.vcpus.values():
        other.powered_off = True
    return SystemEvent(kind, (flags,))
