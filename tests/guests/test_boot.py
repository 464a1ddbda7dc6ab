"""Guests about being started, calling the hypervisor and waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.guests.conftest import Run

RAM = 0x4000_0000
SYSTEM_OFF = 0x8400_0008


def test_an_image_is_entered_at_its_first_byte_2_mib_into_ram(boot: Callable[..., Run]) -> None:
    run = boot("image_boot")
    assert run.faults()[0]["vcpu_pc"] == RAM + 0x20_0000
    assert run.console.startswith("image at 0x40200000, device tree at 0x4")


def test_a_flat_binary_is_entered_at_its_first_byte(boot: Callable[..., Run]) -> None:
    run = boot("flat_boot", "--append", "two words")
    assert run.faults()[0]["vcpu_pc"] == RAM + 0x8_0000
    assert "\nbootargs: two words\n" in run.console


def test_every_call_is_one_hvc_that_returns_behind_itself(boot: Callable[..., Run]) -> None:
    run = boot("psci")
    calls = run.named("kvm_hvc_arm64")
    assert [call["r0"] for call in calls] == [
        *(0x8400_0000, 0x8400_000A, 0x8400_FFFF, 0xC400_0004, 0xC400_0003, SYSTEM_OFF)
    ]
    entries = [event["vcpu_pc"] for event in run.named("kvm_entry")]
    assert all(call["vcpu_pc"] in entries for call in calls[:-1])


def test_waiting_traps_and_the_timer_ends_it(boot: Callable[..., Run]) -> None:
    run = boot("wfi_time")
    waits = run.named("kvm_wfx_arm64")
    assert waits
    assert not any(wait["is_wfe"] for wait in waits)
    assert run.console.endswith(f" {len(waits)} WFI\nPASS\n")
