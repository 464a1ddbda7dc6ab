"""Guests that take interrupts, and guests on several CPUs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from emu.arch.esr.classes import ExceptionClass

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.guests.conftest import Run

GICS = ["2", "3"]
VIRTUAL_TIMER, PHYSICAL_TIMER, UART_INTERRUPT = 27, 30, 33
UART = 0x0900_0000
GICD_SGIR, GICC_IAR, GICC_EOIR = 0x0800_0F00, 0x0801_000C, 0x0801_0010
SMP = ["ipi", "smp_lock", "smp_tlbi"]


def levels(run: Run, intid: int) -> list[bool]:
    """Return the levels that the GIC was told of an interrupt."""
    return [e["level"] for e in run.named("vgic_update_irq_pending") if e["irq"] == intid]


@pytest.mark.parametrize("gic", GICS)
def test_both_timers_interrupt(boot: Callable[..., Run], gic: str) -> None:
    run = boot("timer_irq", "--gic", gic)
    assert run.console == "7 virtual, 5 physical\nPASS\n"
    assert len([e for e in run.named("kvm_wfx_arm64") if not e["is_wfe"]]) == 10


@pytest.mark.parametrize("gic", GICS)
@pytest.mark.parametrize(("intid", "times"), [(VIRTUAL_TIMER, 8), (PHYSICAL_TIMER, 5)])
def test_the_line_of_a_timer_rises_once_for_each_expiry_and_falls_again(
    boot: Callable[..., Run], gic: str, intid: int, times: int
) -> None:
    # The virtual timer's line falls once before the guest takes the interrupt.
    assert levels(boot("timer_irq", "--gic", gic), intid) == [True, False] * times


def test_only_the_physical_timers_registers_trap(boot: Callable[..., Run]) -> None:
    run = boot("timer_irq", "--gic", "2")
    system = [e for e in run.named("kvm_exit") if e["esr_ec"] == ExceptionClass.SYS64]
    # CNTP_TVAL, CNTP_CTL and the handler's CNTP_CTL in five rounds; ID_AA64PFR0_EL1 once.
    assert len(system) == 5 * 3 + 1


@pytest.mark.parametrize("gic", GICS)
def test_the_uart_interrupts_behind_every_character(boot: Callable[..., Run], gic: str) -> None:
    run = boot("uart_irq", "--gic", gic)
    text = "sent by interrupts\n"
    assert run.console == f"{text}{len(text)} interrupts\nPASS\n"
    # ICR lowers the line, the next character raises it; at the end it stays low.
    assert levels(run, UART_INTERRUPT) == [True, False] * len(text)


@pytest.mark.parametrize("gic", GICS)
@pytest.mark.parametrize("smp", [2, 3, 4, 8])
def test_cpus_pass_tokens_by_interrupt(boot: Callable[..., Run], gic: str, smp: int) -> None:
    run = boot("ipi", "--gic", gic, "--smp", str(smp))
    assert run.console == f"{smp} CPUs, {3 * smp} tokens\nPASS\n"


def test_ipi_says_what_it_lacks(boot: Callable[..., Run]) -> None:
    assert "--smp" in boot("ipi", "--smp", "1", status=1).console


def test_an_sgi_of_a_gicv2_is_a_store_and_one_of_a_gicv3_a_trap(boot: Callable[..., Run]) -> None:
    sgis = 4 * 3 + 3  # three rounds of four tokens, and three stops
    assert len(boot("ipi", "--gic", "2").mmio(GICD_SGIR, 4)) == sgis
    assert boot("ipi", "--gic", "3").mmio(GICD_SGIR, 4) == []


def test_each_interrupt_that_is_taken_is_ended(boot: Callable[..., Run]) -> None:
    run = boot("ipi", "--gic", "2")
    taken = [value & 0x3FF for _, _, _, value in run.mmio(GICC_IAR, 4)]
    ended = [value & 0x3FF for _, _, _, value in run.mmio(GICC_EOIR, 4)]
    assert [intid for intid in taken if intid < 1020] == ended
    assert len(ended) == 15


QUANTA = [
    ("--quantum", "1"),
    ("--quantum", "2"),
    ("--quantum", "3", "--seed", "1"),
    ("--quantum", "17"),
    ("--quantum", "100", "--seed", "2"),
    ("--quantum", "100", "--seed", "3"),
    ("--quantum", "1000000"),
]


@pytest.mark.parametrize("options", QUANTA, ids=" ".join)
def test_a_lock_excludes_others_in_any_schedule(
    boot: Callable[..., Run], options: tuple[str, ...]
) -> None:
    assert boot("smp_lock", *options).console == "4 CPUs, 200 rounds\nPASS\n"


@pytest.mark.parametrize("options", QUANTA[3:], ids=" ".join)
def test_maintenance_reaches_other_cpus_in_any_schedule(
    boot: Callable[..., Run], options: tuple[str, ...]
) -> None:
    assert boot("smp_tlbi", *options).console == "8 rounds\nPASS\n"


@pytest.mark.parametrize("options", [QUANTA[2], QUANTA[4]], ids=" ".join)
@pytest.mark.parametrize("gic", GICS)
def test_interrupts_are_passed_in_any_schedule(
    boot: Callable[..., Run], gic: str, options: tuple[str, ...]
) -> None:
    assert boot("ipi", "--gic", gic, *options).console == "4 CPUs, 12 tokens\nPASS\n"


@pytest.mark.parametrize("name", SMP)
def test_the_same_seed_gives_the_same_trace_and_another_one_another(
    boot: Callable[..., Run], name: str
) -> None:
    first, again, other = (boot(name, "--quantum", "50", "--seed", seed) for seed in "448")
    assert first.trace == again.trace
    assert first.trace != other.trace
    assert first.console == other.console


def test_new_code_and_mappings_cost_no_stage_2_abort(boot: Callable[..., Run]) -> None:
    run = boot("smp_tlbi")
    faults = [e for e in run.named("kvm_guest_fault") if e["ipa"] >= 0x4000_0000]
    pages = [(e["ipa"] & ~0xFFF, e["hsr"]) for e in faults]
    assert len(pages) == len(set(pages))


def test_the_events_of_each_cpu_are_in_the_order_of_its_instructions(
    boot: Callable[..., Run],
) -> None:
    run = boot("ipi", "--quantum", "50", "--seed", "1")
    for cpu in range(4):
        times = [e["time"] for e in run.events if e.get("vcpu") == cpu]
        assert times
        assert all(a <= b for a, b in pairwise(times))
