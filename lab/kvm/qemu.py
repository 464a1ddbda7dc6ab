"""A machine with EL2 that QEMU emulates, on which Linux brings up KVM."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from emu.compiled import cache
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

QEMU: Final = "qemu-system-aarch64"
KERNEL: Final = "vmlinuz-*-arm64"
"""What Debian calls its kernels. They are looked for in /boot and in :func:`cache`."""

SECONDS: Final = 600
"""After so long the machine is taken to hang."""

_PAUSE: Final = b"@pause\r\n"
"""At the end of a line: the machine is silent then."""

_MACHINE: Final = (
    *("-machine", "virt,virtualization=on,gic-version=3"),
    *("-cpu", "cortex-a72"),
    *("-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"),
)
_COMMAND_LINE: Final = "console=ttyAMA0 quiet rdinit=/init panic=-1 transparent_hugepage=madvise"
_TARGET: Final = "aarch64-linux-musl"


def find_kernel(given: Path | None) -> Path:
    """Return the kernel to boot.

    Parameters
    ----------
    given
        The user's choice; None for the newest that is installed.

    Raises
    ------
    UserError
        If there is none.
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"--kernel: {given} is not a file; give an arm64 Linux kernel image")
        return given
    found = sorted(path for place in (Path("/boot"), cache()) for path in place.glob(KERNEL))
    if not found:
        raise UserError(
            f"there is no {KERNEL} in /boot or {cache()}; give one with --kernel "
            "(docs/diff-kvm.md shows how to get Debian's)"
        )
    return found[-1]


def vmm() -> bytes:
    """Return the VMM that runs in the machine, built once and kept in the user's cache.

    Raises
    ------
    UserError
        If the compiler is missing or refuses.
    """
    sources = sorted(Path(__file__).with_name("vmm").glob("*.[ch]"))
    key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    program = cache() / f"vmm-{key}"
    if not program.exists():
        if importlib.util.find_spec("ziglang") is None:
            raise UserError("building the VMM needs ziglang; run pip install 'stage2[guests]'")
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            built = Path(folder) / "vmm"
            compiler = (sys.executable, "-m", "ziglang", "cc", "-target", _TARGET)
            options = ("-static", "-O2", "-Wall", "-Wextra", "-Werror", "-s", "-o", str(built))
            done = subprocess.run(  # noqa: S603  # the compiler, with our own arguments
                [*compiler, *options, *(str(path) for path in sources if path.suffix == ".c")],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise UserError("the VMM for KVM cannot be built", done.stderr)
            built.replace(program)
    return program.read_bytes()


def boot(
    kernel: Path,
    initramfs: bytes,
    memory_mib: int,
    paused: Callable[[int], None] | None = None,
) -> str:
    """Boot the machine and return what it printed until it powered off.

    Parameters
    ----------
    kernel
        An arm64 Linux image with KVM.
    initramfs
        Its file system, in which ``/init`` powers the machine off.
    memory_mib
        The machine's memory in MiB.
    paused
        Called with QEMU's process id whenever the machine has printed the line ``@pause``. It
        waits until this returns.

    Raises
    ------
    UserError
        If QEMU is missing, refuses, or does not come to an end.
    """
    qemu = shutil.which(QEMU)
    if qemu is None:
        raise UserError(f"{QEMU} is not installed; on Debian: apt-get install qemu-system-arm")
    with (
        tempfile.TemporaryDirectory(prefix="stage2-") as folder,
        tempfile.TemporaryFile() as errors,
    ):
        archive = Path(folder) / "initramfs"
        archive.write_bytes(initramfs)
        command = [qemu, *_MACHINE, "-m", f"{memory_mib}M", "-kernel", str(kernel)]
        command += ["-initrd", str(archive), "-append", _COMMAND_LINE]
        with subprocess.Popen(  # noqa: S603  # QEMU, with our own arguments
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as process:
            console = _attend(process, paused)
            if console.hangs:
                process.kill()
        errors.seek(0)
        complaint = errors.read().decode(errors="replace")
    if console.hangs:
        raise UserError(
            f"the machine did not power off within {SECONDS} s; does {kernel} boot at all?",
            console.text[-2000:],
        )
    if process.returncode:
        raise UserError(f"{QEMU} ended with status {process.returncode}", complaint)
    return console.text


class _Console(NamedTuple):
    text: str
    hangs: bool


def _attend(process: subprocess.Popen[bytes], paused: Callable[[int], None] | None) -> _Console:
    """Read what the machine prints until it ends, or for :data:`SECONDS`."""
    assert process.stdin is not None
    assert process.stdout is not None
    deadline = time.monotonic() + SECONDS
    printed, answered = b"", 0
    while True:
        left = max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select([process.stdout], [], [], left)
        data = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
        if not data:
            return _Console(printed.decode(errors="replace").replace("\r\n", "\n"), not ready)
        printed += data
        at = printed.find(_PAUSE, answered)
        if at >= 0:
            answered = at + len(_PAUSE)
            if paused is not None:
                paused(process.pid)
            process.stdin.write(b"\n")
            process.stdin.flush()
