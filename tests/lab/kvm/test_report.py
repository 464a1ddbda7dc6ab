"""What the VMM under KVM printed, read; events made comparable; two runs compared."""

from __future__ import annotations

import pytest

from emu.arch.address import IPA, VA
from hyp.events import KvmAccessFault, KvmEntry, KvmUserspaceExit
from hyp.exits import ExitReason
from lab.errors import UserError
from lab.kvm.compare import compare
from lab.kvm.known import comparable
from lab.kvm.report import Report, parse

CONSOLE = """\
[    0.1] noise of the kernel
@kernel 6.1.0-50-arm64
@trace             init-1       [000] .N...     1.836459: kvm_guest_fault: ipa 0x1000, hsr 0x82000005, hxfar 0x1000, pc 0x00000000001000
@trace             init-1       [000] .....     1.9: kvm_userspace_exit: reason KVM_EXIT_MMIO (6)
@trace             init-1       [000] .....     2.0: kvm_userspace_exit: reason restart (4)
@trace             init-1       [000] .....     2.1: kvm_userspace_exit: reason KVM_EXIT_SYSTEM_EVENT (24)
@dirty 0 7
@dirty 1 300
@ran 1500000 42
@done
"""  # noqa: E501  # the lines of ftrace are as long as they are
FAULT = "kvm_guest_fault: ipa 0x1000, hsr 0x82000005, hxfar 0x1000, pc 0x00000000001000"


def test_report_holds_the_events_that_count_and_the_dirty_pages() -> None:
    report = parse(CONSOLE)
    assert report.who == "KVM of Linux 6.1.0-50-arm64"
    assert report.events == [FAULT, "kvm_userspace_exit: reason KVM_EXIT_SYSTEM_EVENT (24)"]
    assert report.dirty == {(0, 7), (1, 300)}
    assert (report.nanoseconds, report.exits) == (1500000, 42)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("@error KVM_RUN: Bad address", "the VMM under KVM failed: KVM_RUN: Bad address"),
        ("@gave-up", "does not come to an end"),
        ("@trace CPU:0 [LOST 12 EVENTS]", "lost 12 events"),
        ("", "ended early"),
    ],
)
def test_a_run_that_did_not_end_well_is_refused(line: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        parse(CONSOLE.replace("@done", line))


def test_only_what_the_other_side_traces_is_heard() -> None:
    ours = Report("stage2")
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


def test_equal_runs_are_the_same() -> None:
    comparison = compare(Report("a", [FAULT], {(0, 1)}), Report("b", [FAULT], {(0, 1)}))
    assert comparison.same
    assert (comparison.equal, comparison.dirty_equal) == (1, 1)


def test_differences_are_shown_where_they_are() -> None:
    comparison = compare(
        Report("a", ["x", "y", "z"], {(0, 1), (0, 2)}), Report("b", ["x", "z", "w"], {(0, 2)})
    )
    assert not comparison.same
    assert [tuple(part) for part in comparison.parts] == [(1, ("y",), ()), (3, (), ("w",))]
    assert comparison.dirty_only_theirs == ((0, 1),)
