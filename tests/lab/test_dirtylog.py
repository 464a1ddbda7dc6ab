"""``stage2 run`` collects the dirty log while the guest runs, and copies memory by it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from hyp.dirty_log import DirtyLog
from lab.cli import cli
from lab.config import PROFILES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hyp.memslots import MemorySlot
    from hyp.vcpu import VCPU

RAM = 0x4000_0000
TOUCHED = 0x4100_0000
X1_TOUCHED = 0xD2A82001  # mov x1, #0x41000000
STORE = 0xF9000023  # str x3, [x1]
NEXT_PAGE = 0x91400421  # add x1, x1, #0x1000
COUNT_DOWN = 0xF1000463  # subs x3, x3, #1
SYSTEM_OFF = (0xD2800100, 0xF2B08000, 0xD4000002)  # mov x0, #8; movk x0, #0x8400, lsl 16; hvc #0
NOP = 0xD503201F

MODES = {
    "bitmap": (),
    "manual": ("--dirty-protect", "manual"),
    "initially set": ("--dirty-protect", "initially-set"),
    "ring": ("--dirty-ring", "256"),
    "eager split": ("--eager-split", "2M"),
    "manual, split": ("--dirty-protect", "manual", "--eager-split", "1G"),
    "initially set, split": ("--dirty-protect", "initially-set", "--eager-split", "2M"),
    "ring, split": ("--dirty-ring", "256", "--eager-split", "4K"),
}


NEWEST = PROFILES[-1]
"""The only profile with rings and eager splitting."""


def x3(value: int) -> int:
    """Return ``mov x3, #value``."""
    return 0xD2800003 | value << 5


def writes(pages: int) -> tuple[int, ...]:
    """Return a loop of four instructions a page that stores to each of so many pages."""
    return (X1_TOUCHED, x3(pages), STORE, NEXT_PAGE, COUNT_DOWN, 0x54FFFFA1)  # b.ne .-12


def outcome(*arguments: str | Path, status: int = 0) -> dict[str, Any]:
    result = CliRunner().invoke(cli, ["run", *map(str, arguments), "--dirty-log", "--json"])
    assert result.exit_code == status, result.stderr
    facts: dict[str, Any] = json.loads(result.stdout)
    return facts


def rounds(facts: dict[str, Any]) -> list[int]:
    """Return the pages of each round."""
    return [entry["pages"] for entry in facts["harvest"]["rounds"]]


@pytest.mark.parametrize("mode", ["bitmap", "manual", "ring"])
def test_each_round_holds_the_pages_written_since_the_last_one(
    program: Callable[..., Path], mode: str
) -> None:
    path = program(*writes(30), *writes(30), *SYSTEM_OFF)
    facts = outcome(path, "--harvest-every", "40", *MODES[mode])
    # Two instructions, then a page each four; the second pass writes the same pages again.
    assert rounds(facts) == [10, 10, 10, 9, 10, 10, 1]
    assert [entry["instructions"] for entry in facts["harvest"]["rounds"]] == [
        *range(40, 241, 40),
        247,
    ]
    assert facts["dirty"][0]["dirty"] == [TOUCHED + page * 0x1000 for page in range(30)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("backing", ["private", "2M"])
def test_the_copy_made_by_the_log_equals_memory(
    program: Callable[..., Path], mode: str, backing: str
) -> None:
    path = program(*writes(30), *writes(40), *writes(5), *SYSTEM_OFF)
    for after in ("0", "77"):
        options = ("--backing", backing, "--harvest-every", "50", "--dirty-after", after)
        facts = outcome(path, *options, *MODES[mode])
        assert facts["harvest"]["copy_is_equal"]
        assert facts["harvest"]["lost"] == []


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        *((mode, profile) for mode in ("bitmap", "initially set") for profile in PROFILES),
        *((mode, NEWEST) for mode in ("ring", "initially set, split")),
    ],
)
def test_no_year_of_kvm_loses_a_page(program: Callable[..., Path], profile: str, mode: str) -> None:
    path = program(*writes(30), *writes(30), *SYSTEM_OFF)
    options = ("--backing", "thp", "--harvest-every", "50", "--dirty-after", "60")
    assert outcome(path, *options, *MODES[mode], "--kvm-profile", profile)["harvest"]["lost"] == []


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != NEWEST])
@pytest.mark.parametrize(
    ("options", "capability"),
    [
        (MODES["ring"], "DIRTY_LOG_RING_ACQ_REL"),
        (MODES["eager split"], "ARM_EAGER_SPLIT_CHUNK_SIZE"),
    ],
)
def test_what_came_later_is_refused_to_an_older_profile(
    options: tuple[str, ...], capability: str, profile: str
) -> None:
    arguments = ["run", "hello", "--dirty-log", *options, "--kvm-profile", profile]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert result.stderr == (
        f"stage2: error: the hypervisor refuses: KVM of {profile} has no capability {capability}; "
        "use profile 2026 (EINVAL)\n"
    )


@pytest.mark.parametrize("mode", ["bitmap", "ring"])
def test_a_page_that_the_log_misses_is_named_and_fails_the_run(
    program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    mark = DirtyLog.mark_page_dirty_in_slot

    def forgetful(log: DirtyLog, slot: MemorySlot, gfn: int, vcpu: VCPU | None) -> None:
        if gfn << 12 != TOUCHED + 0x3000:
            mark(log, slot, gfn, vcpu)

    monkeypatch.setattr(DirtyLog, "mark_page_dirty_in_slot", forgetful)
    path = program(*writes(8), *SYSTEM_OFF)
    options = ("--harvest-every", "1000", *MODES[mode])
    facts = outcome(path, *options, status=3)
    assert not facts["harvest"]["copy_is_equal"]
    assert facts["harvest"]["lost"] == [TOUCHED + 0x3000]
    result = CliRunner().invoke(cli, ["run", str(path), "--dirty-log", *options])
    assert "1 pages LOST, the first at 0x4100_3000" in result.stderr


def test_a_ring_that_fills_up_is_a_round_of_its_own(program: Callable[..., Path]) -> None:
    facts = outcome(program(*writes(300), *SYSTEM_OFF), "--harvest-every", "100000", *MODES["ring"])
    assert facts["exits"]["DIRTY_RING_FULL"] == 1
    # The store that made the ring full had not been done yet: its page faults once more.
    assert rounds(facts) == [192, 109]
    assert facts["harvest"]["copy_is_equal"]


def test_all_pages_start_dirty_where_asked(program: Callable[..., Path]) -> None:
    path = program(*writes(3), *SYSTEM_OFF)
    facts = outcome(path, "--mem", "32M", "--harvest-every", "8", *MODES["initially set"])
    assert rounds(facts) == [8192, 1, 0]
    assert len(facts["dirty"][0]["dirty"]) == 8192


def test_manual_protection_gives_the_same_pages_at_the_end(program: Callable[..., Path]) -> None:
    path = program(*writes(3), *SYSTEM_OFF)
    assert outcome(path, *MODES["manual"])["dirty"] == outcome(path)["dirty"]


def test_without_a_period_there_are_no_rounds_to_show(program: Callable[..., Path]) -> None:
    assert outcome(program(*SYSTEM_OFF))["harvest"] is None


def test_logging_may_start_when_memory_is_mapped_already(program: Callable[..., Path]) -> None:
    path = program(*writes(10), *writes(3), *SYSTEM_OFF)
    facts = outcome(path, "--dirty-after", "42")
    assert facts["dirty"][0]["dirty"] == [TOUCHED + page * 0x1000 for page in range(3)]
    permission = [row for row in facts["aborts"] if row["fault"] == "permission"]
    assert [row["times"] for row in permission] == [3]


def test_a_guest_that_ends_before_logging_starts_wrote_nothing(
    program: Callable[..., Path],
) -> None:
    path = program(*writes(10), *SYSTEM_OFF)
    facts = outcome(path, "--dirty-after", "1000", "--harvest-every", "10")
    assert facts["dirty"][0]["dirty"] == []
    assert facts["harvest"] == {"rounds": [], "copy_is_equal": True, "lost": []}


@pytest.mark.parametrize(
    ("options", "pages", "levels"),
    [
        # A write breaks the block (a fault at level 2); its neighbours fault again.
        ((), {"2M": 2, "4K": 4}, {2}),
        # The pages are there already, read-only.
        (("--eager-split", "2M"), {"2M": 2}, {3}),
        (("--eager-split", "1G"), {"2M": 2}, {3}),
    ],
)
def test_blocks_are_split_by_faults_or_when_logging_starts(
    program: Callable[..., Path],
    options: tuple[str, ...],
    pages: dict[str, int],
    levels: set[int],
) -> None:
    path = program(*writes(10), *writes(4), *SYSTEM_OFF)
    facts = outcome(path, "--backing", "2M", "--dirty-after", "42", *options)
    assert facts["pages_mapped"] == pages
    permission = [row for row in facts["aborts"] if row["fault"] == "permission"]
    assert {row["level"] for row in permission} == levels


def test_equal_runs_have_equal_rounds(program: Callable[..., Path]) -> None:
    path = program(*writes(30), *SYSTEM_OFF)
    first, second = (outcome(path, "--harvest-every", "7") for _ in range(2))
    assert first["harvest"] == second["harvest"]


def test_a_guest_that_crashes_is_harvested_to_its_end(program: Callable[..., Path]) -> None:
    facts = outcome(program(*writes(10), 0), "--harvest-every", "10", status=3)
    assert facts["harvest"]["copy_is_equal"]
    assert sum(rounds(facts)) == 10


def test_the_summary_shows_the_rounds(program: Callable[..., Path]) -> None:
    path = program(*writes(30), *SYSTEM_OFF)
    arguments = ["run", str(path), "--dirty-log", "--harvest-every"]
    short = CliRunner().invoke(cli, [*arguments, "50"]).stderr
    assert "3 rounds, pages: 12, 13, 5 " in short
    assert "made by the log alone, equal to the guest's memory" in short
    long = CliRunner().invoke(cli, [*arguments, "5"]).stderr
    assert "25 rounds, pages: 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, ..." in long


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ("--dirty-protect", "manual"),
            "--dirty-protect has nothing to record; add --dirty-log, or log to a --slot",
        ),
        (
            ("--eager-split", "2M"),
            "--eager-split has nothing to record; add --dirty-log, or log to a --slot",
        ),
        (
            ("--harvest-every", "100"),
            "--harvest-every has nothing to record; add --dirty-log, or log to a --slot",
        ),
        (
            ("--dirty-after", "100"),
            "--dirty-after has nothing to record; add --dirty-log, or log to a --slot",
        ),
        (("--dirty-log", "--eager-split", "3M"), "--eager-split is one of 0, 4K, 2M, 1G, not 3M"),
        (("--dirty-log", "--eager-split", "64K"), "--eager-split is one of 0, 4K, 2M, 1G, not 64K"),
        (
            ("--dirty-log", "--eager-split", "1"),
            "--eager-split is one of 0, 4K, 2M, 1G, not 1 byte",
        ),
        (
            ("--dirty-log", "--dirty-ring", "256", "--dirty-protect", "manual"),
            (
                "--dirty-protect manual is for bitmaps, a ring protects its pages when it is "
                "reset; use auto, or leave out --dirty-ring"
            ),
        ),
        (
            ("--dirty-log", "--dirty-ring", "256", "--dirty-protect", "initially-set"),
            (
                "--dirty-protect initially-set is for bitmaps, a ring protects its pages when it "
                "is reset; use auto, or leave out --dirty-ring"
            ),
        ),
        (
            ("--dirty-log", "--dirty-protect", "never"),
            (
                "Invalid value for '--dirty-protect': 'never' is not one of 'auto', 'manual', "
                "'initially-set'"
            ),
        ),
        (
            ("--dirty-log", "--harvest-every", "-1"),
            "--harvest-every is a number such as 500K, 2G or 1000, not '-1'",
        ),
        (
            ("--dirty-log", "--dirty-after", "soon"),
            "--dirty-after is a number such as 500K, 2G or 1000, not 'soon'",
        ),
    ],
)
def test_a_dirty_log_that_cannot_be_is_refused_in_one_line(
    options: tuple[str, ...], text: str
) -> None:
    result = CliRunner().invoke(cli, ["run", "hello", *options])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"stage2: error: {text}")
    assert result.stderr.count("\n") == 1
