"""Building guests: one C or assembler source plus the firmware makes one image.

``python -m firmware.build`` builds every bundled guest into ``guests/elf``, with
``--check`` it builds them elsewhere and compares. The result depends on the sources
and on the version of ziglang only: not on the folder, the host or the day.
"""

from __future__ import annotations

import importlib.util
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import click

from guests.catalogue import Guest, all_guests, find

FIRMWARE: Final = Path(__file__).resolve().parent
SOURCES: Final = (
    "start.S",
    "vectors.S",
    "el0.S",
    "exceptions.c",
    "console.c",
    "power.c",
    "mmu.c",
    "cache.c",
    "memory.c",
    "gic.c",
    "smp.c",
    "secondary.S",
)
"""What is linked with every guest; unused functions are dropped."""

FLAGS: Final = (
    *("-target", "aarch64-freestanding-none"),
    # Zig's feature list decides about FP registers; with them, printf-like functions save q0-q7.
    "-mcpu=generic-neon-fp_armv8",
    *("-std=gnu17", "-Os", "-Wall", "-Wextra"),
    *("-ffreestanding", "-nostdlib", "-static"),
    # With the MMU off all memory is Device memory: an unaligned access faults.
    *("-mgeneral-regs-only", "-mstrict-align"),
    *("-fno-sanitize=undefined", "-fno-stack-protector", "-fno-asynchronous-unwind-tables"),
    *("-fomit-frame-pointer", "-ffunction-sections", "-fdata-sections"),
    *("-Wl,--gc-sections", "-Wl,--build-id=none", "-Wl,-z,max-page-size=4096"),
    # Else there are no symbols, by which people name places; guest.ld drops the rest.
    "-g",
)

LOAD_ADDRESS: Final = 0x4008_0000
"""Where ``guest.ld`` places the first byte."""

_FLAT_FORMATS = {".img", ".bin"}


class BuildError(Exception):
    """A guest could not be built.

    The text is fit for the user: one line with the way out, then what the compiler
    said, if it came that far.
    """


def compile_guest(source: Path, output: Path, *, strict: bool = False) -> None:
    """Build ``source``, a ``.c`` or ``.S`` file that defines ``main``, into ``output``.

    The suffix of ``output`` selects the format: ``.img`` an arm64 Image, ``.bin`` a flat
    binary entered at its first byte, anything else an ELF file. Both flat forms may be
    loaded at any page, so they are checked to hold no absolute address. With ``strict``
    a warning is an error.

    Raises
    ------
    BuildError
        If ziglang is not installed, the source is unfit or the compiler refuses it.
    """
    if importlib.util.find_spec("ziglang") is None:
        raise BuildError('building a guest needs ziglang: pip install "stage2[guests]"')
    if source.suffix not in {".c", ".S"}:
        raise BuildError(f"{source}: a guest's source is a .c or .S file")
    if not source.is_file():
        raise BuildError(f"{source}: there is no such file")
    extra = ["-Werror"] if strict else []
    if output.suffix == ".img":
        extra.append(str(FIRMWARE / "image_header.S"))
    with tempfile.TemporaryDirectory(prefix="stage2-build-") as folder:
        elf = Path(folder) / "guest.elf"
        script = FIRMWARE / "guest.ld"
        _link(source, elf, script, extra)
        image = elf.read_bytes()
        if output.suffix in _FLAT_FORMATS:
            moved_script = Path(folder) / "moved.ld"
            moved = f"{LOAD_ADDRESS + 0x40_0000:#x}"
            moved_script.write_text(script.read_text().replace(f"{LOAD_ADDRESS:#x}", moved))
            _link(source, elf, moved_script, extra)
            image, elsewhere = flatten(image), flatten(elf.read_bytes())
            if image != elsewhere:
                raise BuildError(
                    f"{source}: the code holds an absolute address, but a {output.suffix} file "
                    "may be loaded anywhere; build an .elf or avoid pointers in static data"
                )
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(image)


def _link(source: Path, output: Path, script: Path, extra: list[str]) -> None:
    """Compile and link one guest with the firmware."""
    command = [
        *(sys.executable, "-m", "ziglang", "cc", *FLAGS),
        *(f"-I{FIRMWARE}", f"-ffile-prefix-map={source.resolve().parent}=."),
        *("-T", str(script), "-o", str(output)),
        *extra,
        *(str(FIRMWARE / name) for name in SOURCES),
        str(source.resolve()),
    ]
    done = subprocess.run(  # noqa: S603  # the compiler, with our own arguments
        command, capture_output=True, text=True, check=False, env=_environment()
    )
    if done.returncode:
        raise BuildError(f"{source} does not compile; mend it and try again\n{done.stderr.strip()}")


def _environment() -> dict[str, str]:
    """Return the environment with zig's caches moved out of the source tree."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    zig = str(Path(home) / "stage2" / "zig")
    return {"ZIG_GLOBAL_CACHE_DIR": zig, "ZIG_LOCAL_CACHE_DIR": zig, **os.environ}


def flatten(elf: bytes) -> bytes:
    """Return the contents of an ELF file's segments as they lie in memory.

    Parameters
    ----------
    elf
        A little-endian 64-bit ELF file whose segments are in ascending order.
    """
    (table,) = struct.unpack_from("<Q", elf, 32)  # e_phoff
    size, count = struct.unpack_from("<HH", elf, 54)  # e_phentsize, e_phnum
    flat, base = b"", None
    for n in range(count):
        kind, _, offset, _, address, stored = struct.unpack_from("<IIQQQQ", elf, table + n * size)
        if kind != 1 or not stored:  # PT_LOAD with contents
            continue
        base = address if base is None else base
        flat = flat.ljust(address - base, b"\0") + elf[offset : offset + stored]
    return flat


def check_guest(guest: Guest, folder: Path) -> str | None:
    """Rebuild ``guest`` in ``folder`` and compare. Return what differs, or None."""
    rebuilt = folder / guest.image.name
    compile_guest(guest.source, rebuilt, strict=True)
    if not guest.image.exists():
        return f"{guest.image} is missing"
    if guest.image.read_bytes() != rebuilt.read_bytes():
        return f"{guest.image} is not what {guest.source.name} and the firmware build now"
    return None


@click.command()
@click.option("--check", is_flag=True, help="Build elsewhere and compare with what is there.")
@click.argument("names", nargs=-1)
def main(*, check: bool, names: tuple[str, ...]) -> None:
    """Build the bundled guests NAMES, or all of them, into guests/elf."""
    try:
        guests = [find(name) for name in names] or all_guests()
    except (KeyError, ValueError) as error:
        raise click.ClickException(str(error.args[0])) from None
    stale = False
    with tempfile.TemporaryDirectory(prefix="stage2-check-") as folder:
        for guest in guests:
            try:
                if not check:
                    compile_guest(guest.source, guest.image, strict=True)
                    click.echo(f"built {guest.image.name}")
                elif difference := check_guest(guest, Path(folder)):
                    click.echo(f"{difference}; run `python -m firmware.build {guest.name}`")
                    stale = True
            except BuildError as error:
                raise click.ClickException(str(error)) from None
    if stale:
        sys.exit(1)


if __name__ == "__main__":
    main()
