"""Registers that came after Armv8.0 and that no engine has, or has as they should be.

The engine's newest model reads random numbers of the host: those must be hooked. All others arrive
as undefined instructions, and are carried out if the CPU has their feature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from emu.arch.a64.system import SystemKind
from emu.arch.registers.control import DIT, SSBS
from emu.arch.registers.exceptions import DISR_EL1
from emu.arch.registers.identification import ID_AA64PFR1_EL1
from emu.arch.registers.ras import ERRIDR_EL1, ERROR_RECORDS, ERXFR_EL1
from emu.arch.registers.timer import CNTPCTSS_EL0, CNTVCTSS_EL0
from emu.cpu import pstate_fields, ras, rng

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.a64.system import SystemInstruction
    from emu.arch.features import CpuFeatures
    from emu.arch.fields import Encoding
    from emu.cpu.pe import ProcessingElement


class LaterRegister(NamedTuple):
    """One register."""

    feature: str
    present: Callable[[CpuFeatures], bool]
    access: Callable[[ProcessingElement, SystemInstruction], None] | None
    """Executes MRS or MSR; None if :mod:`emu.cpu.system` does."""
    read_only: bool = False
    in_engine: bool = False
    """Whether the engine's newest model has it; its model of Armv8.0 has none."""


def _has_ssbs_instructions(features: CpuFeatures) -> bool:
    return features.read(ID_AA64PFR1_EL1).SSBS >= 2


_COUNTER: Final = LaterRegister("FEAT_ECV", lambda f: f.ecv, None, read_only=True)
_RANDOM: Final = LaterRegister(
    "FEAT_RNG", lambda f: f.rng, rng.access, read_only=True, in_engine=True
)
_DIT: Final = LaterRegister("FEAT_DIT", lambda f: f.pstate.DIT, pstate_fields.access)
_SSBS: Final = LaterRegister("FEAT_SSBS2", _has_ssbs_instructions, pstate_fields.access)
_REGISTERS: Final[dict[Encoding, LaterRegister]] = {
    CNTPCTSS_EL0.encoding: _COUNTER,
    CNTVCTSS_EL0.encoding: _COUNTER,
    rng.RNDR: _RANDOM,
    rng.RNDRRS: _RANDOM,
    DIT.encoding: _DIT,
    SSBS.encoding: _SSBS,
    DISR_EL1.encoding: LaterRegister("FEAT_RAS", lambda f: f.ras, ras.access_deferred),
    **{
        register.encoding: LaterRegister(
            "FEAT_RAS",
            lambda f: f.ras,
            ras.access_record,
            read_only=register in (ERRIDR_EL1, ERXFR_EL1),
        )
        for register in ERROR_RECORDS
    },
}
_IMMEDIATES: Final = {(3, 1): _SSBS, (3, 2): _DIT}
"""MSR (immediate), by op1 and op2."""


def later_register(instruction: SystemInstruction) -> LaterRegister | None:
    """Return the register that an MRS or MSR accesses, if it is one of these."""
    if instruction.kind is SystemKind.MSR_IMMEDIATE:
        return _IMMEDIATES.get((instruction.encoding.op1, instruction.encoding.op2))
    return _REGISTERS.get(instruction.encoding)


def is_accessible(
    register: LaterRegister, instruction: SystemInstruction, features: CpuFeatures
) -> bool:
    """Whether a CPU has a register, and has it in the direction of an access."""
    return register.present(features) and (instruction.is_read or not register.read_only)
