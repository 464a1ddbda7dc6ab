"""Debian's U-Boot for QEMU's machine, in flash."""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.real.guest import UBOOT_PROMPT, dialogue, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.apt, pytest.mark.real]

WRITE = "mw.l 0x40200000 0xcafe1234 2"
DUMP = "md.l 0x40200000 2"
READ = "virtio read 0x40300000 3 1"
WRITE_DISK = "virtio write 0x40200000 5 1"
DUMP_DISK = "md.l 0x40300000 2"
CHECKSUM = "crc32 0x0 0x1000"


def test_uboot_reaches_its_prompt_and_does_what_is_typed(uboot: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(3 * 512) + struct.pack("<2I", 0x600D, 0xD15C) + bytes(5 * 512 - 8))
    commands = (WRITE, DUMP, READ, DUMP_DISK, WRITE_DISK, CHECKSUM, "poweroff")
    script = 'expect "Hit any key to stop autoboot"\nsend " "\n' + dialogue(commands, UBOOT_PROMPT)
    drive = ("--drive", f"file={disk}")
    ran = run(uboot, script, tmp_path, "--bios", "--mem", "128M", *drive)
    assert (ran.outcome["end"], ran.outcome["exit_code"]) == ("power_off", 0), ran.console
    assert "DRAM:  128 MiB" in ran.console
    assert ran.answer(WRITE, UBOOT_PROMPT) == ""
    assert "40200000: cafe1234 cafe1234" in ran.answer(DUMP, UBOOT_PROMPT)
    assert "1 blocks read: OK" in ran.answer(READ, UBOOT_PROMPT)
    assert "40300000: 0000600d 0000d15c" in ran.answer(DUMP_DISK, UBOOT_PROMPT)
    assert disk.read_bytes()[5 * 512 :][:8] == struct.pack("<2I", 0xCAFE1234, 0xCAFE1234)
    checksum = zlib.crc32(uboot.read_bytes()[:0x1000])
    # The answer has what looks like a prompt in it.
    assert re.search(rf"==> {checksum:08x}$", ran.console, re.MULTILINE)
