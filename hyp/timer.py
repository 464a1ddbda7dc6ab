"""The timers of a vCPU (arch/arm64/kvm/arch_timer.c).

The virtual timer is the PE's, and its registers move with the vCPU. The EL1 physical timer is
emulated: its registers trap; the counter behind it is the PE's. It raises no interrupt by
itself: a guest sees its state in CNTP_CTL_EL0.ISTATUS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.timer import (
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTPCT_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTVCT_EL0,
    CNTVOFF_EL2,
)

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from hyp.vcpu import VCPU

_MASK_64: Final = (1 << 64) - 1
_MASK_32: Final = (1 << 32) - 1
_SIGN_32: Final = 1 << 31


def kvm_arm_timer_get_reg(vcpu: VCPU, register: type[SystemRegister]) -> int:
    """Read CNTVCT_EL0, CNTV_CTL_EL0 or CNTV_CVAL_EL0 of a vCPU, loaded or not."""
    count = (vcpu.pe.read(CNTPCT_EL0) - vcpu.read(CNTVOFF_EL2)) & _MASK_64
    if register is CNTVCT_EL0:
        return count
    if register is CNTV_CVAL_EL0:
        return vcpu.read(CNTV_CVAL_EL0)
    control = vcpu.read(CNTV_CTL_EL0)
    fired = control.ENABLE and count >= vcpu.read(CNTV_CVAL_EL0)
    return control.replace(ISTATUS=bool(fired))


class PhysicalTimer:
    """``struct arch_timer_context`` of the physical timer.

    Parameters
    ----------
    vcpu
        Whose it is; the PE's counter is the one that it compares with.
    """

    __slots__ = ("_control", "_vcpu", "cval")

    def __init__(self, vcpu: VCPU) -> None:
        self._vcpu = vcpu
        self._control = CNTP_CTL_EL0(0)
        self.cval = 0

    @property
    def count(self) -> int:
        """CNTPCT_EL0."""
        return self._vcpu.pe.read(CNTPCT_EL0)

    @property
    def control(self) -> CNTP_CTL_EL0:
        """CNTP_CTL_EL0. ISTATUS says whether the count has reached the compare value."""
        fired = self._control.ENABLE and self.count >= self.cval
        return self._control.replace(ISTATUS=bool(fired))

    @control.setter
    def control(self, value: int) -> None:
        self._control = CNTP_CTL_EL0(value).replace(ISTATUS=0)

    @property
    def tval(self) -> int:
        """CNTP_TVAL_EL0: how far the compare value is away, in 32 bits."""
        return (self.cval - self.count) & _MASK_32

    @tval.setter
    def tval(self, value: int) -> None:
        signed = ((value & _MASK_32) ^ _SIGN_32) - _SIGN_32
        self.cval = (self.count + signed) & _MASK_64

    def program(self) -> None:
        """Have the machine's physical timer fire when this one does."""
        self._vcpu.pe.write(CNTP_CVAL_EL0(self.cval))
        self._vcpu.pe.write(CNTP_CTL_EL0(self._control))
