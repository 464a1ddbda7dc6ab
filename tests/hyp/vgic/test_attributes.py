"""KVM_CREATE_DEVICE, device attributes, and every error of them."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA
from hyp.errors import Errno
from hyp.vgic import DeviceType, Vgic, VgicDevice, create_device
from hyp.vgic.addresses import UNDEFINED
from hyp.vgic.attributes import Address, Control, Group
from tests.hyp.vgic.rig import Gic, fake_vm, ready_gicv2, ready_gicv3, refusal

IPA_END = 1 << 40


def new_device(version: int, nr_vcpus: int = 4) -> VgicDevice:
    device = create_device(fake_vm(nr_vcpus), {2: 5, 3: 7}[version])
    assert device is not None
    return device


def region(count: int, base: int, flags: int, index: int) -> int:
    return count << 52 | base | flags << 12 | index


# --- creation --------------------------------------------------------------------------------


@pytest.mark.parametrize(("type_", "version"), [(DeviceType.VGIC_V2, 2), (DeviceType.VGIC_V3, 3)])
def test_a_gic_is_created_and_asking_creates_none(type_: int, version: int) -> None:
    vm = fake_vm(1)
    assert create_device(vm, type_, 1, existing=None) is None
    device = create_device(vm, type_)
    assert device is not None
    assert device.vgic.version == version


@pytest.mark.parametrize("type_", [0, 4, 6, DeviceType.VGIC_ITS, 99])
@pytest.mark.parametrize("flags", [0, 1])
def test_other_types_are_refused(type_: int, flags: int) -> None:
    refusal(Errno.ENODEV, create_device, fake_vm(1), type_, flags)


def test_a_second_gic_is_refused() -> None:
    vm = fake_vm(1)
    existing = Vgic(vm, 3)
    for type_ in (5, 7):
        refusal(Errno.EEXIST, create_device, vm, type_, existing=existing)
        assert create_device(vm, type_, 1, existing=existing) is None


def test_a_gic_after_the_first_run_is_refused() -> None:
    vm = fake_vm(2)
    vm.vcpus[1].has_run_once = True
    refusal(Errno.EBUSY, create_device, vm, 7)


def test_more_vcpus_than_a_gicv2_is_for_are_refused() -> None:
    refusal(Errno.E2BIG, create_device, fake_vm(9), 5)
    assert create_device(fake_vm(9), 7) is not None


# --- ADDR ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "attr", "value", "errno"),
    [
        (2, Address.V2_DIST, 0x800, Errno.EINVAL),
        (2, Address.V2_CPU, 0x100, Errno.EINVAL),
        (2, Address.V2_DIST, IPA_END, Errno.E2BIG),
        (2, Address.V2_CPU, IPA_END - 0x1000, Errno.E2BIG),
        (2, Address.V2_CPU, 1 << 63, Errno.E2BIG),
        (2, Address.V3_DIST, 0, Errno.ENXIO),
        (2, Address.V3_REDIST, 0, Errno.ENXIO),
        (2, Address.V3_REDIST_REGION, 0, Errno.ENXIO),
        (2, 9, 0, Errno.ENXIO),
        (2, Address.V2_DIST, None, Errno.EFAULT),
        (3, Address.V3_DIST, 0x1000, Errno.EINVAL),
        (3, Address.V3_DIST, IPA_END, Errno.E2BIG),
        (3, Address.V3_REDIST, 0x1000, Errno.EINVAL),
        (3, Address.V3_REDIST, IPA_END, Errno.E2BIG),
        (3, Address.V3_REDIST, IPA_END - 0x2_0000, Errno.E2BIG),
        (3, Address.V2_DIST, 0, Errno.ENXIO),
        (3, Address.V2_CPU, 0, Errno.ENXIO),
        (3, 4, 0, Errno.ENXIO),
        (3, Address.V3_REDIST_REGION, None, Errno.EFAULT),
        (3, Address.V3_REDIST_REGION, region(0, 0x10_0000, 0, 0), Errno.EINVAL),
        (3, Address.V3_REDIST_REGION, region(1, 0x10_0000, 1, 0), Errno.EINVAL),
        (3, Address.V3_REDIST_REGION, region(1, 0x10_0000, 0, 1), Errno.EINVAL),
        (3, Address.V3_REDIST_REGION, region(1, IPA_END, 0, 0), Errno.E2BIG),
        (3, Address.V3_REDIST_REGION, region(2, IPA_END - 0x3_0000, 0, 0), Errno.E2BIG),
    ],
)
def test_an_address_is_refused(version: int, attr: int, value: int | None, errno: Errno) -> None:
    device = new_device(version)
    refusal(errno, device.set_attr, Group.ADDR, attr, value)
    assert device.vgic.addresses.dist is None
    assert device.vgic.addresses.regions == []


@pytest.mark.parametrize(
    ("version", "attr"),
    [(2, Address.V2_DIST), (2, Address.V2_CPU), (3, Address.V3_DIST), (3, Address.V3_REDIST)],
)
def test_an_address_is_set_once_and_read_back(version: int, attr: int) -> None:
    device = new_device(version)
    assert device.get_attr(Group.ADDR, attr) == UNDEFINED
    device.set_attr(Group.ADDR, attr, 0x8_0000)
    assert device.get_attr(Group.ADDR, attr) == 0x8_0000
    refusal(Errno.EEXIST, device.set_attr, Group.ADDR, attr, 0x10_0000)
    assert device.get_attr(Group.ADDR, attr) == 0x8_0000


def test_an_unknown_address_cannot_be_read() -> None:
    refusal(Errno.ENXIO, new_device(2).get_attr, Group.ADDR, Address.V3_DIST)


def test_redistributor_regions_come_in_order_and_do_not_overlap() -> None:
    device = new_device(3)
    attr = Address.V3_REDIST_REGION
    refusal(Errno.ENOENT, device.get_attr, Group.ADDR, attr, 0)
    device.set_attr(Group.ADDR, attr, region(2, 0x20_0000, 0, 0))
    for value in (
        region(1, 0x30_0000, 0, 0),
        region(1, 0x30_0000, 0, 2),
        region(1, 0x23_0000, 0, 1),
        region(3, 0x1D_0000, 0, 1),
    ):
        refusal(Errno.EINVAL, device.set_attr, Group.ADDR, attr, value)
    device.set_attr(Group.ADDR, attr, region(3, 0x24_0000, 0, 1))
    assert device.get_attr(Group.ADDR, attr, 1) == region(3, 0x24_0000, 0, 1)
    refusal(Errno.ENOENT, device.get_attr, Group.ADDR, attr, 2)
    assert device.get_attr(Group.ADDR, Address.V3_REDIST) == 0x20_0000


def test_the_two_kinds_of_regions_do_not_mix() -> None:
    regions, legacy = new_device(3), new_device(3)
    regions.set_attr(Group.ADDR, Address.V3_REDIST_REGION, region(4, 0x20_0000, 0, 0))
    refusal(Errno.EINVAL, regions.set_attr, Group.ADDR, Address.V3_REDIST, 0x40_0000)
    legacy.set_attr(Group.ADDR, Address.V3_REDIST, 0x20_0000)
    for index in (0, 1):
        refusal(
            Errno.EINVAL,
            legacy.set_attr,
            Group.ADDR,
            Address.V3_REDIST_REGION,
            region(4, 0x40_0000, 0, index),
        )


def test_a_redistributor_over_the_distributor_is_refused_at_once() -> None:
    for attr, value in (
        (Address.V3_REDIST, 0x4_0000),
        (Address.V3_REDIST_REGION, region(4, 0x4_0000, 0, 0)),
    ):
        device = new_device(3)
        device.set_attr(Group.ADDR, Address.V3_DIST, 0x8_0000)
        refusal(Errno.EINVAL, device.set_attr, Group.ADDR, attr, value)
        assert device.vgic.addresses.regions == []


# --- NR_IRQS and CTRL ------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 32, 63, 65, 100, 1024, 1056])
def test_an_impossible_number_of_interrupts_is_refused(number: int) -> None:
    refusal(Errno.EINVAL, new_device(3).set_attr, Group.NR_IRQS, 0, number)


@pytest.mark.parametrize("number", [64, 96, 992])
def test_the_number_of_interrupts_is_set_once(number: int) -> None:
    device = new_device(3)
    assert device.get_attr(Group.NR_IRQS, 0) == 32
    device.set_attr(Group.NR_IRQS, 0, number)
    assert device.get_attr(Group.NR_IRQS, 0) == number
    refusal(Errno.EBUSY, device.set_attr, Group.NR_IRQS, 0, number)


def test_initialisation_settles_the_number_of_interrupts() -> None:
    device = new_device(3)
    device.set_attr(Group.CTRL, Control.INIT)
    assert device.get_attr(Group.NR_IRQS, 0) == 256
    refusal(Errno.EBUSY, device.set_attr, Group.NR_IRQS, 0, 64)
    refusal(Errno.EFAULT, device.set_attr, Group.NR_IRQS, 0)


def test_initialisation_needs_a_vcpu_and_once_is_enough() -> None:
    device = new_device(3, nr_vcpus=0)
    refusal(Errno.ENODEV, device.set_attr, Group.CTRL, Control.INIT)
    device = new_device(3)
    device.set_attr(Group.CTRL, Control.INIT)
    before = device.vgic.distributor
    device.set_attr(Group.CTRL, Control.INIT)
    assert device.vgic.distributor is before


def test_there_are_no_pending_tables_to_save() -> None:
    gic = ready_gicv3()
    gic.device.set_attr(Group.CTRL, Control.SAVE_PENDING_TABLES)
    gic.vgic.load(gic.vm.vcpus[0])
    refusal(Errno.EBUSY, gic.device.set_attr, Group.CTRL, Control.SAVE_PENDING_TABLES)


# --- what there is ---------------------------------------------------------------------------


def mpidr(affinity: int, rest: int) -> int:
    return affinity << 32 | rest


@pytest.mark.parametrize(
    ("version", "group", "attr", "errno"),
    [
        (2, Group.ADDR, Address.V2_CPU, Errno.OK),
        (2, Group.ADDR, Address.V3_DIST, Errno.ENXIO),
        (3, Group.ADDR, Address.V3_REDIST_REGION, Errno.OK),
        (3, Group.ADDR, Address.V2_DIST, Errno.ENXIO),
        (2, Group.NR_IRQS, 0, Errno.OK),
        (2, Group.CTRL, Control.INIT, Errno.OK),
        (2, Group.CTRL, Control.SAVE_PENDING_TABLES, Errno.ENXIO),
        (3, Group.CTRL, Control.SAVE_PENDING_TABLES, Errno.OK),
        (3, Group.CTRL, 1, Errno.ENXIO),
        (2, Group.DIST_REGS, mpidr(1, 0x100), Errno.OK),
        (2, Group.DIST_REGS, mpidr(2, 0x100), Errno.EINVAL),
        (2, Group.DIST_REGS, 0xFE8, Errno.ENXIO),
        (2, Group.DIST_REGS, 0x102, Errno.ENXIO),
        (2, Group.DIST_REGS, 0x10C, Errno.ENXIO),
        (2, Group.CPU_REGS, 0x04, Errno.OK),
        (2, Group.CPU_REGS, 0x0C, Errno.ENXIO),
        (2, Group.CPU_REGS, 0x1000, Errno.ENXIO),
        (2, Group.REDIST_REGS, 0, Errno.ENXIO),
        (2, Group.CPU_SYSREGS, 0xC230, Errno.ENXIO),
        (2, Group.LEVEL_INFO, 0, Errno.ENXIO),
        (3, Group.CPU_REGS, 0, Errno.ENXIO),
        (3, Group.DIST_REGS, 0x6100, Errno.OK),
        (3, Group.DIST_REGS, mpidr(77, 0x6100), Errno.OK),
        (3, Group.DIST_REGS, 0x44, Errno.ENXIO),
        (3, Group.REDIST_REGS, mpidr(1, 0x1_0100), Errno.OK),
        (3, Group.REDIST_REGS, mpidr(2, 0x1_0100), Errno.EINVAL),
        (3, Group.REDIST_REGS, 0x1_0104, Errno.ENXIO),
        (3, Group.CPU_SYSREGS, 0xC230, Errno.OK),
        (3, Group.CPU_SYSREGS, mpidr(2, 0xC230), Errno.EINVAL),
        (3, Group.CPU_SYSREGS, 0xC645, Errno.OK),
        (3, Group.CPU_SYSREGS, 0xC660, Errno.ENXIO),
        (3, Group.LEVEL_INFO, 32, Errno.OK),
        (3, Group.LEVEL_INFO, 1 << 10, Errno.ENXIO),
        (3, 8, 0, Errno.ENXIO),
        (3, 99, 0, Errno.ENXIO),
    ],
)
def test_there_is_an_attribute(version: int, group: int, attr: int, errno: Errno) -> None:
    device = Gic(version, 2).device
    if errno:
        refusal(errno, device.has_attr, group, attr)
    else:
        device.has_attr(group, attr)


def test_asking_for_an_attribute_initialises_nothing() -> None:
    device = new_device(2)
    device.has_attr(Group.DIST_REGS, 0x100)
    refusal(Errno.ENXIO, device.has_attr, Group.DIST_REGS, 0x104)
    assert not device.vgic.initialized


@pytest.mark.parametrize(("group", "attr"), [(99, 0), (Group.CTRL, 0), (Group.REDIST_REGS, 0)])
def test_an_unknown_attribute_is_neither_read_nor_written(group: int, attr: int) -> None:
    device = Gic(2).device
    refusal(Errno.ENXIO, device.get_attr, group, attr)
    if group != Group.CTRL:
        refusal(Errno.ENXIO, device.set_attr, group, attr, 0)


# --- registers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "attr"),
    [
        (Group.DIST_REGS, 0),
        (Group.REDIST_REGS, 0),
        (Group.CPU_SYSREGS, 0xC230),
        (Group.LEVEL_INFO, 0),
    ],
)
def test_registers_of_a_gicv3_wait_for_initialisation(group: int, attr: int) -> None:
    device = new_device(3)
    refusal(Errno.EBUSY, device.get_attr, group, attr)
    refusal(Errno.EBUSY, device.set_attr, group, attr, 0)
    refusal(Errno.EFAULT, device.set_attr, group, attr)


def test_registers_of_a_gicv2_initialise_it() -> None:
    device = new_device(2)
    assert device.get_attr(Group.DIST_REGS, 4) == 7 | 3 << 5
    assert device.vgic.initialized
    refusal(Errno.EINVAL, new_device(2, nr_vcpus=0).get_attr, Group.CPU_REGS, 0)


@pytest.mark.parametrize("version", [2, 3])
def test_registers_wait_for_running_vcpus(version: int) -> None:
    gic = Gic(version)
    gic.vgic.load(gic.vm.vcpus[1])
    refusal(Errno.EBUSY, gic.device.get_attr, Group.DIST_REGS, 0)
    refusal(Errno.EBUSY, gic.device.set_attr, Group.DIST_REGS, 0, 0)
    gic.vgic.put()
    gic.device.get_attr(Group.DIST_REGS, 0)


def test_unknown_registers_and_vcpus_are_refused() -> None:
    v2, v3 = Gic(2).device, Gic(3).device
    refusal(Errno.ENXIO, v2.get_attr, Group.DIST_REGS, 0xFE8)
    refusal(Errno.ENXIO, v2.set_attr, Group.CPU_REGS, 0x10, 0)
    refusal(Errno.EINVAL, v2.get_attr, Group.CPU_REGS, mpidr(2, 0))
    refusal(Errno.EINVAL, v3.get_attr, Group.REDIST_REGS, mpidr(2, 0))
    refusal(Errno.ENXIO, v3.get_attr, Group.CPU_SYSREGS, 0xC660)


def test_user_space_sees_the_registers_of_the_vcpu_that_it_names() -> None:
    gic = Gic(2)
    gic.device.set_attr(Group.DIST_REGS, mpidr(1, 0x100), 1 << 27)
    assert gic.dist(0x100, vcpu=1) == 1 << 27 | 0xFFFF
    assert gic.device.get_attr(Group.DIST_REGS, mpidr(0, 0x100)) == 0xFFFF
    gic3 = Gic(3)
    gic3.device.set_attr(Group.REDIST_REGS, mpidr(1, 0x1_0100), 1 << 27)
    assert gic3.redist(0x1_0100, vcpu=1) == 1 << 27 | 0xFFFF
    assert gic3.device.get_attr(Group.REDIST_REGS, mpidr(1, 0x8)) == 1 << 8 | 1 << 4
    assert gic3.device.get_attr(Group.REDIST_REGS, mpidr(1, 0xC)) == 1


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize(
    ("value", "errno"),
    [
        (0x4B00_343B, Errno.OK),
        (0x4B00_243B, Errno.OK),
        (0x4B00_143B, Errno.EINVAL),
        (0x4B00_443B, Errno.EINVAL),
        (0x4B01_343B, Errno.EINVAL),
        (0x0000_343B, Errno.EINVAL),
    ],
)
def test_iidr_chooses_the_revision(version: int, value: int, errno: Errno) -> None:
    gic = Gic(version)
    if errno:
        refusal(errno, gic.device.set_attr, Group.DIST_REGS, 8, value)
        value = 0x4B00_343B
    else:
        gic.device.set_attr(Group.DIST_REGS, 8, value)
    assert gic.dist(8) == gic.device.get_attr(Group.DIST_REGS, 8) == value


def test_before_revision_3_a_redistributor_says_nothing_of_lpis() -> None:
    gic = Gic(3)
    gic.device.set_attr(Group.DIST_REGS, 8, 0x4B00_243B)
    assert gic.redist(0) == 0


def test_groups_of_a_gicv2_are_set_after_iidr_was() -> None:
    gic = Gic(2)
    gic.device.set_attr(Group.DIST_REGS, 0x84, 0xFF)
    assert gic.dist(0x84) == 0
    gic.device.set_attr(Group.DIST_REGS, 8, 0x4B00_343B)
    gic.device.set_attr(Group.DIST_REGS, 0x84, 0xFF)
    assert gic.dist(0x84) == 0xFF


def test_groups_of_a_gicv3_are_set_at_once() -> None:
    gic = Gic(3)
    gic.device.set_attr(Group.DIST_REGS, 0x84, 0xFF)
    assert gic.dist(0x84) == 0xFF


def test_typer2_can_only_be_what_it_is() -> None:
    device = Gic(3).device
    device.set_attr(Group.DIST_REGS, 0xC, 0)
    refusal(Errno.EINVAL, device.set_attr, Group.DIST_REGS, 0xC, 1)


def test_pending_of_a_gicv3_is_the_latch_alone() -> None:
    gic = ready_gicv3()
    gic.inject(33)
    assert gic.dist(0x204) == 2
    assert gic.device.get_attr(Group.DIST_REGS, 0x204) == 0
    gic.device.set_attr(Group.DIST_REGS, 0x204, 0b101)
    assert gic.device.get_attr(Group.DIST_REGS, 0x204) == 0b101
    assert gic.device.get_attr(Group.DIST_REGS, 0x284) == 0
    gic.device.set_attr(Group.DIST_REGS, 0x284, 0b101)
    assert gic.dist(0x204) == 0b111
    gic.device.set_attr(Group.DIST_REGS, 0x204, 0b100)
    assert gic.dist(0x204) == 0b110


def test_pending_of_a_gicv2_is_set_and_cleared_by_its_registers() -> None:
    gic = ready_gicv2()
    gic.device.set_attr(Group.DIST_REGS, 0x204, 0b11)
    gic.device.set_attr(Group.DIST_REGS, 0x204, 0b00)
    gic.device.set_attr(Group.DIST_REGS, 0x284, 0b01)
    assert gic.device.get_attr(Group.DIST_REGS, 0x284) == 0b10


def test_a_pending_sgi_of_a_gicv2_is_restored_as_if_from_the_vcpu_itself() -> None:
    gic = ready_gicv2()
    gic.device.set_attr(Group.DIST_REGS, mpidr(1, 0x200), 1 << 4)
    assert gic.cpu(0x18, vcpu=1) == 4 | 1 << 10
    gic.device.set_attr(Group.DIST_REGS, mpidr(1, 0x280), 1 << 4)
    assert gic.dist(0xF24, vcpu=1) == 0
    assert not gic.pending(1)


def test_the_mask_of_a_gicv2_is_shown_as_its_five_bits() -> None:
    gic = Gic(2)
    gic.device.set_attr(Group.CPU_REGS, 4, 0x1E)
    assert gic.device.get_attr(Group.CPU_REGS, 4) == 0x1E
    assert gic.cpu(4) == 0xF0


def test_restored_registers_signal_at_once() -> None:
    gic = ready_gicv2()
    gic.inject(40)
    gic.kicked.clear()
    gic.device.set_attr(Group.DIST_REGS, 0x104, 1 << 8)
    assert gic.kicked == [0]
    assert gic.pending()


@pytest.mark.parametrize(
    ("attr", "value", "errno"),
    [
        (0xC664, 0x8400, Errno.OK),
        (0xC664, 0x8303, Errno.OK),
        (0xC664, 0x8500, Errno.EINVAL),
        (0xC664, 0x8C00, Errno.EINVAL),
        (0xC664, 0xC400, Errno.EINVAL),
        (0xC664, 0x0400, Errno.EINVAL),
        (0xC665, 7, Errno.OK),
        (0xC665, 6, Errno.EINVAL),
        (0xC230, 0xF8, Errno.OK),
        (0xC645, 0, Errno.EINVAL),
        (0xC64B, 0, Errno.EINVAL),
        (0xC65D, 0, Errno.ENXIO),
    ],
)
def test_a_system_register_is_set(attr: int, value: int, errno: Errno) -> None:
    device = Gic(3).device
    if errno:
        refusal(errno, device.set_attr, Group.CPU_SYSREGS, attr, value)
    else:
        device.set_attr(Group.CPU_SYSREGS, attr, value)


def test_system_registers_are_those_of_the_vcpu_that_is_named() -> None:
    gic = Gic(3)
    gic.device.set_attr(Group.CPU_SYSREGS, mpidr(1, 0xC230), 0xA0)
    assert (gic.mrs("ICC_PMR_EL1", 0), gic.mrs("ICC_PMR_EL1", 1)) == (0, 0xA0)
    assert gic.device.get_attr(Group.CPU_SYSREGS, mpidr(1, 0xC230)) == 0xA0
    refusal(Errno.EINVAL, gic.device.get_attr, Group.CPU_SYSREGS, 0xC645)


# --- LEVEL_INFO ------------------------------------------------------------------------------


def test_levels_are_shown_for_level_sensitive_interrupts_and_set_for_all() -> None:
    gic = ready_gicv3()
    gic.set_dist(0xC08, 2)  # 32 is edge-triggered
    gic.device.set_attr(Group.LEVEL_INFO, 32, 0b111)
    assert gic.device.get_attr(Group.LEVEL_INFO, 32) == 0b110
    gic.set_dist(0xC08, 0)
    assert gic.device.get_attr(Group.LEVEL_INFO, 32) == 0b111
    gic.set_dist(0x104, 1)
    assert gic.pending()
    gic.device.set_attr(Group.LEVEL_INFO, 32, 0)
    assert not gic.pending()


def test_sgis_and_missing_interrupts_have_no_level() -> None:
    device = Gic(3, nr_irqs=64).device
    device.set_attr(Group.LEVEL_INFO, mpidr(1, 0), 0xFFFF_FFFF)
    assert device.get_attr(Group.LEVEL_INFO, mpidr(1, 0)) == 0xFFFF_0000
    assert device.get_attr(Group.LEVEL_INFO, 0) == 0
    device.set_attr(Group.LEVEL_INFO, 64, 0xFFFF_FFFF)
    assert device.get_attr(Group.LEVEL_INFO, 64) == 0


@pytest.mark.parametrize("attr", [1, 33, 1 << 10, 2 << 10 | 32])
def test_levels_come_in_words(attr: int) -> None:
    device = Gic(3).device
    refusal(Errno.EINVAL, device.get_attr, Group.LEVEL_INFO, attr)
    refusal(Errno.EINVAL, device.set_attr, Group.LEVEL_INFO, attr, 0)


def test_levels_of_an_unknown_vcpu_are_refused() -> None:
    refusal(Errno.EINVAL, Gic(3).device.get_attr, Group.LEVEL_INFO, mpidr(9, 0))


# --- the first run ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "dist", "other", "init", "errno"),
    [
        (2, None, 0x1_0000, False, Errno.ENXIO),
        (2, 0x1_0000, None, False, Errno.ENXIO),
        (2, 0x1_0000, 0x1_0000, False, Errno.EINVAL),
        (2, 0x1_1000, 0x1_0000, False, Errno.EINVAL),
        (2, 0x1_2000, 0x1_0000, False, Errno.OK),
        (2, 0x1_0000, 0x1_1000, False, Errno.OK),
        (3, None, 0x10_0000, True, Errno.ENXIO),
        (3, 0x10_0000, None, True, Errno.ENXIO),
        (3, 0x10_0000, 0x20_0000, False, Errno.EBUSY),
        (3, 0x11_0000, 0x10_0000, True, Errno.EINVAL),
        (3, 0x18_0000, 0x10_0000, True, Errno.OK),
    ],
)
def test_a_first_run_with(
    version: int, dist: int | None, other: int | None, init: bool, errno: Errno
) -> None:
    device = new_device(version)
    types = {2: (Address.V2_CPU, Address.V2_DIST), 3: (Address.V3_REDIST, Address.V3_DIST)}
    for attr, value in zip(types[version], (other, dist), strict=True):
        if value is not None:
            device.set_attr(Group.ADDR, attr, value)
    if init:
        device.set_attr(Group.CTRL, Control.INIT)
    if errno:
        refusal(errno, device.vgic.map_resources)
        assert not device.vgic.ready
    else:
        device.vgic.map_resources()
        device.vgic.map_resources()
        assert device.vgic.ready
        assert dist is not None
        assert device.vgic.vm.io_bus.read(IPA(dist + 8), 4) == 0x4B00_343B


def test_too_few_redistributors_are_refused_at_the_first_run() -> None:
    device = new_device(3)
    device.set_attr(Group.ADDR, Address.V3_DIST, 0x80_0000)
    device.set_attr(Group.ADDR, Address.V3_REDIST_REGION, region(3, 0x10_0000, 0, 0))
    device.set_attr(Group.CTRL, Control.INIT)
    refusal(Errno.ENXIO, device.vgic.map_resources)
    device.set_attr(Group.ADDR, Address.V3_REDIST_REGION, region(1, 0x20_0000, 0, 1))
    device.vgic.map_resources()
