"""KVM_ENABLE_CAP and KVM_CHECK_EXTENSION of a VM."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final

from emu.arch.registers.identification import ID_AA64DFR0_EL1
from hyp.dirty_ring import ENTRY_SIZE, MAX_ENTRIES
from hyp.eager_split import SUPPORTED_BLOCK_SIZES
from hyp.errors import Errno, KvmError
from hyp.gmem import GuestMemfdFlags
from hyp.memslots import KVM_MEM_SLOTS_NUM
from hyp.profiles import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from hyp.profiles import KvmProfile
    from hyp.vm import VM


class Cap(IntEnum):
    """The KVM_CAP_* numbers that are known here."""

    NR_MEMSLOTS = 10
    SET_GUEST_DEBUG = 23
    READONLY_MEM = 81
    GUEST_DEBUG_HW_BPS = 119
    GUEST_DEBUG_HW_WPS = 120
    ARM_PMU_V3 = 126
    ARM_VM_IPA_SIZE = 165
    MANUAL_DIRTY_LOG_PROTECT2 = 168
    ARM_NISV_TO_USER = 177
    ARM_SYSTEM_SUSPEND = 216
    DIRTY_LOG_RING_ACQ_REL = 223
    DIRTY_LOG_RING_WITH_BITMAP = 225
    ARM_EAGER_SPLIT_CHUNK_SIZE = 228
    ARM_SUPPORTED_BLOCK_SIZES = 229
    USER_MEMORY2 = 231
    MEMORY_FAULT_INFO = 232
    GUEST_MEMFD = 234
    GUEST_MEMFD_FLAGS = 244
    ARM_SEA_TO_USER = 245


def enable_cap(vm: VM, cap: int, value: int) -> None:
    """Serve KVM_ENABLE_CAP; see :meth:`hyp.vm.VM.enable_cap`."""
    if _is_later(vm, cap):
        raise KvmError(
            Errno.EINVAL,
            f"KVM of {vm.profile.name} has no capability {Cap(cap).name}; use profile 2026",
        )
    enable = _ENABLE.get(cap)
    if enable is None:
        names = ", ".join(f"{Cap(known).name} ({known:d})" for known in _ENABLE)
        raise KvmError(Errno.EINVAL, f"capability {cap} cannot be enabled; there are {names}")
    enable(vm, value)


def check_extension(vm: VM, cap: int) -> int:
    """Serve KVM_CHECK_EXTENSION; see :meth:`hyp.vm.VM.check_extension`."""
    value = 0 if _is_later(vm, cap) else _CHECK.get(cap, 0)
    return value if isinstance(value, int) else value(vm)


def _is_later(vm: VM, cap: int) -> bool:
    """Return whether a capability came after the VM's profile."""
    has = _HAS.get(cap)
    return has is not None and not has(vm.profile)


def _nisv_to_user(vm: VM, _value: int) -> None:
    vm.nisv_to_user = True


def _system_suspend(vm: VM, _value: int) -> None:
    vm.system_suspend = True


def _sea_to_user(vm: VM, _value: int) -> None:
    vm.sea_to_user = True


def _breakpoints(vm: VM) -> int:
    return vm.kvm.cpus[0].pe.read(ID_AA64DFR0_EL1).BRPs + 1


def _watchpoints(vm: VM) -> int:
    return vm.kvm.cpus[0].pe.read(ID_AA64DFR0_EL1).WRPs + 1


_HAS: Final[dict[int, Callable[[KvmProfile], bool]]] = {
    Cap.READONLY_MEM: lambda profile: profile.readonly_slots,
    Cap.ARM_NISV_TO_USER: lambda profile: profile.nisv_to_user,
    Cap.ARM_PMU_V3: lambda profile: bool(profile.services & Service.PMU),
    Cap.ARM_SYSTEM_SUSPEND: lambda profile: bool(profile.services & Service.SYSTEM_SUSPEND),
    Cap.DIRTY_LOG_RING_ACQ_REL: lambda profile: profile.dirty_ring,
    Cap.DIRTY_LOG_RING_WITH_BITMAP: lambda profile: profile.dirty_ring,
    Cap.ARM_EAGER_SPLIT_CHUNK_SIZE: lambda profile: profile.eager_split,
    Cap.ARM_SUPPORTED_BLOCK_SIZES: lambda profile: profile.eager_split,
    Cap.ARM_SEA_TO_USER: lambda profile: profile.sea_to_user,
    Cap.USER_MEMORY2: lambda profile: profile.guest_memfd,
    Cap.MEMORY_FAULT_INFO: lambda profile: profile.guest_memfd,
    Cap.GUEST_MEMFD: lambda profile: profile.guest_memfd,
    Cap.GUEST_MEMFD_FLAGS: lambda profile: profile.guest_memfd,
}
"""Which profiles have a capability, where not all do."""

_ENABLE: Final[dict[int, Callable[[VM, int], None]]] = {
    Cap.MANUAL_DIRTY_LOG_PROTECT2: lambda vm, value: vm.dirty_log.enable_manual_protect(value),
    Cap.ARM_NISV_TO_USER: _nisv_to_user,
    Cap.ARM_SYSTEM_SUSPEND: _system_suspend,
    Cap.DIRTY_LOG_RING_ACQ_REL: lambda vm, value: vm.dirty_log.enable_ring(value),
    Cap.DIRTY_LOG_RING_WITH_BITMAP: lambda vm, _value: vm.dirty_log.enable_ring_with_bitmap(),
    Cap.ARM_EAGER_SPLIT_CHUNK_SIZE: lambda vm, value: vm.dirty_log.split.enable(value),
    Cap.ARM_SEA_TO_USER: _sea_to_user,
}

_CHECK: Final[dict[int, int | Callable[[VM], int]]] = {
    Cap.NR_MEMSLOTS: KVM_MEM_SLOTS_NUM,
    Cap.SET_GUEST_DEBUG: 1,
    Cap.READONLY_MEM: 1,
    Cap.GUEST_DEBUG_HW_BPS: _breakpoints,
    Cap.GUEST_DEBUG_HW_WPS: _watchpoints,
    Cap.ARM_VM_IPA_SIZE: lambda vm: vm.features.ipa_limit,
    Cap.MANUAL_DIRTY_LOG_PROTECT2: 3,
    Cap.ARM_NISV_TO_USER: 1,
    Cap.ARM_PMU_V3: lambda vm: int(vm.features.pmu_version != 0),
    Cap.ARM_SYSTEM_SUSPEND: 1,
    Cap.DIRTY_LOG_RING_ACQ_REL: MAX_ENTRIES * ENTRY_SIZE,
    Cap.DIRTY_LOG_RING_WITH_BITMAP: 1,
    Cap.ARM_EAGER_SPLIT_CHUNK_SIZE: lambda vm: vm.dirty_log.split.chunk_size,
    Cap.ARM_SUPPORTED_BLOCK_SIZES: SUPPORTED_BLOCK_SIZES,
    Cap.USER_MEMORY2: 1,
    Cap.MEMORY_FAULT_INFO: 1,
    Cap.GUEST_MEMFD: 1,
    Cap.GUEST_MEMFD_FLAGS: int(GuestMemfdFlags.MMAP | GuestMemfdFlags.INIT_SHARED),
    Cap.ARM_SEA_TO_USER: 1,
}
