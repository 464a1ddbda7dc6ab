"""Attributes of a vCPU as a device (KVM_SET_DEVICE_ATTR on its file descriptor)."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, Protocol

from hyp import pmu_attributes, pvtime
from hyp.errors import Errno, KvmError

if TYPE_CHECKING:
    from hyp.vcpu import VCPU


class VcpuGroup(IntEnum):
    """The KVM_ARM_VCPU_*_CTRL numbers."""

    PMU_V3 = 0
    TIMER = 1
    PVTIME = 2


class _Attributes(Protocol):
    """What a module does for one group."""

    def set_attr(self, vcpu: VCPU, attr: int, value: int) -> None: ...

    def get_attr(self, vcpu: VCPU, attr: int) -> int: ...

    def has_attr(self, vcpu: VCPU, attr: int) -> bool: ...


_GROUPS: Final[dict[int, _Attributes]] = {
    VcpuGroup.PMU_V3: pmu_attributes,
    VcpuGroup.PVTIME: pvtime,
}


def set_device_attr(vcpu: VCPU, group: int, attr: int, value: int) -> None:
    """Serve KVM_SET_DEVICE_ATTR; see :meth:`hyp.vcpu.VCPU.set_device_attr`."""
    _group(group).set_attr(vcpu, attr, value)


def get_device_attr(vcpu: VCPU, group: int, attr: int) -> int:
    """Serve KVM_GET_DEVICE_ATTR; see :meth:`hyp.vcpu.VCPU.get_device_attr`."""
    return _group(group).get_attr(vcpu, attr)


def has_device_attr(vcpu: VCPU, group: int, attr: int) -> bool:
    """Serve KVM_HAS_DEVICE_ATTR: whether the attribute can be set."""
    return group in _GROUPS and _GROUPS[group].has_attr(vcpu, attr)


def _group(group: int) -> _Attributes:
    if group not in _GROUPS:
        raise KvmError(
            Errno.ENXIO,
            f"a vCPU has no group {group} of attributes; use "
            f"{' or '.join(f'{VcpuGroup(known).name} ({known:d})' for known in _GROUPS)}",
        )
    return _GROUPS[group]
