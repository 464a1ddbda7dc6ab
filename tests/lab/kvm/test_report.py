"""What the VMM under KVM printed, read; events made comparable; two runs compared."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA, VA
from hyp.events import KvmAccessFault, KvmEntry, KvmUserspaceExit
from hyp.exits import ExitReason
from lab.errors import UserError
from lab.kvm.compare import compare
from lab.kvm.known import comparable
from lab.kvm.report import Report, dirty_event, parse

FAULT = "kvm_guest_fault: ipa 0x1000, hsr 0x82000005, hxfar 0x1000, pc 0x00000000001000"
CONSOLE = f"""\
[    0.1] noise of the kernel
@kernel 6.1.0-50-arm64
@begin hello/plain
@trace {FAULT}
@trace kvm_userspace_exit: reason KVM_EXIT_MMIO (6)
@trace kvm_userspace_exit: reason restart (4)
@trace tracing_mark_write: dirty_log: slot 0, pages 3-7
@trace kvm_userspace_exit: reason KVM_EXIT_SYSTEM_EVENT (24)
@dirty 0 7 8
@dirty 1 300 300
@ran 1500000 42
@begin hello/log-eager
@lacks 229
@done
"""


def test_report_holds_the_events_that_count_and_the_dirty_pages() -> None:
    whole = parse(CONSOLE)
    assert whole.release == "6.1.0-50-arm64"
    assert list(whole.runs) == ["hello/plain", "hello/log-eager"]
    report = whole.runs["hello/plain"]
    assert report.events == [
        FAULT,
        dirty_event(0, 3, 7),
        "kvm_userspace_exit: reason KVM_EXIT_SYSTEM_EVENT (24)",
    ]
    assert report.dirty == {(0, 7), (0, 8), (1, 300)}
    assert (report.nanoseconds, report.exits) == (1500000, 42)


def test_what_kvm_lacks_is_noted_for_that_run_alone() -> None:
    runs = parse(CONSOLE).runs
    assert [run.lacks for run in runs.values()] == [None, 229]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            "@error KVM_RUN: Bad address",
            "the VMM under KVM failed at hello/log-eager: KVM_RUN: Bad address",
        ),
        ("@gave-up", "hello/log-eager under KVM does not come to an end"),
        ("@lost CPU:0 [LOST 12 EVENTS]", "LOST 12 EVENTS"),
        ("", "ended early"),
    ],
)
def test_a_run_that_did_not_end_well_is_refused(line: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        parse(CONSOLE.replace("@done", line))


def test_only_what_the_other_side_traces_is_heard() -> None:
    ours = Report()
    ours.hear(KvmEntry(0, 0, VA(0)))
    ours.hear(KvmAccessFault(0, 0, IPA(0x1000)))
    ours.hear(KvmUserspaceExit(0, 0, ExitReason.MMIO, 0))
    ours.hear(KvmUserspaceExit(0, 0, ExitReason.SYSTEM_EVENT, 0))
    assert ours.events == [
        "kvm_access_fault: IPA: 1000",
        "kvm_userspace_exit: reason KVM_EXIT_SYSTEM_EVENT (24)",
    ]


def test_level_and_direction_of_a_fault_on_a_walk_are_left_out() -> None:
    (walk,) = comparable(["kvm_guest_fault: ipa 0x1000, hsr 0x920000c7, hxfar 0x0, pc 0x0"])
    assert walk == "kvm_guest_fault: ipa 0x1000, hsr 0x92000084, hxfar 0x0, pc 0x0"
    assert comparable([FAULT]) == [FAULT]


def character(letter: str) -> list[str]:
    return [
        "kvm_guest_fault: ipa 0x9000000, hsr 0x93880045, hxfar 0x9000000, pc 0x0",
        f"kvm_mmio: mmio write len 4 gpa 0x9000000 val {ord(letter):#x}",
    ]


def test_console_is_compared_by_lines() -> None:
    events = [*character("a"), *character("\n"), *character("b"), FAULT, *character("c")]
    assert comparable(events) == [
        "console: 'a\\n'", "console: 'b'", FAULT, "console: 'c'",
    ]  # fmt: skip


def test_what_a_clock_decides_is_left_out_of_the_console() -> None:
    ours, theirs = (
        [
            event
            for letter in f"{hertz} Hz, 1000 ticks, {waits} WFI\n"
            for event in character(letter)
        ]
        for hertz, waits in ((100000000, 1), (62500000, 2))
    )
    assert comparable(ours) == comparable(theirs) == ["console: 'n Hz, 1000 ticks, n WFI\\n'"]
    assert comparable(character("1")) != comparable(character("2"))


def test_equal_runs_are_the_same() -> None:
    comparison = compare(Report([FAULT], {(0, 1)}), Report([FAULT], {(0, 1)}))
    assert comparison.same
    assert (comparison.equal, comparison.dirty_equal) == (1, 1)


def test_differences_are_shown_where_they_are() -> None:
    comparison = compare(
        Report(["x", "y", "z"], {(0, 1), (0, 2)}), Report(["x", "z", "w"], {(0, 2)})
    )
    assert not comparison.same
    assert [tuple(part) for part in comparison.parts] == [(1, ("y",), ()), (3, (), ("w",))]
    assert comparison.dirty_only_theirs == ((0, 1),)
