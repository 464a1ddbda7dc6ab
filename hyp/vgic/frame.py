"""Frames of registers on the io bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hyp.vgic.bank import Bank
    from hyp.vgic.vgic import Vgic


class Frame:
    """A frame of registers as a device on the io bus.

    Parameters
    ----------
    vgic
        Whose.
    bank
        The registers.
    number
        The vCPU that a redistributor is of; ``None`` for that which executes the access.
    """

    def __init__(self, vgic: Vgic, bank: Bank, number: int | None = None) -> None:
        self._vgic = vgic
        self._bank = bank
        self._number = number

    def read(self, offset: int, length: int) -> int:
        """Return what a load of ``length`` bytes at ``offset`` gives; IAR takes an interrupt."""
        view = self._vgic.guest_view(self._number)
        value = self._bank.read(view, offset, length)
        view.dist.settle()
        return value

    def write(self, offset: int, length: int, value: int) -> None:
        """Take a store of ``length`` bytes at ``offset``."""
        view = self._vgic.guest_view(self._number)
        self._bank.write(view, offset, length, value)
        view.dist.settle()
