"""The machine with KVM, as QEMU would run it: a script stands in for QEMU."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from lab.errors import UserError
from lab.kvm import qemu

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "qemu"
    monkeypatch.setattr(shutil, "which", lambda _: str(path))
    return path


def write(script: Path, *lines: str) -> None:
    script.write_text("\n".join(("#!/bin/sh", *lines, "")))
    script.chmod(0o755)


def test_the_machine_goes_on_when_each_pause_has_been_answered(script: Path) -> None:
    write(script, *(r"printf '@pause\r\n'; read answer; echo on",) * 2)
    heard: list[int] = []
    assert qemu.boot(script, b"", 512, heard.append) == "@pause\non\n@pause\non\n"
    assert len(heard) == 2
    assert heard[0] == heard[1] != os.getpid()


def test_what_qemu_complains_about_is_kept(script: Path) -> None:
    write(script, "echo no such machine >&2", "exit 1")
    with pytest.raises(UserError, match="ended with status 1") as error:
        qemu.boot(script, b"", 512)
    assert error.value.detail == "no such machine\n"


def test_a_machine_that_hangs_is_ended(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "SECONDS", 0)
    write(script, "read answer")
    with pytest.raises(UserError, match="did not power off within 0 s"):
        qemu.boot(script, b"", 512)
