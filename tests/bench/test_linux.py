from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench import linux, qemu
from bench.timing import FULL, QUICK, Scale, Spent
from lab.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> linux.Files:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"busybox")
    found = linux.Files(tmp_path / "vmlinuz", busybox)
    monkeypatch.setattr(linux, "find", lambda: found)
    return found


def test_without_busybox_the_way_out_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "stage2").mkdir()
    (tmp_path / "stage2" / "vmlinuz-6.1-arm64").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(qemu, "is_installed", lambda: True)
    with pytest.raises(UserError, match="busybox-arm64 is missing; make artifacts fetches it"):
        linux.find()


@pytest.mark.parametrize(("scale", "boots"), [(QUICK, 1), (FULL, 2)])
def test_both_sides_boot_the_same(
    monkeypatch: pytest.MonkeyPatch, files: linux.Files, scale: Scale, boots: int
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str]) -> Spent:
        commands.append(command)
        return Spent(4.0, 5.0, 8.0) if "lab.cli" in command else Spent(1.0, 2.0, 16.0)

    monkeypatch.setattr(linux, "_run", run)
    rows = linux.measure(scale)
    assert len(commands) == 2 * boots
    for here, there in zip(commands[::2], commands[1::2], strict=True):
        for option in ("-append", "-initrd"):
            assert there[there.index(option) + 1] == here[here.index("-" + option) + 1]
        assert str(files.kernel) in here
        assert str(files.kernel) in there
    ratios = [row.ratio(reference) for row in rows for reference in row.references]
    assert ratios == [4.0, 0.5] * boots


def test_a_side_that_does_not_reach_user_space_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="should have booted to USERSPACE-IS-UP"):
        linux._run(["true"])


def test_the_first_program_says_that_it_runs_and_powers_off() -> None:
    archive = linux.initramfs(b"the busybox")
    assert b"the busybox" in archive
    assert b"echo USERSPACE-IS-UP\n/bin/busybox poweroff -f\n" in archive
