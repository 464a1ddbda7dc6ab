"""VMIDs: who gets which, and what happens when they run out."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.registers.identification import CTR_EL0, IcachePolicy
from hyp.vmid import KvmVmid, VmidAllocator
from tests.hyp.fake_machine import NEW_CPU, OLD_CPU, FakeMachine

if TYPE_CHECKING:
    from emu.arch.features import CpuFeatures

BITS = 3
VMIDS = (1 << BITS) - 1
"""Without VMID 0, which is the host's."""


class Vmids:
    """An allocator whose flushes are counted."""

    def __init__(self, cpus: int = 2) -> None:
        self.allocator = VmidAllocator(BITS, cpus)
        self.flushes = 0

    def load(self, vmid: KvmVmid, cpu: int = 0) -> int:
        self.allocator.update(vmid, cpu, self._flush)
        return self.allocator.number(vmid)

    def fill(self, cpu: int = 0) -> list[KvmVmid]:
        """Load and put as many new VMs as there are VMIDs."""
        vms = [KvmVmid() for _ in range(VMIDS)]
        for vm in vms:
            self.load(vm, cpu)
            self.allocator.clear_active(cpu)
        return vms

    def _flush(self) -> None:
        self.flushes += 1


def test_vms_get_vmids_in_turn_and_keep_them() -> None:
    vmids = Vmids()
    first, second = KvmVmid(), KvmVmid()
    assert [vmids.load(vm) for vm in (first, second, first, second)] == [1, 2, 1, 2]
    assert vmids.flushes == 0


def test_the_vm_that_finds_no_vmid_begins_a_generation_with_one_flush() -> None:
    vmids = Vmids()
    old = vmids.fill()
    assert [vmids.allocator.number(vm) for vm in old] == list(range(1, VMIDS + 1))
    assert vmids.flushes == 0
    assert vmids.load(KvmVmid()) == 1
    assert vmids.flushes == 1
    assert not any(vmids.allocator.is_current(vm) for vm in old)


def test_a_vm_gets_its_old_number_again_while_it_is_free() -> None:
    vmids = Vmids()
    old = vmids.fill()
    vmids.load(KvmVmid())
    assert vmids.load(old[4]) == 5
    assert vmids.load(old[0]) == 2, "1 has been taken"
    assert vmids.flushes == 1


def test_a_loaded_vm_keeps_its_vmid_through_two_rollovers() -> None:
    vmids = Vmids()
    loaded = KvmVmid()
    number = vmids.load(loaded, cpu=1)
    for _ in range(2):
        vmids.fill()
        assert vmids.allocator.number(loaded) == number
    assert vmids.flushes == 2
    assert vmids.load(loaded, cpu=1) == number
    assert vmids.allocator.is_current(loaded)


def test_a_vm_that_was_put_keeps_nothing() -> None:
    vmids = Vmids()
    vm = KvmVmid()
    vmids.load(vm, cpu=1)
    vmids.allocator.clear_active(1)
    assert 1 in [vmids.allocator.number(other) for other in vmids.fill()[-2:]]


@given(
    st.lists(
        st.tuples(st.sampled_from(["load", "put"]), st.integers(0, 2), st.integers(0, 11)),
        max_size=200,
    )
)
def test_no_vm_meets_a_tlb_entry_of_another(steps: list[tuple[str, int, int]]) -> None:
    allocator = VmidAllocator(BITS, 3)
    vms = [KvmVmid() for _ in range(12)]
    loaded: dict[int, int] = {}
    owners: dict[int, set[int]] = defaultdict(set)
    """Whose entries any TLB may hold, by VMID."""

    def flush() -> None:
        owners.clear()
        for running in loaded.values():
            owners[allocator.number(vms[running])].add(running)

    for step, cpu, vm in steps:
        if step == "put":
            if loaded.pop(cpu, None) is not None:
                allocator.clear_active(cpu)
            continue
        if loaded.pop(cpu, None) is not None:
            allocator.clear_active(cpu)
        allocator.update(vms[vm], cpu, flush)
        loaded[cpu] = vm
        number = allocator.number(vms[vm])
        owners[number].add(vm)
        assert number
        assert owners[number] == {vm}


@pytest.mark.parametrize(("features", "vmids"), [(OLD_CPU, 255), (NEW_CPU, 65535)])
def test_the_cpu_says_how_many_vmids_there_are(features: CpuFeatures, vmids: int) -> None:
    kvm = FakeMachine(features=features).vm().kvm
    first = KvmVmid()
    kvm.vmids.update(first, 0, lambda: None)
    for _ in range(vmids - 1):
        kvm.vmids.update(KvmVmid(), 0, lambda: None)
    assert kvm.vmids.is_current(first)
    kvm.vmids.update(KvmVmid(), 0, lambda: None)
    assert not kvm.vmids.is_current(first)


@pytest.mark.parametrize(
    ("policy", "profile", "expected"),
    [
        (IcachePolicy.PIPT, "2021", ["ALLE1IS"]),
        (IcachePolicy.VPIPT, "2021", ["ALLE1IS", "IALLUIS"]),
        (IcachePolicy.VPIPT, "2026", ["ALLE1IS"]),
    ],
)
def test_a_rollover_takes_instruction_cache_lines_along_where_they_have_vmids(
    policy: IcachePolicy, profile: str, expected: list[str]
) -> None:
    features = OLD_CPU.replace(OLD_CPU.read(CTR_EL0).replace(L1Ip=policy))
    machine = FakeMachine(features=features)
    vm = machine.vm(profile=profile)
    for _ in range(255):
        vm.kvm.vmids.update(KvmVmid(), 0, lambda: None)
    vcpu = vm.create_vcpu(0)
    vcpu.init()
    vcpu.run(1)
    assert machine.pes[0].names() == [*expected, "VMALLE1", "IALLU"]
