"""The machine: memory and PEs together."""

from __future__ import annotations

import pytest

from emu.arch.address import PA
from emu.arch.features import CORTEX_A72
from emu.arch.registers.identification import ID_AA64MMFR1_EL1, MPIDR_EL1
from emu.machine import MEMORY_BASE, Machine


def test_memory_begins_where_no_guest_expects_it() -> None:
    machine = Machine(1 << 20)
    assert machine.memory.base == MEMORY_BASE == 0x8_0000_0000
    assert machine.memory.size == 1 << 20


def test_memory_base_can_be_chosen() -> None:
    assert Machine(1 << 20, memory_base=PA(0x4000_0000)).memory.base == 0x4000_0000


@pytest.mark.parametrize("count", [1, 2, 5])
def test_pes_are_numbered_and_know_each_other(count: int) -> None:
    machine = Machine(1 << 20, count)
    assert [pe.index for pe in machine.pes] == list(range(count))
    assert [pe.read(MPIDR_EL1).Aff0 for pe in machine.pes] == list(range(count))
    for pe in machine.pes:
        assert list(pe.peers) == machine.pes
        assert pe.memory is machine.memory


@pytest.mark.parametrize("count", [0, -1])
def test_machine_without_a_pe_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"at least one PE, not {count}"):
        Machine(1 << 20, count)


def test_size_that_is_no_number_of_pages_is_refused() -> None:
    with pytest.raises(ValueError, match="whole pages"):
        Machine(1000)


def test_features_are_those_of_a_cortex_a72_unless_given() -> None:
    assert Machine(1 << 20).features is CORTEX_A72
    features = CORTEX_A72.replace(ID_AA64MMFR1_EL1.build(XNX=1))
    machine = Machine(1 << 20, features=features)
    assert machine.features is features
    assert machine.pes[0].read(ID_AA64MMFR1_EL1).XNX == 1


def test_machines_do_not_share_memory() -> None:
    first, second = Machine(1 << 20), Machine(1 << 20)
    first.memory.write_u64(MEMORY_BASE, 1)
    assert second.memory.read_u64(MEMORY_BASE) == 0
