"""GICC of a GICv2: taking interrupts by MMIO."""

from __future__ import annotations

import pytest

from tests.hyp.vgic.rig import Gic, ready_gicv2

CTLR, PMR, BPR, IAR, EOIR, RPR, HPPIR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18
ABPR, AIAR, AEOIR, AHPPIR, APR, IIDR, DIR = 0x1C, 0x20, 0x24, 0x28, 0xD0, 0xFC, 0x1000
SPLIT = 1 << 9


def with_spi(priority: int = 0x80, *, edge: bool = False) -> Gic:
    gic = ready_gicv2()
    gic.set_dist(0x104, 1)
    gic.set_dist(0x420, priority, 1)
    gic.set_dist(0xC08, 2 if edge else 0)
    return gic


@pytest.mark.parametrize(
    ("register", "written", "read"),
    [
        (CTLR, 0xFFFF_FFFF, 0x21F),
        (PMR, 0xFF, 0xF8),
        (BPR, 0, 2),
        (BPR, 0xFF, 7),
        (ABPR, 0, 3),
        (ABPR, 6, 6),
        (APR, 0x8000_0001, 0x8000_0001),
        (IIDR, 0, 0x04B2_043B),
        (0xD4, 1, 0),
        (0x2C, 1, 0),
    ],
)
def test_register_holds(register: int, written: int, read: int) -> None:
    gic = Gic(2)
    gic.set_cpu(register, written)
    assert gic.cpu(register) == read


def test_registers_are_banked() -> None:
    gic = Gic(2)
    gic.set_cpu(PMR, 0xF0, vcpu=1)
    assert (gic.cpu(PMR, 0), gic.cpu(PMR, 1)) == (0, 0xF0)


def test_without_an_interrupt_iar_is_spurious() -> None:
    gic = ready_gicv2()
    assert gic.cpu(IAR) == gic.cpu(AIAR) == gic.cpu(HPPIR) == gic.cpu(AHPPIR) == 1023
    assert gic.cpu(RPR) == 0xFF


def test_a_level_is_pending_again_after_its_end_until_it_falls() -> None:
    gic = with_spi()
    gic.inject(32, level=True)
    assert gic.cpu(IAR) == 32
    assert not gic.pending()
    gic.set_cpu(EOIR, 32)
    assert gic.pending()
    assert gic.cpu(IAR) == 32
    gic.inject(32, level=False)
    gic.set_cpu(EOIR, 32)
    assert not gic.pending()


def test_an_edge_is_taken_once() -> None:
    gic = with_spi(edge=True)
    gic.inject(32, level=True)
    gic.inject(32, level=False)
    assert gic.pending()
    assert gic.cpu(IAR) == 32
    gic.set_cpu(EOIR, 32)
    assert not gic.pending()


def test_an_edge_while_active_is_taken_after_the_end() -> None:
    gic = with_spi(edge=True)
    gic.inject(32)
    gic.cpu(IAR)
    gic.inject(32)
    assert not gic.pending()
    assert gic.dist(0x204) == gic.dist(0x304) == 1
    gic.set_cpu(EOIR, 32)
    assert gic.cpu(IAR) == 32


def test_a_level_made_pending_by_software_is_taken_once() -> None:
    gic = with_spi()
    gic.set_dist(0x204, 1)
    assert gic.cpu(IAR) == 32
    gic.set_cpu(EOIR, 32)
    assert not gic.pending()


def test_a_higher_priority_preempts_and_the_other_resumes() -> None:
    gic = with_spi(0x80)
    gic.set_dist(0x104, 2)
    gic.set_dist(0x421, 0x40, 1)
    gic.inject(32)
    assert gic.cpu(IAR) == 32
    gic.inject(33)
    assert gic.cpu(IAR) == 33
    assert gic.cpu(RPR) == 0x40
    assert gic.cpu(APR) == 1 << 16 | 1 << 8
    gic.inject(33, level=False)
    gic.set_cpu(EOIR, 33)
    assert gic.cpu(RPR) == 0x80
    gic.set_cpu(EOIR, 32)
    assert gic.cpu(APR) == 0


def test_an_equal_priority_waits() -> None:
    gic = with_spi(0x80)
    gic.set_dist(0x104, 2)
    gic.set_dist(0x421, 0x80, 1)
    gic.inject(32)
    gic.cpu(IAR)
    gic.inject(33)
    assert gic.cpu(IAR) == 1023
    assert gic.cpu(HPPIR) == 33


def test_priorities_of_one_group_of_the_binary_point_do_not_preempt() -> None:
    gic = with_spi(0x88)
    gic.set_dist(0x104, 2)
    gic.set_dist(0x421, 0x80, 1)
    gic.set_cpu(BPR, 3)  # bits 7 to 4 decide
    gic.inject(32)
    gic.cpu(IAR)
    gic.inject(33)
    assert not gic.pending()
    gic.set_cpu(BPR, 2)
    # What runs has dropped its lowest bit when it was taken.
    assert gic.cpu(RPR) == 0x80
    assert not gic.pending()


@pytest.mark.parametrize("order", [(32, 33, 34, 35), (35, 34, 33, 32)])
def test_of_two_the_higher_priority_comes_first_and_of_equals_the_lower_number(
    order: tuple[int, ...],
) -> None:
    gic = ready_gicv2()
    gic.set_dist(0x104, 0xF)
    gic.set_dist(0x420, 0x4080_4080)
    for intid in order:
        gic.inject(intid)
    taken = []
    for _ in range(4):
        taken.append(gic.cpu(IAR))
        gic.inject(taken[-1], level=False)
        gic.set_cpu(EOIR, taken[-1])
    assert taken == [33, 35, 32, 34]


@pytest.mark.parametrize(("mask", "pending"), [(0x80, False), (0x88, True), (0x8F, True)])
def test_the_mask_lets_higher_priorities_through(mask: int, pending: bool) -> None:
    gic = with_spi(0x80)
    gic.inject(32)
    gic.set_cpu(PMR, mask)
    assert gic.pending() is pending
    assert gic.cpu(HPPIR) == 32


def test_an_interrupt_of_priority_f8_is_never_taken() -> None:
    gic = with_spi(0xF8)
    gic.set_cpu(PMR, 0xFF)
    gic.inject(32)
    assert not gic.pending()


def test_sgis_are_taken_by_source_the_lowest_first() -> None:
    gic = ready_gicv2(3)
    for sender in (2, 0, 1):
        gic.set_dist(0xF00, 1 << 16 | 7, vcpu=sender)
    for sender in (0, 1, 2):
        assert gic.cpu(HPPIR) == 7 | sender << 10
        assert gic.cpu(IAR) == 7 | sender << 10
        assert gic.cpu(IAR) == 1023
        gic.set_cpu(EOIR, 7 | sender << 10)
    assert gic.cpu(IAR) == 1023


def test_the_end_of_an_sgi_names_its_source() -> None:
    gic = ready_gicv2()
    gic.set_dist(0xF00, 1 << 16 | 7, vcpu=1)
    gic.cpu(IAR)
    gic.set_cpu(EOIR, 7)
    assert gic.dist(0x300) == 1 << 7
    assert gic.cpu(RPR) == 0xFF


def test_with_eoi_mode_the_end_only_drops_the_priority() -> None:
    gic = with_spi()
    gic.set_cpu(CTLR, SPLIT | 1)
    gic.inject(32)
    gic.cpu(IAR)
    gic.set_cpu(EOIR, 32)
    assert gic.cpu(RPR) == 0xFF
    assert gic.dist(0x304) == 1
    assert not gic.pending()
    gic.set_cpu(DIR, 32)
    assert gic.dist(0x304) == 0
    assert gic.pending()


def test_without_eoi_mode_dir_is_ignored() -> None:
    gic = with_spi()
    gic.inject(32)
    gic.cpu(IAR)
    gic.set_cpu(DIR, 32)
    assert gic.dist(0x304) == 1


def test_another_vcpu_may_deactivate_and_may_not_end() -> None:
    gic = with_spi()
    gic.set_cpu(CTLR, SPLIT | 1, vcpu=1)
    gic.inject(32)
    gic.cpu(IAR)
    gic.set_cpu(EOIR, 32, vcpu=1)
    assert gic.dist(0x304) == 1
    gic.set_cpu(DIR, 32, vcpu=1)
    assert gic.dist(0x304) == 0
    assert gic.cpu(RPR) == 0x80


@pytest.mark.parametrize("intid", [1020, 1022, 1023])
def test_the_end_of_a_special_number_is_ignored(intid: int) -> None:
    gic = with_spi()
    gic.inject(32)
    gic.cpu(IAR)
    gic.set_cpu(EOIR, intid)
    assert gic.cpu(RPR) == 0x80


def test_group_1_needs_ack_ctl_or_the_aliased_registers() -> None:
    gic = with_spi()
    gic.set_dist(0x084, 1)
    gic.set_cpu(CTLR, 3)
    gic.inject(32)
    assert gic.pending()
    assert gic.cpu(IAR) == gic.cpu(HPPIR) == 1022
    assert gic.cpu(AHPPIR) == 32
    assert gic.cpu(AIAR) == 32
    gic.set_cpu(AEOIR, 32)
    assert gic.cpu(RPR) == 0xFF
    gic.set_cpu(CTLR, 7)
    assert gic.cpu(HPPIR) == 32
    assert gic.cpu(IAR) == 32


def test_the_aliased_registers_do_not_take_group_0() -> None:
    gic = with_spi()
    gic.inject(32)
    assert gic.cpu(AIAR) == gic.cpu(AHPPIR) == 1023


def test_a_disabled_group_is_not_signalled() -> None:
    gic = with_spi()
    gic.inject(32)
    gic.set_cpu(CTLR, 2)
    assert not gic.pending()
    assert gic.cpu(HPPIR) == 1023


def test_fiq_en_signals_group_0_as_fiq() -> None:
    gic = with_spi()
    gic.inject(32)
    assert (gic.pending(), gic.fiq_pending()) == (True, False)
    gic.set_cpu(CTLR, 1 | 1 << 3)
    assert (gic.pending(), gic.fiq_pending()) == (False, True)


def test_a_disabled_distributor_forwards_nothing() -> None:
    gic = with_spi()
    gic.inject(32)
    gic.set_dist(0x000, 0)
    assert not gic.pending()
    assert gic.dist(0x204) == 1
    gic.set_dist(0x000, 1)
    assert gic.pending()


def test_an_interrupt_made_active_by_software_waits() -> None:
    gic = with_spi()
    gic.set_dist(0x304, 1)
    gic.inject(32)
    assert not gic.pending()
    gic.set_dist(0x384, 1)
    assert gic.pending()


def test_clearing_the_active_bit_in_a_handler_lets_the_next_one_in() -> None:
    gic = ready_gicv2()
    gic.set_dist(0xF00, 2 << 24 | 1)
    assert gic.cpu(IAR) == 1
    gic.set_dist(0x380, 1 << 1)
    assert gic.dist(0x300) == 0
    assert gic.cpu(RPR) == 0


def test_halfwords_do_not_reach_the_registers() -> None:
    gic = with_spi()
    gic.inject(32)
    assert gic.cpu(IAR, length=2) == 0
    assert gic.pending()
