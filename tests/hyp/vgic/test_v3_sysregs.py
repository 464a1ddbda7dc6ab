"""The system registers of a GICv3: taking interrupts, and sending them."""

from __future__ import annotations

import pytest

from emu.arch.fields import Encoding
from hyp.vgic.v3_sysregs import ICC_REGISTERS
from tests.hyp.vgic.rig import SYSREG, Gic, ready_gicv3

SGI_BASE = 0x1_0000
IAR, EOIR = "ICC_IAR1_EL1", "ICC_EOIR1_EL1"


def with_spis(*priorities: int) -> Gic:
    gic = ready_gicv3()
    for n, priority in enumerate(priorities):
        gic.set_dist(0x104, 1 << n)
        gic.set_dist(0x420 + n, priority, 1)
    return gic


@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        ("ICC_PMR_EL1", 0xFFFF_FFFF, 0xF8),
        ("ICC_BPR0_EL1", 0, 2),
        ("ICC_BPR0_EL1", 7, 7),
        ("ICC_BPR1_EL1", 0, 3),
        ("ICC_BPR1_EL1", 5, 5),
        ("ICC_CTLR_EL1", 0, 0x8400),
        ("ICC_CTLR_EL1", 0xFFFF_FFFF, 0x8403),
        ("ICC_SRE_EL1", 0, 7),
        ("ICC_IGRPEN0_EL1", 0xFF, 1),
        ("ICC_IGRPEN1_EL1", 0xFE, 0),
        ("ICC_AP0R0_EL1", 0xFFFF_FFFF, 0xFFFF_FFFF),
        ("ICC_AP1R0_EL1", 1, 1),
    ],
)
def test_register_holds(name: str, written: int, read: int) -> None:
    gic = Gic(3)
    gic.msr(name, written)
    assert gic.mrs(name) == read


def test_with_cbpr_the_binary_point_of_group_1_follows_that_of_group_0() -> None:
    gic = Gic(3)
    gic.msr("ICC_BPR1_EL1", 6)
    gic.msr("ICC_CTLR_EL1", 1)
    for bpr0, bpr1 in ((2, 3), (6, 7), (7, 7)):
        gic.msr("ICC_BPR0_EL1", bpr0)
        gic.msr("ICC_BPR1_EL1", 4)
        assert gic.mrs("ICC_BPR1_EL1") == bpr1
    gic.msr("ICC_CTLR_EL1", 0)
    assert gic.mrs("ICC_BPR1_EL1") == 6


@pytest.mark.parametrize(
    "name", ["ICC_IAR0_EL1", "ICC_IAR1_EL1", "ICC_RPR_EL1", "ICC_HPPIR0_EL1", "ICC_HPPIR1_EL1"]
)
def test_a_write_is_undefined(name: str) -> None:
    gic = Gic(3)
    assert not gic.vgic.write_sysreg(gic.vm.vcpus[0], SYSREG[name], 0)


@pytest.mark.parametrize(
    "name",
    ["ICC_EOIR0_EL1", "ICC_EOIR1_EL1", "ICC_DIR_EL1", "ICC_SGI1R_EL1", "ICC_SGI0R_EL1"],
)
def test_a_read_is_undefined(name: str) -> None:
    gic = Gic(3)
    assert gic.vgic.read_sysreg(gic.vm.vcpus[0], SYSREG[name]) is None


@pytest.mark.parametrize(
    "encoding", [Encoding(3, 0, 12, 8, 5), Encoding(3, 0, 12, 9, 3), Encoding(3, 0, 12, 12, 8)]
)
def test_what_five_bits_of_preemption_do_not_need_is_undefined(encoding: Encoding) -> None:
    gic = Gic(3)
    assert gic.vgic.read_sysreg(gic.vm.vcpus[0], encoding) is None
    assert not gic.vgic.write_sysreg(gic.vm.vcpus[0], encoding, 0)


def test_a_gicv2_has_no_system_registers() -> None:
    gic = Gic(2)
    for encoding in ICC_REGISTERS:
        assert gic.vgic.read_sysreg(gic.vm.vcpus[0], encoding) is None
        assert not gic.vgic.write_sysreg(gic.vm.vcpus[0], encoding, 0)


def test_without_an_interrupt_iar_is_spurious() -> None:
    gic = ready_gicv3()
    assert gic.mrs(IAR) == gic.mrs("ICC_IAR0_EL1") == gic.mrs("ICC_HPPIR1_EL1") == 1023
    assert gic.mrs("ICC_RPR_EL1") == 0xFF


def test_four_levels_nest_and_leave_no_priority_active() -> None:
    gic = with_spis(0xC0, 0x80, 0x40, 0x00)
    for intid in (32, 33, 34, 35):
        gic.inject(intid)
        assert gic.mrs(IAR) == intid
        gic.inject(intid, level=False)
    assert gic.mrs("ICC_AP1R0_EL1") == 1 << 24 | 1 << 16 | 1 << 8 | 1
    for intid, rest in ((35, 0x40), (34, 0x80), (33, 0xC0), (32, 0xFF)):
        gic.msr(EOIR, intid)
        assert gic.mrs("ICC_RPR_EL1") == rest
    assert gic.mrs("ICC_AP1R0_EL1") == 0
    assert gic.dist(0x304) == 0


def test_group_0_is_an_fiq_and_group_1_an_irq() -> None:
    gic = with_spis(0x80)
    gic.msr("ICC_IGRPEN0_EL1", 1)
    gic.inject(32)
    assert (gic.pending(), gic.fiq_pending()) == (True, False)
    assert gic.mrs("ICC_IAR0_EL1") == gic.mrs("ICC_HPPIR0_EL1") == 1023
    gic.set_dist(0x084, 0)
    assert (gic.pending(), gic.fiq_pending()) == (False, True)
    assert gic.mrs(IAR) == gic.mrs("ICC_HPPIR1_EL1") == 1023
    assert gic.mrs("ICC_IAR0_EL1") == 32
    assert (gic.mrs("ICC_AP0R0_EL1"), gic.mrs("ICC_AP1R0_EL1")) == (1 << 16, 0)


def test_the_end_in_the_other_group_drops_the_priority_and_does_not_deactivate() -> None:
    gic = with_spis(0x80)
    gic.inject(32)
    gic.mrs(IAR)
    gic.msr("ICC_EOIR0_EL1", 32)
    assert gic.mrs("ICC_RPR_EL1") == 0xFF
    assert gic.dist(0x304) == 1


def test_the_end_out_of_order_does_not_deactivate() -> None:
    gic = with_spis(0x80, 0x40)
    gic.inject(32)
    gic.mrs(IAR)
    gic.inject(33)
    gic.mrs(IAR)
    gic.msr(EOIR, 32)
    assert gic.dist(0x304) == 3
    assert gic.mrs("ICC_RPR_EL1") == 0x80


def test_the_end_of_a_special_number_is_ignored() -> None:
    gic = with_spis(0x80)
    gic.inject(32)
    gic.mrs(IAR)
    gic.msr(EOIR, 1023)
    assert gic.mrs("ICC_RPR_EL1") == 0x80


def test_with_eoi_mode_deactivation_is_a_step_of_its_own() -> None:
    gic = with_spis(0x80)
    gic.msr("ICC_DIR_EL1", 32)
    gic.msr("ICC_CTLR_EL1", 2)
    gic.inject(32)
    gic.mrs(IAR)
    gic.msr(EOIR, 32)
    assert (gic.mrs("ICC_RPR_EL1"), gic.dist(0x304)) == (0xFF, 1)
    gic.msr("ICC_DIR_EL1", 32)
    assert gic.dist(0x304) == 0
    gic.msr("ICC_DIR_EL1", 1023)
    gic.msr("ICC_DIR_EL1", 8192)


def test_a_restored_active_interrupt_can_be_ended() -> None:
    gic = with_spis(0x80)
    gic.set_dist(0x304, 1)
    gic.msr("ICC_AP1R0_EL1", 1 << 16)
    gic.msr(EOIR, 32)
    assert (gic.dist(0x304), gic.mrs("ICC_AP1R0_EL1")) == (0, 0)


@pytest.mark.parametrize(("cbpr", "preempts"), [(0, True), (1, False)])
def test_with_cbpr_group_1_preempts_by_the_binary_point_of_group_0(
    cbpr: int, preempts: bool
) -> None:
    gic = with_spis(0x88, 0x80)
    gic.msr("ICC_BPR0_EL1", 3)
    gic.msr("ICC_CTLR_EL1", cbpr)
    gic.inject(32)
    gic.mrs(IAR)
    gic.inject(33)
    assert gic.pending() is preempts


def test_the_priority_that_runs_is_that_of_the_group_of_priorities() -> None:
    gic = with_spis(0xB8)
    gic.msr("ICC_BPR1_EL1", 5)
    gic.inject(32)
    gic.mrs(IAR)
    assert gic.mrs("ICC_RPR_EL1") == 0xA0
    assert gic.mrs("ICC_AP1R0_EL1") == 1 << 20


def test_where_both_groups_run_with_one_priority_the_end_drops_group_1_first() -> None:
    gic = Gic(3)
    gic.msr("ICC_AP0R0_EL1", 1 << 16)
    gic.msr("ICC_AP1R0_EL1", 1 << 16)
    gic.msr("ICC_EOIR0_EL1", 32)
    assert (gic.mrs("ICC_AP0R0_EL1"), gic.mrs("ICC_AP1R0_EL1")) == (1 << 16, 0)


# --- SGIs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "receivers"),
    [
        (3 << 24 | 0b101, [0, 2]),
        (3 << 24 | 1 << 16 | 0b10, [17]),
        (3 << 24 | 1 << 32 | 0b1, []),
        (3 << 24 | 1 << 48 | 0b1, []),
        (3 << 24 | 0x8000, [15]),
        (3 << 24 | 1 << 40 | 0b10, [n for n in range(18) if n != 1]),
    ],
    ids=["list", "aff1", "aff2", "aff3", "last-of-a-cluster", "all-others"],
)
def test_sgi1r_sends_to(value: int, receivers: list[int]) -> None:
    gic = ready_gicv3(18)
    gic.msr("ICC_SGI1R_EL1", value, vcpu=1)
    assert [vcpu for vcpu in range(18) if gic.pending(vcpu)] == receivers
    for vcpu in receivers:
        assert gic.mrs(IAR, vcpu) == 3


@pytest.mark.parametrize(
    ("name", "group", "sent"),
    [
        ("ICC_SGI1R_EL1", 0, True),
        ("ICC_SGI1R_EL1", 1, True),
        ("ICC_SGI0R_EL1", 0, True),
        ("ICC_SGI0R_EL1", 1, False),
        ("ICC_ASGI1R_EL1", 0, True),
        ("ICC_ASGI1R_EL1", 1, False),
    ],
)
def test_an_sgi_of_a_group_is_sent_by(name: str, group: int, sent: bool) -> None:
    gic = ready_gicv3()
    gic.set_redist(SGI_BASE + 0x080, -group & 0xFFFF_FFFF)
    gic.msr(name, 9 << 24 | 1)
    assert gic.redist(SGI_BASE + 0x200) == sent << 9
