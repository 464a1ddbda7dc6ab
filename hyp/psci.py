"""PSCI: how a guest turns CPUs and the machine on and off (arch/arm64/kvm/psci.c)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from emu.arch.address import VA
from hyp.exits import Exit, Intr, IntrCause, SystemEvent, SystemEventType
from hyp.halt import kvm_vcpu_halt
from hyp.profiles import PSCI_1_0, PSCI_1_1, PSCI_1_3
from hyp.reset import MPIDR_AFFINITY
from hyp.smccc import SmcccFunction, smccc_set_retval

if TYPE_CHECKING:
    from collections.abc import Callable

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


MIGRATE_TOS_NOT_PRESENT: Final = 2

_RESET2_FLAG: Final = 1
_OFF2_FLAG: Final = 1
_VENDOR_RESET: Final = 1 << 31
_HIBERNATE_OFF: Final = 1
_MAX_AFFINITY_LEVEL: Final = 3


def kvm_psci_call(vcpu: VCPU, function: PsciFunction) -> Exit | None:
    """Serve a PSCI call: arguments in x1 to x3, the result in x0."""
    width = 64 if function >> 30 & 1 else 32
    arguments = [vcpu.pe.read_x(n) & (1 << width) - 1 for n in (1, 2, 3)]
    result = _handler(vcpu, function)(vcpu, *arguments)
    if isinstance(result, Intr):
        return result
    if isinstance(result, Exit):
        # Should user space run the vCPU again in spite of it, the call has failed.
        smccc_set_retval(vcpu, PsciResult.INTERNAL_FAILURE)
        return result
    smccc_set_retval(vcpu, result)
    return None


def _version(vcpu: VCPU, *_arguments: int) -> int:
    return vcpu.vm.profile.psci_version


def _migrate_info_type(_vcpu: VCPU, *_arguments: int) -> int:
    return MIGRATE_TOS_NOT_PRESENT


def _not_supported(_vcpu: VCPU, *_arguments: int) -> int:
    return PsciResult.NOT_SUPPORTED


def _handler(vcpu: VCPU, function: PsciFunction) -> Callable[..., Exit | int]:
    since = _SINCE.get(function, 0)
    return _HANDLERS[function] if vcpu.vm.profile.psci_version >= since else _not_supported


def _features(vcpu: VCPU, function: int, *_arguments: int) -> int:
    function &= 0xFFFF_FFFF
    supported = function == SmcccFunction.VERSION or (
        function in _HANDLERS and _handler(vcpu, PsciFunction(function)) is not _not_supported
    )
    return PsciResult.SUCCESS if supported else PsciResult.NOT_SUPPORTED


def _cpu_suspend(vcpu: VCPU, *_arguments: int) -> Exit | int:
    """Wait as with WFI; no power state is deeper (``kvm_psci_vcpu_suspend``)."""
    smccc_set_retval(vcpu, PsciResult.SUCCESS)
    return PsciResult.SUCCESS if kvm_vcpu_halt(vcpu) else Intr(IntrCause.WAITING)


def _cpu_off(vcpu: VCPU, *_arguments: int) -> int:
    vcpu.powered_off = True
    return PsciResult.SUCCESS


def _cpu_on(vcpu: VCPU, target: int, entry: int, context_id: int) -> int:
    other = None if target & ~MPIDR_AFFINITY else vcpu.vm.vcpu_by_mpidr(target)
    if other is None:
        return PsciResult.INVALID_PARAMS
    if not other.powered_off:
        return PsciResult.ALREADY_ON
    other.power_on(VA(entry), context_id)
    return PsciResult.SUCCESS


def _affinity_info(vcpu: VCPU, target: int, lowest_level: int, *_arguments: int) -> int:
    """Say whether any CPU of a group is on; level 0 is a CPU, 1 the cluster it is in."""
    if target & ~MPIDR_AFFINITY or lowest_level > _MAX_AFFINITY_LEVEL:
        return PsciResult.INVALID_PARAMS
    mask = MPIDR_AFFINITY & -1 << 8 * lowest_level
    group = [v for v in vcpu.vm.vcpus.values() if not (v.mpidr ^ target) & mask]
    if not group:
        return PsciResult.INVALID_PARAMS
    return AffinityState.OFF if all(v.powered_off for v in group) else AffinityState.ON


def _system_off(vcpu: VCPU, *_arguments: int) -> Exit:
    return _system_event(vcpu, SystemEventType.SHUTDOWN, 0)


def _system_reset(vcpu: VCPU, *_arguments: int) -> Exit:
    return _system_event(vcpu, SystemEventType.RESET, 0)


def _system_reset2(vcpu: VCPU, reset_type: int, *_arguments: int) -> Exit | int:
    """Reset with a type: 0 for a warm reset, or from 1 << 31 up a vendor's own."""
    if 0 < reset_type < _VENDOR_RESET:
        return PsciResult.INVALID_PARAMS
    return _system_event(vcpu, SystemEventType.RESET, _RESET2_FLAG)


def _system_off2(vcpu: VCPU, kind: int, cookie: int, *_arguments: int) -> Exit | int:
    """Power off to hibernate; 0 stands for the only kind there is."""
    if kind not in (0, _HIBERNATE_OFF) or cookie:
        return PsciResult.INVALID_PARAMS
    return _system_event(vcpu, SystemEventType.SHUTDOWN, _OFF2_FLAG)


def _system_event(vcpu: VCPU, kind: SystemEventType, flags: int) -> SystemEvent:
    """Stop all CPUs and leave the rest to user space."""
    for other in vcpu.vm.vcpus.values():
        other.powered_off = True
    return SystemEvent(kind, (flags,))


_HANDLERS: Final[dict[PsciFunction, Callable[..., Exit | int]]] = {
    PsciFunction.VERSION: _version,
    PsciFunction.CPU_SUSPEND: _cpu_suspend,
    PsciFunction.CPU_SUSPEND_64: _cpu_suspend,
    PsciFunction.CPU_OFF: _cpu_off,
    PsciFunction.CPU_ON: _cpu_on,
    PsciFunction.CPU_ON_64: _cpu_on,
    PsciFunction.AFFINITY_INFO: _affinity_info,
    PsciFunction.AFFINITY_INFO_64: _affinity_info,
    PsciFunction.MIGRATE_INFO_TYPE: _migrate_info_type,
    PsciFunction.SYSTEM_OFF: _system_off,
    PsciFunction.SYSTEM_RESET: _system_reset,
    PsciFunction.FEATURES: _features,
    PsciFunction.SYSTEM_SUSPEND: _not_supported,
    PsciFunction.SYSTEM_SUSPEND_64: _not_supported,
    PsciFunction.SYSTEM_RESET2: _system_reset2,
    PsciFunction.SYSTEM_RESET2_64: _system_reset2,
    PsciFunction.SYSTEM_OFF2: _system_off2,
    PsciFunction.SYSTEM_OFF2_64: _system_off2,
}
"""What each function does, given the vCPU and three arguments: its result, or an exit."""

_SINCE: Final = {
    PsciFunction.FEATURES: PSCI_1_0,
    PsciFunction.SYSTEM_RESET2: PSCI_1_1,
    PsciFunction.SYSTEM_RESET2_64: PSCI_1_1,
    PsciFunction.SYSTEM_OFF2: PSCI_1_3,
    PsciFunction.SYSTEM_OFF2_64: PSCI_1_3,
}
"""The version that has a function first, where that is not 0.2."""
