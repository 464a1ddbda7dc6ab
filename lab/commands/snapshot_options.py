"""Options of ``stage2 run`` for snapshots, and what they do."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from emu import compiled
from lab.errors import UserError
from lab.sizes import parse_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.vmm import Vmm

    Wrapped = TypeVar("Wrapped", bound=Callable[..., Any])


def _moments(_ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Return numbers of instructions, in ascending order."""
    if value is None:
        return ()
    return tuple(sorted({parse_count(part, param.opts[0]) for part in value.split(",")}))


_OPTIONS = (
    click.option(
        "--snapshot-at",
        metavar="N[,N...]",
        callback=_moments,
        help="Write a snapshot to a file once N instructions have retired, and run on.",
    ),
    click.option(
        "--snapshot-file",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The file; with several N, -N comes before its suffix. GUEST-N.snapshot if not given.",
    ),
    click.option(
        "--restore",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Go on from a snapshot: the same guest, with the same options. What it had printed "
        "comes first.",
    ),
)


def snapshot_options(command: Wrapped) -> Wrapped:
    """Give a command these options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def _begin_again_as_python() -> None:
    """Replace this process: files of snapshots are for machines that run as Python."""
    os.environ[compiled.PURE] = "1"
    os.execv(sys.executable, [sys.executable, "-m", "lab.cli", *sys.argv[1:]])  # noqa: S606  # this program again


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Which snapshots are written and restored.

    Attributes
    ----------
    at : tuple[int, ...]
        The moments, in instructions, ascending.
    file : Path or None
        Where they go.
    restore : Path or None
        Where the guest goes on from.
    """

    at: tuple[int, ...]
    file: Path | None
    restore: Path | None

    @classmethod
    def of(cls, values: dict[str, Any]) -> Snapshots:
        """Return what the options say.

        Raises
        ------
        UserError
            If they contradict each other.
        """
        if values["snapshot_file"] is not None and not values["snapshot_at"]:
            raise UserError("--snapshot-file has nothing to write; say when with --snapshot-at")
        asked = values["restore"] is not None or values["snapshot_at"]
        if asked and compiled.in_use() is not None:
            _begin_again_as_python()
        return cls(values["snapshot_at"], values["snapshot_file"], values["restore"])

    def begin(self, vmm: Vmm, name: str) -> Writer:
        """Restore what is to be restored, and return who writes the others.

        Raises
        ------
        UserError
            If the file cannot be restored, or a moment has passed already.
        """
        if self.restore is not None:
            from lab import snapshot  # noqa: PLC0415  # start-up time

            found = snapshot.read(self.restore, vmm)
            try:
                snapshot.restore(vmm, found)
            except (TypeError, ValueError, AttributeError) as error:
                raise UserError(
                    f"{self.restore} holds no state of this machine: {error}"
                ) from error
            vmm.console.repeat()
        passed = [moment for moment in self.at if moment < vmm.retired]
        if passed:
            raise UserError(
                f"--snapshot-at {passed[0]} has passed: {self.restore} begins at {vmm.retired}"
            )
        return Writer(vmm, [(moment, self._path(name, moment)) for moment in self.at])

    def _path(self, name: str, moment: int) -> Path:
        if self.file is None:
            return Path(f"{name}-{moment}.snapshot")
        if len(self.at) == 1:
            return self.file
        return self.file.with_stem(f"{self.file.stem}-{moment}")


class Writer:
    """Has its turn at some moments of a run, and writes snapshots then.

    Parameters
    ----------
    vmm : Vmm
        What they are of.
    files : list[tuple[int, Path]]
        The moments, ascending, and the files.
    """

    def __init__(self, vmm: Vmm, files: list[tuple[int, Path]]) -> None:
        self._vmm = vmm
        self._files = files
        vmm.monitor.attend(self)

    @property
    def due(self) -> int | None:
        """The next moment, in instructions retired."""
        return self._files[0][0] if self._files else None

    def act(self) -> None:
        """Write the next snapshot."""
        from lab import snapshot  # noqa: PLC0415  # start-up time

        _moment, path = self._files.pop(0)
        snapshot.write(snapshot.take(self._vmm), path)

    def missed(self) -> tuple[int, ...]:
        """Return the moments that the run did not reach."""
        return tuple(moment for moment, _path in self._files)
