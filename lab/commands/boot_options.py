"""Options of ``stage2 run`` that say what kind of machine boots, and with what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from emu.arch.features import CORTEX_A72
from lab.commands import options
from lab.config import DEFAULT_GIC, DEFAULT_QUANTUM, GICS, VIRTIO
from lab.drive import SYNTAX as DRIVE_SYNTAX

if TYPE_CHECKING:
    from collections.abc import Callable

    Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--smp",
        type=int,
        default=1,
        metavar="N",
        show_default=True,
        help="Number of CPUs. All but the first wait for PSCI CPU_ON.",
    ),
    click.option(
        "--cpu",
        default=CORTEX_A72.name,
        metavar="NAME|FILE",
        show_default=True,
        help="The CPU: cortex-a72, neoverse-n1, max, or a profile in a TOML file.",
    ),
    click.option(
        "--gic",
        type=click.Choice(list(GICS)),
        default=next(name for name, version in GICS.items() if version == DEFAULT_GIC),
        show_default=True,
        help="Version of the interrupt controller.",
    ),
    click.option(
        "--bios",
        is_flag=True,
        help="GUEST is firmware: it lies in read-only flash at 0 and starts there, and the device "
        "tree is where RAM begins.",
    ),
    click.option(
        "--initrd",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Initial file system, such as a cpio archive; the device tree says where it is.",
    ),
    click.option(
        "--append", default="", metavar="TEXT", help="Kernel command line (/chosen/bootargs)."
    ),
    click.option(
        "--seed",
        default="0",
        metavar="N",
        callback=options.count,
        show_default=True,
        help="What the guest gets as randomness follows from this number.",
    ),
    click.option(
        "--kaslr",
        is_flag=True,
        help="Give the kernel a seed for address space randomisation, from --seed.",
    ),
    click.option(
        "--pmu",
        is_flag=True,
        help="Give the CPUs performance monitors; their interrupt is PPI 7 (INTID 23).",
    ),
    click.option(
        "--rtc-base",
        default="2024-01-01",
        metavar="DATE",
        callback=options.date,
        show_default=True,
        help="Date, or date and time (2024-01-01T12:30:00), that the clock shows at first, in UTC.",
    ),
    click.option(
        "--drive",
        "drives",
        multiple=True,
        metavar="SPEC",
        callback=options.drives,
        help=f"A disk (virtio), repeatable: {DRIVE_SYNTAX}. ro: the guest may only read; cow: what "
        "it writes is lost with the run. Otherwise it is in the file at once.",
    ),
    click.option("--rng", is_flag=True, help="Entropy (virtio), from --seed."),
    click.option(
        "--testdev",
        is_flag=True,
        help="The test device of kvm-unit-tests, behind a virtio console: it ends the run with the "
        "guest's exit code.",
    ),
    click.option(
        "--virtio",
        type=click.Choice(VIRTIO),
        default=VIRTIO[0],
        show_default=True,
        help="The interface of virtio devices: version 1 of the transport, or 2.",
    ),
    click.option(
        "--quantum",
        default=str(DEFAULT_QUANTUM),
        metavar="N",
        callback=options.count,
        show_default=True,
        help="With several CPUs: instructions after which the next has its turn.",
    ),
)


def boot_options(command: Wrapped) -> Wrapped:
    """Give a command these options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the options are in a :class:`lab.config.RunConfig`."""
    names = ("cpu", "smp", "bios", "initrd", "seed", "kaslr", "pmu", "quantum", "rtc_base")
    devices = ("drives", "rng", "testdev", "virtio")
    return {
        "bootargs": values["append"],
        "gic": GICS[values["gic"]],
        **{name: values[name] for name in names + devices},
    }
