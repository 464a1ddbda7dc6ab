"""``stage2 diff-kvm``: what it refuses, and what it finds under real KVM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lab.cli import cli
from lab.kvm import qemu

KERNELS = [*Path("/boot").glob(qemu.KERNEL), *qemu.cache().glob(qemu.KERNEL)]
real = pytest.mark.skipif(
    shutil.which(qemu.QEMU) is None or not KERNELS,
    reason="needs qemu-system-aarch64 and an arm64 kernel",
)


def diff(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["diff-kvm", *arguments])


def test_a_kernel_that_is_not_there_is_named() -> None:
    result = diff("hello", "--kernel", "/nowhere/Image")
    assert "--kernel: /nowhere/Image is not a file" in result.stderr


def test_without_a_kernel_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "KERNEL", "no-such-kernel")
    assert "give one with --kernel" in diff("hello").stderr


def test_without_qemu_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(Exception, match="apt-get install qemu-system-arm"):
        qemu.boot(tmp_path, b"", 1024)


def test_difference_is_shown_and_the_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel = tmp_path / "Image"
    kernel.touch()
    console = "@kernel 6.1\n@trace a 1.0: kvm_access_fault: IPA: 1000\n@dirty 0 5\n@done\n"
    monkeypatch.setattr(qemu, "vmm", lambda: b"")
    monkeypatch.setattr(qemu, "boot", lambda *_: console)
    shown = diff("hello", "--kernel", str(kernel))
    assert shown.exit_code == 1
    assert "KVM only     kvm_access_fault: IPA: 1000" in shown.output
    assert "dirty for KVM only (slot:page): 0:5" in shown.output
    found = json.loads(diff("hello", "--kernel", str(kernel), "--json").output)
    assert found["same"] is False
    assert found["dirty"]["only_kvm"] == [[0, 5]]


@real
@pytest.mark.apt
@pytest.mark.parametrize(
    "options",
    [(), ("--dirty-log",), ("--backing", "2M")],
    ids=["plain", "dirty-log", "huge-pages"],
)
@pytest.mark.parametrize(
    "guest",
    ["cross_page", "dirty_pattern", "el0", "exclusive", "exec_data", "first_touch", "flat_boot",
     "hello", "huge", "image_boot", "nested_walk", "remap", "rom_write", "self_modify"],
)  # fmt: skip
def test_guest_behaves_as_under_real_kvm(guest: str, options: tuple[str, ...]) -> None:
    result = diff(guest, *options)
    assert result.exit_code == 0, result.output
