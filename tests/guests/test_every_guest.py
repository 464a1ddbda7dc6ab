"""What holds for every bundled guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guests.catalogue import all_guests

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.guests.conftest import Run

UART = 0x0900_0000
DATA_REGISTER = 4
"""Its size: but for one guest, it is the only register that guests use."""
RAM, IMAGE_AREA = 0x4000_0000, 0x0100_0000
NAMES = [guest.name for guest in all_guests()]


@pytest.mark.parametrize("name", NAMES)
def test_it_passes_and_stays_small(boot: Callable[..., Run], name: str) -> None:
    run = boot(name)
    assert run.console.endswith("\nPASS\n")
    assert (run.outcome["end"], run.outcome["guest_code"]) == ("power_off", 0)
    assert run.outcome["instructions"] < 2_000_000
    assert run.exits()[-1] == "SYSTEM_EVENT"


@pytest.mark.parametrize("name", NAMES)
def test_two_runs_leave_the_same_trace_byte_for_byte(boot: Callable[..., Run], name: str) -> None:
    assert boot(name).trace == boot(name).trace


@pytest.mark.parametrize("name", NAMES)
def test_every_character_is_one_store_with_a_valid_syndrome(
    boot: Callable[..., Run], name: str
) -> None:
    run = boot(name)
    stores = run.mmio(UART, 0x1000 if name != "uart_irq" else DATA_REGISTER)
    assert stores == [("write", 4, 0, ord(character)) for character in run.console]
    assert all(fault["hsr"] >> 24 & 1 for fault in run.faults(UART, 0x1000))


@pytest.mark.parametrize("name", NAMES)
def test_no_page_of_the_image_faults_twice_for_translation(
    boot: Callable[..., Run], name: str
) -> None:
    faults = [abort for abort in boot(name).aborts(RAM, IMAGE_AREA) if "translation" in abort]
    pages = [abort.rpartition(" ")[2] for abort in faults]
    assert len(pages) == len(set(pages))
