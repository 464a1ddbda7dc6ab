"""System instructions that the engine must not execute on its own (Arm ARM C5).

The engine knows neither our TLB nor our MMU, keeps time by the host's clock and has no EL2
to trap to. These instructions are decoded when a page is scanned and come here before they
execute.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import AT, DC, IC
from emu.arch.a64.operations import TranslationRegime
from emu.arch.a64.system import Operation, SystemInstruction, SystemKind, decode_system
from emu.arch.a64.tlbi import TLBI
from emu.arch.address import PA, PAGE_MASK, VA
from emu.arch.esr.build import system_register_trap
from emu.arch.esr.fsc import MEMORY_ERRORS
from emu.arch.fields import Encoding, SystemRegister
from emu.arch.registers import REGISTERS
from emu.arch.registers.control import DAIF
from emu.arch.registers.exceptions import ISR_EL1, PAR_EL1, PSTATE
from emu.arch.registers.gic import ICH_HCR_EL2
from emu.arch.registers.identification import CTR_EL0, DCZID_EL0, MIDR_EL1, MPIDR_EL1
from emu.arch.registers.timer import (
    CNTFRQ_EL0,
    CNTHCTL_EL2,
    CNTKCTL_EL1,
    CNTP_CTL_EL0,
    CNTP_CVAL_EL0,
    CNTP_TVAL_EL0,
    CNTPCT_EL0,
    CNTPCTSS_EL0,
    CNTV_CTL_EL0,
    CNTV_CVAL_EL0,
    CNTV_TVAL_EL0,
    CNTVCT_EL0,
    CNTVCTSS_EL0,
)
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import HCR_EL2, VMPIDR_EL2, VPIDR_EL2
from emu.cpu import debug_registers, maintenance, monitors
from emu.cpu.aborts import MAINTENANCE, abort
from emu.cpu.exception import ArmException
from emu.cpu.extensions import in_engine, is_implemented
from emu.cpu.gictraps import gic_traps
from emu.cpu.instructions import undefined
from emu.cpu.later import LaterRegister, is_accessible, later_register
from emu.cpu.monitors import Refusal, is_performance_monitor
from emu.cpu.ras import ras_traps
from emu.cpu.registers import TRANSLATION_CONTROLS
from emu.cpu.traps import is_id_group_3, trap_bits
from emu.mmu.at import address_translate, fault_report
from emu.mmu.fault import Fault
from emu.mmu.permissions import READ, WRITE

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.cpu.pe import ProcessingElement


class Outcome(Enum):
    """What became of an instruction that raised no exception."""

    NATIVE = "the engine executes it"
    DONE = "it is done; the engine skips it"


_NATIVE: Final = Outcome.NATIVE
_DONE: Final = Outcome.DONE

TDZ: Final = HCR_EL2.TDZ.in_place
NXS: Final = 9
"""CRn of the TLBI operations of FEAT_XS."""

TIMER_EL0_ENABLE: Final[dict[type[SystemRegister], int]] = {
    CNTVCT_EL0: CNTKCTL_EL1.EL0VCTEN.in_place,
    CNTVCTSS_EL0: CNTKCTL_EL1.EL0VCTEN.in_place,
    CNTPCT_EL0: CNTKCTL_EL1.EL0PCTEN.in_place,
    CNTPCTSS_EL0: CNTKCTL_EL1.EL0PCTEN.in_place,
    CNTFRQ_EL0: CNTKCTL_EL1.EL0VCTEN.in_place | CNTKCTL_EL1.EL0PCTEN.in_place,
    CNTV_CTL_EL0: CNTKCTL_EL1.EL0VTEN.in_place,
    CNTV_CVAL_EL0: CNTKCTL_EL1.EL0VTEN.in_place,
    CNTV_TVAL_EL0: CNTKCTL_EL1.EL0VTEN.in_place,
    CNTP_CTL_EL0: CNTKCTL_EL1.EL0PTEN.in_place,
    CNTP_CVAL_EL0: CNTKCTL_EL1.EL0PTEN.in_place,
    CNTP_TVAL_EL0: CNTKCTL_EL1.EL0PTEN.in_place,
}
"""The CNTKCTL_EL1 bits of which one must be set for EL0 to reach a timer register."""

TIMER_EL1_ENABLE: Final[dict[type[SystemRegister], int]] = {
    CNTPCT_EL0: CNTHCTL_EL2.EL1PCTEN.in_place,
    CNTPCTSS_EL0: CNTHCTL_EL2.EL1PCTEN.in_place,
    CNTP_CTL_EL0: CNTHCTL_EL2.EL1PCEN.in_place,
    CNTP_CVAL_EL0: CNTHCTL_EL2.EL1PCEN.in_place,
    CNTP_TVAL_EL0: CNTHCTL_EL2.EL1PCEN.in_place,
}
"""The CNTHCTL_EL2 bit that must be set for EL1 and EL0 not to trap to EL2."""

_VIRTUALIZED: Final = {MIDR_EL1.encoding: VPIDR_EL2, MPIDR_EL1.encoding: VMPIDR_EL2}
"""Registers of which EL1 sees the copy that EL2 has set."""

_OWN_REGISTERS: Final[tuple[type[SystemRegister], ...]] = (
    *TRANSLATION_CONTROLS,
    *TIMER_EL0_ENABLE,
    CTR_EL0,
    DCZID_EL0,
    ISR_EL1,
)
_INTERCEPTED_REGISTERS: Final = {*(r.encoding for r in _OWN_REGISTERS), *_VIRTUALIZED}


def intercept(word: int, features: CpuFeatures) -> bool:
    """Whether a system instruction must come here rather than run natively.

    Registers that only a trap concerns are included, since EL2 may turn traps on at any time.

    Parameters
    ----------
    word
        The instruction.
    features
        Those of the CPU, which decide what the engine knows.
    """
    instruction = decode_system(word)
    if instruction is None:
        return False
    if instruction.kind is SystemKind.SYS:
        operation = instruction.operation
        if operation is None or operation is DC.ZVA:
            return False
        if isinstance(operation, TLBI) and instruction.encoding.CRn == NXS:
            return False  # no engine knows them: they come here as undefined
        return in_engine(operation, features)
    if instruction.kind not in (SystemKind.MRS, SystemKind.MSR):
        return False
    if debug_registers.is_debug(instruction):
        return (instruction.encoding, instruction.is_read) in debug_registers.IN_ENGINE
    later = later_register(instruction)
    if later is not None:
        return later.in_engine and instruction.is_read and not features.armv8_0
    return (
        instruction.encoding in _INTERCEPTED_REGISTERS
        or is_id_group_3(instruction.encoding)
        or monitors.is_in_engine(instruction.encoding, features)
        or bool(trap_bits(instruction))
    )


def traps_zeroing(word: int, hcr: int) -> bool:
    """Whether ``word`` is DC ZVA and HCR_EL2 traps it; otherwise it runs natively, as a store."""
    instruction = decode_system(word) if hcr & TDZ else None
    return instruction is not None and instruction.operation is DC.ZVA


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


def site(instruction: SystemInstruction, features: CpuFeatures) -> Site:
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
        copy=_VIRTUALIZED.get(encoding) if reads else None,
        is_status=register is ISR_EL1 and reads,
        is_debug=debug_registers.is_debug(instruction),
        is_monitor=is_performance_monitor(encoding),
        later=later_register(instruction),
        is_control=register in TRANSLATION_CONTROLS and not reads,
        timer=register if register in TIMER_EL0_ENABLE else None,
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
    if encoding in _VIRTUALIZED:
        return None
    register = REGISTERS.get(encoding)
    if register is CTR_EL0 or register is DCZID_EL0:
        return int(features.read(register))
    if is_id_group_3(encoding):
        return int(features.read(register)) if register is not None else 0
    return None


def execute(pe: ProcessingElement, site: Site, pc: VA, el: int) -> Outcome | ArmException:
    """Execute one system instruction of EL1 or EL0.

    Parameters
    ----------
    pe
        The PE that executes it.
    site
        What the scan found.
    pc
        Its address.
    el
        The Exception level: 0 or 1.
    """
    instruction = site.instruction
    if site.is_debug:
        return debug_registers.execute(pe, instruction, pc, el) or _DONE
    if not site.implemented:
        return undefined(pc)
    refusal = trapped(pe, site, pc, el)
    if refusal is not None:
        return refusal
    if site.constant is not None:
        pe.registers.set_x(instruction.rt, site.constant)
        return _DONE
    if site.cache is not None:
        return _cache_maintenance(pe, site, site.cache, pc, el)
    if site.undefined:
        return undefined(pc)
    if site.tlbi is not None:
        by_page, argument = site.by_page, pe.registers.x(instruction.rt)
        pe.tlbi(site.tlbi, argument, pc=pc, engine_follows=by_page)
        return _NATIVE if by_page and pe.mmu.removed_only_named else _DONE
    if site.timer is not None:
        return _timer(pe, site, site.timer, pc, el)
    if site.copy is not None:
        pe.registers.set_x(instruction.rt, pe.registers.el2(site.copy))
        return _DONE
    if site.at is not None:
        return _address_translate(pe, site.at, VA(pe.registers.x(instruction.rt)), pc, el)
    if site.is_monitor:
        return _performance_monitor(pe, site, pc, el)
    if site.is_status:
        pe.registers.set_x(instruction.rt, pe.blocks.pending)
        return _DONE
    if site.later is not None and site.later.access is not None:
        site.later.access(pe, instruction)
        return _DONE
    if site.is_control:
        pe.controls_changed()
    return _NATIVE


_EL0_OP1: Final = 3
"""All that EL0 may execute has this op1; everything else is UNDEFINED there."""

_EL0_ENABLE: Final[dict[Encoding, int]] = {
    CTR_EL0.encoding: SCTLR_EL1.UCT.in_place,
    DAIF.encoding: SCTLR_EL1.UMA.in_place,
    Encoding(1, *DC.ZVA.encoding): SCTLR_EL1.DZE.in_place,
}


def _el0_enable(instruction: SystemInstruction) -> int:
    """Return the SCTLR_EL1 bit without which EL1 traps ``instruction`` of EL0; 0 for none."""
    default = 0
    if instruction.operation is not None:
        default = SCTLR_EL1.UCI.in_place
    elif instruction.kind is SystemKind.MSR_IMMEDIATE and later_register(instruction) is None:
        default = SCTLR_EL1.UMA.in_place  # DAIFSet, DAIFClr
    return _EL0_ENABLE.get(instruction.encoding, default)


def trapped(pe: ProcessingElement, site: Site, pc: VA, el: int) -> ArmException | None:
    """Return what an instruction is refused with, or None.

    What EL1 keeps from EL0 comes before the traps to EL2 of HCR_EL2.
    """
    if el == 0:
        if not site.el0:
            reported = pe.features.idst and _reads_id_space(site.instruction)
            return ArmException(1, site.esr, pc) if reported else undefined(pc)
        if site.el0_enable and not pe.registers.read(SCTLR_EL1) & site.el0_enable:
            return ArmException(1, site.esr, pc)
    if (site.traps and pe.registers.el2(HCR_EL2) & site.traps) or (
        site.gic_traps and pe.registers.el2(ICH_HCR_EL2) & site.gic_traps
    ):
        return ArmException(2, site.esr, pc)
    return None


def _reads_id_space(instruction: SystemInstruction) -> bool:
    """Whether EL1 would read an ID register (FEAT_IDST): op1 is 0 or 1, CRn 0, CRm 0 to 7."""
    op0, op1, crn, crm, _ = instruction.encoding
    return instruction.kind is SystemKind.MRS and (op0, crn) == (3, 0) and op1 < 2 and crm < 8


def _timer(
    pe: ProcessingElement,
    site: Site,
    register: type[SystemRegister],
    pc: VA,
    el: int,
) -> Outcome | ArmException:
    """Execute an MRS or MSR of a timer register (Arm ARM D12.2)."""
    if el == 0 and not pe.registers.read(CNTKCTL_EL1) & TIMER_EL0_ENABLE[register]:
        return ArmException(1, site.esr, pc)
    enable = TIMER_EL1_ENABLE.get(register)
    if enable is not None and not pe.registers.el2(CNTHCTL_EL2) & enable:
        return ArmException(2, site.esr, pc)
    instruction = site.instruction
    if instruction.is_read:
        pe.registers.set_x(instruction.rt, pe.timer.read(register))
    else:
        pe.timer.write(register, pe.registers.x(instruction.rt))
        pe.timer_changed()
    return _DONE


def _performance_monitor(
    pe: ProcessingElement, site: Site, pc: VA, el: int
) -> Outcome | ArmException:
    """Execute an MRS or MSR of the performance monitors."""
    refusal = monitors.access(pe, site.instruction, el)
    if refusal is None:
        return _DONE
    if refusal is Refusal.UNDEFINED:
        return undefined(pc)
    return ArmException(refusal.value, site.esr, pc)


def _address_translate(
    pe: ProcessingElement, operation: AT, va: VA, pc: VA, el: int
) -> Outcome | ArmException:
    """Execute AT of EL1.

    Stage-2 faults and external aborts of its walk are taken as exceptions; others go to PAR_EL1.
    """
    pe.refresh()
    pan = bool(pe.engine.state()[1] & PSTATE.PAN.in_place)
    result = address_translate(pe.mmu, operation, va, pan=pan)
    if isinstance(result, Fault):
        if result.s1ptw or result.type in MEMORY_ERRORS:
            return abort(result, MAINTENANCE, va, pc, el, external_to_el2=pe.external_aborts_to_el2)
        result = fault_report(result)
    pe.registers.write(PAR_EL1(result))
    return _DONE


def _cache_maintenance(
    pe: ProcessingElement, site: Site, operation: DC | IC, pc: VA, el: int
) -> Outcome | ArmException:
    """Execute DC or IC. Those by VA translate their address, and may abort (CM = 1)."""
    if not site.by_va:
        maintenance.cache(pe, operation, None, by_guest=True)
        return _DONE
    pe.refresh()
    va = VA(pe.registers.x(site.instruction.rt))
    need = WRITE if site.needs_write else READ if el == 0 else 0
    entry = pe.mmu.lookup(va, need, el)
    found = pe.mmu.probe(va, need, el) if entry is None else PA(entry.page | va & PAGE_MASK)
    if isinstance(found, Fault):
        return abort(found, MAINTENANCE, va, pc, el, external_to_el2=pe.external_aborts_to_el2)
    if site.needs_write:
        watched = pe.debug.invalidation(va, pc, el)
        if watched is not None:
            return watched
    maintenance.cache(pe, operation, found, by_guest=True)
    return _DONE
