"""VMs that share a machine share its memory's owner, and nothing else."""

from __future__ import annotations

import gc
import weakref

import pytest

from emu.machine import Machine
from hyp.errors import KvmError
from hyp.vm import VM
from hyp.vmid import host_of, next_vmid

SIZE = 16 << 20


def test_two_vms_on_one_machine_have_tables_and_vmids_of_their_own() -> None:
    machine = Machine(SIZE)
    first, second = VM(machine), VM(machine)
    assert first.host is second.host
    assert first.pgt.pgd != second.pgt.pgd
    assert first.pgt.tlb.vttbr.VMID != second.pgt.tlb.vttbr.VMID


def test_vms_on_different_machines_share_nothing() -> None:
    assert VM(Machine(SIZE)).host is not VM(Machine(SIZE)).host


def test_vmids_run_out_with_a_way_out() -> None:
    machine = Machine(SIZE)
    assert [next_vmid(machine, 2) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(KvmError, match="all 3 VMIDs of this machine have been given out"):
        next_vmid(machine, 2)


def test_a_machine_that_is_not_used_any_more_goes_away() -> None:
    machine = Machine(SIZE)
    host_of(machine)
    gone = weakref.ref(machine)
    del machine
    gc.collect()
    assert gone() is None
