"""Loading and putting vCPUs: what is issued, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.esr.fsc import FaultType
from emu.arch.registers.timer import CNTV_CTL_EL0
from emu.arch.registers.virtualization import VTTBR_EL2
from hyp.context import KvmCpuContext
from hyp.errors import Errno, KvmError
from hyp.vmid import KvmVmid
from tests.hyp.fake_machine import RAM, fetch, load, make_guest

if TYPE_CHECKING:
    from hyp.vcpu import VCPU
    from tests.hyp.fake_machine import Guest


def second_vcpu(guest: Guest) -> VCPU:
    vcpu = guest.vm.create_vcpu(1)
    vcpu.init()
    return vcpu


def test_nothing_moves_while_a_vcpu_stays_on_its_pe(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = make_guest()
    guest.run()
    guest.pe.log.clear()
    for name in ("save", "restore"):
        monkeypatch.delattr(KvmCpuContext, name)
    guest.run()
    assert guest.pe.log == []


@pytest.mark.kvm_row(53)
def test_another_vcpu_of_the_vm_on_the_same_pe_finds_neither_tlb_nor_icache() -> None:
    guest = make_guest()
    other = second_vcpu(guest)
    for vcpu in (other, guest.vcpu):
        guest.pe.log.clear()
        vcpu.run(1)
        assert guest.pe.names() == ["VMALLE1", "IALLU"]
        vcpu.run(1)
        assert guest.pe.names() == ["VMALLE1", "IALLU"], "once"


@pytest.mark.kvm_row(53)
def test_last_vcpu_ran_is_kept_for_each_pe_and_vm() -> None:
    guest = make_guest(pe_count=2)
    stranger = guest.machine.vm().create_vcpu(1)
    stranger.init()
    for cpu in (0, 1):
        guest.vcpu.run(1, cpu=cpu)
        stranger.run(1, cpu=cpu)
    for pe in guest.machine.pes:
        pe.log.clear()
    for cpu in (0, 1):
        guest.vcpu.run(1, cpu=cpu)
        stranger.run(1, cpu=cpu)
    assert [pe.log for pe in guest.machine.pes] == [[], []]


def test_each_vm_runs_with_its_own_stage_2() -> None:
    guest = make_guest()
    stranger = guest.machine.vm().create_vcpu(0)
    stranger.init()
    seen = []
    for vcpu in (guest.vcpu, stranger, guest.vcpu):
        vcpu.run(1)
        seen.append(guest.pe.read(VTTBR_EL2))
    assert seen[0] == seen[2] == guest.vm.pgt.tlb.vttbr
    assert seen[1] == stranger.vm.pgt.tlb.vttbr
    assert (seen[0].VMID, seen[1].VMID) == (1, 2)


def test_a_vcpu_that_is_not_loaded_is_read_and_written_in_its_context() -> None:
    guest = make_guest()
    guest.pe.x[3] = 33
    other = second_vcpu(guest)
    other.run(1)
    assert guest.vcpu.loaded_on is None
    assert guest.vcpu.read_x(3) == 33
    guest.pe.x[3] = 44
    guest.vcpu.write_x(4, 55)
    guest.run()
    assert guest.pe.x[3:5] == [33, 55]
    assert other.read_x(3) == 44


def test_reset_of_a_loaded_vcpu_leaves_it_loaded() -> None:
    guest = make_guest()
    guest.run()
    guest.pe.x[3] = 33
    guest.vcpu.init()
    assert guest.vcpu.loaded_on is guest.vm.kvm.cpus[0]
    assert guest.pe.x[3] == 0


def test_no_timer_of_a_vcpu_is_left_on_the_pe() -> None:
    guest = make_guest()
    guest.pe.write(CNTV_CTL_EL0.build(ENABLE=1))
    other = second_vcpu(guest)
    other.run(1)
    assert guest.pe.read(CNTV_CTL_EL0) == 0
    guest.run()
    assert guest.pe.read(CNTV_CTL_EL0).ENABLE


def test_a_vcpu_that_moves_leaves_no_timer_behind() -> None:
    guest = make_guest(pe_count=2)
    guest.pe.write(CNTV_CTL_EL0.build(ENABLE=1))
    guest.vcpu.run(1, cpu=1)
    assert [pe.read(CNTV_CTL_EL0).ENABLE for pe in guest.machine.pes] == [0, 1]


def test_a_vm_that_was_put_keeps_no_vmid_through_a_rollover() -> None:
    guest = make_guest(pe_count=2)
    guest.vm.destroy()
    vmids = guest.vm.kvm.vmids
    others = [KvmVmid() for _ in range(255)]
    for other in others:
        vmids.update(other, 1, lambda: None)
        vmids.clear_active(1)
    assert vmids.number(guest.vm.vmid) == vmids.number(others[-1]) == 1


@pytest.mark.parametrize("cpu", [0, 1])
def test_neither_a_busy_pe_nor_a_busy_vcpu_can_run_again(cpu: int) -> None:
    guest = make_guest(pe_count=2)
    busy = guest.vcpu if cpu else second_vcpu(guest)

    def again() -> None:
        with pytest.raises(KvmError, match="PE 0 is running vCPU 0") as caught:
            busy.run(1, cpu=cpu)
        assert caught.value.errno is Errno.EBUSY

    guest.run(again)
    guest.run()


def test_local_maintenance_stays_local_after_another_pe_has_run_meanwhile() -> None:
    guest = make_guest(pe_count=2)
    other = second_vcpu(guest)

    def meanwhile() -> None:
        other.run(1)

    guest.run(load(RAM), meanwhile, fetch(RAM, FaultType.PERMISSION))
    assert "IPAS2E1" in guest.pe.names()
    assert "IPAS2E1" not in guest.machine.pes[1].names()


def test_a_destroyed_vm_is_loaded_nowhere() -> None:
    guest = make_guest()
    guest.run()
    guest.vm.destroy()
    assert guest.vm.kvm.cpus[0].loaded is None
    assert guest.vcpu.read_x(0) == 0
