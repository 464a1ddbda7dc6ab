"""The EL1 physical timer, which KVM emulates (arch/arm64/kvm/arch_timer.c).

Its registers trap; the counter behind it is the PE's. It raises no interrupt by
itself: a guest sees its state in CNTP_CTL_EL0.ISTATUS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.arch.registers.timer import CNTP_CTL_EL0, CNTP_CVAL_EL0, CNTPCT_EL0

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement

_MASK_64: Final = (1 << 64) - 1
_MASK_32: Final = (1 << 32) - 1
_SIGN_32: Final = 1 << 31


class PhysicalTimer:
    """``struct arch_timer_context`` of the physical timer.

    Parameters
    ----------
    pe
        Whose counter it compares with.
    """

    __slots__ = ("_control", "_pe", "cval")

    def __init__(self, pe: ProcessingElement) -> None:
        self._pe = pe
        self._control = CNTP_CTL_EL0(0)
        self.cval = 0

    @property
    def count(self) -> int:
        """CNTPCT_EL0."""
        return self._pe.read(CNTPCT_EL0)

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
        self._pe.write(CNTP_CVAL_EL0(self.cval))
        self._pe.write(CNTP_CTL_EL0(self._control))
