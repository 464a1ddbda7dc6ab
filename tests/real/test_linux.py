"""Debian's kernel, as it is, with BusyBox for a user space."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.real.guest import Run

    BootLinux = Callable[..., Run]

pytestmark = [pytest.mark.apt, pytest.mark.real]

DIGEST = "seq 1 20000 | md5sum"
INTERRUPTS = "cat /proc/interrupts"
POWER_OFF = "poweroff -f"
SESSION = (DIGEST, INTERRUPTS, POWER_OFF)


def check_session(run: Run, cpus: int) -> None:
    """Check a boot, what the commands of the session printed, and how it ended."""
    outcome = run.outcome
    assert (outcome["end"], outcome["exit_code"]) == ("power_off", 0), run.console[-2000:]
    numbers = "".join(f"{number}\n" for number in range(1, 20001))
    digest = hashlib.md5(numbers.encode(), usedforsecurity=False).hexdigest()
    assert run.answer(DIGEST) == f"{digest}  -\n"
    check_interrupts(run.answer(INTERRUPTS), cpus)
    assert "reboot: Power down" in run.console
    assert outcome["pages_mapped"].keys() == {"4K"}
    assert outcome["pages_mapped"]["4K"] == run.faults_that_mapped() > 5000


def check_interrupts(table: str, cpus: int) -> None:
    heading, *lines = table.splitlines()
    assert heading.split() == [f"CPU{number}" for number in range(cpus)]
    counts, errors = {}, 0
    for line in lines:
        fields = line.split()
        if fields[0] == "Err:":
            errors = int(fields[1])
        else:
            assert all(field.isdecimal() for field in fields[1 : cpus + 1]), line
            counts[" ".join(fields[cpus + 1 :])] = [int(field) for field in fields[1 : cpus + 1]]
    timers = next(count for name, count in counts.items() if name.endswith("27 Level arch_timer"))
    assert min(timers) > 0
    uart = next(count for name, count in counts.items() if name.endswith("33 Level uart-pl011"))
    assert sum(uart) > 0
    assert errors == 0
    if cpus > 1:
        assert min(counts["Function call interrupts"]) > 0
        assert sum(counts["Rescheduling interrupts"]) > 0


@pytest.mark.parametrize(("cpus", "gic", "as_python"), [(1, 2, False), (1, 3, True), (4, 2, False)])
def test_linux_boots_to_a_shell_which_does_what_is_typed(
    boot_linux: BootLinux, cpus: int, gic: int, *, as_python: bool
) -> None:
    machine = ("--smp", str(cpus), "--gic", str(gic))
    check_session(boot_linux(SESSION, *machine, as_python=as_python), cpus)


@pytest.mark.parametrize("cpu", ["max", "neoverse-n1"])
def test_linux_uses_what_later_cpus_have(boot_linux: BootLinux, cpu: str) -> None:
    run = boot_linux(SESSION, "--smp", "2", "--cpu", cpu)
    check_session(run, 2)
    assert "detected: LSE atomic instructions" in run.console
    assert "detected: RAS Extension Support" in run.console
    assert "Call trace" not in run.console


# Twice: as Python, and as machine code if there is some. That makes no difference either.


def test_max_does_the_same_twice_byte_for_byte(boot_linux: BootLinux) -> None:
    first, second = (
        boot_linux((POWER_OFF,), "--cpu", "max", as_python=as_python) for as_python in (True, False)
    )
    assert "detected: Random Number Generator" in first.console
    for outcome in (first.outcome, second.outcome):
        del outcome["host"]
    assert first == second


def test_four_cpus_do_the_same_twice_byte_for_byte(boot_linux: BootLinux) -> None:
    machine = ("--smp", "4", "--gic", "3", "--seed", "7")
    first, second = (
        boot_linux(SESSION, *machine, as_python=as_python) for as_python in (True, False)
    )
    check_session(first, 4)
    for outcome in (first.outcome, second.outcome):
        del outcome["host"]
    assert first == second


def test_copy_made_from_the_dirty_log_alone_is_equal_after_a_boot(boot_linux: BootLinux) -> None:
    run = boot_linux((POWER_OFF,), "--dirty-log", "--harvest-every", "50M")
    assert run.outcome["end"] == "power_off"
    harvest = run.outcome["harvest"]
    assert harvest["copy_is_equal"]
    assert len(harvest["rounds"]) >= 5
    assert all(entry["pages"] > 100 for entry in harvest["rounds"][:-1])
