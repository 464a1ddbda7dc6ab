"""An exception on its way: a value, from where it is found to where it is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emu.arch.address import VA


class ArmException:
    """A synchronous exception.

    Parameters
    ----------
    target
        The Exception level it is taken to: 1 or 2.
    esr
        For ESR_ELx.
    pc
        The preferred return address, for ELR_ELx.
    far
        For FAR_ELx; None leaves the register as it was.
    hpfar
        For HPFAR_EL2; None leaves it stale, where the architecture does not define it.
    retired
        Whether the instruction completed (SVC, HVC) rather than being taken back.
    """

    __slots__ = ("esr", "far", "hpfar", "pc", "retired", "target")

    def __init__(
        self,
        target: int,
        esr: int,
        pc: VA,
        far: VA | None = None,
        hpfar: int | None = None,
        *,
        retired: bool = False,
    ) -> None:
        self.target = target
        self.esr = esr
        self.pc = pc
        self.far = far
        self.hpfar = hpfar
        self.retired = retired
