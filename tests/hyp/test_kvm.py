"""What the VMs of one machine share, and nothing else."""

from __future__ import annotations

import gc
import weakref

from emu.machine import Machine
from hyp.host import HostMemory
from hyp.vm import VM

SIZE = 16 << 20


def test_two_vms_on_one_machine_have_tables_of_their_own_and_one_host() -> None:
    machine = Machine(SIZE)
    first, second = VM(machine), VM(machine)
    assert first.host is second.host
    assert first.kvm is second.kvm
    assert first.pgt.pgd != second.pgt.pgd


def test_the_host_of_the_first_vm_is_that_of_the_others() -> None:
    machine = Machine(SIZE)
    host = HostMemory(machine.memory)
    assert VM(machine, host=host).host is host
    assert VM(machine).host is host


def test_vms_on_different_machines_share_nothing() -> None:
    first, second = VM(Machine(SIZE)), VM(Machine(SIZE))
    assert first.host is not second.host
    assert first.kvm is not second.kvm


def test_a_machine_that_is_not_used_any_more_goes_away() -> None:
    machine = Machine(SIZE)
    vcpu = VM(machine).create_vcpu(0)
    vcpu.init()
    vcpu.run(1)
    gone = weakref.ref(machine)
    del machine, vcpu
    gc.collect()
    assert gone() is None
