"""``stage2 diff-kvm``: the same guest under real KVM and here, compared event by event."""

from __future__ import annotations

import json
from pathlib import Path

import click

EXIT_DIFFERENT = 1

_SLACK_MIB = 768
"""Memory of the machine beyond that of the guest, for Linux and its file system."""


@click.command(
    name="diff-kvm",
    short_help="Run a guest under real KVM, too, and compare.",
    context_settings={"ignore_unknown_options": True},
)
@click.argument("guest")
@click.argument("run_options", nargs=-1, type=click.UNPROCESSED, metavar="[RUN OPTIONS]...")
@click.option(
    "--kernel",
    type=click.Path(path_type=Path),
    envvar="STAGE2_KVM_KERNEL",
    metavar="IMAGE",
    help="The arm64 Linux kernel that provides KVM; the newest in /boot unless given.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
def diff_kvm(
    guest: str, run_options: tuple[str, ...], kernel: Path | None, *, as_json: bool
) -> int:
    """Run GUEST under the KVM of a real Linux kernel and here, and show where they part.

    The kernel runs in a machine with EL2 that QEMU emulates. Compared are the stage-2 aborts
    (ipa, hsr, hxfar, pc), MMIO accesses, exits to user space, and the dirty pages at the end.
    Options of 'stage2 run' that make the machine apply to both.

    \b
    Examples:
      stage2 diff-kvm hello
      stage2 diff-kvm dirty_pattern --dirty-log
      stage2 diff-kvm huge --backing 2M --kernel vmlinuz-6.1.0-arm64

    \b
    Exit status:
      0    no difference
      1    the runs differ
      2    bad usage, or the comparison is not possible here
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.commands.run import configuration  # noqa: PLC0415  # start-up time
    from lab.kvm import qemu, report  # noqa: PLC0415
    from lab.kvm.compare import compare  # noqa: PLC0415
    from lab.kvm.experiment import initramfs  # noqa: PLC0415
    from lab.kvm.show import as_dict, show  # noqa: PLC0415
    from lab.loader import load  # noqa: PLC0415
    from lab.target import open_target  # noqa: PLC0415
    from lab.vmm import Vmm  # noqa: PLC0415

    image_of_kernel = qemu.find_kernel(kernel)
    with open_target(guest) as target:
        config = configuration(target, run_options)
        config.check()
        image = load(target.image, config.memory)
        ours = report.Report("stage2")
        result = Vmm(config, image, listeners=[ours.hear]).run(target.name)
        ours.dirty = {(log.slot, page) for log in result.dirty for page in log.marked()}
        guest_mib = sum(slot.region.size for slot in config.all_slots) >> 20
        console = qemu.boot(
            image_of_kernel, initramfs(qemu.vmm(), config, image), guest_mib + _SLACK_MIB
        )
    theirs = report.parse(console)
    comparison = compare(theirs, ours)
    if as_json:
        click.echo(json.dumps(as_dict(theirs.who, comparison), indent=2))
    else:
        from rich.console import Console  # noqa: PLC0415

        show(Console(highlight=False), target.name, theirs.who, comparison)
    return 0 if comparison.same else EXIT_DIFFERENT
