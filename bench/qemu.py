"""The same loops in qemu-system-aarch64, for those who know its speed: TCG, stage 1 on."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import tables
from bench.programs import COUNT, POWER_OFF, START_UNDER_QEMU, branch, load_constant, vectors
from bench.timing import Spent, best_of
from emu.arch.address import IPA, PAGE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.programs import Program

COMMAND: Final = "qemu-system-aarch64"
LOAD_ADDRESS: Final = IPA(0x4020_0000)
"""In the RAM of QEMU's virt machine, behind its device tree."""
DATA: Final = IPA(LOAD_ADDRESS + PAGE_SIZE)
_VECTORS: Final = 0x800
"""Where in the first page they are."""
_FACTOR: Final = 12
"""How many times more iterations the long run has, since QEMU is faster."""
_TIMEOUT: Final = 120


def is_installed() -> bool:
    """Whether there is a QEMU to compare with."""
    return shutil.which(COMMAND) is not None


def version() -> str | None:
    """Return QEMU's version, or None."""
    if not is_installed():
        return None
    done = subprocess.run(  # noqa: S603  # a fixed command
        [COMMAND, "--version"], capture_output=True, text=True, check=True
    )
    return done.stdout.partition("version ")[2].split()[0]


def seconds_each(
    program: Program, registers: dict[int, int], iterations: int, rounds: int
) -> float:
    """Return the seconds of one iteration.

    QEMU's start and end are left out: a short run is taken from a long one.
    """
    with tempfile.TemporaryDirectory(prefix="stage2-bench-") as folder:
        images = []
        for count in (iterations, _FACTOR * iterations):
            path = Path(folder) / f"{count}.bin"
            path.write_bytes(image(program, {**registers, 1: DATA, COUNT: count}, LOAD_ADDRESS))
            images.append(path)
        short, long = best_of(rounds, *(partial(_run, path) for path in images))
    return (long - short) / ((_FACTOR - 1) * iterations)


def image(
    program: Program,
    registers: dict[int, int],
    base: IPA,
    memory: Iterable[int] = (),
    devices: Iterable[int] = (),
) -> bytes:
    """Return code that turns the MMU on, runs the program's loop and powers the machine off.

    Parameters
    ----------
    program, registers
        What runs, and what its registers hold.
    base
        Where the image will lie: a page of code and vectors, one of data, the tables.
    memory, devices
        Further pages to map, by address.
    """
    tables_at = IPA(base + 2 * PAGE_SIZE)
    mapped = [*range(base, base + 16 * PAGE_SIZE, PAGE_SIZE), *memory]
    controls = (tables.MAIR, tables.TCR, tables.ttbr(tables_at), tables.SCTLR, base + _VECTORS)
    prologue = b"".join(load_constant(n, value) for n, value in enumerate(controls))
    prologue += START_UNDER_QEMU.words
    prologue += b"".join(load_constant(n, value) for n, value in registers.items())
    # Where the program parks, this one ends; at first that is stepped over.
    end = branch(len(program.words))
    code = prologue + branch(8) + end + program.words[4:] + POWER_OFF.words
    page = code.ljust(_VECTORS, b"\0") + vectors()
    return page + bytes(PAGE_SIZE) + tables.identity_map(tables_at, mapped, devices)


def _run(path: Path) -> float:
    command = [
        *(COMMAND, "-machine", "virt", "-cpu", "cortex-a72", "-m", "64M"),
        *("-accel", "tcg,thread=single", "-nodefaults", "-display", "none"),
        *("-device", f"loader,file={path},addr={LOAD_ADDRESS:#x},cpu-num=0,force-raw=on"),
    ]
    before = Spent.by_children()
    subprocess.run(command, capture_output=True, check=True, timeout=_TIMEOUT)  # noqa: S603  # built here
    return (Spent.by_children() - before).cpu
