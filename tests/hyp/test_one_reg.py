"""Registers by KVM's ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.registers.exceptions import ELR_EL1, ELR_EL2, SP_EL0, SP_EL1, SPSR_EL2, VBAR_EL1
from emu.arch.registers.identification import CTR_EL0, ID_AA64PFR0_EL1, MIDR_EL1, MPIDR_EL1
from emu.arch.registers.timer import CNTPCT_EL0, CNTV_CVAL_EL0, CNTVOFF_EL2
from emu.arch.registers.translation import SCTLR_EL1
from hyp import one_reg
from hyp.errors import Errno, KvmError
from tests.hyp.fake_machine import Guest, make_guest

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

MASK64 = (1 << 64) - 1
TIMER_CNT = one_reg.system((3, 3, 14, 3, 2))
TIMER_CVAL = one_reg.system((3, 3, 14, 0, 2))
"""KVM's ids of the counter and the compare value are swapped."""


@pytest.fixture
def guest() -> Guest:
    return make_guest()


@pytest.mark.parametrize(
    ("ours", "kvms"),
    [
        (one_reg.core_x(0), 0x6030_0000_0010_0000),
        (one_reg.core_x(30), 0x6030_0000_0010_003C),
        (one_reg.SP, 0x6030_0000_0010_003E),
        (one_reg.PC, 0x6030_0000_0010_0040),
        (one_reg.PSTATE, 0x6030_0000_0010_0042),
        (one_reg.system(SCTLR_EL1.encoding), 0x6030_0000_0013_C080),
        (one_reg.system(MPIDR_EL1.encoding), 0x6030_0000_0013_C005),
    ],
)
def test_ids_are_kvms(ours: int, kvms: int) -> None:
    assert ours == kvms


@pytest.mark.parametrize("number", [-1, 31])
def test_there_is_no_x31(number: int) -> None:
    with pytest.raises(ValueError, match="X0 to X30"):
        one_reg.core_x(number)


def test_general_registers_are_the_pes(guest: Guest) -> None:
    for number in range(31):
        guest.vcpu.set_one_reg(one_reg.core_x(number), number + 1)
    assert guest.pe.x == [n + 1 for n in range(31)]
    assert guest.vcpu.get_one_reg(one_reg.core_x(30)) == 31


@pytest.mark.parametrize(
    ("reg_id", "register"),
    [
        (one_reg.SP, SP_EL0),
        (one_reg.PC, ELR_EL2),
        (0x6030_0000_0010_0044, SP_EL1),
        (0x6030_0000_0010_0046, ELR_EL1),
        (one_reg.system(VBAR_EL1.encoding), VBAR_EL1),
        (TIMER_CVAL, CNTV_CVAL_EL0),
    ],
)
def test_register_is_read_and_written(
    guest: Guest, reg_id: int, register: type[SystemRegister]
) -> None:
    guest.vcpu.set_one_reg(reg_id, 0x1_2345_6800)
    assert guest.pe.read(register) == 0x1_2345_6800
    assert guest.vcpu.get_one_reg(reg_id) == 0x1_2345_6800


def test_the_virtual_count_is_the_pes_less_the_offset_and_read_only(guest: Guest) -> None:
    guest.pe.write(CNTPCT_EL0(1000))
    guest.pe.write(CNTVOFF_EL2(400))
    guest.vcpu.set_one_reg(TIMER_CNT, 5)
    assert guest.vcpu.get_one_reg(TIMER_CNT) == 600


def test_every_listed_register_can_be_read_and_written_back(guest: Guest) -> None:
    listed = one_reg.register_list(guest.vcpu)
    assert listed == sorted(set(listed))
    for reg_id in listed:
        guest.vcpu.set_one_reg(reg_id, guest.vcpu.get_one_reg(reg_id))


@pytest.mark.parametrize(
    "reg_id",
    [
        0,
        one_reg.core_x(0) + 1,
        0x6020_0000_0010_0000,
        0x6040_0000_0010_0054,
        one_reg.system((3, 4, 1, 1, 0)),
    ],
    ids=["nothing", "half a register", "32 bits", "V0", "HCR_EL2"],
)
def test_unknown_id_is_enoent(guest: Guest, reg_id: int) -> None:
    for access in (
        lambda: guest.vcpu.get_one_reg(reg_id),
        lambda: guest.vcpu.set_one_reg(reg_id, 0),
    ):
        with pytest.raises(KvmError, match=f"{reg_id:#x}") as caught:
            access()
        assert caught.value.errno is Errno.ENOENT


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_value_of_more_than_64_bits_is_refused(guest: Guest, value: int) -> None:
    with pytest.raises(KvmError, match="64 bits"):
        guest.vcpu.set_one_reg(one_reg.core_x(0), value)


@pytest.mark.parametrize("mode", [0x0, 0x4, 0x5])
def test_pstate_of_a_guest_mode_is_taken(guest: Guest, mode: int) -> None:
    guest.vcpu.set_one_reg(one_reg.PSTATE, 0x3C0 | mode)
    assert guest.pe.read(SPSR_EL2) == 0x3C0 | mode


@pytest.mark.parametrize("mode", [0x1, 0x8, 0x9, 0xD, 0x10, 0x13])
def test_pstate_of_another_mode_is_refused(guest: Guest, mode: int) -> None:
    before = guest.pe.read(SPSR_EL2)
    with pytest.raises(KvmError, match="EL1h") as caught:
        guest.vcpu.set_one_reg(one_reg.PSTATE, mode)
    assert caught.value.errno is Errno.EINVAL
    assert guest.pe.read(SPSR_EL2) == before


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        (MIDR_EL1.encoding, "MIDR_EL1"),
        (MPIDR_EL1.encoding, "MPIDR_EL1"),
        (CTR_EL0.encoding, "CTR_EL0"),
        (ID_AA64PFR0_EL1.encoding, "ID_AA64PFR0_EL1"),
        ((3, 0, 0, 3, 7), "S3_0_0_3_7"),
    ],
)
def test_read_only_register_takes_only_its_own_value(
    guest: Guest, encoding: tuple[int, int, int, int, int], name: str
) -> None:
    reg_id = one_reg.system(encoding)
    value = guest.vcpu.get_one_reg(reg_id)
    guest.vcpu.set_one_reg(reg_id, value)
    with pytest.raises(KvmError, match=name) as caught:
        guest.vcpu.set_one_reg(reg_id, value ^ MASK64)
    assert caught.value.errno is Errno.EINVAL


def test_affinity_counts_16_cpus_in_a_cluster() -> None:
    guest = make_guest(pe_count=18)
    vcpu = guest.vm.create_vcpu(17)
    assert vcpu.get_one_reg(one_reg.system(MPIDR_EL1.encoding)) == 0x8000_0101
