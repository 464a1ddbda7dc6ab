"""What a VM's firmware offers, and its pseudo-registers (arch/arm64/kvm/hypercalls.c).

User space reads and writes them by id, so that a guest finds the same firmware after a migration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hyp.errors import Errno, KvmError
from hyp.profiles import PSCI_0_2, PSCI_1_0, PSCI_1_1, PSCI_1_2, PSCI_1_3, Service
from hyp.smccc import SmcccFunction
from hyp.trng import TRNG_FUNCTIONS, Entropy

if TYPE_CHECKING:
    from hyp.profiles import KvmProfile
    from hyp.vm import VM

_FW: Final = 0x6030_0000_0014_0000
_FW_FEAT_BMAP: Final = 0x6030_0000_0016_0000

PSCI_VERSION: Final = _FW
WORKAROUND_1, WORKAROUND_2, WORKAROUND_3 = _FW | 1, _FW | 2, _FW | 3
STD_BMAP, STD_HYP_BMAP, VENDOR_HYP_BMAP, VENDOR_HYP_BMAP_2 = (_FW_FEAT_BMAP | n for n in range(4))

_LEVEL: Final = 0xF
_ENABLED: Final = 1 << 4
"""KVM_REG_ARM_SMCCC_ARCH_WORKAROUND_2_ENABLED."""
_WORKAROUND_2_AVAILABLE: Final = 2
_NOT_REQUIRED: Final = {WORKAROUND_1: 2, WORKAROUND_2: 3, WORKAROUND_3: 2}
"""What the workarounds' registers read: the machine does not speculate and needs none of them."""

_PSCI_VERSIONS: Final = (PSCI_0_2, PSCI_1_0, PSCI_1_1, PSCI_1_2, PSCI_1_3)


class _Group(NamedTuple):
    """The functions behind one bit of a bitmap."""

    bitmap: int
    """The id of its register."""
    bit: int
    functions: frozenset[SmcccFunction]
    service: Service


_GROUPS: Final = (
    _Group(STD_BMAP, 0, TRNG_FUNCTIONS, Service.TRNG),
    _Group(
        STD_HYP_BMAP,
        0,
        frozenset({SmcccFunction.PV_TIME_FEATURES, SmcccFunction.PV_TIME_ST}),
        Service.PV_TIME,
    ),
    _Group(
        VENDOR_HYP_BMAP,
        0,
        frozenset({SmcccFunction.VENDOR_HYP_FEATURES, SmcccFunction.VENDOR_HYP_CALL_UID}),
        Service.VENDOR_HYP,
    ),
)
_GROUP_OF: Final = {function: group for group in _GROUPS for function in group.functions}
_BITMAPS: Final = {STD_BMAP: 1, STD_HYP_BMAP: 1, VENDOR_HYP_BMAP: 1, VENDOR_HYP_BMAP_2: 0}
"""The bits that each bitmap can have."""


class Firmware:
    """The firmware of a VM.

    Parameters
    ----------
    profile
        What that KVM offers.
    seed
        Of the random numbers.

    Attributes
    ----------
    psci_version
        The version that guests are told.
    bitmaps
        What is offered, by the id of its register.
    entropy
        The random numbers.
    """

    def __init__(self, profile: KvmProfile, seed: int) -> None:
        self._profile = profile
        self.psci_version = profile.psci_version
        self.bitmaps = dict(_BITMAPS)
        self.entropy = Entropy(seed)

    def allows(self, function: int) -> bool:
        """Whether a function can be called (``kvm_smccc_test_fw_bmap``)."""
        group = _GROUP_OF.get(SmcccFunction(function))
        if group is None:
            return bool(self._profile.services & Service.SMCCC)
        offered = self.bitmaps[group.bitmap] >> group.bit & 1
        return bool(offered and self._profile.services & group.service)


def registers(vm: VM) -> list[int]:
    """Return the ids of the pseudo-registers that a VM has."""
    services = vm.profile.services
    bitmaps = _BITMAPS if services & Service.BITMAPS else ()
    workarounds = _NOT_REQUIRED if services & Service.SMCCC else ()
    return [PSCI_VERSION, *workarounds, *bitmaps]


def get(vm: VM, reg_id: int) -> int:
    """Return a pseudo-register (``kvm_arm_get_fw_reg``)."""
    if reg_id == PSCI_VERSION:
        return vm.firmware.psci_version
    if reg_id in _NOT_REQUIRED:
        return _NOT_REQUIRED[reg_id]
    return vm.firmware.bitmaps[reg_id]


def set(vm: VM, reg_id: int, value: int) -> None:  # noqa: A001  # firmware.get and firmware.set
    """Set a pseudo-register (``kvm_arm_set_fw_reg``).

    Raises
    ------
    KvmError
        EINVAL for a value that is not possible; EBUSY for another bitmap after the first run.
    """
    if reg_id == PSCI_VERSION:
        _set_psci_version(vm, value)
    elif reg_id in _NOT_REQUIRED:
        _set_workaround(reg_id, value)
    else:
        _set_bitmap(vm, reg_id, value)


def _set_psci_version(vm: VM, value: int) -> None:
    versions = [version for version in _PSCI_VERSIONS if version <= vm.profile.psci_version]
    if value not in versions:
        raise KvmError(
            Errno.EINVAL,
            f"PSCI version {value:#x} is not possible; use one of "
            f"{', '.join(f'{version:#x}' for version in versions)}",
        )
    vm.firmware.psci_version = value


def _set_workaround(reg_id: int, value: int) -> None:
    """Accept what a guest may have been told: anything down to no workaround at all."""
    known = _LEVEL | (_ENABLED if reg_id == WORKAROUND_2 else 0)
    enabled_without = value & _ENABLED and value & _LEVEL != _WORKAROUND_2_AVAILABLE
    if value & ~known or value & _LEVEL > _NOT_REQUIRED[reg_id] or enabled_without:
        raise KvmError(
            Errno.EINVAL,
            f"{value:#x} is no state of workaround {reg_id & _LEVEL}; here it is "
            f"{_NOT_REQUIRED[reg_id]}, not required",
        )


def _set_bitmap(vm: VM, reg_id: int, value: int) -> None:
    if value & ~_BITMAPS[reg_id]:
        raise KvmError(
            Errno.EINVAL,
            f"bits {value:#x} of bitmap {reg_id & 0xFFFF} are not all supported; "
            f"{_BITMAPS[reg_id]:#x} are",
        )
    if vm.has_run_once and value != vm.firmware.bitmaps[reg_id]:
        raise KvmError(Errno.EBUSY, "a vCPU of the VM has run; set the bitmap before")
    vm.firmware.bitmaps[reg_id] = value
