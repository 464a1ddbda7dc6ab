"""An exception on its way: a value, from where it is found to where it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from emu.arch.address import VA


class ArmException(NamedTuple):
    """A synchronous exception."""

    target: int
    """The Exception level it is taken to: 1 or 2."""
    esr: int
    pc: VA
    """The preferred return address, for ELR_ELx."""
    far: VA | None = None
    """For FAR_ELx; None leaves the register as it was."""
    hpfar: int | None = None
    """For HPFAR_EL2; None leaves it stale, where the architecture does not define it."""
    retired: bool = False
    """Whether the instruction completed (SVC, HVC) rather than being taken back."""
