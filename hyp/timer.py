"""The timers of a vCPU (arch/arm64/kvm/arch_timer.c).

The virtual timer is the PE's, and its registers move with the vCPU. The EL1 physical timer is
emulated: its registers trap, and the PE's physical timer stands in for a timer of the host.
Each timer has an output to the vCPU's virtual GIC, as a level-sensitive PPI.
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
from hyp.events import KvmTimerUpdateIrq

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister
    from hyp.vcpu import VCPU

VIRTUAL_TIMER_PPI: Final = 27
PHYSICAL_TIMER_PPI: Final = 30
"""The INTIDs that KVM gives the timers unless user space chooses others."""

_MASK_64: Final = (1 << 64) - 1
_MASK_32: Final = (1 << 32) - 1
_SIGN_32: Final = 1 << 31
_CONTROL: Final = CNTP_CTL_EL0.ENABLE.in_place | CNTP_CTL_EL0.IMASK.in_place
_ARMED: Final = CNTP_CTL_EL0.ENABLE.in_place
_FIRES: Final = _ARMED | CNTP_CTL_EL0.ISTATUS.in_place
_ALL: Final = _FIRES | CNTP_CTL_EL0.IMASK.in_place


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
    def control(self, value: CNTP_CTL_EL0) -> None:
        self._control = CNTP_CTL_EL0(value & _CONTROL)
        self._vcpu.timer_lines.sync()

    def set_cval(self, value: int) -> None:
        """Write CNTP_CVAL_EL0."""
        self.cval = value
        self._vcpu.timer_lines.sync()

    @property
    def tval(self) -> int:
        """CNTP_TVAL_EL0: how far the compare value is away, in 32 bits."""
        return (self.cval - self.count) & _MASK_32

    @tval.setter
    def tval(self, value: int) -> None:
        signed = ((value & _MASK_32) ^ _SIGN_32) - _SIGN_32
        self.set_cval((self.count + signed) & _MASK_64)

    @property
    def armed(self) -> int:
        """CNTP_CTL_EL0 without its status."""
        return self._control


class TimerLines:
    """The outputs of a vCPU's timers, as far as a virtual GIC listens to them.

    While an output is asserted, the PE's timer behind it does not interrupt EL2 again: with
    hardware, the physical interrupt would stay active on behalf of the guest.

    Parameters
    ----------
    vcpu
        Whose.

    Attributes
    ----------
    virtual, physical
        The levels that the GIC was last told.
    """

    __slots__ = ("_programmed", "_vcpu", "physical", "virtual")

    def __init__(self, vcpu: VCPU) -> None:
        self._vcpu = vcpu
        self.virtual = False
        self.physical = False
        self._programmed = (0, 0)

    def sync(self) -> None:
        """Tell the GIC what has changed, and have the PE interrupt when more will."""
        vcpu = self._vcpu
        if vcpu.vm.vgic is None:
            return
        virtual, physical = self.virtual_fires, self.physical_fires
        if virtual is not self.virtual:
            self.virtual = virtual
            self._update_irq(VIRTUAL_TIMER_PPI, level=virtual)
        if physical is not self.physical:
            self.physical = physical
            self._update_irq(PHYSICAL_TIMER_PPI, level=physical)
        if vcpu.loaded_on is not None:
            self._program()

    @property
    def virtual_fires(self) -> bool:
        """Whether the virtual timer's output is asserted (``kvm_timer_should_fire``)."""
        vcpu = self._vcpu
        if vcpu.loaded_on is None:
            return kvm_arm_timer_get_reg(vcpu, CNTV_CTL_EL0) & _ALL == _FIRES
        return vcpu.pe.read(CNTV_CTL_EL0) & _ALL == _FIRES

    @property
    def physical_fires(self) -> bool:
        """Whether the physical timer's output is asserted."""
        timer = self._vcpu.timer
        return timer.armed == _ARMED and timer.count >= timer.cval

    def next_expiry(self) -> int | None:
        """Return the physical count at which an output will be asserted that is not now.

        None if none will.
        """
        vcpu = self._vcpu
        now = vcpu.pe.read(CNTPCT_EL0)
        due = []
        if vcpu.read(CNTV_CTL_EL0) & _CONTROL == _ARMED:
            count = (now - vcpu.read(CNTVOFF_EL2)) & _MASK_64
            due.append(now + vcpu.read(CNTV_CVAL_EL0) - count)
        if vcpu.timer.armed == _ARMED:
            due.append(vcpu.timer.cval)
        return min((count for count in due if now < count <= _MASK_64), default=None)

    def release(self) -> None:
        """Take the timers off a PE that is to be another vCPU's."""
        pe = self._vcpu.pe
        pe.interrupt_on_timers(virtual=False, physical=False)
        pe.write(CNTP_CTL_EL0(0))
        self._programmed = (0, 0)

    def _program(self) -> None:
        """Have the PE come to EL2 when an output that is low would be asserted."""
        pe, timer = self._vcpu.pe, self._vcpu.timer
        wanted = (0, 0) if self.physical else (timer.armed, timer.cval)
        if wanted != self._programmed:
            self._programmed = wanted
            pe.write(CNTP_CVAL_EL0(wanted[1]))
            pe.write(CNTP_CTL_EL0(wanted[0]))
        pe.interrupt_on_timers(virtual=not self.virtual, physical=bool(wanted[0]))

    def _update_irq(self, intid: int, *, level: bool) -> None:
        vcpu = self._vcpu
        emit = vcpu.vm.events.emit
        if emit is not None:
            emit(KvmTimerUpdateIrq(vcpu.index, vcpu.pe.retired, vcpu.index, intid, level))
        vgic = vcpu.vm.vgic
        assert vgic is not None, "the lines go to a GIC"
        vgic.kvm_vgic_inject_irq(vcpu, intid, level=level)
