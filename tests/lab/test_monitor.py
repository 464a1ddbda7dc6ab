from collections import deque

import pytest

from emu.arch.address import IPA
from hyp.errors import Errno
from hyp.exits import (
    ArmNisv,
    DirtyRingFull,
    Error,
    Exit,
    FailEntry,
    InternalError,
    InternalErrorCode,
    Intr,
    IntrCause,
    Mmio,
    SystemEvent,
    SystemEventType,
)
from lab.interrupts import Interrupt
from lab.monitor import SLICE, End, EndReason, Monitor

OFF = SystemEvent(SystemEventType.SHUTDOWN)
EXIT = IPA(0x0B00_0000)
SCRATCH = IPA(0x0B00_0100)
HOLE = IPA(0x0B20_0008)


class ScriptedVcpu:
    """Returns the given exits one after the other; each budget exit spends its budget."""

    def __init__(self, *exits: Exit) -> None:
        self.exits = deque(exits)
        self.budgets: list[int] = []
        self.answers: list[bytes] = []
        self.aborts = 0
        self.retired = 0

    def run(self, budget: int) -> Exit:
        self.budgets.append(budget)
        exit_ = self.exits.popleft() if self.exits else Intr()
        if exit_ == Intr():
            self.retired += budget
        return exit_

    def set_mmio_data(self, data: bytes) -> None:
        self.answers.append(data)

    def inject(self) -> None:
        self.aborts += 1


class ScriptedTracker:
    """Is due at each of the given numbers of instructions."""

    def __init__(self, vcpu: ScriptedVcpu, *due: int) -> None:
        self.vcpu = vcpu
        self.left = deque(due)
        self.due: int | None = self.left.popleft()
        self.acts: list[int] = []
        self.collections = 0

    def act(self) -> None:
        self.acts.append(self.vcpu.retired)
        self.due = self.left.popleft() if self.left else None

    def collect(self) -> None:
        self.collections += 1


def monitor(
    vcpu: ScriptedVcpu,
    interrupt: Interrupt | None = None,
    tracker: ScriptedTracker | None = None,
) -> Monitor:
    return Monitor(
        vcpu,
        retired=lambda: vcpu.retired,
        inject_abort=vcpu.inject,
        interrupt=interrupt or Interrupt(),
        tracker=tracker,
    )


def read(address: IPA, length: int) -> Mmio:
    return Mmio(address, bytes(length), length, is_write=False)


def write(address: IPA, data: bytes) -> Mmio:
    return Mmio(address, data, len(data), is_write=True)


def test_a_power_off_ends_the_run() -> None:
    assert monitor(ScriptedVcpu(OFF)).run(100) == End(EndReason.POWER_OFF, "PSCI SYSTEM_OFF")


def test_a_reset_ends_the_run() -> None:
    end = monitor(ScriptedVcpu(SystemEvent(SystemEventType.RESET))).run(100)
    assert end.reason is EndReason.RESET
    assert end.reason.is_normal


@pytest.mark.parametrize("length", [4, 8])
def test_a_write_to_exit_is_the_exit_code_and_the_guest_goes_on(length: int) -> None:
    vcpu = ScriptedVcpu(write(EXIT, (7).to_bytes(length, "little")), OFF)
    run = monitor(vcpu)
    assert run.run(100).reason is EndReason.POWER_OFF
    assert run.device.exit_code == 7
    assert not run.unclaimed


def test_a_byte_written_to_exit_is_no_exit_code() -> None:
    run = monitor(ScriptedVcpu(write(EXIT, b"\7"), OFF))
    run.run(100)
    assert run.device.exit_code is None
    assert run.unclaimed == {(EXIT, "write"): 1}


def test_scratch_reads_back_what_was_written_in_any_width() -> None:
    vcpu = ScriptedVcpu(
        write(SCRATCH, bytes(range(8))), read(IPA(SCRATCH + 2), 4), read(IPA(SCRATCH + 7), 1), OFF
    )
    monitor(vcpu).run(100)
    assert vcpu.answers == [b"\2\3\4\5", b"\7"]


def test_the_last_scratch_byte_is_the_end_of_the_device() -> None:
    vcpu = ScriptedVcpu(write(IPA(SCRATCH + 255), b"\1"), write(IPA(SCRATCH + 255), b"\1\2"), OFF)
    run = monitor(vcpu)
    run.run(100)
    assert run.unclaimed == {(EXIT, "write"): 1}


def test_unclaimed_reads_give_zero_and_are_counted_by_page() -> None:
    vcpu = ScriptedVcpu(read(HOLE, 4), read(HOLE, 8), write(HOLE, b"\1"), OFF)
    run = monitor(vcpu)
    run.run(100)
    assert vcpu.answers == [bytes(4), bytes(8)]
    assert run.unclaimed == {(0x0B20_0000, "read"): 2, (0x0B20_0000, "write"): 1}


def test_an_access_without_syndrome_is_answered_with_an_external_abort() -> None:
    vcpu = ScriptedVcpu(ArmNisv(0x46, HOLE), OFF)
    run = monitor(vcpu)
    run.run(100)
    assert (vcpu.aborts, run.nisv) == (1, 1)


def test_a_guest_that_never_ends_is_stopped_at_its_instruction_limit() -> None:
    vcpu = ScriptedVcpu()
    end = monitor(vcpu).run(2 * SLICE + 10)
    assert vcpu.budgets == [SLICE, SLICE, 10]
    assert end.reason is EndReason.BUDGET
    assert end.detail == "the guest did not end within 10,000,010 instructions"


def test_a_guest_without_progress_is_stuck() -> None:
    vcpu = ScriptedVcpu(InternalError(InternalErrorCode.NO_PROGRESS, "stuck at 0x200"))
    assert monitor(vcpu).run(100) == End(EndReason.STUCK, "stuck at 0x200")


def test_a_guest_that_nothing_can_wake_is_idle_at_once() -> None:
    assert monitor(ScriptedVcpu(Intr(IntrCause.WAITING))).run(100).reason is EndReason.IDLE


def test_ctrl_c_is_noticed_before_the_next_slice() -> None:
    interrupt = Interrupt()

    class Interrupting(ScriptedVcpu):
        def run(self, budget: int) -> Exit:
            interrupt.requested = True
            return super().run(budget)

    vcpu = Interrupting()
    assert monitor(vcpu, interrupt).run(100 * SLICE).reason is EndReason.INTERRUPTED
    assert len(vcpu.budgets) == 1


@pytest.mark.parametrize(
    ("exit_", "detail"),
    [
        (Error(Errno.ENOSYS, "no syndrome"), "KVM_RUN: ENOSYS: no syndrome"),
        (
            InternalError(InternalErrorCode.EMULATION, "odd"),
            (
                "unexpected exit: InternalError(suberror=<InternalErrorCode.EMULATION: 1>, "
                "message='odd')"
            ),
        ),
        (Intr(IntrCause.STOPPED), "every CPU has turned itself off (PSCI CPU_OFF)"),
        (SystemEvent(SystemEventType.SUSPEND), "system event SUSPEND, which nothing ends"),
        (FailEntry(1, 0), "unexpected exit: FailEntry(hardware_entry_failure_reason=1, cpu=0)"),
    ],
)
def test_an_abnormal_exit_ends_the_run_as_a_crash(exit_: Exit, detail: str) -> None:
    assert monitor(ScriptedVcpu(exit_)).run(100) == End(EndReason.CRASHED, detail)
    assert not EndReason.CRASHED.is_normal


def test_the_dirty_log_gets_its_turn_at_the_very_instruction() -> None:
    vcpu = ScriptedVcpu()
    tracker = ScriptedTracker(vcpu, 100, 107, SLICE + 200)
    assert monitor(vcpu, tracker=tracker).run(SLICE + 300).reason is EndReason.BUDGET
    assert tracker.acts == [100, 107, SLICE + 200]
    assert vcpu.budgets == [100, 7, SLICE, 93, 100]


def test_a_full_dirty_ring_is_collected_and_the_guest_goes_on() -> None:
    vcpu = ScriptedVcpu(DirtyRingFull(), DirtyRingFull(), OFF)
    tracker = ScriptedTracker(vcpu, 1000)
    assert monitor(vcpu, tracker=tracker).run(100).reason is EndReason.POWER_OFF
    assert tracker.collections == 2
    assert tracker.acts == []


# -- attendants


def test_attendants_have_their_turns_to_the_instruction_and_each_its_own() -> None:
    vcpu = ScriptedVcpu()
    first, second = ScriptedTracker(vcpu, 100, 300), ScriptedTracker(vcpu, 200, 300)
    Monitor(
        vcpu,
        retired=lambda: vcpu.retired,
        inject_abort=vcpu.inject,
        interrupt=Interrupt(),
        attendants=(first, second),
    ).run(400)
    assert (first.acts, second.acts) == ([100, 300], [200, 300])
    assert vcpu.budgets == [100, 100, 100, 100]


def test_an_attendant_may_end_the_run() -> None:
    vcpu, interrupt = ScriptedVcpu(), Interrupt()

    class Ending(ScriptedTracker):
        def act(self) -> None:
            super().act()
            interrupt.requested = True

    end = Monitor(
        vcpu,
        retired=lambda: vcpu.retired,
        inject_abort=vcpu.inject,
        interrupt=interrupt,
        attendants=(Ending(vcpu, 100),),
    ).run(400)
    assert (end.reason, vcpu.retired) == (EndReason.INTERRUPTED, 100)


def test_a_guest_that_waits_runs_on_once_input_has_come() -> None:
    waiting = Intr(IntrCause.WAITING)
    answers = deque([True, False])
    vcpu = ScriptedVcpu(waiting, waiting)
    end = Monitor(
        vcpu,
        retired=lambda: vcpu.retired,
        inject_abort=vcpu.inject,
        interrupt=Interrupt(),
        wait=answers.popleft,
    ).run(400)
    assert (end.reason, len(vcpu.budgets)) == (EndReason.IDLE, 2)
