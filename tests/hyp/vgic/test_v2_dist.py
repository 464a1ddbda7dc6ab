"""GICD of a GICv2: each register, each access."""

from __future__ import annotations

import pytest

from tests.hyp.vgic.rig import Gic, ready_gicv2


def test_ctlr_has_one_enable() -> None:
    gic = Gic(2)
    assert gic.dist(0x000) == 0
    gic.set_dist(0x000, 0xFFFF_FFFF)
    assert gic.dist(0x000) == 1


@pytest.mark.parametrize(("nr_vcpus", "nr_irqs", "value"), [(1, 64, 0x01), (8, 288, 0xE8)])
def test_typer_tells_the_numbers_of_vcpus_and_interrupts(
    nr_vcpus: int, nr_irqs: int, value: int
) -> None:
    assert Gic(2, nr_vcpus, nr_irqs).dist(0x004) == value


@pytest.mark.parametrize("offset", [0x004, 0x008, 0xFE8])
def test_identification_is_read_only(offset: int) -> None:
    gic = Gic(2)
    before = gic.dist(offset)
    for value in (0, 0xFFFF_FFFF):
        gic.set_dist(offset, value)
        assert gic.dist(offset) == before


def test_iidr_is_that_of_kvm() -> None:
    assert Gic(2).dist(0x008) == 0x4B00_343B


def test_pidr2_is_not_there() -> None:
    assert Gic(2).dist(0xFE8) == 0


def test_priorities_have_five_bits() -> None:
    gic = Gic(2)
    gic.set_dist(0x420, 0xFFFF_FFFF)
    assert gic.dist(0x420) == 0xF8F8_F8F8
    gic.set_dist(0x420, 0)
    assert gic.dist(0x420) == 0


@pytest.mark.parametrize(("array", "mask"), [(0x400, 0xF8), (0x800, 0x03)])
def test_priorities_and_targets_are_accessible_by_the_byte(array: int, mask: int) -> None:
    gic = Gic(2)
    gic.set_dist(array + 32, 0x0102_0300 | 0x0808_0808)
    before = gic.dist(array + 32)
    assert gic.dist(array + 33, 1) == before >> 8 & 0xFF
    gic.set_dist(array + 33, 0xFF, 1)
    assert gic.dist(array + 32) == before & 0xFFFF_00FF | mask << 8
    assert gic.dist(array + 33, 1) == mask


@pytest.mark.parametrize("array", [0x080, 0x100, 0x200, 0x300])
def test_bit_arrays_are_not_accessible_by_the_byte(array: int) -> None:
    gic = Gic(2)
    gic.set_dist(array + 4, 0xFFFF_FFFF)
    assert gic.dist(array + 4, 1) == 0
    gic.set_dist(0x084, 0, 1)
    assert gic.dist(array + 4) == 0xFFFF_FFFF


@pytest.mark.parametrize("length", [2, 8])
@pytest.mark.parametrize("offset", [0x000, 0x100, 0x420, 0x820])
def test_halfwords_and_doublewords_read_as_zero_and_are_ignored(offset: int, length: int) -> None:
    gic = ready_gicv2()
    gic.set_dist(0x420, 0x0808_0808)
    before = gic.dist(offset)
    gic.set_dist(offset, (1 << length * 8) - 1, length)
    assert gic.dist(offset) == before
    assert gic.dist(offset, length) == 0


def test_a_misaligned_access_reads_as_zero() -> None:
    gic = ready_gicv2()
    gic.set_dist(0x420, 0x0808_0808)
    assert gic.dist(0x422, 4) == 0


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0x080 + 12, 0xFFFF_FFFF), (0x100 + 12, 1), (0x400 + 96, 0xF8), (0x800 + 96, 1), (0xC18, 2)],
)
def test_interrupts_that_do_not_exist_read_as_zero_and_are_ignored(offset: int, value: int) -> None:
    gic = Gic(2, nr_irqs=96)
    gic.set_dist(offset, value)
    assert gic.dist(offset) == 0


def test_the_last_interrupt_exists() -> None:
    gic = Gic(2, nr_irqs=96)
    gic.set_dist(0x400 + 92, 0x4848_4848)
    assert gic.dist(0x400 + 92) == 0x4848_4848


def test_targets_of_private_interrupts_name_the_reader_and_are_read_only() -> None:
    gic = Gic(2, 4)
    for vcpu in range(4):
        gic.set_dist(0x800, 0xFFFF_FFFF, vcpu=vcpu)
        for offset in (0x800, 0x81C):
            assert gic.dist(offset, vcpu=vcpu) == 0x0101_0101 << vcpu


@pytest.mark.parametrize(("nr_vcpus", "mask"), [(1, 0x01), (3, 0x07), (8, 0xFF)])
def test_targets_have_a_bit_for_each_vcpu_that_exists(nr_vcpus: int, mask: int) -> None:
    gic = Gic(2, nr_vcpus)
    gic.set_dist(0x820, 0xFFFF_FFFF)
    assert gic.dist(0x820) == mask * 0x0101_0101


def test_an_interrupt_goes_to_its_first_target() -> None:
    gic = ready_gicv2(3)
    gic.set_dist(0x104, 1)
    gic.set_dist(0x820, 0b110, 1)
    gic.inject(32)
    assert [gic.pending(vcpu) for vcpu in range(3)] == [False, True, False]


def test_an_interrupt_without_targets_goes_to_vcpu_0() -> None:
    gic = ready_gicv2()
    gic.set_dist(0x104, 1)
    gic.set_dist(0x820, 0, 1)
    gic.inject(32)
    assert gic.pending(0)


def test_a_pending_interrupt_follows_its_targets() -> None:
    gic = ready_gicv2()
    gic.set_dist(0x104, 1)
    gic.inject(32)
    gic.set_dist(0x820, 2, 1)
    assert not gic.pending(0)
    assert gic.pending(1)


def test_sgis_are_enabled_and_ppis_are_not() -> None:
    gic = Gic(2)
    assert gic.dist(0x100) == gic.dist(0x180) == 0x0000_FFFF


@pytest.mark.parametrize(("set_", "clear"), [(0x100, 0x180), (0x200, 0x280), (0x300, 0x380)])
def test_a_pair_of_registers_sets_and_clears_where_a_bit_is_one(set_: int, clear: int) -> None:
    gic = Gic(2)
    gic.set_dist(set_ + 4, 0xF0)
    gic.set_dist(set_ + 4, 0x0F)
    gic.set_dist(clear + 4, 0x11)
    assert gic.dist(set_ + 4) == gic.dist(clear + 4) == 0xEE


def test_private_interrupts_are_banked() -> None:
    gic = Gic(2)
    gic.set_dist(0x100, 1 << 27, vcpu=1)
    assert gic.dist(0x100, vcpu=1) == 1 << 27 | 0xFFFF
    assert gic.dist(0x100, vcpu=0) == 0xFFFF


def test_sgis_are_not_made_pending_by_ispendr() -> None:
    gic = ready_gicv2()
    gic.set_dist(0x200, 0xFFFF_FFFF)
    assert gic.dist(0x200) == 0xFFFF_0000
    gic.set_dist(0xF00, 2 << 24 | 5)
    gic.set_dist(0x280, 0xFFFF_FFFF)
    assert gic.dist(0x200) == 1 << 5


def test_private_interrupts_cannot_be_configured() -> None:
    gic = Gic(2)
    gic.set_dist(0xC00, 0)
    gic.set_dist(0xC04, 0xFFFF_FFFF)
    assert (gic.dist(0xC00), gic.dist(0xC04)) == (0xAAAA_AAAA, 0)


def test_spis_are_configured_by_the_upper_bit_of_two() -> None:
    gic = Gic(2)
    gic.set_dist(0xC08, 0xFFFF_FFFF)
    assert gic.dist(0xC08) == 0xAAAA_AAAA


def test_interrupts_begin_in_group_0_and_can_leave_it() -> None:
    gic = Gic(2)
    assert gic.dist(0x084) == 0
    gic.set_dist(0x084, 0x5)
    assert gic.dist(0x084) == 0x5


@pytest.mark.parametrize(
    ("value", "receivers"),
    [
        (0b0101 << 16 | 3, [0, 2]),
        (0b1111_0000 << 16 | 3, []),
        (1 << 24 | 3, [0, 2]),
        (2 << 24 | 3, [1]),
        (3 << 24 | 0xFF << 16 | 3, []),
    ],
    ids=["list", "nobody", "all-others", "self", "reserved"],
)
def test_sgir_sends_to(value: int, receivers: list[int]) -> None:
    gic = ready_gicv2(3)
    gic.set_dist(0xF00, value, vcpu=1)
    assert gic.dist(0xF00) == 0
    assert [vcpu for vcpu in range(3) if gic.pending(vcpu)] == receivers


def test_pending_sgis_know_their_sources_and_forget_them() -> None:
    gic = ready_gicv2(3)
    for sender in (1, 2):
        gic.set_dist(0xF00, 1 << 16 | 5, vcpu=sender)
    assert gic.dist(0xF14) == gic.dist(0xF24) == 0b110 << 8
    gic.set_dist(0xF15, 0b010, 1)
    assert gic.dist(0xF25, 1) == 0b100
    assert gic.pending(0)
    gic.set_dist(0xF14, 0b100 << 8)
    assert gic.dist(0x200) == 0
    assert not gic.pending(0)


def test_spendsgir_makes_an_sgi_pending_from_its_sources() -> None:
    gic = ready_gicv2()
    gic.set_dist(0xF20, 0)
    assert not gic.pending(0)
    gic.set_dist(0xF20, 0b10)
    assert gic.cpu(0x0C) == 0 | 1 << 10


def test_everything_else_reads_as_zero() -> None:
    gic = ready_gicv2()
    for offset in (0x00C, 0x07C, 0xD00, 0xE00, 0xF04, 0xF30, 0xFFC):
        gic.set_dist(offset, 0xFFFF_FFFF)
        assert gic.dist(offset) == 0
