"""Which TLB entries serve which context: ASID, VMID, tables, stages on and off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.tlbi import TLBI
from emu.arch.a64.tlbi_arguments import tlbi_asid
from emu.arch.features import CORTEX_A72
from emu.arch.registers.identification import ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1
from emu.arch.registers.translation import SCTLR_EL1, TCR_EL1, TTBR0_EL1, TTBR1_EL1
from emu.arch.registers.virtualization import HCR_EL2, VTCR_EL2, VTTBR_EL2
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import (
    CODE,
    DATA,
    EL1H,
    S1_RW,
    S1_USER,
    S2_RW,
    SCTLR_RES1,
    TCR,
    VTCR,
    Bare,
)
from tests.emu.cpu.tables import Tables

if TYPE_CHECKING:
    from emu.arch.address import PA

ONE, TWO = 0x111, 0x222
USER_CODE: Final = S1_RW | tables.S1_READ_ONLY | tables.S1_EL0
LOAD: Final = (a64.ldr(1, 2), a64.hvc(0), a64.b(-8))

STAGE1_ALLOWED = HCR_EL2.build(RW=1, VM=1)
"""HCR_EL2 without DC, which would keep stage 1 off."""


class TwoProcesses:
    """DATA is IPA_1 in one set of stage-1 tables and IPA_2 in another."""

    def __init__(self, *, nG: bool = True) -> None:
        self.bare = bare = Bare()
        bare.code(*LOAD)
        self.roots = []
        for i, value in enumerate((ONE, TWO)):
            ipa = DATA + 0x10_0000 * i
            bare.memory.write_u64(bare.map_ipa(ipa), value)
            space = Tables(bare.memory, bare._stage1_table)
            space.map(CODE, CODE, USER_CODE)
            space.map(DATA, ipa, S1_RW | (tables.S1_NG if nG else 0))
            self.roots.append(space.root)
        bare.pe.write(STAGE1_ALLOWED)
        bare.pe.write(SCTLR_RES1.replace(M=1))
        bare.set_x(x2=DATA)
        bare.start()

    def load_in(self, process: int, asid: int) -> int:
        """Switch to a process by writing TTBR0_EL1 from EL2, and load."""
        self.bare.pe.write(TTBR0_EL1.build(ASID=asid, BADDR=self.roots[process] >> 1))
        self.bare.trap()
        return self.bare.x(1)


def test_asids_keep_processes_apart() -> None:
    guest = TwoProcesses()
    seen = [guest.load_in(i % 2, asid=1 + i % 2) for i in range(4)]
    assert seen == [ONE, TWO, ONE, TWO]
    misses = guest.bare.pe.mmu.misses
    assert [guest.load_in(i % 2, asid=1 + i % 2) for i in range(4)] == [ONE, TWO, ONE, TWO]
    assert guest.bare.pe.mmu.misses == misses, "both are in the TLB by now"


def test_same_asid_for_other_tables_finds_the_old_entries() -> None:
    guest = TwoProcesses()
    assert [guest.load_in(0, 1), guest.load_in(1, 1)] == [ONE, ONE]
    guest.bare.pe.tlbi(TLBI.ASIDE1, tlbi_asid(1))
    assert guest.load_in(1, 1) == TWO


def test_global_pages_serve_every_asid() -> None:
    guest = TwoProcesses(nG=False)
    assert [guest.load_in(0, 1), guest.load_in(1, 2)] == [ONE, ONE]


def test_asid_has_8_bits_unless_tcr_as() -> None:
    guest = TwoProcesses()
    assert [guest.load_in(0, 0x001), guest.load_in(1, 0x101)] == [ONE, ONE]
    guest = TwoProcesses()
    guest.bare.pe.write(TCR.replace(AS=1))
    assert [guest.load_in(0, 0x001), guest.load_in(1, 0x101)] == [ONE, TWO]


def test_asid_has_8_bits_on_a_cpu_with_no_more() -> None:
    bare = Bare(CORTEX_A72.replace(ID_AA64MMFR0_EL1(0x1104)))
    bare.pe.write(TCR.replace(AS=1))
    bare.pe.write(STAGE1_ALLOWED)
    bare.pe.write(SCTLR_RES1.replace(M=1))
    bare.pe.write(TTBR0_EL1.build(ASID=0x1234))
    bare.pe.refresh()
    assert bare.pe.mmu.regime.asid == 0x34


def test_asid_can_be_that_of_ttbr1() -> None:
    bare = Bare()
    bare.pe.write(TCR.replace(A1=1))
    bare.pe.write(STAGE1_ALLOWED)
    bare.pe.write(SCTLR_RES1.replace(M=1))
    bare.pe.write(TTBR0_EL1.build(ASID=1))
    bare.pe.write(TTBR1_EL1.build(ASID=2))
    bare.pe.refresh()
    assert bare.pe.mmu.regime.asid == 2


def test_guest_switches_processes_itself() -> None:
    guest = TwoProcesses()
    bare = guest.bare
    for n, (root, asid) in enumerate(zip(guest.roots, (1, 2), strict=True)):
        bare.set_x(**{f"x{10 + n}": int(TTBR0_EL1.build(ASID=asid, BADDR=root >> 1))})
    bare.pe.write(TTBR0_EL1(bare.x(10)))
    switch = (a64.msr(TTBR0_EL1, 10), a64.ISB, a64.ldr(5, 2), a64.msr(TTBR0_EL1, 11), a64.ISB)
    bare.trap(*switch, a64.ldr(6, 2), a64.msr(TTBR0_EL1, 10), a64.ISB, a64.ldr(7, 2), a64.hvc(0))
    assert [bare.x(n) for n in (5, 6, 7)] == [ONE, TWO, ONE]


@pytest.mark.parametrize("register", [TTBR0_EL1, TTBR1_EL1])
def test_write_of_the_same_value_keeps_the_tlb(register: type[TTBR0_EL1]) -> None:
    guest = TwoProcesses()
    guest.load_in(0, 1)
    misses = guest.bare.pe.mmu.misses
    guest.bare.pe.write(guest.bare.pe.read(register))
    guest.bare.trap()
    assert guest.bare.pe.mmu.misses == misses


# Two virtual machines


class TwoMachines:
    """DATA is one page for one VMID and another page for another."""

    def __init__(self) -> None:
        self.bare = bare = Bare()
        code = self._page_of_code()
        self.trees = []
        for value in (ONE, TWO):
            tree = Tables(bare.memory, bare._stage2_table, start_level=1, roots=2)
            tree.map(CODE, code, S2_RW)
            page = bare.frame()
            bare.memory.write_u64(page, value)
            tree.map(DATA, page, S2_RW)
            self.trees.append(tree)
        bare.set_x(x2=DATA)
        bare.start()

    def _page_of_code(self) -> PA:
        self.bare.code(*LOAD)
        return self.bare._code_pages[CODE]

    def load_in(self, machine: int, vmid: int) -> int:
        """Run one machine until it has loaded."""
        root = self.trees[machine].root
        self.bare.pe.write(VTTBR_EL2.build(VMID=vmid, BADDR=root >> 1))
        self.bare.trap()
        return self.bare.x(1)


def test_vmids_keep_machines_apart() -> None:
    guests = TwoMachines()
    assert [guests.load_in(i % 2, 1 + i % 2) for i in range(4)] == [ONE, TWO, ONE, TWO]
    misses = guests.bare.pe.mmu.misses
    assert [guests.load_in(i % 2, 1 + i % 2) for i in range(4)] == [ONE, TWO, ONE, TWO]
    assert guests.bare.pe.mmu.misses == misses


def test_vmid_used_again_finds_the_old_entries() -> None:
    guests = TwoMachines()
    assert [guests.load_in(0, 1), guests.load_in(1, 1)] == [ONE, ONE]
    guests.bare.pe.tlbi(TLBI.VMALLS12E1IS)
    assert guests.load_in(1, 1) == TWO


def test_invalidation_by_vmid_spares_the_other() -> None:
    guests = TwoMachines()
    guests.load_in(0, 1)
    guests.load_in(1, 2)
    assert guests.bare.pe.tlbi(TLBI.VMALLS12E1IS) == 4
    assert len(guests.bare.pe.mmu.tlb) == 4
    assert guests.bare.pe.tlbi(TLBI.ALLE1IS) == 4
    assert len(guests.bare.pe.mmu.tlb) == 0


def test_vmid_has_8_bits_unless_the_cpu_and_vtcr_say_16() -> None:
    for features, vs, vmid in (
        (CORTEX_A72, 1, 0x34),
        (CORTEX_A72.replace(ID_AA64MMFR1_EL1.build(VMIDBits=2)), 0, 0x34),
        (CORTEX_A72.replace(ID_AA64MMFR1_EL1.build(VMIDBits=2)), 1, 0x1234),
    ):
        bare = Bare(features)
        bare.pe.write(VTCR.replace(VS=vs))
        bare.pe.write(VTTBR_EL2.build(VMID=0x1234, BADDR=bare.s2.root >> 1))
        bare.pe.refresh()
        assert bare.pe.mmu.regime.vmid == vmid


# Turning stages on and off


def test_stage_1_on_and_off_by_the_guest(bare: Bare) -> None:
    for ipa, value in ((DATA, ONE), (DATA + 0x1000, TWO)):
        bare.memory.write_u64(bare.map_ipa(ipa), value)
    program = (
        a64.ldr(5, 2),
        a64.msr(SCTLR_EL1, 10),
        a64.ISB,
        a64.ldr(6, 2),
        a64.msr(SCTLR_EL1, 11),
        a64.ISB,
        a64.ldr(7, 2),
        a64.hvc(0),
    )
    bare.code(*program)
    bare.map_va(CODE, CODE, USER_CODE)
    bare.map_va(DATA, DATA + 0x1000)
    bare.pe.write(STAGE1_ALLOWED)
    bare.set_x(x2=DATA, x10=SCTLR_RES1.replace(M=1), x11=SCTLR_RES1)
    bare.trap(*program)
    assert [bare.x(n) for n in (5, 6, 7)] == [ONE, TWO, ONE]


def test_stage_2_off_makes_the_ipa_the_pa(bare: Bare) -> None:
    page = bare.frame()
    bare.memory.write_u64(page, ONE)
    code = bare.frame()
    for i, word in enumerate(LOAD):
        bare.memory.write(type(code)(code + 4 * i), word.to_bytes(4, "little"))
    bare.pe.write(HCR_EL2.build(RW=1))
    bare.set_x(x2=page)
    bare.start(code)
    bare.trap()
    assert bare.x(1) == ONE


def test_default_cacheability_turns_stage_2_on_and_stage_1_off(bare: Bare) -> None:
    bare.memory.write_u64(bare.map_ipa(DATA), ONE)
    bare.code(*LOAD)
    bare.pe.write(STAGE1_ALLOWED)
    bare.pe.write(SCTLR_RES1.replace(M=1))
    bare.pe.write(HCR_EL2.build(RW=1, DC=1))
    bare.set_x(x2=DATA)
    bare.trap(*LOAD)
    assert bare.x(1) == ONE


def test_address_beyond_the_pa_size_with_stage_1_off(bare: Bare) -> None:
    bare.set_x(x2=1 << 44)
    taken = bare.taken_to_el1(a64.ldr(1, 2))
    assert (taken.esr, taken.far) == (0x9600_0000, 1 << 44)


def test_el0_and_el1_see_their_own_permissions_of_one_page() -> None:
    bare = Bare()
    bare.map_ipa(DATA)
    bare.code(a64.ldr(1, 2), a64.svc(0))
    bare.stage1_on()
    bare.map_va(DATA, DATA, S1_USER | tables.S1_READ_ONLY | tables.S1_PXN)
    bare.set_x(x2=DATA)
    assert bare.taken_to_el1(a64.ldr(1, 2), a64.svc(0), pstate=0x3C0).esr == 0x5600_0000
    assert bare.taken_to_el1(a64.str_(1, 2), pstate=0x3C0).esr == 0x9200_004F
    assert bare.taken_to_el1(a64.str_(1, 2), pstate=EL1H).esr == 0x9600_004F


def test_change_of_vtcr_takes_effect(bare: Bare) -> None:
    bare.set_x(x2=DATA)
    bare.pe.write(VTCR.replace(T0SZ=34))
    assert bare.trap(a64.ldr(1, 2)).esr == 0x8200_0004, "an IPA of 30 bits does not reach CODE"
    bare.pe.write(VTCR)
    assert bare.trap(a64.ldr(1, 2)).esr == 0x93C1_8006
    assert VTCR_EL2(VTCR).T0SZ == 24


def test_change_of_tcr_by_the_guest_takes_effect(bare: Bare) -> None:
    bare.memory.write_u64(bare.map_ipa(DATA), ONE)
    program = (a64.ldr(5, 2), a64.msr(TCR_EL1, 10), a64.ISB, a64.ldr(6, 2), a64.hvc(0))
    bare.code(*program)
    bare.stage1_on()
    bare.map_va(DATA, DATA)
    bare.set_x(x2=DATA, x10=TCR.replace(TBI0=1))
    bare.trap(*program)
    assert (bare.x(5), bare.x(6)) == (ONE, ONE)
    bare.set_x(x2=0x77 << 56 | DATA)
    assert bare.trap(*program[3:]).esr == 0x5A00_0000
    assert bare.x(6) == ONE
