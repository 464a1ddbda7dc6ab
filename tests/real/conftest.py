"""Boots the real guests that there are; a test without its guest is skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real import artifacts, guest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

LINUX_MEMORY = "256M"
LINUX_COMMAND_LINE = "console=ttyAMA0 panic=-1 rdinit=/init cryptomgr.notests"
"""Without its self-tests of ciphers the kernel boots with 40 % of the instructions."""


def found(artifact: artifacts.Artifact) -> Path:
    path = artifact.find()
    if path is None:
        pytest.skip(f"needs {artifact.pattern}: python -m tests.real.artifacts fetches it")
    return path


@pytest.fixture
def boot_linux(tmp_path: Path) -> Callable[..., guest.Run]:
    """Return what boots Linux, types commands at its prompt, and returns the run."""
    kernel = found(artifacts.KERNEL)
    initrd = tmp_path / "initramfs"
    initrd.write_bytes(guest.initramfs(found(artifacts.BUSYBOX).read_bytes()))

    def boot(commands: Sequence[str], *options: str, as_python: bool = False) -> guest.Run:
        script = guest.dialogue(commands, guest.LINUX_PROMPT)
        machine = ("--mem", LINUX_MEMORY, "--initrd", str(initrd), "--append", LINUX_COMMAND_LINE)
        return guest.run(kernel, script, tmp_path, *machine, *options, as_python=as_python)

    return boot


@pytest.fixture
def uboot() -> Path:
    return found(artifacts.UBOOT)
