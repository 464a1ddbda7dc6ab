"""Debian's U-Boot for QEMU's machine, in flash."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.real.guest import UBOOT_PROMPT, dialogue, run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.apt, pytest.mark.real]

WRITE = "mw.l 0x40200000 0xcafe1234 2"
DUMP = "md.l 0x40200000 2"
CHECKSUM = "crc32 0x0 0x1000"


def test_uboot_reaches_its_prompt_and_does_what_is_typed(uboot: Path, tmp_path: Path) -> None:
    commands = (WRITE, DUMP, CHECKSUM, "poweroff")
    script = 'expect "Hit any key to stop autoboot"\nsend " "\n' + dialogue(commands, UBOOT_PROMPT)
    ran = run(uboot, script, tmp_path, "--bios", "--mem", "128M")
    assert (ran.outcome["end"], ran.outcome["exit_code"]) == ("power_off", 0), ran.console
    assert "DRAM:  128 MiB" in ran.console
    assert ran.answer(WRITE, UBOOT_PROMPT) == ""
    assert "40200000: cafe1234 cafe1234" in ran.answer(DUMP, UBOOT_PROMPT)
    checksum = zlib.crc32(uboot.read_bytes()[:0x1000])
    assert re.search(rf"==> {checksum:08x}$", ran.answer(CHECKSUM, UBOOT_PROMPT), re.MULTILINE)
