import io
from dataclasses import replace

import pytest
from rich.console import Console

from emu.arch.address import IPA, VA
from hyp.stats import Resolution, Stats, Tally
from lab.crash import CrashReport, Step
from lab.monitor import End, EndReason
from lab.result import AbortRow, DirtyPages, MachineFacts, RunResult, TlbCounts
from lab.summary import print_summary

DABT, IABT = 0x24, 0x20
TRANSLATION_L3, PERMISSION_L3, EXTERNAL = 0x07, 0x0F, 0x10


def bitmap(pages: int, *dirty: int) -> bytes:
    return sum(1 << page for page in dirty).to_bytes(pages // 8, "little")


RESULT = RunResult(
    guest="demo",
    end=End(EndReason.POWER_OFF, "PSCI SYSTEM_OFF"),
    guest_code=0,
    console="PASS\n",
    instructions=123_456,
    stats=Stats(
        aborts=Tally(
            {
                (DABT, TRANSLATION_L3, Resolution.MAPPED): 120,
                (DABT, PERMISSION_L3, Resolution.RELAXED): 6,
                (IABT, TRANSLATION_L3, Resolution.INJECTED): 1,
            }
        ),
        pages_mapped=Tally({4096: 1200, 2 << 20: 2}),
        table_pages=7,
        exits=Tally({"MMIO": 3, "INTR": 5}),
        traps=Tally({DABT: 126, IABT: 1}),
        mmio_exit_kernel=40,
        mmio_exit_user=3,
    ),
    tlb=TlbCounts(75, 25),
    host_seconds=0.5,
)


def summary(result: RunResult, width: int = 80, *, terminal: bool = False) -> str:
    stream = io.StringIO()
    print_summary(result, Console(file=stream, width=width, force_terminal=terminal))
    return stream.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_console(width: int) -> None:
    log = DirtyPages(0, IPA(0x4000_0000), 1 << 18, bitmap(1 << 18, 0))
    lines = summary(replace(RESULT, dirty=(log,)), width).splitlines()
    assert max(map(len, lines)) <= width


def test_the_facts_are_there_in_words() -> None:
    text = words(summary(RESULT))
    assert "demo powered off, exit code 0" in text
    assert "instructions 123,456 in 0.500 s (0.2 MIPS)" in text
    assert "mapped 1,200 x 4K, 2 x 2M; 7 table pages" in text
    assert "MMU 100 translations: 75 TLB hits, 25 walks" in text
    assert "traps DABT_LOW 126, IABT_LOW 1" in text
    assert "exits INTR 5, MMIO 3" in text
    assert "MMIO 40 in the hypervisor, 3 in user space" in text


def test_every_kind_of_abort_has_a_row() -> None:
    assert RESULT.aborts() == [
        AbortRow("data abort", "permission", 3, "relaxed", 6),
        AbortRow("data abort", "translation", 3, "mapped", 120),
        AbortRow("instruction abort", "translation", 3, "injected", 1),
    ]
    text = words(summary(RESULT))
    assert "data abort permission 3 relaxed 6 data abort translation 3 mapped 120" in text


def test_a_fault_without_level_and_a_reserved_code_have_rows_too() -> None:
    aborts = Tally({(DABT, EXTERNAL, Resolution.SEA): 1, (DABT, 0x3F, Resolution.FAILED): 1})
    rows = replace(RESULT, stats=Stats(aborts=aborts)).aborts()
    assert [(row.fault, row.level) for row in rows] == [
        ("FSC 0x3f", None),
        ("synchronous external abort", None),
    ]


def test_facts_and_aborts_share_lines_where_there_is_room() -> None:
    narrow, wide = (summary(RESULT, width) for width in (80, 120))
    assert len(wide.splitlines()) < len(narrow.splitlines())


def test_it_is_plain_text_unless_on_a_terminal() -> None:
    assert "\x1b" not in summary(RESULT)
    assert "\x1b[1m" in summary(RESULT, terminal=True)


def test_a_small_slot_has_one_cell_a_page_sixteen_in_a_row() -> None:
    log = DirtyPages(1, IPA(0x5000_0000), 32, bitmap(32, 0, 2, 31))
    lines = summary(replace(RESULT, dirty=(log,))).splitlines()
    assert lines[-3:] == [
        "dirty pages of slot 1  3 of 32, one cell is 4K",
        "0x5000_0000 █·█" + "·" * 13,
        "0x5001_0000 " + "·" * 15 + "█",
    ]


@pytest.mark.parametrize(("pages", "columns"), [(128, 16), (136, 32), (256, 32), (264, 64)])
def test_a_map_is_as_narrow_as_its_pages_allow(pages: int, columns: int) -> None:
    log = DirtyPages(1, IPA(0x5000_0000), pages, bitmap(pages))
    first = summary(replace(RESULT, dirty=(log,))).splitlines()[-1 - (pages - 1) // columns]
    assert first == "0x5000_0000 " + "·" * columns


def test_a_large_slot_is_drawn_in_shades_and_no_dirty_page_is_lost() -> None:
    dirty = [0, *range(64, 80), *range(96, 128)]
    log = DirtyPages(0, IPA(0x4000_0000), 16384, bitmap(16384, *dirty))
    lines = summary(replace(RESULT, dirty=(log,))).splitlines()
    assert lines[-9] == "dirty pages of slot 0  49 of 16,384, one cell is 128K"
    assert lines[-8] == "0x4000_0000 ▁·▄█" + "·" * 60
    assert lines[-7].startswith("0x4080_0000 ·")


def test_a_crash_is_shown_with_its_place_marked() -> None:
    report = CrashReport(
        what="the guest jumped away",
        pc=VA(0x4008_0004),
        el=1,
        syndrome="EL1 tried something.",
        registers=(("ESR_EL1", 0x8600_0010),),
        steps=(Step(VA(0x4008_0000), 0xD503_201F), Step(VA(0x4008_0004), None)),
        advice="look at the branch",
    )
    end = End(EndReason.STUCK, "stuck")
    result = replace(RESULT, end=end, crash=report)
    text = summary(result)
    assert result.exit_code == 3
    assert "demo makes no progress, exit code 3" in text
    assert "  0x4008_0000  nop" in text
    assert "> 0x4008_0004  (nothing to fetch)" in text
    assert "what     the guest jumped away" in text
    assert "try      look at the branch" in text


def test_an_interrupted_run_says_so() -> None:
    end = End(EndReason.INTERRUPTED, "interrupted by Ctrl-C")
    result = replace(RESULT, end=end)
    assert result.exit_code == 130
    assert "demo interrupted, exit code 130" in summary(result)


def test_the_usual_machine_is_not_mentioned() -> None:
    assert "machine" not in summary(RESULT)


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        (MachineFacts(cpus=4), "machine 4 CPUs, GICv3, 64M"),
        (MachineFacts(gic=0), "machine 1 CPU, no GIC, 64M"),
        (
            MachineFacts(virtio=("disk", "rng")),
            "machine 1 CPU, GICv3, 64M, virtio disk, virtio rng",
        ),
        (
            MachineFacts(1 << 30, 2, 2, 1536, 7, kaslr=True, quantum=1000),
            ("machine 2 CPUs, GICv2, 1G, initrd of 1536 bytes, seed 7 with KASLR, quantum 1,000"),
        ),
    ],
)
def test_another_machine_is_described(machine: MachineFacts, text: str) -> None:
    assert text in words(summary(replace(RESULT, machine=machine), 200))


def test_json_says_what_the_guest_ran_on() -> None:
    assert replace(RESULT, machine=MachineFacts(cpus=2)).as_dict()["machine"] == {
        "memory": 64 << 20,
        "cpus": 2,
        "gic": 3,
        "initrd": 0,
        "seed": 0,
        "kaslr": False,
        "quantum": 10_000,
        "virtio": (),
    }
