"""Faults and exits beside real KVM: Linux in a machine with EL2 that QEMU emulates (TCG).

The same words run at the same addresses, with stage 1 on, under ``lab/kvm/vmm``. It pauses
before and after each guest: what QEMU has used of the CPU is read then. One boot serves all
rounds. Of each guest there is a short run and a long one; the difference is what one fault or
exit costs, without start and end.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import exits, ipi, qemu
from bench.guest import DEVICE_IN_USER_SPACE, GICD_TYPER, PAGES, RAM, Guest
from bench.programs import COUNT, HYPERCALL, INTERRUPTS, LOAD, STORE, TOUCH_PAGES, Program
from bench.rows import Reference, Row, Unit
from bench.timing import best_of
from emu.arch.address import PAGE_SIZE
from hyp.psci import PsciFunction
from lab import virtmap
from lab.backing import Kind
from lab.errors import UserError
from lab.kvm import report
from lab.kvm.experiment import HUGE_PAGE, file_system
from lab.kvm.qemu import boot, find_kernel, vmm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.timing import Scale

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
    limit: float = 1.0
    gic: int = 0
    """The version of the VM's GIC; 0 for none."""
    cpus: int = 1

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
    Case("MMIO read, GICD_TYPER", LOAD, 4000, register=GICD_TYPER, gic=3),
    Case("SGI there and back", INTERRUPTS, 4000, gic=3, cpus=2),
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
    references = () if there is None else (Reference(kvm, there * 1e6, case.limit, is_rival=True),)
    return Row(case.name, here * 1e6, Unit.MICROSECONDS, references, note=note)


def _side(case: Case, times: int) -> Callable[[], float]:
    """Return this machine's side of a case."""
    if case.step:
        return lambda: Guest(case.program, times, backing=case.backing).run(case.registers(times))
    if case.program is STORE:
        return exits.user_writes(times)
    if case.program is INTERRUPTS:
        pair = ipi.Pair()
        return lambda: pair.exchange(times)
    if case.register == DEVICE_IN_USER_SPACE:
        return exits.user_reads(times)
    return exits.loop(case.program, case.registers(times), times, gic=case.gic)


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
    used: list[float] = []
    console = boot(
        image, file_system(vmm(), lines, files), memory, lambda pid: used.append(_cpu_time(pid))
    )
    report.parse(console)  # complains if it did not come to its end
    runs = [end - start for start, end in zip(used[::2], used[1::2], strict=True)]
    best = [min(runs[number :: len(cases)]) for number in range(len(cases))]
    return [
        (long - short) / most
        for short, long, most in zip(best[::2], best[1::2], times, strict=True)
    ]


def _cpu_time(pid: int) -> float:
    """Return the seconds of CPU that a process has used: Linux's clock of a process."""
    return time.clock_gettime(~pid << 3 | 2)


def experiment(
    cases: Sequence[Case], counts: Sequence[int], rounds: int
) -> tuple[list[str], dict[str, bytes]]:
    """Return the commands for the VMM under KVM, and the files that they name."""
    files, guests = {}, []
    for number, (case, count) in enumerate(zip(cases, counts, strict=True)):
        pages = range(PAGES, PAGES + count * case.step, case.step) if case.step else ()
        devices = () if case.step else (DEVICE_IN_USER_SPACE, virtmap.GICD.base)
        in_code = case.registers(count) if case.cpus == 1 else {}
        files[f"guest{number}"] = qemu.image(case.program, in_code, RAM, pages, devices)
        size = case.size(count)
        guests.append(
            [
                *(f"vm {_IPA_BITS}", f"area 0 {size:#x} {case.backing:#x} {Kind.SHARED.value}"),
                *(f"slot 0 {RAM:#x} {size:#x} 0 0 0", f"load {RAM:#x} /guest{number}"),
                *_vcpus(case, count),
                *([f"gic {virtmap.GICD.base:#x} {virtmap.GICR.base:#x}"] if case.gic else []),
                "run",
            ]
        )
    huge = max(_huge(case, count) for case, count in zip(cases, counts, strict=True))
    lines = ["pauses", f"write /proc/sys/vm/nr_hugepages {huge * (1 << 20) // HUGE_PAGE}"]
    for turn in range(rounds):
        for number, guest in enumerate(guests):
            lines += [f"begin guest{number}/{turn}", *guest]
    return lines, files


def _vcpus(case: Case, count: int) -> Iterator[str]:
    """Return the commands that create the vCPUs and set the registers that differ."""
    for index in range(case.cpus):
        yield from ("vcpu", f"pc {RAM:#x}")
        if case.cpus > 1:
            for number, value in ipi.registers(index, count).items():
                yield f"x {number} {value:#x}"


def _huge(case: Case, count: int) -> int:
    """Return how many MiB of huge pages a guest needs."""
    return case.size(count) >> 20 if case.backing == HUGE_PAGE else 0
