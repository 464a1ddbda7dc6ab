"""RNDR and RNDRRS of FEAT_RNG. The engine would answer them with what the host has at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from unicorn import arm64_const as uc_reg

from emu.arch.fields import Encoding

if TYPE_CHECKING:
    from emu.arch.a64.system import SystemInstruction
    from emu.cpu.pe import ProcessingElement

RNDR: Final = Encoding(3, 3, 2, 4, 0)
RNDRRS: Final = Encoding(3, 3, 2, 4, 1)


def access(pe: ProcessingElement, instruction: SystemInstruction) -> None:
    """Read a random number. There always is one, as NZCV = 0 says."""
    pe.registers.set_x(instruction.rt, pe.random_numbers.next())
    pe.engine.write(uc_reg.UC_ARM64_REG_NZCV, 0)
