"""FEAT_RAS of a guest: what KVM shows of it, and keeps for each vCPU."""

from __future__ import annotations

from typing import Final

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import DISR_EL1
from emu.arch.registers.identification import ID_AA64PFR0_EL1
from emu.arch.registers.ras import ERROR_RECORDS, ERRSELR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.machine import Machine
from hyp import one_reg
from hyp.exits import Intr, IntrCause
from tests.emu.cpu import a64
from tests.hyp.test_world_switch import Box

WITH_RAS: Final = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64PFR0_EL1).replace(RAS=1))
MEMORY: Final = 16 << 20


def machine() -> Machine:
    """Return one PE with FEAT_RAS."""
    return Machine(MEMORY, 1, WITH_RAS)


def test_a_guest_is_set_up_as_its_cpu_has_the_feature() -> None:
    for host, expected in ((machine(), 1), (Machine(MEMORY), 0)):
        hcr = Box(host, a64.NOP).vcpu().read(HCR_EL2)
        assert (expected, expected) == (hcr.TEA, hcr.TERR)


def test_deferred_errors_are_each_vcpus_own() -> None:
    program = (a64.msr(DISR_EL1, 5), a64.NOP, a64.mrs(6, DISR_EL1))
    host = machine()
    vcpus = [Box(host, *program).vcpu() for _ in range(2)]
    for number, vcpu in enumerate(vcpus, 0x11):
        vcpu.set_one_reg(one_reg.core_x(5), number)
        assert vcpu.run(2) == Intr(IntrCause.BUDGET)
    for number, vcpu in enumerate(vcpus, 0x11):
        assert vcpu.run(1) == Intr(IntrCause.BUDGET)
        assert vcpu.get_one_reg(one_reg.core_x(6)) == number


def test_what_a_guest_defers_is_not_the_hosts() -> None:
    host = machine()
    vcpu = Box(host, a64.msr(DISR_EL1, 5), a64.NOP).vcpu()
    vcpu.set_one_reg(one_reg.core_x(5), 0x11)
    vcpu.run(2)
    assert host.pes[0].read(DISR_EL1) == 0


@pytest.mark.parametrize("register", ERROR_RECORDS)
def test_a_guest_sees_no_error_records(register: type) -> None:
    vcpu = Box(machine(), a64.mrs(6, register), a64.b(0)).vcpu()
    vcpu.set_one_reg(one_reg.core_x(6), 0x11)
    assert vcpu.run(2) == Intr(IntrCause.BUDGET)
    assert vcpu.get_one_reg(one_reg.core_x(6)) == 0
    assert vcpu.vm.stats.traps, "EL2 has answered"


def test_a_guest_writes_error_records_to_no_effect() -> None:
    vcpu = Box(machine(), a64.msr(ERRSELR_EL1, 6), a64.mrs(6, ERRSELR_EL1), a64.b(0)).vcpu()
    vcpu.set_one_reg(one_reg.core_x(6), 0x11)
    assert vcpu.run(3) == Intr(IntrCause.BUDGET)
    assert vcpu.get_one_reg(one_reg.core_x(6)) == 0
