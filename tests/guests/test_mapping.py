"""Guests that touch memory: how many aborts a page takes, of which kind, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.guests.conftest import Run

RAM = 0x4000_0000
UNTOUCHED, SIZE = 0x4100_0000, 0x0100_0000
PAGE, BLOCK = 0x1000, 0x20_0000


def test_first_touch_takes_one_abort_a_page(boot: Callable[..., Run]) -> None:
    expected = [f"write translation L3 {UNTOUCHED + n * PAGE:#x}" for n in range(8)]
    expected += [f"read translation L3 {UNTOUCHED + (16 + n) * PAGE:#x}" for n in range(8)]
    expected += [f"read translation L3 {UNTOUCHED + (32 + n) * PAGE:#x}" for n in range(8)]
    expected[0] = f"write translation L2 {UNTOUCHED:#x}"
    assert boot("first_touch").aborts(UNTOUCHED, SIZE) == expected


def test_with_a_dirty_log_a_write_to_a_page_that_was_read_faults_again(
    boot: Callable[..., Run],
) -> None:
    aborts = boot("first_touch", "--dirty-log").aborts(UNTOUCHED, SIZE)
    assert len(aborts) == 32
    assert aborts[24:] == [
        f"write permission L3 {UNTOUCHED + (32 + n) * PAGE:#x}" for n in range(8)
    ]


def test_hello_touches_its_pages_in_order(
    boot: Callable[..., Run], segments: Callable[[str], list[tuple[int, int]]]
) -> None:
    (code, _), (constants, _), (data, size) = segments("hello")
    stack = data + size - PAGE
    assert boot("hello").aborts(RAM, BLOCK) == [
        f"fetch translation L1 {code:#x}",
        f"write translation L3 {data:#x}",
        f"fetch translation L3 {code + PAGE:#x}",
        f"write translation L3 {stack:#x}",
        f"read translation L3 {constants:#x}",
    ]


def test_hello_starts_at_the_entry_with_the_first_fetch(boot: Callable[..., Run]) -> None:
    first = boot("hello").faults()[0]
    assert first["vcpu_pc"] == first["hxfar"] == first["ipa"] == RAM + 0x8_0000


def test_a_data_page_becomes_executable_at_the_first_fetch(boot: Callable[..., Run]) -> None:
    assert boot("exec_data").aborts(UNTOUCHED, SIZE) == [
        f"write translation L2 {UNTOUCHED:#x}",
        f"fetch permission L3 {UNTOUCHED:#x}",
        f"fetch translation L3 {UNTOUCHED + 0x1_0000:#x}",
    ]


def test_with_dic_every_page_is_executable_at_once(boot: Callable[..., Run]) -> None:
    assert boot("exec_data", "--dic").aborts(UNTOUCHED, SIZE) == [
        f"write translation L2 {UNTOUCHED:#x}",
        f"fetch translation L3 {UNTOUCHED + 0x1_0000:#x}",
    ]


def test_rewriting_its_own_code_takes_no_abort(
    boot: Callable[..., Run], segments: Callable[[str], list[tuple[int, int]]]
) -> None:
    code, size = segments("self_modify")[0]
    aborts = boot("self_modify").aborts(code, size)
    assert len(aborts) == len(range(0, size, PAGE))
    assert all(abort.startswith("fetch translation") for abort in aborts)


def test_an_access_across_two_pages_faults_on_each_with_its_own_address(
    boot: Callable[..., Run],
) -> None:
    run = boot("cross_page")
    pages = UNTOUCHED + 0x10_0000
    accesses = [("read", 4), ("write", 3), ("write", 1), ("write", 8)]
    assert run.aborts(pages, BLOCK) == [
        f"{access} translation L3 {pages + (2 * n + half) * PAGE:#x}"
        for n, (access, _) in enumerate(accesses)
        for half in (0, 1)
    ]
    faults = run.faults(pages, BLOCK)
    for n, (_, before) in enumerate(accesses):
        border = pages + (2 * n + 1) * PAGE
        first, second = faults[2 * n : 2 * n + 2]
        assert (first["hxfar"], second["hxfar"]) == (border - before, border)
        assert first["vcpu_pc"] == second["vcpu_pc"]


def test_exclusives_fault_once_as_a_read_and_once_as_a_write(boot: Callable[..., Run]) -> None:
    run = boot("exclusive")
    pages = [UNTOUCHED + 0x10_0000 + n * PAGE for n in range(4)]
    assert run.aborts(pages[0], 4 * PAGE) == [
        f"{abort} L3 {page:#x}"
        for page in pages
        for abort in ("read translation", "write permission")
    ]
    assert not any(fault["hsr"] >> 24 & 1 for fault in run.faults(pages[0], 4 * PAGE))


def test_huge_backing_maps_blocks(boot: Callable[..., Run]) -> None:
    run = boot("huge")
    assert run.aborts(RAM, BLOCK) == [f"fetch translation L1 {RAM + 0x8_0000:#x}"]
    assert run.aborts(UNTOUCHED, SIZE) == [
        f"write translation L2 {UNTOUCHED + n * BLOCK:#x}" for n in range(4)
    ]
    assert run.outcome["pages_mapped"] == {"2M": 5}


def test_small_backing_maps_pages(boot: Callable[..., Run]) -> None:
    aborts = boot("huge", "--backing", "4K").aborts(UNTOUCHED, SIZE)
    assert len(aborts) == 64
    assert sum("translation L2" in abort for abort in aborts) == 4
    assert sum("translation L3" in abort for abort in aborts) == 60


def test_a_read_only_slot_turns_writes_into_exits(boot: Callable[..., Run]) -> None:
    run, rom = boot("rom_write"), 0x5000_0000
    assert run.aborts(rom, 0x1_0000) == [
        f"read translation L2 {rom:#x}",
        f"write permission L3 {rom:#x}",
        f"write translation L3 {rom + 0x8000:#x}",
        f"read translation L3 {rom + 0x8000:#x}",
        f"write permission L3 {rom + 0x8000:#x}",
    ]
    assert run.mmio(rom, 0x1_0000) == [
        ("write", 8, 0, (1 << 64) - 1),
        ("write", 4, 0x8010, 0x1234),
        ("write", 1, 0x8FFF, 0xAB),
    ]
    assert run.exits() == ["MMIO"] * 4 + ["SYSTEM_EVENT"]


def test_the_dirty_log_is_the_picture_in_the_source(boot: Callable[..., Run]) -> None:
    run, slot = boot("dirty_pattern"), 0x5000_0000
    picture = picture_of("dirty_pattern")
    aborts = run.aborts(slot, len(picture) * PAGE)
    words = {"#": "write", ".": "read"}
    assert [abort.split()[0] for abort in aborts] == [words[cell] for cell in picture]
    assert [abort.split()[-1] for abort in aborts] == [
        f"{slot + n * PAGE:#x}" for n in range(len(picture))
    ]
    (log,) = run.outcome["dirty"]
    assert (log["slot"], log["pages"]) == (1, 128)
    assert log["dirty"] == [slot + n * PAGE for n, cell in enumerate(picture) if cell == "#"]


def picture_of(name: str) -> str:
    from guests.catalogue import find  # noqa: PLC0415  # only here

    quoted = [line.strip().strip(';"') for line in find(name).source.read_text().splitlines()]
    return "".join(row for row in quoted if row and set(row) <= {"#", "."})
