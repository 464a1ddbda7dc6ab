"""The life of a vCPU: creation, reset, runs and their ends."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA
from emu.arch.esr.fsc import FaultType
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ELR_EL2, SP_EL1, SPSR_EL2, VBAR_EL1
from emu.arch.registers.identification import ID_AA64MMFR2_EL1, MIDR_EL1
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import (
    HCR_EL2,
    VMPIDR_EL2,
    VPIDR_EL2,
    VTCR_EL2,
    VTTBR_EL2,
)
from emu.cpu.pe import EL2Entry
from hyp.errors import Errno, KvmError
from hyp.exits import Error, InternalError, InternalErrorCode, Intr, IntrCause
from hyp.pte import pte_valid
from hyp.stage2_mmu import stage2_flush_vm
from hyp.vm import Cap
from tests.hyp.fake_machine import (
    HOLE,
    NEW_CPU,
    RAM,
    FakeMachine,
    Guest,
    Trap,
    fetch,
    load,
    make_guest,
    store,
)


@pytest.fixture
def guest() -> Guest:
    return make_guest()


@pytest.mark.parametrize("index", [-1, 512])
def test_impossible_vcpu_is_refused(index: int) -> None:
    with pytest.raises(KvmError, match="use 0 to 511") as caught:
        FakeMachine().vm().create_vcpu(index)
    assert caught.value.errno is Errno.EINVAL


@pytest.mark.parametrize("cpu", [-1, 2])
def test_a_pe_that_there_is_not_is_refused(cpu: int) -> None:
    guest = make_guest(pe_count=2)
    with pytest.raises(KvmError, match="use 0 to 1") as caught:
        guest.vcpu.run(1, cpu=cpu)
    assert caught.value.errno is Errno.EINVAL


@pytest.mark.parametrize(("index", "told", "expected"), [(1, None, 1), (5, None, 0), (0, 1, 1)])
def test_a_vcpu_runs_where_it_is_told_else_on_its_own_pe_else_on_pe_0(
    index: int, told: int | None, expected: int
) -> None:
    machine = FakeMachine(pe_count=2)
    vcpu = machine.vm().create_vcpu(index)
    vcpu.init()
    vcpu.run(100, cpu=told)
    assert [pe.retired for pe in machine.pes] == [100 * (n == expected) for n in range(2)]


def test_vcpu_exists_once(guest: Guest) -> None:
    with pytest.raises(KvmError) as caught:
        guest.vm.create_vcpu(0)
    assert caught.value.errno is Errno.EEXIST


def test_run_before_init_is_enoexec() -> None:
    vcpu = FakeMachine().vm().create_vcpu(0)
    with pytest.raises(KvmError, match=r"init\(\)") as caught:
        vcpu.run()
    assert caught.value.errno is Errno.ENOEXEC


@pytest.mark.parametrize("budget", [0, -5])
def test_budget_is_positive(guest: Guest, budget: int) -> None:
    with pytest.raises(KvmError) as caught:
        guest.vcpu.run(budget)
    assert caught.value.errno is Errno.EINVAL


def test_reset_state(guest: Guest) -> None:
    pe = guest.pe
    assert pe.read(SPSR_EL2) == 0x3C5
    assert pe.read(SCTLR_EL1).M == 0
    assert int(pe.read(VPIDR_EL2)) == pe.read(MIDR_EL1)
    assert pe.read(VMPIDR_EL2) == 1 << 31
    hcr = pe.read(HCR_EL2)
    assert (hcr.VM, hcr.RW, hcr.TSC, hcr.TWI, hcr.TID3) == (1, 1, 1, 1, 1)
    assert (hcr.FWB, hcr.TVM, hcr.E2H, hcr.TGE) == (0, 1, 0, 0)


def test_forced_write_back_needs_no_trapping_of_translation_registers() -> None:
    hcr = make_guest(NEW_CPU).pe.read(HCR_EL2)
    assert (hcr.FWB, hcr.TVM) == (1, 0)


def test_reads_of_the_cache_type_trap_only_without_enhanced_virtualization_traps() -> None:
    with_evt = CORTEX_A72.replace(ID_AA64MMFR2_EL1.build(EVT=1))
    traps = [make_guest(cpu).pe.read(HCR_EL2) for cpu in (CORTEX_A72, with_evt)]
    assert [(hcr.TID2, hcr.TID4) for hcr in traps] == [(1, 0), (0, 1)]


def test_second_init_resets_registers_and_lets_memory_fault_in_again(guest: Guest) -> None:
    guest.run(store(RAM))
    guest.pe.x[3] = 5
    guest.pe.write(VBAR_EL1(0x800))
    guest.pe.write(SP_EL1(0x800))
    guest.vcpu.init()
    assert guest.pe.x[3] == 0
    assert guest.pe.read(VBAR_EL1) == 0
    assert guest.pe.read(SP_EL1) == 0
    assert not pte_valid(guest.vm.pgt.get_leaf(RAM).pte)


def test_second_init_with_forced_write_back_invalidates_the_icache_only() -> None:
    guest = make_guest(NEW_CPU)
    guest.run(store(RAM))
    guest.pe.log.clear()
    guest.vcpu.init()
    assert pte_valid(guest.vm.pgt.get_leaf(RAM).pte)
    assert guest.pe.names() == ["IALLUIS"]


def test_init_forgets_a_pending_access(guest: Guest) -> None:
    guest.run(load(HOLE))
    guest.vcpu.init()
    guest.run()
    assert guest.vcpu.pc == 0


def test_run_loads_the_stage_2_of_its_vm(guest: Guest) -> None:
    guest.run()
    assert guest.pe.read(VTCR_EL2) == guest.vm.vtcr
    assert guest.vm.pgt.pgd is not None
    assert guest.vm.pgt.pgd == guest.pe.read(VTTBR_EL2).BADDR << 1
    assert guest.pe.read(VTTBR_EL2).VMID == 1


def test_local_invalidation_is_issued_on_the_pe_that_runs() -> None:
    guest = make_guest(pe_count=2)
    other = guest.vm.create_vcpu(1)
    other.init()
    guest.machine.pes[1].guest.extend([load(RAM), fetch(RAM, FaultType.PERMISSION)])
    other.run(100)
    assert "IPAS2E1" in guest.machine.pes[1].names()
    assert guest.pe.log == []


def test_run_ends_when_the_budget_is_spent(guest: Guest) -> None:
    assert guest.run(budget=500) == Intr(IntrCause.BUDGET)
    assert guest.pe.retired == 500
    assert guest.vm.stats.exits == {"INTR": 1}


def test_early_interrupt_enters_the_guest_again_until_the_budget_is_spent(guest: Guest) -> None:
    exit_ = guest.run(EL2Entry.IRQ, load(RAM), budget=100)
    assert exit_ == Intr(IntrCause.BUDGET)
    assert guest.event_names().count("kvm_entry") >= 3
    assert guest.pe.retired >= 100


def test_no_entry_once_the_budget_is_spent_by_traps(guest: Guest) -> None:
    exit_ = guest.run(EL2Entry.IRQ, load(RAM), EL2Entry.IRQ, load(RAM), budget=1)
    assert exit_ == Intr(IntrCause.BUDGET)
    assert len(guest.pe.guest) == 1


def test_immediate_exit_does_not_enter_the_guest(guest: Guest) -> None:
    guest.vcpu.immediate_exit = True
    assert guest.run(load(RAM)) == Intr(IntrCause.IMMEDIATE_EXIT)
    assert guest.pe.retired == 0
    assert guest.event_names() == ["kvm_userspace_exit"]
    assert guest.events[0].text() == "reason restart (4)"


def test_guest_that_only_takes_exceptions_is_given_up(guest: Guest) -> None:
    exit_ = guest.run(Trap(fetch(HOLE).esr, HOLE, HOLE, HOLE), EL2Entry.LIVELOCK)
    assert isinstance(exit_, InternalError)
    assert exit_.suberror is InternalErrorCode.NO_PROGRESS
    assert "ESR_EL2" in exit_.message


def test_failed_run_is_an_error_with_its_errno_in_the_trace(guest: Guest) -> None:
    exit_ = guest.run(load(HOLE, instruction=0))
    assert isinstance(exit_, Error)
    assert guest.events[-1].text() == "reason error (38)"
    assert guest.vm.stats.exits == {"ERROR": 1}


@pytest.mark.kvm_row(1)
def test_events_of_a_memory_abort_come_in_kvms_order(guest: Guest) -> None:
    guest.pe.write(ELR_EL2(0x4000_0000))
    guest.run(load(RAM))
    assert guest.event_names() == [
        "kvm_entry",
        "kvm_exit",
        "kvm_guest_fault",
        "kvm_entry",
        "kvm_exit",
        "kvm_userspace_exit",
    ]
    assert guest.events[1].text() == ("TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0x0000000040000000")
    assert [event.time for event in guest.events] == [0, 1, 1, 1, 1001, 1001]


def test_nothing_is_recorded_when_nobody_listens(guest: Guest) -> None:
    guest.vm.events.unsubscribe(guest.events.append)
    guest.run(load(RAM), load(RAM, FaultType.ACCESS_FLAG), load(HOLE), budget=10)
    assert guest.events == []


def test_powered_off_vcpu_does_not_run(guest: Guest) -> None:
    guest.vcpu.init(power_off=True)
    assert guest.run(load(RAM)) == Intr(IntrCause.STOPPED)


def test_unknown_capability_is_refused(guest: Guest) -> None:
    with pytest.raises(KvmError, match="ARM_NISV_TO_USER") as caught:
        guest.vm.enable_cap(1)
    assert caught.value.errno is Errno.EINVAL
    guest.vm.enable_cap(Cap.ARM_NISV_TO_USER)
    assert guest.vm.nisv_to_user


@pytest.mark.kvm_row(57)
def test_destroyed_vm_gives_all_tables_back(guest: Guest) -> None:
    guest.run(load(RAM), load(RAM + 0x20_0000))
    pages = 2
    guest.vm.destroy()
    assert guest.vm.stats.table_pages == 0
    assert guest.vm.host.frames.allocated == pages * 0x1000


def test_flush_of_all_memory_touches_mapped_pages_only(guest: Guest) -> None:
    guest.run(load(RAM))
    guest.pe.log.clear()
    stage2_flush_vm(guest.vm)
    assert guest.pe.names() == ["CIVAC"]


def test_vm_finds_a_vcpu_by_affinity() -> None:
    guest = make_guest(pe_count=2)
    other = guest.vm.create_vcpu(1)
    assert guest.vm.vcpu_by_mpidr(1) is other
    assert guest.vm.vcpu_by_mpidr(2) is None
    assert guest.vm.read_guest(IPA(0x10), 8) is None
