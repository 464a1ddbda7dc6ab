"""System instructions that the engine must not execute on its own (Arm ARM C5).

The engine knows neither our TLB nor our MMU, keeps time by the host's clock and has no EL2
to trap to. These instructions are decoded when a page is scanned and come here before they
execute.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from emu.arch.a64.maintenance import AT, DC, IC
from emu.arch.a64.system import SystemInstruction, SystemKind, decode_system
from emu.arch.a64.tlbi import TLBI
from emu.arch.address import PA, PAGE_MASK, VA
from emu.arch.esr.fsc import MEMORY_ERRORS
from emu.arch.registers.exceptions import ISR_EL1, PAR_EL1, PSTATE
from emu.arch.registers.gic import ICH_HCR_EL2
from emu.arch.registers.identification import CTR_EL0, DCZID_EL0
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu import debug_registers, maintenance, monitors, timer_registers
from emu.cpu.aborts import MAINTENANCE, abort
from emu.cpu.exception import ArmException
from emu.cpu.extensions import in_engine
from emu.cpu.instructions import undefined
from emu.cpu.later import later_register
from emu.cpu.monitors import Refusal
from emu.cpu.registers import TRANSLATION_CONTROLS
from emu.cpu.site import NXS, VIRTUALIZED
from emu.cpu.traps import is_id_group_3, trap_bits
from emu.mmu.at import address_translate, fault_report
from emu.mmu.fault import Fault
from emu.mmu.permissions import READ, WRITE

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures
    from emu.arch.fields import SystemRegister
    from emu.cpu.pe import ProcessingElement
    from emu.cpu.site import Site


class Outcome(Enum):
    """What became of an instruction that raised no exception."""

    NATIVE = "the engine executes it"
    DONE = "it is done; the engine skips it"


_NATIVE: Final = Outcome.NATIVE
_DONE: Final = Outcome.DONE

_TDZ: Final = HCR_EL2.TDZ.in_place

_OWN_REGISTERS: Final[tuple[type[SystemRegister], ...]] = (
    *TRANSLATION_CONTROLS,
    *timer_registers.EL0_ENABLE,
    CTR_EL0,
    DCZID_EL0,
    ISR_EL1,
)
_INTERCEPTED_REGISTERS: Final = {*(r.encoding for r in _OWN_REGISTERS), *VIRTUALIZED}


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
    instruction = decode_system(word) if hcr & _TDZ else None
    return instruction is not None and instruction.operation is DC.ZVA


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
        return timer_registers.execute(pe, site, site.timer, pc, el) or _DONE
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
