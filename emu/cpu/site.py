"""What the CPU makes of a system instruction whatever its registers hold (Arm ARM C5).

It is found once for each instruction word; :mod:`emu.cpu.system` executes by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import AT, DC, IC
from emu.arch.a64.operations import TranslationRegime
from emu.arch.a64.system import Operation, SystemInstruction, SystemKind
from emu.arch.a64.tlbi import TLBI
from emu.arch.esr.build import system_register_trap
from emu.arch.fields import Encoding, SystemRegister
from emu.arch.registers import REGISTERS
from emu.arch.registers.control import DAIF
from emu.arch.registers.exceptions import ISR_EL1
from emu.arch.registers.identification import CTR_EL0, DCZID_EL0, MIDR_EL1, MPIDR_EL1
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import VMPIDR_EL2, VPIDR_EL2
from emu.cpu import debug_registers, timer_registers
from emu.cpu.extensions import in_engine, is_implemented
from emu.cpu.gictraps import gic_traps
from emu.cpu.later import LaterRegister, is_accessible, later_register
from emu.cpu.monitors import is_performance_monitor
from emu.cpu.ras import ras_traps
from emu.cpu.registers import TRANSLATION_CONTROLS
from emu.cpu.traps import is_id_group_3, trap_bits

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures

NXS: Final = 9
"""CRn of the TLBI operations of FEAT_XS."""

VIRTUALIZED: Final = {MIDR_EL1.encoding: VPIDR_EL2, MPIDR_EL1.encoding: VMPIDR_EL2}
"""Registers of which EL1 sees the copy that EL2 has set."""

_EL0_OP1: Final = 3
"""All that EL0 may execute has this op1; everything else is UNDEFINED there."""

_EL0_ENABLE: Final[dict[Encoding, int]] = {
    CTR_EL0.encoding: SCTLR_EL1.UCT.in_place,
    DAIF.encoding: SCTLR_EL1.UMA.in_place,
    Encoding(1, *DC.ZVA.encoding): SCTLR_EL1.DZE.in_place,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A system instruction, and what the CPU makes of it whatever its registers hold."""

    instruction: SystemInstruction
    operation: Operation | None
    implemented: bool
    """Whether the CPU has an operation or a later register; all others it has."""
    el0: bool
    """Whether EL0 may execute it, if ``el0_enable`` allows."""
    el0_enable: int
    """The SCTLR_EL1 bit without which EL1 traps it when EL0 executes it; 0 for none."""
    traps: int
    """The HCR_EL2 bits that trap it."""
    gic_traps: int
    """The ICH_HCR_EL2 bits that trap it."""
    esr: int
    """The syndrome of its trap."""
    undefined: bool
    """Whether it is UNDEFINED if it does not trap: EL2's own, or nXS without FEAT_XS."""

    # What it is, if one of these. All others are left to the engine.
    constant: int | None
    """What it reads if that never changes."""
    copy: type[SystemRegister] | None
    """The register of EL2 that it reads."""
    is_status: bool
    """Whether it reads ISR_EL1."""
    is_debug: bool
    """Whether it accesses a debug register, for which :mod:`emu.cpu.debug_registers` cares."""
    is_monitor: bool
    """Whether it accesses the performance monitors."""
    later: LaterRegister | None
    """The register that came after Armv8.0 that it accesses."""
    is_control: bool
    """Whether it writes a register from which the translation regime is decoded."""
    timer: type[SystemRegister] | None
    """The timer register that it accesses."""
    cache: DC | IC | None
    by_va: bool
    """Whether ``cache`` translates its argument."""
    needs_write: bool
    """Whether that asks for write permission. EL1 may clean code that it cannot read."""
    at: AT | None
    tlbi: TLBI | None
    by_page: bool
    """Whether the engine knows ``tlbi``: it removes the page that the argument names."""


def site_of(instruction: SystemInstruction, features: CpuFeatures) -> Site:
    """Return what is always so of an instruction."""
    operation, encoding = instruction.operation, instruction.encoding
    by_ich, by_hcr = gic_traps(encoding) if features.gic_sysregs else (0, 0)
    register = REGISTERS.get(encoding)
    reads = instruction.is_read
    tlbi = operation if isinstance(operation, TLBI) else None
    at = operation if isinstance(operation, AT) else None
    cache = operation if isinstance(operation, (DC, IC)) else None
    return Site(
        instruction=instruction,
        operation=operation,
        implemented=_is_implemented(instruction, features),
        el0=encoding.op1 == _EL0_OP1,
        el0_enable=_el0_enable(instruction),
        traps=trap_bits(instruction) | by_hcr | ras_traps(encoding),
        gic_traps=by_ich,
        esr=int(system_register_trap(encoding, rt=instruction.rt, read=reads)),
        undefined=_is_for_others(instruction, features),
        constant=_constant(encoding, features) if reads else None,
        copy=VIRTUALIZED.get(encoding) if reads else None,
        is_status=register is ISR_EL1 and reads,
        is_debug=debug_registers.is_debug(instruction),
        is_monitor=is_performance_monitor(encoding),
        later=later_register(instruction),
        is_control=register in TRANSLATION_CONTROLS and not reads,
        timer=register if register in timer_registers.EL0_ENABLE else None,
        cache=cache,
        by_va=cache is not None and cache.by_va,
        needs_write=isinstance(cache, DC) and cache.needs_write,
        at=at,
        tlbi=tlbi,
        by_page=tlbi is not None and in_engine(tlbi, features),
    )


def _is_implemented(instruction: SystemInstruction, features: CpuFeatures) -> bool:
    """Whether the CPU has an operation or a later register."""
    if instruction.operation is not None:
        return is_implemented(instruction.operation, features)
    later = later_register(instruction)
    return later is None or is_accessible(later, instruction, features)


def _is_for_others(instruction: SystemInstruction, features: CpuFeatures) -> bool:
    """Whether a TLBI or AT is EL2's own, or one of FEAT_XS that the CPU lacks."""
    operation = instruction.operation
    if isinstance(operation, TLBI):
        return operation.op1 != 0 or (instruction.encoding.CRn == NXS and not features.xs)
    if isinstance(operation, AT):
        return operation.regime is not TranslationRegime.EL10 or operation.op1 != 0
    return False


def _constant(encoding: Encoding, features: CpuFeatures) -> int | None:
    """Return the value of a register that identifies the CPU; None for any other."""
    if encoding in VIRTUALIZED:
        return None
    register = REGISTERS.get(encoding)
    if register is CTR_EL0 or register is DCZID_EL0:
        return int(features.read(register))
    if is_id_group_3(encoding):
        return int(features.read(register)) if register is not None else 0
    return None


def _el0_enable(instruction: SystemInstruction) -> int:
    """Return the SCTLR_EL1 bit without which EL1 traps ``instruction`` of EL0; 0 for none."""
    default = 0
    if instruction.operation is not None:
        default = SCTLR_EL1.UCI.in_place
    elif instruction.kind is SystemKind.MSR_IMMEDIATE and later_register(instruction) is None:
        default = SCTLR_EL1.UMA.in_place  # DAIFSet, DAIFClr
    return _EL0_ENABLE.get(instruction.encoding, default)
