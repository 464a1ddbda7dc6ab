"""What the real guests are given, and what is typed into their consoles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from emu import compiled
from lab.kvm.initramfs import archive, character_device, file, folder
from lab.script import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LINUX_PROMPT = "/ # "
UBOOT_PROMPT = "\n=> "

_INIT = b"""#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
exec /bin/busybox setsid /bin/busybox sh -c 'exec /bin/busybox sh </dev/ttyAMA0 >/dev/ttyAMA0 2>&1'
"""
"""The shell gets the console as its terminal, in a session of its own."""

_WHERE_IS_THE_CURSOR = "\x1b[6n"
"""BusyBox asks the terminal behind every prompt."""


class Run(NamedTuple):
    """One run: its outcome as ``--json`` prints it."""

    outcome: dict[str, Any]

    @property
    def console(self) -> str:
        """What the guest printed, with line ends as in a file."""
        return str(self.outcome["console"]).replace("\r\n", "\n").replace(_WHERE_IS_THE_CURSOR, "")

    def answer(self, command: str, prompt: str = LINUX_PROMPT) -> str:
        """Return what a command printed: it comes after its echo, and before the next prompt."""
        _, echo, after = self.console.partition(f"{prompt}{command}")
        assert echo, f"{command!r} was not echoed in: {self.console[-2000:]}"
        return after.partition(prompt)[0].removeprefix("\n")

    def faults_that_mapped(self) -> int:
        """Return how many stage-2 aborts ended in a mapping."""
        rows = self.outcome["aborts"]
        return sum(row["times"] for row in rows if row["resolution"] == "mapped")


def initramfs(busybox: bytes) -> bytes:
    """Return a file system in which BusyBox is all there is."""
    folders = [folder(name) for name in ("bin", "dev", "proc", "sys")]
    console = character_device("dev/console", 5, 1)
    return archive([*folders, console, file("bin/busybox", busybox), file("init", _INIT)])


def dialogue(commands: Iterable[str], prompt: str) -> str:
    """Return a script that types each command when the guest is ready for it."""
    lines = [f"{command}\n".encode() for command in commands]
    wait = f"expect {quoted(prompt.encode())}"
    return "".join(f"{wait}\nsend {quoted(line)}\n" for line in lines)


def run(image: Path, script: str, folder: Path, *options: str, as_python: bool = False) -> Run:
    """Run a guest to its end while a script types.

    By compiled modules if there are some, which takes half the time, or else as Python.
    """
    path = folder / "script"
    path.write_text(script)
    done = subprocess.run(  # our own program
        [sys.executable, "-m", "lab.cli", "run", image, "--script", path, "--json", *options],
        env={**os.environ, compiled.PURE: "1" if as_python else "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    return Run(json.loads(done.stdout))
