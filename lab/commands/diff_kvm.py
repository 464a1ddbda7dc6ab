"""``stage2 diff-kvm``: the same guest under real KVM and here, compared event by event."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guests import catalogue
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from lab.kvm.experiment import Experiment
    from lab.kvm.setups import Setup

EXIT_DIFFERENT = 1


@click.command(
    name="diff-kvm",
    short_help="Run a guest under real KVM, too, and compare.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("guest", required=False)
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED, metavar="[RUN OPTIONS]...")
@click.option(
    "--setup",
    "setups",
    multiple=True,
    metavar="NAME",
    help="Give the guest its memory in this way, repeatable; 'all' for each in turn.",
)
@click.option("--list-setups", is_flag=True, help="Print what set-ups there are.")
@click.option("--all-guests", is_flag=True, help="Compare every bundled guest.")
@click.option(
    "--kernel",
    type=click.Path(path_type=Path),
    envvar="STAGE2_KVM_KERNEL",
    metavar="IMAGE",
    help="The arm64 Linux kernel that provides KVM; the newest in /boot unless given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def diff_kvm(
    guest: str | None,
    run_options: tuple[str, ...],
    setups: tuple[str, ...],
    kernel: Path | None,
    *,
    list_setups: bool,
    all_guests: bool,
    as_json: bool,
) -> int:
    """Run GUEST under the KVM of a real Linux kernel and here, and show where they part.

    The kernel runs in a machine with EL2 that QEMU emulates. Compared are the stage-2 aborts
    (ipa, hsr, hxfar, pc), MMIO accesses, exits to user space, and dirty pages. Options of
    'stage2 run' that make the machine apply to both; those that KVM's side does not have are
    refused. The hypervisor here is that of the kernel's age unless --kvm-profile says otherwise.

    \b
    Examples:
      stage2 diff-kvm hello
      stage2 diff-kvm dirty_pattern --dirty-log
      stage2 diff-kvm huge --setup thp --setup log-toggled
      stage2 diff-kvm huge --backing 2M --kernel vmlinuz-6.1.0-arm64
      stage2 diff-kvm --all-guests --setup all

    \b
    Exit status:
      0    no difference
      1    the runs differ
      2    bad usage, or the comparison is not possible here
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.kvm import qemu  # noqa: PLC0415  # start-up time
    from lab.kvm.experiment import asks_for_gic  # noqa: PLC0415
    from lab.kvm.session import hold  # noqa: PLC0415
    from lab.kvm.setups import ALL, chosen  # noqa: PLC0415
    from lab.kvm.show import as_dict, list_of_setups, show  # noqa: PLC0415

    if list_setups:
        _console().print(list_of_setups(ALL))
        return 0
    if all_guests:
        # The first of the run options has become the guest.
        names: Sequence[str] = [
            each.name for each in catalogue.all_guests() if not asks_for_gic(each.run)
        ]
        run_options = run_options if guest is None else (guest, *run_options)
    elif guest is None:
        raise click.UsageError("Missing argument 'GUEST', or --all-guests.")
    else:
        names = [guest]
    image_of_kernel = qemu.find_kernel(kernel)
    experiments = [
        experiment for name in names for experiment in planned(name, chosen(setups), run_options)
    ]
    given = any(option.partition("=")[0] == "--kvm-profile" for option in run_options)
    session = hold(image_of_kernel, experiments, follow_kernel=not given)
    if as_json:
        click.echo(json.dumps(as_dict(session), indent=2))
    else:
        show(_console(), session)
    return 0 if session.same else EXIT_DIFFERENT


def planned(
    guest: str, setups: Sequence[Setup], run_options: tuple[str, ...]
) -> Iterator[Experiment]:
    """Yield what is to be done with a guest, one experiment for each set-up."""
    from lab.commands.run import configuration  # noqa: PLC0415  # start-up time
    from lab.kvm.experiment import Experiment, asks_for_gic, check_is_passed_on  # noqa: PLC0415
    from lab.loader import load  # noqa: PLC0415
    from lab.target import open_target  # noqa: PLC0415

    with open_target(guest) as target:
        if asks_for_gic(target.options):
            raise UserError(
                f"{guest} needs interrupts or several CPUs, which the VMM with KVM does not make; "
                "compare another guest"
            )
        for setup in setups:
            config = configuration(target, (*setup.options, *run_options))
            check_is_passed_on(config)
            # The VMM in the machine with KVM makes no interrupt controller.
            config = replace(config, gic=0)
            config.check()
            image = load(target.image, config.memory)
            config = setup.applied(config, image)
            config.check()
            yield Experiment(target.name, setup, config, image)


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415  # start-up time

    return Console(highlight=False)
