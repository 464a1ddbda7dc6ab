"""Stolen time, told to the guest in its memory (arch/arm64/kvm/pvtime.c).

Time is stolen from a vCPU that could run while others do. The structure has 64 bytes:
revision and attributes, both zero, and at offset 8 the stolen time in nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.address import IPA, PAGE_SHIFT
from emu.arch.registers.timer import CNTFRQ_EL0, CNTPCT_EL0
from hyp.errors import Errno, KvmError
from hyp.exits import Exit, Intr, IntrCause
from hyp.profiles import Service
from hyp.smccc import NOT_SUPPORTED, SUCCESS, SmcccFunction

if TYPE_CHECKING:
    from hyp.vcpu import VCPU

PVTIME_IPA: Final = 0
"""KVM_ARM_VCPU_PVTIME_IPA, the one attribute."""

SIZE: Final = 64
_STOLEN: Final = 8
_NANOSECONDS: Final = 10**9
_NO_IPA: Final = (1 << 64) - 1


class StolenTime:
    """What is stolen from one vCPU.

    Attributes
    ----------
    base
        Where the guest is told; None for nowhere.
    """

    __slots__ = ("_left", "base")

    def __init__(self) -> None:
        self.base: IPA | None = None
        self._left: int | None = None

    def leave(self, vcpu: VCPU, exit_: Exit | None) -> None:
        """Note that a run has ended. A vCPU that waits or is off loses nothing."""
        idle = isinstance(exit_, Intr) and exit_.cause in (IntrCause.WAITING, IntrCause.STOPPED)
        self._left = None if idle else int(vcpu.pe.read(CNTPCT_EL0))

    def record(self, vcpu: VCPU) -> None:
        """Add the time since the last run (``kvm_update_stolen_time``)."""
        left, self._left = self._left, None
        if self.base is None or left is None:
            return
        pe, where = vcpu.pe, IPA(self.base + _STOLEN)
        ticks = int(pe.read(CNTPCT_EL0)) - left
        before = vcpu.vm.read_guest(where, 8) if ticks else None
        if before is not None:
            stolen = int.from_bytes(before, "little")
            stolen += ticks * _NANOSECONDS // int(pe.read(CNTFRQ_EL0))
            vcpu.vm.write_guest(where, (stolen % (1 << 64)).to_bytes(8, "little"))


def kvm_pvtime_call(vcpu: VCPU, function: int) -> tuple[int, ...]:
    """Serve PV_TIME_FEATURES and PV_TIME_ST."""
    base = vcpu.stolen_time.base
    if function == SmcccFunction.PV_TIME_ST:
        if base is not None:
            vcpu.vm.write_guest(base, bytes(SIZE))
        return (NOT_SUPPORTED if base is None else base,)
    asked = vcpu.pe.read_x(1) & 0xFFFF_FFFF
    known = asked in (SmcccFunction.PV_TIME_FEATURES, SmcccFunction.PV_TIME_ST)
    return (SUCCESS if known and base is not None else NOT_SUPPORTED,)


def set_attr(vcpu: VCPU, attr: int, value: int) -> None:
    """Say where the structure is (``kvm_arm_pvtime_set_attr``).

    Raises
    ------
    KvmError
        ENXIO for no such attribute, EINVAL for an address that is not a multiple of 64 or in no
        slot, EEXIST for a second one.
    """
    _check(vcpu, attr)
    if value % SIZE:
        raise KvmError(Errno.EINVAL, f"{value:#x} is no multiple of {SIZE}, the structure's size")
    if vcpu.stolen_time.base is not None:
        raise KvmError(Errno.EEXIST, f"the address is {vcpu.stolen_time.base:#x}, and stays so")
    if vcpu.vm.memslots.find(value >> PAGE_SHIFT) is None:
        raise KvmError(Errno.EINVAL, f"{value:#x} is in no memory slot; make one there first")
    vcpu.stolen_time.base = IPA(value)


def get_attr(vcpu: VCPU, attr: int) -> int:
    """Return where the structure is; all ones for nowhere.

    Raises
    ------
    KvmError
        ENXIO for no such attribute.
    """
    _check(vcpu, attr)
    base = vcpu.stolen_time.base
    return _NO_IPA if base is None else base


def has_attr(vcpu: VCPU, attr: int) -> bool:
    """Whether the attribute is there."""
    return attr == PVTIME_IPA and bool(vcpu.vm.profile.services & Service.PV_TIME)


def _check(vcpu: VCPU, attr: int) -> None:
    if not has_attr(vcpu, attr):
        raise KvmError(
            Errno.ENXIO,
            f"PVTIME has no attribute {attr} in KVM of {vcpu.vm.profile.name}; there is IPA (0), "
            "in profiles from 2021 on",
        )
