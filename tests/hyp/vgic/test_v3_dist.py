"""GICD and GICR of a GICv3: each register, each access."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA
from hyp.vgic.addresses import Addresses
from tests.hyp.vgic.rig import REDIST, Gic, ready_gicv3

SGI_BASE = 0x1_0000


def test_ctlr_shows_affinity_routing_and_one_security_state() -> None:
    gic = Gic(3)
    assert gic.dist(0x0000) == 0x50
    gic.set_dist(0x0000, 0xFFFF_FFFF)
    assert gic.dist(0x0000) == 0x52
    gic.set_dist(0x0000, 1)
    assert gic.dist(0x0000) == 0x50


@pytest.mark.parametrize(("nr_irqs", "lines"), [(64, 1), (256, 7), (992, 30)])
def test_typer_tells_the_number_of_interrupts_and_no_lpis(nr_irqs: int, lines: int) -> None:
    assert Gic(3, nr_irqs=nr_irqs).dist(0x0004) == 9 << 19 | lines


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0x0008, 0x4B00_343B),
        (0x000C, 0),
        (0x0010, 0xFFFF_FFFF),
        (0xFFE8, 0x3B),
        (0xFFE0, 0),
        (0xFFF0, 0),
        (0x0040, 0),
    ],
)
def test_a_read_only_register_of_the_distributor_is(offset: int, value: int) -> None:
    gic = Gic(3)
    for written in (0, 0xFFFF_FFFF):
        gic.set_dist(offset, written)
        assert gic.dist(offset) == value


@pytest.mark.parametrize("array", [0x080, 0x100, 0x200, 0x300, 0x400, 0xC00])
def test_private_interrupts_are_not_in_the_distributor(array: int) -> None:
    gic = Gic(3)
    gic.set_dist(array, 0xFFFF_FFFF)
    assert gic.dist(array) == 0


@pytest.mark.parametrize("offset", [0x820, 0xD04, 0xF00, 0xF20])
def test_what_affinity_routing_replaces_reads_as_zero(offset: int) -> None:
    gic = ready_gicv3()
    gic.set_dist(offset, 0xFFFF_FFFF)
    assert gic.dist(offset) == 0
    assert not gic.pending()


def test_interrupts_begin_in_group_1() -> None:
    gic = Gic(3)
    assert gic.dist(0x084) == gic.redist(SGI_BASE + 0x080) == 0xFFFF_FFFF


def test_priorities_are_accessible_by_the_byte() -> None:
    gic = Gic(3)
    gic.set_dist(0x421, 0xFF, 1)
    assert gic.dist(0x420) == 0xF800
    gic.set_redist(SGI_BASE + 0x41B, 0xFF, 1)
    assert gic.redist(SGI_BASE + 0x41B, 1) == 0xF8
    assert gic.redist(SGI_BASE + 0x418) == 0xF800_0000


# --- routing ---------------------------------------------------------------------------------


def test_a_router_keeps_aff0_to_aff2_only() -> None:
    gic = Gic(3)
    gic.set_dist(0x6100, 0xFF_8012_3456, 8)
    assert gic.dist(0x6100, 8) == 0x12_3456
    assert gic.dist(0x6104) == 0
    gic.set_dist(0x6104, 0xFFFF_FFFF)
    gic.set_dist(0x6100, 1)
    assert gic.dist(0x6100, 8) == 1


def test_routers_of_private_interrupts_read_as_zero() -> None:
    gic = Gic(3)
    gic.set_dist(0x60F8, 1, 8)
    assert gic.dist(0x60F8, 8) == 0


def test_an_interrupt_goes_to_the_vcpu_of_its_affinity() -> None:
    gic = ready_gicv3(18)
    gic.set_dist(0x104, 1)
    gic.set_dist(0x6100, 0x101, 8)
    gic.inject(32)
    assert [vcpu for vcpu in range(18) if gic.pending(vcpu)] == [17]


def test_an_interrupt_that_is_routed_nowhere_stays_pending() -> None:
    gic = ready_gicv3()
    gic.set_dist(0x104, 1)
    gic.set_dist(0x6100, 0x55, 8)
    gic.inject(32)
    assert not gic.pending(0)
    assert not gic.pending(1)
    gic.set_dist(0x6100, 1, 8)
    assert gic.pending(1)


def test_an_active_interrupt_stays_where_it_is_until_its_end() -> None:
    gic = ready_gicv3()
    gic.set_dist(0x104, 1)
    gic.inject(32)
    assert gic.mrs("ICC_IAR1_EL1") == 32
    gic.set_dist(0x6100, 1, 8)
    assert not gic.pending(1)
    gic.msr("ICC_EOIR1_EL1", 32)
    assert gic.pending(1)


# --- redistributors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0x0000, 0x6),
        (0x0004, 0x4B00_043B),
        (0x0010, 0),
        (0x0014, 0),
        (0x0070, 0),
        (0x0078, 0),
        (0x00C0, 0),
        (0xFFE8, 0x3B),
        (SGI_BASE + 0xC00, 0xAAAA_AAAA),
        (SGI_BASE + 0xC04, 0),
        (SGI_BASE + 0xD00, 0),
        (SGI_BASE + 0xE00, 0),
        (SGI_BASE + 0x084, 0),
    ],
)
def test_a_read_only_register_of_a_redistributor_is(offset: int, value: int) -> None:
    gic = Gic(3)
    for written in (0, 0xFFFF_FFFF):
        gic.set_redist(offset, written)
        assert gic.redist(offset) == value


def test_typer_tells_affinity_number_and_the_last() -> None:
    gic = Gic(3, 18)
    assert gic.redist(0x0008, 8, vcpu=0) == 0
    assert gic.redist(0x0008, 8, vcpu=16) == 0x100 << 32 | 16 << 8
    assert gic.redist(0x0008, 8, vcpu=17) == 0x101 << 32 | 17 << 8 | 1 << 4
    assert gic.redist(0x0008, vcpu=17) == 17 << 8 | 1 << 4
    assert gic.redist(0x000C, vcpu=17) == 0x101


def test_a_redistributor_is_that_of_its_vcpu_whoever_accesses_it() -> None:
    gic = ready_gicv3()
    gic.set_redist(SGI_BASE + 0x100, 1 << 27, vcpu=1, by=0)
    gic.inject(27, vcpu=1)
    assert gic.pending(1)
    assert gic.redist(SGI_BASE + 0x200, vcpu=1, by=0) == 1 << 27
    assert gic.redist(SGI_BASE + 0x200, vcpu=0, by=1) == 0


def test_sgis_can_be_made_pending_by_ispendr() -> None:
    gic = ready_gicv3()
    gic.set_redist(SGI_BASE + 0x200, 1 << 3)
    assert gic.pending()
    gic.set_redist(SGI_BASE + 0x280, 1 << 3)
    assert not gic.pending()


@pytest.mark.parametrize(
    ("regions", "last"),
    [
        ([(0x10_0000, 0)], [3]),
        ([(0x10_0000, 2), (0x14_0000, 2)], [3]),
        ([(0x10_0000, 2), (0x20_0000, 2)], [1, 3]),
        ([(0x20_0000, 3), (0x10_0000, 4)], [2, 3]),
        ([(0x10_0000, 1), (0x12_0000, 1), (0x20_0000, 5)], [1, 3]),
        ([(0x10_0000, 4), (0x18_0000, 4)], [3]),
    ],
)
def test_the_last_redistributor_is_where_no_other_follows(
    regions: list[tuple[int, int]], last: list[int]
) -> None:
    addresses = Addresses(3, 40)
    for index, (base, count) in enumerate(regions):
        addresses.add_region(index, IPA(base), count, 4)
    assert [number for number in range(4) if addresses.is_last(number, 4)] == last


def test_a_vcpu_without_a_redistributor_is_not_the_last() -> None:
    assert not Addresses(3, 40).is_last(0, 1)


def test_the_frames_are_on_the_bus() -> None:
    gic = Gic(3)
    assert gic.read(REDIST + 0x2_0000 + 0xFFE8) == 0x3B
    assert gic.vm.io_bus.read(IPA(REDIST + 0x4_0000), 4) is None
