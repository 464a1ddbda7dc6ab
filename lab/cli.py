"""The command line: ``stage2 COMMAND``.

Commands import what they need when they run, so that ``stage2 --help`` is instant.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lab.commands.compile import compile_
from lab.commands.conformance import conformance
from lab.commands.diff_kvm import diff_kvm
from lab.commands.esr import esr
from lab.commands.guests import guests
from lab.commands.inject import inject
from lab.commands.ptdump import ptdump
from lab.commands.run import run
from lab.commands.walk import walk
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""What a shell reports for a program that SIGPIPE ended."""


class Stage2(click.Group):
    """The group of commands, with one way to report what the user can mend."""

    def main(  # type: ignore[override]  # always ends the process; the base can also return
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,  # noqa: ANN401  # forwarded as they come
    ) -> NoReturn:
        """Run a command and end the process with its status."""
        extra.pop("standalone_mode", None)
        try:
            status = super().main(args, prog_name, standalone_mode=False, **extra)
        except UserError as error:
            if error.detail:
                click.echo(error.detail, err=True)
            _fail(str(error))
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "stage2"
            _fail(f"{error.format_message().rstrip('.?')}; see {command} --help")
        except click.ClickException as error:
            _fail(error.format_message())
        except (click.Abort, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        sys.exit(status if isinstance(status, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401  # what the command returns
        """Run the command; what it cannot print is the user's concern, too."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # The reader of our output has gone. Python must not try to flush it at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(EXIT_BROKEN_PIPE)
        except OSError as error:
            name = f" {error.filename}" if error.filename else ""
            raise UserError(f"the system refuses{name}: {error.strerror}") from error


def _fail(message: str) -> NoReturn:
    click.echo(f"stage2: error: {' '.join(message.split())}", err=True)
    sys.exit(EXIT_USAGE)


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    """Print which version this is, and what of it runs."""
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version  # noqa: PLC0415  # start-up time

    from emu import compiled  # noqa: PLC0415

    how = "as Python" if compiled.in_use() is None else "compiled"
    click.echo(f"stage2 {version('stage2')} ({how})")
    ctx.exit()


@click.group(
    name="stage2",
    cls=Stage2,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: stage2 guests, then stage2 run hello --trace",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version, and whether compiled modules run.",
)
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Boot AArch64 guests on a machine whose stage-2 MMU is open to look into.

    \b
    Exit status:
      0    success; for run, the guest's own exit code
      2    bad usage or bad input
      3    run: the guest ended abnormally
      130  interrupted by Ctrl-C
    """  # noqa: D301  # click's mark for lines to keep is the character \b
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(EXIT_USAGE)


cli.add_command(run)
cli.add_command(guests)
cli.add_command(esr)
cli.add_command(conformance)
cli.add_command(walk)
cli.add_command(ptdump)
cli.add_command(diff_kvm)
cli.add_command(inject)
cli.add_command(compile_)


def main() -> NoReturn:
    """Run the command line; the entry point of ``stage2``."""
    cli.main(prog_name="stage2")


if __name__ == "__main__":
    main()
