"""What a PE tells of its TLB: fills, invalidations, and what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.a64.tlbi import TLBI
from emu.arch.a64.tlbi_arguments import tlbi_ipa, tlbi_va
from emu.arch.address import IPA, PA, VA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ELR_EL2, SPSR_EL2
from emu.arch.registers.identification import ID_AA64ISAR1_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu.pe import EL2Entry
from emu.mmu.tlb import GLOBAL, TlbEntry
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import CODE, DATA, EL1H, S1_RW, S2_RW, Bare

if TYPE_CHECKING:
    from emu.mmu.tlbi import Invalidation

VMALLE1, VMALLE1NXS = 0xD508_871F, 0xD508_971F


def loaded(bare: Bare, *words: int) -> Bare:
    """Have stage 1 on, DATA mapped, and the code in place."""
    bare.code(*words)
    bare.stage1_on()
    bare.map_ipa(DATA)
    bare.s1.map(DATA, DATA, S1_RW)
    bare.set_x(x2=DATA)
    bare.start()
    return bare


def test_each_walk_that_adds_an_entry_is_told_once(bare: Bare) -> None:
    loaded(bare, a64.ldr(1, 2), a64.ldr(1, 2), a64.hvc(0))
    heard: list[tuple[VA, TlbEntry]] = []
    bare.pe.mmu.on_fill = lambda va, entry: heard.append((va, entry))
    bare.trap()
    assert [va & ~0xFFF for va, _ in heard] == [CODE, DATA]
    assert heard[1][1].allowed[1] & 3 == 3


def test_tlbi_is_told_with_its_issuer_and_what_it_removed(bare: Bare) -> None:
    loaded(bare, a64.ldr(1, 2), VMALLE1, a64.hvc(0))
    heard: list[Invalidation] = []
    bare.pe.on_tlbi = heard.append
    bare.trap()
    bare.pe.tlbi(TLBI.VAE1, tlbi_va(VA(0x1234_5000), 0))
    (guest, hypervisor) = heard
    assert (guest.operation, guest.pc, guest.reached) == (TLBI.VMALLE1, CODE + 4, 1)
    assert guest.hits >= 2
    assert (hypervisor.pc, hypervisor.hits) == (None, 0)
    assert (bare.pe.tlbi_count, bare.pe.tlbi_without_hit) == (2, 1)


@pytest.mark.parametrize(("forced", "reached"), [(0, 1), (1, 2)])
def test_local_tlbi_of_the_guest_is_broadcast_where_hcr_fb_says_so(
    forced: int, reached: int
) -> None:
    bare = Bare(pe_count=2)
    bare.map_ipa(DATA)
    bare.code(a64.ldr(1, 2), a64.hvc(1), VMALLE1, a64.hvc(2))
    other = bare.machine.pes[1]
    other.write(ELR_EL2(CODE))
    other.write(SPSR_EL2(EL1H))
    other.write_x(2, DATA)
    assert other.run(10) is EL2Entry.TRAP
    combined = sum(1 for _ in other.mmu.tlb.combined_entries())
    assert combined
    heard: list[Invalidation] = []
    bare.pe.on_tlbi = heard.append
    bare.change_hcr(FB=forced)
    bare.start(CODE + 8)
    bare.trap()
    assert heard[0].reached == reached
    assert sum(1 for _ in other.mmu.tlb.combined_entries()) == (0 if forced else combined)


def test_tlbi_of_el2_stays_local_whatever_hcr_fb_says() -> None:
    bare = Bare(pe_count=2)
    bare.pe.write(HCR_EL2.build(VM=1, RW=1, FB=1))
    heard: list[Invalidation] = []
    bare.pe.on_tlbi = heard.append
    bare.pe.tlbi(TLBI.VMALLE1)
    bare.pe.tlbi(TLBI.VMALLE1IS)
    assert [told.reached for told in heard] == [1, 2]


@pytest.mark.parametrize(("xs", "undefined"), [(0, True), (1, False)])
def test_nxs_operation_needs_its_feature(xs: int, undefined: bool) -> None:
    isar1 = CORTEX_A72.read(ID_AA64ISAR1_EL1).replace(XS=xs)
    bare = loaded(Bare(CORTEX_A72.replace(isar1)), VMALLE1NXS, a64.hvc(0))
    if undefined:
        exception = bare.taken_to_el1()
        assert exception.esr >> 26 == ExceptionClass.UNKNOWN
    else:
        bare.trap()
        assert bare.pe.maintenance["VMALLE1"] == 1


def test_entries_are_shown_with_their_tags(bare: Bare) -> None:
    loaded(bare, a64.ldr(1, 2), a64.hvc(0))
    bare.s1.map(DATA, DATA, S1_RW | tables.S1_NG)
    bare.trap()
    shown = {entry.va: entry for entry in bare.pe.mmu.tlb.combined_entries()}
    assert shown[VA(DATA)].asid != GLOBAL
    assert shown[VA(CODE)].vmid == shown[VA(DATA)].vmid
    stage2 = [entry.ipa for entry in bare.pe.mmu.tlb.stage2_only_entries()]
    assert IPA(DATA) in stage2
    assert stage2 == sorted(stage2)


@pytest.mark.parametrize("hint", [0, 1])
def test_contiguous_bit_is_kept_with_the_entry(bare: Bare, hint: int) -> None:
    loaded(bare, a64.ldr(1, 2), a64.hvc(0))
    bare.s1.map(DATA, DATA, S1_RW | hint << 52)
    bare.trap()
    (entry,) = [e.entry for e in bare.pe.mmu.tlb.combined_entries() if e.va == DATA]
    assert entry.contiguous is bool(hint)


def test_stage_2_entry_goes_by_ipa(bare: Bare) -> None:
    bare.s2.map(DATA, bare.block(), S2_RW)
    bare.set_x(x2=DATA)
    bare.trap(a64.ldr(1, 2), a64.hvc(0))
    assert bare.pe.tlbi(TLBI.IPAS2E1, tlbi_ipa(IPA(DATA))) == 1
    assert IPA(DATA) not in [entry.ipa for entry in bare.pe.mmu.tlb.stage2_only_entries()]


def test_walks_tell_where_stage_2_puts_their_descriptors(bare: Bare) -> None:
    loaded(bare, a64.ldr(1, 2), a64.hvc(0))
    heard: list[PA] = []
    bare.pe.mmu.on_table = heard.append
    bare.trap()
    assert heard
    memory = bare.machine.memory
    assert all(memory.contains(pa, 8) and pa % 8 == 0 for pa in heard)


def test_entries_that_change_by_themselves_are_told(bare: Bare) -> None:
    heard: list[None] = []
    bare.pe.mmu.entries_changed()
    bare.pe.mmu.on_change = lambda: heard.append(None)
    bare.pe.mmu.entries_changed()
    assert heard == [None]
