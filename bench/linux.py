"""Linux, from its first instruction to BusyBox and to power-off, here and in QEMU (TCG).

Both are processes of their own: what is compared is what each uses of the CPU, from its start
to its exit, and how long it takes by the clock.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from bench import qemu
from bench.rows import Reference, Row, Unit
from bench.timing import QUICK, Spent
from emu.compiled import cache
from lab.errors import UserError
from lab.kvm.initramfs import archive, character_device, file, folder
from lab.kvm.qemu import find_kernel

if TYPE_CHECKING:
    from bench.timing import Scale

BUSYBOX: Final = "busybox-arm64"
"""Its name in the user's cache."""
MARK: Final = "USERSPACE-IS-UP"
COMMAND_LINES: Final = {
    "no cipher tests": "console=ttyAMA0 rdinit=/init panic=-1 cryptomgr.notests",
    "as it comes": "console=ttyAMA0 rdinit=/init panic=-1",
}
"""What Debian's kernel does most of the time before user space is to test its ciphers."""

_INIT: Final = f"""#!/bin/busybox sh
echo {MARK}
/bin/busybox poweroff -f
""".encode()
_MEMORY: Final = "256M"
_ROOT: Final = Path(__file__).resolve().parent.parent
_SECONDS: Final = 1800


class Files(NamedTuple):
    """What boots."""

    kernel: Path
    busybox: Path


def measure(scale: Scale) -> list[Row]:
    """Return the rows of this benchmark: one boot on each side; quick, of one command line.

    Raises
    ------
    UserError
        If QEMU or one of the files is missing.
    """
    files = find()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="stage2-bench-") as place:
        initrd = Path(place) / "initramfs"
        initrd.write_bytes(initramfs(files.busybox.read_bytes()))
        for name, line in list(COMMAND_LINES.items())[: 1 if scale == QUICK else None]:
            here = _run(ours(files.kernel, initrd, line))
            rows += _rows(name, here, _run(theirs(files.kernel, initrd, line)))
    return rows


def find() -> Files:
    """Return what boots.

    Raises
    ------
    UserError
        If QEMU or one of the files is missing.
    """
    if not qemu.is_installed():
        raise UserError(f"{qemu.COMMAND} is not installed")
    kernel, busybox = find_kernel(None), cache() / BUSYBOX
    if not busybox.is_file():
        raise UserError(f"{busybox} is missing; make artifacts fetches it")
    return Files(kernel, busybox)


def initramfs(busybox: bytes) -> bytes:
    """Return a file system whose ``/init`` prints :data:`MARK` and powers off."""
    folders = [folder(name) for name in ("bin", "dev", "proc", "sys")]
    console = character_device("dev/console", 5, 1)
    return archive([*folders, console, file("bin/busybox", busybox), file("init", _INIT)])


def ours(kernel: Path, initrd: Path, line: str) -> list[str]:
    """Return the command for this machine."""
    return [
        *(sys.executable, "-m", "lab.cli", "run", str(kernel), "--mem", _MEMORY, "--gic", "3"),
        *("--initrd", str(initrd), "--append", line, "--max-insns", "20G"),
    ]


def theirs(kernel: Path, initrd: Path, line: str) -> list[str]:
    """Return the command for QEMU: the same machine, one thread."""
    return [
        *(qemu.COMMAND, "-machine", "virt,gic-version=3", "-cpu", "cortex-a72", "-m", _MEMORY),
        *("-accel", "tcg,thread=single", "-nographic", "-nodefaults", "-no-reboot"),
        *("-serial", "stdio", "-kernel", str(kernel), "-initrd", str(initrd), "-append", line),
    ]


def _run(command: list[str]) -> Spent:
    """Run one side to its end."""
    before = Spent.by_children()
    done = subprocess.run(  # noqa: S603  # built here
        command,
        cwd=_ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_SECONDS,
        check=False,
    )
    spent = Spent.by_children() - before
    if MARK not in done.stdout or done.returncode:
        end = (done.stdout + done.stderr)[-2000:]
        raise RuntimeError(f"{command} should have booted to {MARK}; its end: {end}")
    return spent


def _rows(name: str, here: Spent, there: Spent) -> list[Row]:
    return [
        Row(
            f"boot, {name}, {what}",
            value,
            Unit.SECONDS,
            (Reference("QEMU TCG", reference, is_rival=True),),
        )
        for what, value, reference in (
            ("user CPU", here.user, there.user),
            ("wall", here.wall, there.wall),
        )
    ]
