"""Guests that use devices: what the syndrome says, and what happens without one."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from emu.arch.address import PAGE_SIZE
from emu.arch.esr.iss import IssDataAbort
from emu.arch.registers.exceptions import ESR_EL2

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.guests.conftest import Run

DEVICE, SCRATCH, SCRATCH_OFFSET = 0x0B00_0000, 0x0B00_0100, 0x100
HOLE = 0x0B20_0000
PATTERN = 0xF1E2D3C4B5A69788
INVERSE = PATTERN ^ ((1 << 64) - 1)
SOURCE = 0x1122334455667788

# Width in bytes, offset, sign extension, 64-bit register, acquire or release, register.
LOADS = [
    (1, 0, 0, 0, 0, 0),
    (1, 3, 0, 0, 0, 0),
    (2, 6, 0, 0, 0, 0),
    (4, 0, 0, 0, 0, 0),
    (8, 0, 0, 1, 0, 0),
    (1, 0, 1, 0, 0, 0),
    (1, 0, 1, 1, 0, 0),
    (2, 0, 1, 0, 0, 0),
    (2, 0, 1, 1, 0, 0),
    (4, 0, 1, 1, 0, 0),
    (4, 4, 0, 0, 0, 0),
    (2, 2, 1, 1, 0, 0),
    (8, 8, 0, 1, 0, 0),
    (4, 4, 0, 0, 0, 0),
    (4, 0, 0, 0, 1, 0),
    (1, 0, 0, 0, 1, 0),
    (4, 0, 1, 1, 0, 0),
    (8, 0, 0, 1, 0, 31),
    (4, 0, 0, 0, 0, 31),
]
STORES = [
    (1, 0, 0, 0, 0, 0),
    (1, 7, 0, 0, 0, 0),
    (2, 2, 0, 0, 0, 0),
    (4, 4, 0, 0, 0, 0),
    (8, 0, 0, 1, 0, 0),
    (1, 5, 0, 0, 0, 0),
    (2, 2, 0, 0, 0, 0),
    (4, 0, 0, 0, 1, 0),
    (8, 0, 0, 1, 0, 0),
    (4, 4, 0, 0, 0, 31),
    (8, 0, 0, 1, 0, 31),
]


def test_the_syndrome_describes_every_load_and_store(boot: Callable[..., Run]) -> None:
    seen = [
        syndrome(fault["hsr"], fault["hxfar"])
        for fault in boot("mmio_widths").faults(DEVICE, 0x1000)[:-1]  # the last is EXIT
    ]
    setup, loads, rest = seen[:2], seen[2 : 2 + len(LOADS)], seen[2 + len(LOADS) :]
    assert [(way, width, offset) for way, width, offset, *_ in setup] == [
        ("write", 8, 0),
        ("write", 8, 8),
    ]
    assert loads == [("read", *load) for load in LOADS]
    # Each store stands between the write of the pattern and the read that checks it.
    assert rest[1::3] == [("write", *store) for store in STORES]
    assert {way for way, *_ in rest[::3]} == {"write"}
    assert {way for way, *_ in rest[2::3]} == {"read"}


def syndrome(hsr: int, far: int) -> tuple[str, int, int, int, int, int, int]:
    iss = IssDataAbort(ESR_EL2(hsr).ISS)
    assert iss.ISV
    way = "write" if iss.WnR else "read"
    return (way, 1 << iss.SAS, far - SCRATCH, int(iss.SSE), int(iss.SF), int(iss.AR), int(iss.SRT))


def test_data_of_mmio_is_as_wide_as_the_access_and_not_extended(boot: Callable[..., Run]) -> None:
    accesses = boot("mmio_widths").mmio(SCRATCH, 0x100)
    memory = PATTERN | INVERSE << 64
    assert accesses[2 : 2 + len(LOADS)] == [
        ("read", width, offset, memory >> 8 * offset & ((1 << 8 * width) - 1))
        for width, offset, *_ in LOADS
    ]
    assert accesses[2 + len(LOADS) :][1::3] == [
        ("write", width, offset, (SOURCE & ((1 << 8 * width) - 1)) if register != 31 else 0)
        for width, offset, _, _, _, register in STORES
    ]


def test_each_access_to_the_test_device_is_one_exit(boot: Callable[..., Run]) -> None:
    run = boot("mmio_widths")
    accesses = 2 + len(LOADS) + 3 * len(STORES)
    assert run.exits() == ["MMIO"] * (accesses + 1) + ["SYSTEM_EVENT"]


def test_accesses_without_syndrome_exit_as_nisv_and_come_back_as_aborts(
    boot: Callable[..., Run],
) -> None:
    run = boot("mmio_nisv")
    reported = run.named("kvm_mmio_nisv")
    assert [event["far"] - HOLE - 0x100 for event in reported] == [
        *(0, 0, 16, -1, 0, 0, -8, 0, 32, 0, 0, 0, 0)
    ]
    assert all(event["ipa"] == event["far"] for event in reported)
    assert not any(event["esr"] >> 24 & 1 for event in reported)
    assert run.exits() == ["ARM_NISV"] * 13 + ["MMIO", "SYSTEM_EVENT"]
    assert run.outcome["mmio"]["nisv"] == 13
    assert run.console == "13 external aborts\nPASS\n"


def test_without_the_capability_the_first_of_them_ends_the_run(
    boot: Callable[..., Run],
) -> None:
    from guests.catalogue import find  # noqa: PLC0415  # only here

    run = boot(str(find("mmio_nisv").image), status=3)
    assert run.outcome["end"] == "crashed"
    assert "ENOSYS" in run.outcome["detail"]
    assert len(run.named("kvm_mmio_nisv")) == 1
    assert run.named("kvm_userspace_exit")[-1]["errno"] == -38


def test_the_console_is_served_in_the_kernel_and_the_exit_code_by_user_space(
    boot: Callable[..., Run],
) -> None:
    run = boot("hello")
    assert run.outcome["mmio"]["kernel"] == len(run.console)
    assert run.outcome["mmio"]["user"] == 1
    assert run.exits() == ["MMIO", "SYSTEM_EVENT"]
    assert run.mmio(DEVICE, 0x1000) == [("write", 4, 0, 0)]


def test_one_mmio_write_leaves_its_events_in_the_kernels_order(boot: Callable[..., Run]) -> None:
    events = boot("hello").events
    at = next(n for n, event in enumerate(events) if event["event"] == "kvm_userspace_exit")
    assert [event["event"] for event in events[at - 3 : at + 2]] == [
        "kvm_exit",
        "kvm_guest_fault",
        "kvm_mmio",
        "kvm_userspace_exit",
        "kvm_entry",
    ]


def test_pages_that_a_device_wrote_are_dirty_without_a_store(boot: Callable[..., Run]) -> None:
    run = boot("virtio_rng")
    slot, first = 0x5000_0000, hashlib.sha256(bytes(16)).digest()
    assert run.console.startswith(f"{int.from_bytes(first[:8], 'little'):#x} ... ")
    assert run.outcome["dirty"][0]["dirty"] == [slot + page * PAGE_SIZE for page in (0, 1, 4, 5)]
    assert [abort for abort in run.aborts(slot, 16 * PAGE_SIZE) if "write" in abort] == [
        f"write translation L2 {slot:#x}"
    ]
    levels = [e["level"] for e in run.named("vgic_update_irq_pending") if e["irq"] == 48]
    assert levels == [True, False] * 2
