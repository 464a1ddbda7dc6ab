"""Each row of docs/deviations.md is true.

A test that fails here means that the machine or the hypervisor has come closer to its model:
take the row out, and the test with it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import pytest
from click.testing import CliRunner

from emu.arch.a64.maintenance import AT
from emu.arch.address import IPA, PA, VA
from emu.arch.descriptors import Stage2Leaf
from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.esr.iss import IssDataAbort
from emu.arch.features import CORTEX_A72
from emu.arch.profiles import profile
from emu.arch.registers.control import ACTLR_EL1, CPACR_EL1
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    HPFAR_EL2,
    PAR_EL1,
    PAR_EL1_FAULT,
    PSTATE,
    SP_EL1,
    SPSR_EL1,
    SPSR_EL2,
    VBAR_EL1,
)
from emu.arch.registers.gic import ICC_CTLR_EL1
from emu.arch.registers.identification import ID_AA64ISAR0_EL1
from emu.arch.registers.performance import (
    PMCCNTR_EL0,
    PMCNTENSET_EL0,
    PMCR_EL0,
    PMEVCNTR_EL0,
    PMEVTYPER_EL0,
    PMINTENSET_EL1,
    PmuEvent,
)
from emu.arch.registers.timer import CNTPCT_EL0, CNTV_CVAL_EL0
from emu.arch.registers.translation import TCR_EL1
from emu.arch.registers.virtualization import VTTBR_EL2
from emu.cpu.code import ORDERED_LIMIT
from emu.machine import Machine
from hyp import firmware, one_reg
from hyp.errors import Errno, KvmError
from hyp.exits import Error, InternalError, InternalErrorCode, Intr, IntrCause
from hyp.host import HVA, SIZE_4K
from hyp.host.userfault import UserfaultMessage
from hyp.memslots import MemoryRegion, MemoryRegionFlags
from hyp.pmu_attributes import PmuAttr
from hyp.vcpu_attributes import VcpuGroup
from hyp.vgic.attributes import Group
from hyp.vm import VM, Cap
from lab.cli import cli
from tests.docs.pages import ROOT
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import CODE, DATA, EL1H, S2_RO, S2_RW, TCR, VTCR, Bare
from tests.hyp.vgic.rig import Gic, ready_gicv3, refusal

if TYPE_CHECKING:
    from hyp.vcpu import VCPU

ROW: Final = re.compile(r"^\| `([a-z0-9-]+)` \|", re.MULTILINE)
PREFIX: Final = "test_deviation_"

HVC_1: Final = ExceptionClass.HVC64 << 26 | 1 << 25 | 1
CFINV: Final = 0xD500_401F
TLBI_VMALLE1: Final = 0xD508_871F
UNMASK: Final = 0xD503_4FFF
"""MSR DAIFClr, #15."""

RAM: Final = IPA(0x4000_0000)


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    rows = ROW.findall((ROOT / "docs" / "deviations.md").read_text(encoding="utf-8"))
    tests = [name.removeprefix(PREFIX) for name in globals() if name.startswith(PREFIX)]
    assert sorted(rows) == sorted(name.replace("_", "-") for name in tests)


# The machine


def listed(family: str, *patterns: str) -> int:
    """Return how many recorded cases the machine answers in another way that is listed."""
    cases = (argument for pattern in patterns for argument in ("--case", pattern))
    file = ROOT / "tests" / "conformance" / f"{family}.jsonl.gz"
    result = CliRunner().invoke(cli, ["conformance", str(file), *cases, "--json"])
    assert result.exit_code == 0
    (profile,) = json.loads(result.stdout)["profiles"]
    return int(profile["total"]["listed"])


def test_deviation_recorded_device_type_in_par() -> None:
    patterns = "at/attrs/fwb?/mair44-s2mem[23]", "at/attrs/fwb?/mair0[8c]-s2mem[159d]"
    assert listed("at", *patterns) > 0


def test_deviation_recorded_access_flag_before_a_fault() -> None:
    assert listed("fuzz", "fuzz/2017/*", "fuzz/2335/*") == 2


def with_stage1(*words: int, **sctlr: int) -> Bare:
    """Return a machine with stage 1 on, DATA mapped, x2 = DATA and the program loaded."""
    bare = Bare()
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    bare.code(*words, a64.hvc(1))
    bare.stage1_on(**sctlr)
    bare.map_va(DATA, DATA)
    bare.start()
    return bare


def test_deviation_sp_alignment() -> None:
    add_sp_x3 = 0x8B23_63FF
    bare = with_stage1(add_sp_x3, a64.ldr(1, a64.SP), SA=1)
    bare.pe.write(SP_EL1(DATA))
    bare.set_x(x3=8)
    assert bare.trap().esr == HVC_1


def test_deviation_fp_traps() -> None:
    bare = with_stage1(a64.fmov(1, 2))
    bare.pe.write(CPACR_EL1(0))
    assert bare.trap().esr == HVC_1


def test_deviation_illegal_state() -> None:
    bare = with_stage1(a64.ERET)
    bare.pe.write(SPSR_EL1(EL1H | 0b1000))  # EL3
    bare.pe.write(ELR_EL1(CODE + 4))
    trap = bare.trap()
    assert trap.esr == HVC_1
    assert PSTATE(trap.spsr).IL


def test_deviation_dit_and_ssbs_across_eret() -> None:
    bare = Bare(profile("max"))
    bare.pe.write(ELR_EL1(CODE + 4))
    bare.pe.write(SPSR_EL1(PSTATE(EL1H).replace(DIT=1, SSBS=1)))
    found = PSTATE(bare.trap(a64.ERET, a64.hvc(1)).spsr)
    assert (found.DIT, found.SSBS) == (0, 0)


def test_deviation_instruction_set() -> None:
    assert Bare().taken_to_el1(CFINV).esr >> 26 == ExceptionClass.UNKNOWN
    with_atomics = CORTEX_A72.replace(ID_AA64ISAR0_EL1.build(Atomic=2))
    assert Bare(with_atomics).trap(CFINV, a64.hvc(1)).esr == HVC_1


def test_deviation_self_modifying_code() -> None:
    bare = with_stage1(a64.str_(3, 2, size=4), a64.ISB, a64.NOP)
    bare.map_va(DATA, CODE)
    bare.set_x(x2=DATA + 8, x3=a64.hvc(2))
    bare.start(CODE + 8)  # so that the word is translated before it is overwritten
    assert bare.trap().esr == HVC_1
    bare.start(CODE)
    assert bare.trap().esr == HVC_1 + 1


def test_deviation_wfe_never_traps() -> None:
    bare = with_stage1(a64.WFE)
    bare.change_hcr(TWE=1)
    assert bare.trap().esr == HVC_1


def test_deviation_hcr_bits_without_effect() -> None:
    bare = with_stage1(a64.mrs(1, ACTLR_EL1))
    bare.change_hcr(TACR=1)
    assert bare.trap().esr == HVC_1


def test_deviation_ordered_alignment() -> None:
    bare = Bare()
    page = bare.map_ipa(DATA)
    bare.memory.write(PA(page + 1), (77).to_bytes(8, "little"))
    bare.set_x(x2=DATA, x3=DATA + 1)
    assert bare.trap(*[a64.ldar(1, 2)] * ORDERED_LIMIT, a64.ldar(1, 3), a64.hvc(0)).esr == HVC_1 - 1
    assert bare.x(1) == 77
    watched = Bare()
    watched.map_ipa(DATA)
    watched.set_x(x2=DATA, x3=DATA + 1)
    watched.taken_to_el1(*[a64.ldar(1, 2)] * (ORDERED_LIMIT - 1), a64.ldar(1, 3), a64.hvc(0))


def test_deviation_pmu_cycles() -> None:
    bare = with_stage1(a64.NOP, a64.NOP, a64.WFI)
    bare.pe.write(PMCNTENSET_EL0.build(C=1))
    bare.pe.write(PMCR_EL0.build(E=1, LC=1))
    bare.change_hcr(TWI=1)
    bare.trap()
    bare.pe.clock.wait_until(bare.pe.time + 1000)
    assert bare.pe.read(PMCCNTR_EL0) == bare.pe.retired + 1


def test_deviation_contiguous_hint() -> None:
    bare = Bare()
    contiguous = S2_RW | Stage2Leaf.Contiguous.in_place
    bare.map_ipa(DATA, attributes=contiguous)
    bare.set_x(x2=DATA, x3=DATA + 0x1000)
    trap = bare.trap(a64.ldr(1, 2), a64.ldr(1, 3))
    assert IssDataAbort(trap.esr).DFSC == FaultStatusCode.TRANSLATION_L3
    assert trap.far == DATA + 0x1000


def test_deviation_tlb_keeps_everything() -> None:
    bare = Bare()
    pages = 1000
    for n in range(pages):
        bare.map_ipa(DATA + 0x1000 * n)
    loop = (a64.ldr(1, 2), 0x9140_0442, a64.subs(3, 3, 1), a64.cbnz(3, -12))
    bare.set_x(x2=DATA, x3=pages)
    assert bare.trap(*loop, a64.hvc(1)).esr == HVC_1
    assert len(bare.pe.mmu.tlb.contexts[1, -1].pages) == pages + 1


@pytest.mark.parametrize("size", [15, 40])
def test_deviation_tsz_out_of_range(size: int) -> None:
    bare = with_stage1(a64.ldr(1, 2))
    bare.pe.write(TCR.replace(T0SZ=size))
    bare.pe.at(AT.S1E1R, VA(DATA))
    assert PAR_EL1_FAULT(bare.pe.read(PAR_EL1)).FST == FaultStatusCode.TRANSLATION_L0


def test_deviation_reserved_granule() -> None:
    bare = with_stage1(a64.ldr(1, 2))
    bare.pe.write(TCR.replace(TG0=3))
    assert bare.trap().esr == HVC_1


def test_deviation_inconsistent_sl0() -> None:
    bare = Bare()
    bare.pe.write(VTCR.replace(SL0=0))
    trap = bare.trap(a64.NOP)
    assert IssDataAbort(trap.esr).DFSC == FaultStatusCode.TRANSLATION_L0


def test_deviation_wnr_of_s1ptw() -> None:
    bare = with_stage1(a64.str_(1, 2))
    bare.s2.unmap(bare.s1.read(DATA, level=2) & tables.ADDRESS)
    iss = IssDataAbort(bare.trap().esr)
    assert (iss.S1PTW, iss.WnR) == (1, 0)


def test_deviation_stale_hpfar() -> None:
    bare = Bare()
    bare.map_ipa(DATA + 0x1000, attributes=S2_RO)
    bare.set_x(x2=DATA, x3=DATA + 0x1000)
    first = bare.trap(a64.ldr(1, 2), a64.str_(1, 3))
    bare.map_ipa(DATA)
    second = bare.trap()
    assert IssDataAbort(second.esr).DFSC == FaultStatusCode.PERMISSION_L3
    assert second.hpfar == first.hpfar == HPFAR_EL2.build(FIPA=DATA >> 12)


def test_deviation_external_abort_outside_ram() -> None:
    bare = Bare()
    bare.map_ipa(DATA, PA(0x1000_0000))
    bare.set_x(x2=DATA)
    iss = IssDataAbort(bare.taken_to_el1(a64.ldr(1, 2)).esr)
    assert (iss.DFSC, iss.EA) == (FaultStatusCode.EXTERNAL, 0)


# The hypervisor


def guest(*words: int, machine: Machine | None = None, pmu: bool = False) -> VCPU:
    """Return a vCPU at the start of a program in one page of RAM."""
    vm = VM(Machine(4 << 20) if machine is None else machine)
    at = vm.host.mmap(SIZE_4K)
    vm.set_user_memory_region(MemoryRegion(0, 0, RAM, SIZE_4K, at))
    vm.host.write(at, b"".join(word.to_bytes(4, "little") for word in words))
    vcpu = vm.create_vcpu(0)
    vcpu.init(pmu=pmu)
    vcpu.set_one_reg(one_reg.PC, RAM)
    return vcpu


def test_deviation_run_returns_errors() -> None:
    vcpu = guest(a64.ldp(1, 3, 2))
    result = vcpu.run(10)
    assert isinstance(result, Error)
    assert result.errno is Errno.ENOSYS


def test_deviation_guest_without_progress() -> None:
    result = guest(a64.svc(0)).run()  # VBAR_EL1 is 0, where there is no memory
    assert isinstance(result, InternalError)
    assert result.suberror is InternalErrorCode.NO_PROGRESS


def test_deviation_wait_without_timer() -> None:
    assert guest(a64.WFI).run(10) == Intr(IntrCause.WAITING)


def test_deviation_timer_count_is_read_only() -> None:
    vcpu = guest()
    count = one_reg.system(CNTV_CVAL_EL0.encoding)  # the two ids are swapped
    vcpu.set_one_reg(count, 1000)
    assert vcpu.get_one_reg(count) == 0


def test_deviation_reset_values() -> None:
    vcpu = guest()
    assert vcpu.get_one_reg(one_reg.system(TCR_EL1.encoding)) == 0
    assert vcpu.get_one_reg(one_reg.system(VBAR_EL1.encoding)) == 0


def test_deviation_pmu_without_skid() -> None:
    vcpu = guest(*[a64.NOP] * 50, pmu=True)
    for register, value in (
        (PMEVTYPER_EL0[0], PmuEvent.INST_RETIRED),
        (PMEVCNTR_EL0[0], (1 << 32) - 20),
        (PMCNTENSET_EL0, 1),
        (PMINTENSET_EL1, 1),
        (PMCR_EL0, PMCR_EL0.build(E=1, N=6)),
    ):
        vcpu.set_one_reg(one_reg.system(register.encoding), value)
    vcpu.set_device_attr(VcpuGroup.PMU_V3, PmuAttr.INIT)
    times: list[int] = []
    assert vcpu.pmu is not None
    vcpu.pmu.on_level = lambda _level: times.append(vcpu.pe.retired)
    vcpu.run(40)
    assert times == [20]


def test_deviation_ptp() -> None:
    vcpu = guest(a64.hvc(0), a64.NOP)
    vcpu.set_one_reg(one_reg.core_x(0), 0x8600_0001)
    vcpu.run(2)
    assert vcpu.get_one_reg(one_reg.core_x(0)) == (1 << 64) - 1
    assert not vcpu.get_one_reg(firmware.VENDOR_HYP_BMAP) & 2


def test_deviation_entropy_from_a_seed() -> None:
    numbers = [VM(Machine(1 << 20), seed=seed).firmware.entropy.long() for seed in (5, 5, 6)]
    assert numbers[0] == numbers[1] != numbers[2]


def test_deviation_stolen_time() -> None:
    first = guest(a64.b(0))
    second = first.vm.create_vcpu(1)
    second.init()
    second.set_one_reg(one_reg.PC, RAM)
    first.set_device_attr(VcpuGroup.PVTIME, 0, RAM + 0x800)
    for vcpu in (first, second, first):
        vcpu.run(1600, cpu=0)
    assert first.vm.read_guest(IPA(RAM + 0x808), 8) == (1600).to_bytes(8, "little")


def test_deviation_vcpu_stays_loaded() -> None:
    vcpu = guest(a64.NOP)
    vcpu.run(1)
    assert vcpu.loaded_on is vcpu.vm.kvm.cpus[0]
    assert vcpu.pe.read(VTTBR_EL2) == vcpu.vm.pgt.tlb.vttbr


def test_deviation_exclusives_compare_values() -> None:
    bare = Bare(pe_count=2)
    page = bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    bare.code(a64.ldxr(1, 2), a64.stxr(3, 1, 2), a64.hvc(1), a64.str_(1, 2), a64.str_(0, 2))
    first, second = bare.machine.pes
    bare.start()
    first.run(1)
    second.write_x(1, 5)
    second.write_x(2, DATA)
    second.write(ELR_EL2(CODE + 12))
    second.write(SPSR_EL2(EL1H))
    second.write_x(0, 0)
    second.run(1)
    assert bare.memory.read_u64(page) == 5
    second.run(1)
    assert bare.memory.read_u64(page) == 0
    first.run(10)
    assert bare.x(3) == 0


def test_deviation_random_numbers_from_a_seed() -> None:
    drawn = []
    for seed in (5, 5, 6):
        pe = Machine(1 << 20).pes[0]
        pe.random_numbers.seed(seed)
        drawn.append(pe.random_numbers.next())
    assert drawn[0] == drawn[1] != drawn[2]


def test_deviation_time_is_what_all_pes_retire() -> None:
    machine = Machine(4 << 20, pe_count=2)
    vcpu = guest(*[a64.NOP] * 800, machine=machine)
    vcpu.run(800)
    assert [pe.read(CNTPCT_EL0) for pe in machine.pes] == [50, 50]
    assert [pe.retired for pe in machine.pes] == [800, 0]


def test_deviation_vgic_without_list_registers() -> None:
    gic = ready_gicv3(nr_irqs=64)
    gic.msr("ICC_CTLR_EL1", 2)  # EOImode: ended and still active, they would keep list registers
    gic.set_dist(0x104, 0xFFFF_FFFF)
    for intid in range(32, 64):
        gic.inject(intid)
    for intid in range(32, 64):  # no CPU has more than 16 list registers
        assert gic.mrs("ICC_IAR1_EL1") == intid
        gic.msr("ICC_EOIR1_EL1", intid)
    assert gic.dist(0x304) == 0xFFFF_FFFF


def test_deviation_vgic_equal_priorities() -> None:
    gic = ready_gicv3(nr_irqs=64)
    gic.set_dist(0x104, 0xFFFF_FFFF)
    for intid in (63, 40, 33, 50):
        gic.inject(intid)
    assert gic.mrs("ICC_IAR1_EL1") == 33


def test_deviation_vgic_cpu_interface_identity() -> None:
    assert Gic(2).cpu(0xFC) == 0x04B2_043B
    ctlr = ICC_CTLR_EL1(Gic(3).mrs("ICC_CTLR_EL1"))
    assert (ctlr.PRIbits, ctlr.IDbits, ctlr.SEIS, ctlr.A3V) == (4, 0, 0, 1)


def test_deviation_vgic_unknown_registers() -> None:
    device = Gic(3).device
    refusal(Errno.ENXIO, device.get_attr, Group.DIST_REGS, 0x44)
    refusal(Errno.ENXIO, device.set_attr, Group.DIST_REGS, 0x44, 0)


def test_deviation_slots_wait_for_no_invalidation() -> None:
    vm = VM(Machine(4 << 20))
    hva = vm.host.mmap(SIZE_4K)
    region = MemoryRegion(1, 0, RAM, SIZE_4K, hva)
    with (
        vm.host.notifiers.invalidate(hva, HVA(hva + SIZE_4K)),
        pytest.raises(KvmError, match="EBUSY"),
    ):
        vm.set_user_memory_region(region)
    vm.set_user_memory_region(region)


def test_deviation_userfault_returns() -> None:
    vcpu = guest(a64.NOP)
    vm = vcpu.vm
    at = next(iter(vm.memslots)).userspace_addr
    vm.host.discard(at, SIZE_4K)
    missed: list[UserfaultMessage] = []
    vm.host.userfault_register(at, SIZE_4K, missed.append)
    for _ in range(2):
        assert vcpu.run(1) == Intr(IntrCause.USERFAULT)
    assert missed == [UserfaultMessage(at, write=False, minor=False)] * 2


@pytest.mark.parametrize("bitmap", [True, False])
def test_deviation_device_writes_are_marked(bitmap: bool) -> None:
    vm = VM(Machine(4 << 20))
    vm.enable_cap(Cap.DIRTY_LOG_RING_ACQ_REL, 4096)
    if bitmap:
        vm.enable_cap(Cap.DIRTY_LOG_RING_WITH_BITMAP)
    vm.create_vcpu(0)
    hva = vm.host.mmap(SIZE_4K)
    vm.set_user_memory_region(MemoryRegion(0, MemoryRegionFlags.LOG_DIRTY_PAGES, RAM, SIZE_4K, hva))
    assert vm.write_guest(RAM, b"x") is (Errno.OK if bitmap else Errno.ENXIO)
    if bitmap:
        assert vm.get_dirty_log(0)[0] == 1
