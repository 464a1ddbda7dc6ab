"""``stage2 run``: boot a guest and say what its memory accesses led to."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import click
from click.core import ParameterSource

from lab.backing import SYNTAX as BACKING_SYNTAX
from lab.commands import options
from lab.commands.boot_options import boot_options, settings
from lab.commands.console_options import Talk, console_options, open_inputs, talk_of
from lab.commands.snapshot_options import Snapshots, snapshot_options
from lab.config import (
    CACHE_RULES,
    CHUNK_SIZES,
    DEFAULT_IPA_BITS,
    DEFAULT_PROFILE,
    ICACHES,
    PROFILES,
    DirtyProtect,
    RunConfig,
)
from lab.errors import UserError
from lab.slots import SYNTAX as SLOT_SYNTAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hyp.events import Event
    from lab.monitor import End
    from lab.result import RunResult
    from lab.target import Target
    from lab.vmm import Vmm


@click.command(short_help="Boot a guest and report what its memory accesses led to.")
@click.argument("guest")
@click.option(
    "--mem",
    default="64M",
    metavar="SIZE",
    callback=options.size,
    show_default=True,
    help="Size of RAM, which starts at 0x40000000.",
)
@boot_options
@click.option(
    "--ipa-bits",
    type=int,
    default=DEFAULT_IPA_BITS,
    metavar="N",
    show_default=True,
    help="Width of guest physical addresses.",
)
@click.option(
    "--slot",
    "slots",
    multiple=True,
    metavar="SPEC",
    callback=options.slots,
    help=f"A further memory slot, repeatable: {SLOT_SYNTAX}; backing as for --backing.",
)
@click.option(
    "--backing",
    default="4K",
    metavar=BACKING_SYNTAX,
    callback=options.backing,
    show_default=True,
    help="The host's memory behind RAM: shared pages of a size, private ones, private ones that "
    "come as transparent huge pages, or a guest_memfd. With +OFFSET, RAM begins so far behind "
    "the start of a huge page: an offset that is no multiple of 2M forces 4K pages.",
)
@click.option("--dirty-log", is_flag=True, help="Record which pages of RAM are written.")
@click.option(
    "--dirty-ring",
    type=int,
    default=0,
    metavar="N",
    help="Record them in a dirty ring of N entries, harvested when it is full.",
)
@click.option(
    "--dirty-protect",
    type=click.Choice([protect.value for protect in DirtyProtect]),
    default=DirtyProtect.AUTO.value,
    show_default=True,
    help="Who takes the right to write away again: the call that reads the bitmap, or a second "
    "call (manual protection), before which all pages may count as dirty (initially-set).",
)
@click.option(
    "--dirty-after",
    default="0",
    metavar="N",
    callback=options.count,
    help="Start logging after N instructions, when memory is mapped.",
)
@click.option(
    "--eager-split",
    default="0",
    metavar="|".join(CHUNK_SIZES),
    callback=options.size,
    show_default=True,
    help="Have blocks become pages when logging starts, in chunks of this size; with 0 a write "
    "breaks them.",
)
@click.option(
    "--harvest-every",
    default="0",
    metavar="N",
    callback=options.count,
    help="Collect the log every N instructions, keep a copy of memory by it, and say at the end "
    "whether the copy is equal.",
)
@click.option(
    "--max-insns",
    default="2G",
    metavar="N",
    callback=options.count,
    show_default=True,
    help="Stop the guest after N instructions.",
)
@click.option(
    "--nisv",
    is_flag=True,
    help="Answer accesses that KVM cannot emulate (no valid syndrome) with an external abort, "
    "instead of ending the run.",
)
@click.option(
    "--dic/--no-dic", default=False, help="CTR_EL0.DIC: whether icaches need no invalidation."
)
@click.option(
    "--idc/--no-idc", default=False, help="CTR_EL0.IDC: whether dcaches need no cleaning for it."
)
@click.option(
    "--icache",
    type=click.Choice(ICACHES),
    default=ICACHES[0],
    show_default=True,
    help="CTR_EL0.L1Ip: how the instruction cache finds its lines.",
)
@click.option(
    "--cache-rules",
    type=click.Choice(CACHE_RULES),
    default=None,
    help="Maintain caches as KVM did in that year: docs/icache.md. That of the profile if not "
    "given.",
)
@click.option(
    "--kvm-profile",
    type=click.Choice(PROFILES),
    default=DEFAULT_PROFILE,
    show_default=True,
    help="Handle aborts as KVM did in that year: docs/aborts.md.",
)
@console_options
@snapshot_options
@click.option("--trace", is_flag=True, help="Print KVM's tracepoints on stderr, as ftrace does.")
@click.option(
    "--trace-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="F.jsonl",
    help="Write them to a file, one JSON object a line.",
)
@click.option(
    "--tlb-trace",
    is_flag=True,
    help="Trace the TLB, too: what walks add, and what each TLBI removes.",
)
@click.option(
    "--mmu-trace",
    is_flag=True,
    help="Trace what KVM has no tracepoints for, too: cache maintenance, and how aborts are "
    "answered.",
)
@click.option("--quiet", "-q", is_flag=True, help="Print no summary.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON on stdout.")
@click.pass_context
def run(ctx: click.Context, /, guest: str, **given: Any) -> int:  # noqa: ANN401  # click's values
    """Boot GUEST: a bundled guest's name, or a file.

    A file is an ELF file, an arm64 Image, a flat binary, or source (.S, .c), which is
    built together with the firmware. The guest's console appears on stdout, a summary
    on stderr. Options that a bundled guest asks for in its header (Run:) come first;
    those given here override them.

    \b
    Examples:
      stage2 run hello
      stage2 run hello --trace
      stage2 run dirty_pattern --dirty-log
      stage2 run dirty_pattern --dirty-log --dirty-protect manual --harvest-every 500
      stage2 run huge --dirty-log --dirty-after 600 --eager-split 2M
      stage2 run huge --mem 256M --backing 2M
      stage2 run huge --backing thp+4K
      stage2 run guest.elf --slot id=1,gpa=0x50000000,size=64K,ro,file=rom.bin
      stage2 run self_modify --icache vipt --cache-rules 2018 --mmu-trace
      stage2 run Image --initrd initrd.cpio --append "console=ttyAMA0" --mem 512M
      stage2 run Image --initrd initrd.cpio --append "console=ttyAMA0" --console
      stage2 run Image --initrd initrd.cpio --gic 2 --script login.txt
      stage2 run u-boot.bin --bios --mem 128M --console
      stage2 run Image --initrd initrd.cpio --drive file=disk.img,cow --rng
      stage2 run test.c --json --trace-file test.jsonl
      stage2 run hello --snapshot-at 300,400 --snapshot-file hello.snapshot
      stage2 run hello --restore hello-300.snapshot --trace

    \b
    Exit status:
      the guest's own exit code (above 255: 255); 0 if it powers off without one
      2    bad usage or bad input
      3    the guest crashed, or did not end within --max-insns, or the dirty log lost a page
      130  interrupted by Ctrl-C
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    from lab.target import open_target  # noqa: PLC0415  # start-up time

    with open_target(guest) as target:
        values = _merge(ctx, target.options, given)
        outputs = Outputs(**{name: values[name] for name in Outputs.__slots__})
        talk, snapshots = talk_of(values), Snapshots.of(values)
        result = _run(target.name, target.image, _config(values), outputs, talk, snapshots)
    if outputs.as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    elif not outputs.quiet:
        _print_summary(result)
    elif not result.end.reason.is_normal:
        click.echo(f"stage2: {result.guest} {result.end.reason.value}: {result.what}", err=True)
    if outputs.quiet and result.unmet:
        click.echo(f"stage2: {result.unmet}", err=True)
    return result.exit_code


@dataclass(frozen=True, slots=True)
class Outputs:
    """What is printed about a run, and where."""

    trace: bool
    trace_file: Path | None
    tlb_trace: bool
    mmu_trace: bool
    quiet: bool
    as_json: bool


def _merge(ctx: click.Context, asked: Sequence[str], given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that the guest asks for, overridden by those on the command line.

    A slot on the command line replaces the guest's slot with the same id.
    """
    if not asked:
        return given
    try:
        defaults = run.make_context("Run:", ["-", *asked]).params
    except click.UsageError as error:
        raise UserError(f"the guest's Run: line: {error.format_message()}") from error
    typed = ParameterSource.COMMANDLINE
    merged = {
        name: value if ctx.get_parameter_source(name) is typed else defaults[name]
        for name, value in given.items()
    }
    replaced = {slot.id for slot in given["slots"]}
    kept = [slot for slot in defaults["slots"] if slot.id not in replaced]
    merged["slots"] = (*kept, *given["slots"])
    return merged


def configuration(target: Target, options: Sequence[str]) -> RunConfig:
    """Return the configuration that ``stage2 run`` has with these options.

    Raises
    ------
    UserError
        For options that are no part of it: nobody could talk with the guest.
    """
    values = _values(target, options)
    talk_of(values).refuse()
    return _config(values)


def _values(target: Target, options: Sequence[str]) -> dict[str, Any]:
    """Return what these options of ``stage2 run`` stand for."""
    ctx = run.make_context("run", [target.name, *options])
    return _merge(ctx, target.options, ctx.params)


class Ended(NamedTuple):
    """A guest as its run left it: nothing has been harvested or diagnosed."""

    name: str
    vmm: Vmm
    end: End
    instructions: int


def after_run(guest: str, options: Sequence[str]) -> Ended:
    """Run a guest in silence, as ``stage2 run`` does with these options.

    Raises
    ------
    UserError
        If there is no such guest, or it cannot be run with these options.
    """
    from lab.disk import open_drives  # noqa: PLC0415  # start-up time
    from lab.loader import load  # noqa: PLC0415
    from lab.target import open_target  # noqa: PLC0415
    from lab.vmm import Vmm  # noqa: PLC0415

    with open_target(guest) as target:
        values = _values(target, options)
        config = _config(values)
        config.check()
        image = load(target.image, config.memory, config.flash)
    with open_inputs(talk_of(values)) as inputs, open_drives(config.drives) as disks:
        vmm = Vmm(config, image, inputs=inputs, disks=disks)
        end, instructions = vmm.run_to_end()
    return Ended(target.name, vmm, end, instructions)


def _config(values: dict[str, Any]) -> RunConfig:
    if values["max_insns"] < 1:
        raise UserError("--max-insns 0 leaves nothing to run; give at least 1")
    return RunConfig(
        memory_size=values["mem"],
        backing=values["backing"],
        dirty_log=values["dirty_log"],
        dirty_ring=values["dirty_ring"],
        dirty_protect=DirtyProtect(values["dirty_protect"]),
        dirty_after=values["dirty_after"],
        eager_split=values["eager_split"],
        harvest_every=values["harvest_every"],
        ipa_bits=values["ipa_bits"],
        slots=values["slots"],
        max_insns=values["max_insns"],
        nisv_to_user=values["nisv"],
        dic=values["dic"],
        idc=values["idc"],
        icache=values["icache"],
        cache_rules=values["cache_rules"] or "",
        kvm_profile=values["kvm_profile"],
        **settings(values),
    )


def _run(  # all that the options say
    name: str,
    image: Path,
    config: RunConfig,
    outputs: Outputs,
    talk: Talk,
    snapshots: Snapshots,
) -> RunResult:
    """Run the guest with the console on stdout and the traces where they were asked for."""
    from lab.console import LiveConsole  # noqa: PLC0415  # start-up time
    from lab.disk import open_drives  # noqa: PLC0415
    from lab.loader import load  # noqa: PLC0415
    from lab.trace import JsonTrace, TextTrace  # noqa: PLC0415
    from lab.vmm import Vmm  # noqa: PLC0415

    config.check()
    loaded = load(image, config.memory, config.flash)
    listeners: list[Callable[[Event], None]] = []
    with ExitStack() as files:
        text = TextTrace(sys.stderr, colour=_shows_colour())
        if outputs.trace:
            listeners.append(text)
        if outputs.trace_file is not None:
            listeners.append(JsonTrace(files.enter_context(_create(outputs.trace_file))))
        by_line = outputs.trace or outputs.tlb_trace or outputs.mmu_trace or not sys.stdout.isatty()
        by_line = by_line and not talk.console
        output = None if outputs.as_json else LiveConsole(by_line=by_line)
        disks = files.enter_context(open_drives(config.drives))
        inputs = files.enter_context(open_inputs(talk))
        vmm = Vmm(config, loaded, output=output, listeners=listeners, inputs=inputs, disks=disks)
        if outputs.tlb_trace:
            vmm.trace_tlb(listeners or [text])
        if outputs.mmu_trace:
            vmm.trace_mmu(listeners or [text])
        writer = snapshots.begin(vmm, name)
        result = vmm.run(name)
        if output is not None:
            output.flush()
        for moment in writer.missed():
            click.echo(f"stage2: no snapshot at {moment}: the guest ended before that", err=True)
    return result


def _shows_colour() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _create(path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"--trace-file: cannot write {path}: {error.strerror}") from error


def _print_summary(result: RunResult) -> None:
    from rich.console import Console  # noqa: PLC0415  # start-up time

    from lab.summary import print_summary  # noqa: PLC0415

    print_summary(result, Console(stderr=True, highlight=False))
