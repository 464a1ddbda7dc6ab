"""Faults and exits beside real KVM: Linux in a machine with EL2 that QEMU emulates (TCG).

The same words run at the same addresses, with stage 1 on, under ``lab/kvm/vmm``, which tells
how long KVM_RUN took. One boot serves all rounds. Of each guest there is a short run and a
long one; the difference is what one fault or exit costs, without start and end.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import exits, qemu
from bench.guest import DEVICE_IN_USER_SPACE, PAGES, RAM, Guest
from bench.programs import COUNT, HYPERCALL, LOAD, STORE, TOUCH_PAGES, Program
from bench.rows import Reference, Row, Unit
from bench.timing import best_of
from emu.arch.address import PAGE_SIZE
from hyp.psci import PsciFunction
from lab.backing import Kind
from lab.errors import UserError
from lab.kvm import report
from lab.kvm.experiment import HUGE_PAGE, file_system
from lab.kvm.qemu import boot, find_kernel, vmm

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.timing import Scale
    from lab.kvm.report import Report

HALF: Final = 0.5
"""A fault here is to cost at most half of what it costs there."""
FEW: Final = 8
"""Iterations of a short run."""
LINUX_MIB: Final = 512
"""What Linux needs beside its guest."""

_IPA_BITS: Final = 40


class Case(NamedTuple):
    """One guest on both sides."""

    name: str
    program: Program
    times: int
    """Iterations, at full scale."""
    step: int = 0
    """For a guest that touches pages: how far they are apart."""
    backing: int = PAGE_SIZE
    register: int = 0
    """X1, for the others."""
    limit: float | None = None

    def registers(self, times: int) -> dict[int, int]:
        """Return the registers with which the program starts."""
        return {1: PAGES if self.step else self.register, 2: self.step, COUNT: times}

    def size(self, times: int) -> int:
        """Return how much memory the guest has."""
        return -(-(PAGES - RAM + times * self.step) // HUGE_PAGE) * HUGE_PAGE


CASES: Final = (
    Case("first write to a page", TOUCH_PAGES, 4096, step=PAGE_SIZE, limit=HALF),
    Case(
        *("first write to 2 MiB", TOUCH_PAGES, 64),
        step=HUGE_PAGE,
        backing=HUGE_PAGE,
        limit=HALF,
    ),
    Case("HVC PSCI_VERSION", HYPERCALL, 4000, register=PsciFunction.VERSION),
    Case("MMIO write, user space", STORE, 4000, register=DEVICE_IN_USER_SPACE),
    Case("MMIO read, user space", LOAD, 4000, register=DEVICE_IN_USER_SPACE),
)


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark."""
    times = [scale.of(case.times) for case in CASES]
    here = best_of(scale.rounds, *map(_side, CASES, times))
    theirs: list[float] | list[None] = [None] * len(CASES)
    note = ""
    try:
        theirs = under_kvm(times, scale.rounds)
    except UserError as error:
        note = f"no KVM: {error}"
    return [
        _row(case, seconds / count, there, note)
        for case, count, seconds, there in zip(CASES, times, here, theirs, strict=True)
    ]


def _row(case: Case, here: float, there: float | None, note: str) -> Row:
    kvm = "KVM in QEMU TCG"
    references = () if there is None else (Reference(kvm, there * 1e6, case.limit),)
    return Row(case.name, here * 1e6, Unit.MICROSECONDS, references, note=note)


def _side(case: Case, times: int) -> Callable[[], float]:
    """Return this machine's side of a case."""
    if case.step:
        return lambda: Guest(case.program, times, backing=case.backing).run(case.registers(times))
    if case.program is STORE:
        return exits.user_writes(times)
    if case.program is LOAD:
        return exits.user_reads(times)
    return exits.loop(case.program, case.registers(times), times)


def under_kvm(times: Sequence[int], rounds: int) -> list[float]:
    """Return the seconds that one iteration of each case takes under KVM.

    Raises
    ------
    UserError
        If there is no QEMU, no kernel, or no compiler for the VMM.
    """
    kernel = os.environ.get("STAGE2_KVM_KERNEL")
    image = find_kernel(Path(kernel) if kernel else None)
    counts = [count for most in times for count in (FEW, FEW + most)]
    cases = [case for case in CASES for _ in range(2)]
    lines, files = experiment(cases, counts, rounds)
    memory = LINUX_MIB + sum(_huge(case, count) for case, count in zip(cases, counts, strict=True))
    runs = report.parse(boot(image, file_system(vmm(), lines, files), memory)).runs
    best = [
        min(_seconds(runs[_name(number, turn)]) for turn in range(rounds))
        for number in range(len(cases))
    ]
    return [
        (long - short) / most
        for short, long, most in zip(best[::2], best[1::2], times, strict=True)
    ]


def _name(number: int, turn: int) -> str:
    return f"guest{number}/{turn}"


def _seconds(run: Report) -> float:
    if run.nanoseconds is None:
        raise UserError("the VMM under KVM did not say how long a guest ran")
    return run.nanoseconds / 1e9


def experiment(
    cases: Sequence[Case], counts: Sequence[int], rounds: int
) -> tuple[list[str], dict[str, bytes]]:
    """Return the commands for the VMM under KVM, and the files that they name."""
    files, guests = {}, []
    for number, (case, count) in enumerate(zip(cases, counts, strict=True)):
        pages = range(PAGES, PAGES + count * case.step, case.step) if case.step else ()
        devices = () if case.step else (DEVICE_IN_USER_SPACE,)
        files[f"guest{number}"] = qemu.image(
            case.program, case.registers(count), RAM, pages, devices
        )
        size = case.size(count)
        guests.append(
            [
                *(f"vm {_IPA_BITS}", f"area 0 {size:#x} {case.backing:#x} {Kind.SHARED.value}"),
                *(f"slot 0 {RAM:#x} {size:#x} 0 0 0", f"load {RAM:#x} /guest{number}"),
                *("vcpu", f"pc {RAM:#x}", "run"),
            ]
        )
    huge = max(_huge(case, count) for case, count in zip(cases, counts, strict=True))
    lines = [f"write /proc/sys/vm/nr_hugepages {huge * (1 << 20) // HUGE_PAGE}"]
    for turn in range(rounds):
        for number, guest in enumerate(guests):
            lines += [f"begin {_name(number, turn)}", *guest]
    return lines, files


def _huge(case: Case, count: int) -> int:
    """Return how many MiB of huge pages a guest needs."""
    return case.size(count) >> 20 if case.backing == HUGE_PAGE else 0
