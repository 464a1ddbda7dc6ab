"""From the addresses that faults name to the bytes of memory behind them; nothing is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from emu.arch.address import IPA, PA, PAGE_MASK, PAGE_SHIFT, VA
from emu.arch.registers.translation import MAIR_EL1, SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1
from emu.arch.registers.virtualization import HCR_EL2, SCTLR_EL2
from emu.mmu import stage2
from emu.mmu.explain import Walk, explain_tables
from emu.mmu.fault import Fault as Refusal
from emu.mmu.permissions import EL1
from emu.mmu.regime import ControlRegisters, TranslationRegime, decode_regime
from hyp.host import HVA
from hyp.host.tables import PRESENT, entry_frame
from lab.faults.parameter import parameter

if TYPE_CHECKING:
    from hyp.vcpu import VCPU
    from hyp.vm import VM
    from lab.faults.target import Target

SPACES: Final = ("pa", "ipa", "va")


def address_parameter(text: str) -> Any:  # noqa: ANN401  # a dataclass field stands for its value
    """Declare a parameter that is an address."""
    return parameter(text, minimum=0, maximum=(1 << 64) - 1)


def space_parameter() -> Any:  # noqa: ANN401  # a dataclass field stands for its value
    """Declare the parameter that says what kind of address it is."""
    return parameter("the kind of address: physical, guest physical, or virtual", choices=SPACES)


def regime_of(vcpu: VCPU) -> TranslationRegime:
    """Return the controls by which the addresses of a vCPU are translated."""
    pe = vcpu.pe
    if vcpu.loaded_on is not None:
        return decode_regime(pe.registers.controls(), pe.features)
    vm = vcpu.vm
    controls = ControlRegisters(
        int(vcpu.read(SCTLR_EL1)),
        int(vcpu.read(TCR_EL1)),
        int(vcpu.read(TTBR0_EL1)),
        int(vcpu.read(TTBR1_EL1)),
        int(vcpu.read(HCR_EL2)),
        int(vm.vtcr),
        int(vm.pgt.tlb.vttbr),
        int(vcpu.read(MAIR_EL1)),
        int(pe.read(SCTLR_EL2)),
    )
    return decode_regime(controls, pe.features)


def walk_va(target: Target, va: int) -> Walk:
    """Return how the tables translate a VA."""
    regime = regime_of(target.vcpu)
    return explain_tables(target.memory, target.pe.features, regime, VA(va), 0, EL1)


def walk_ipa(target: Target, ipa: int) -> Walk:
    """Return how stage 2 translates an IPA."""
    regime = regime_of(target.vcpu)
    alone = regime._replace(stage1=regime.stage1._replace(enabled=False))
    return explain_tables(target.memory, target.pe.features, alone, VA(ipa), 0, EL1)


def physical(target: Target, space: str, address: int) -> PA | str:
    """Return where in physical memory an address lies, or why it lies nowhere.

    Memory of a slot that the guest has not touched yet is found, too, if the host has it.
    """
    if space == "pa":
        pa = PA(address)
        return pa if target.memory.contains(pa) else f"there is no memory at PA {address:#x}"
    if space == "ipa":
        return _of_ipa(target, IPA(address))
    walk = walk_va(target, address)
    if walk.pa is not None:
        return walk.pa
    if walk.ipa is None or _refused_by_stage1(walk):
        return f"VA {address:#x} is not mapped"
    return _of_ipa(target, walk.ipa)


def _refused_by_stage1(walk: Walk) -> bool:
    return isinstance(walk.result, Refusal) and (walk.result.stage == 1 or walk.result.s1ptw)


def stage2_pa(target: Target, ipa: IPA) -> PA | None:
    """Return where stage 2 puts an IPA; None if it does not map it."""
    controls = regime_of(target.vcpu).stage2
    if not controls.enabled:
        return PA(ipa)
    found = stage2.walk(target.memory, controls, ipa)
    return None if isinstance(found, Refusal) else PA(ipa + found.offset)


def _of_ipa(target: Target, ipa: IPA) -> PA | str:
    pa = stage2_pa(target, ipa)
    if pa is None:
        pa = _of_slot(target.vm, ipa)
    if pa is None:
        return f"no page is behind IPA {ipa:#x} yet"
    return pa if target.memory.contains(pa) else f"there is no memory at PA {pa:#x}"


def _of_slot(vm: VM, ipa: IPA) -> PA | None:
    """Return the host's page behind an IPA, if it has one."""
    slot = vm.memslots.find(ipa >> PAGE_SHIFT)
    if slot is None or slot.gmem is not None:
        return None
    hva = HVA(slot.hva_of(ipa >> PAGE_SHIFT) + (ipa & PAGE_MASK))
    vma = vm.host.vma_lookup(hva)
    if vma is None:
        return None
    entry, shift = vm.host.tables.lookup(vma, hva)
    if not entry & PRESENT:
        return None
    return PA(entry_frame(entry) | hva & (1 << shift) - 1)
