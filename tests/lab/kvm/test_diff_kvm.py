"""``stage2 diff-kvm``: what it refuses, and what it finds under real KVM."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from emu.compiled import cache
from guests import catalogue
from lab.cli import cli
from lab.commands.diff_kvm import planned
from lab.kvm import experiment as experiments
from lab.kvm import qemu
from lab.kvm.experiment import asks_for_gic
from lab.kvm.report import parse
from lab.kvm.setups import ALL, AS_RUN

KERNELS = [*Path("/boot").glob(qemu.KERNEL), *cache().glob(qemu.KERNEL)]
real = pytest.mark.skipif(
    shutil.which(qemu.QEMU) is None or not KERNELS,
    reason="needs qemu-system-aarch64 and an arm64 kernel",
)


def diff(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["diff-kvm", *arguments])


def test_a_guest_that_needs_a_gic_or_cpus_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel = pretend(monkeypatch, tmp_path)
    for guest in ("timer_irq", "smp_lock", "virtio_rng"):
        result = diff(guest, "--kernel", kernel)
        assert f"{guest} needs interrupts or several CPUs" in result.stderr
        assert result.exit_code == 2
    assert not asks_for_gic(("--gic", "none", "--dirty-log"))


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


def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *lines: str) -> str:
    """Have the machine with KVM print these lines; return the kernel to name."""
    kernel = tmp_path / "Image"
    kernel.touch()
    console = "".join(f"{line}\n" for line in ("@kernel 6.1", *lines, "@done"))
    monkeypatch.setattr(qemu, "vmm", lambda: b"")
    monkeypatch.setattr(qemu, "boot", lambda *_: console)
    return str(kernel)


def test_difference_is_shown_and_the_status(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    event = "@trace kvm_access_fault: IPA: 1000"
    kernel = pretend(monkeypatch, tmp_path, "@begin hello/as-run", event, "@dirty 0 5 5")
    shown = diff("hello", "--kernel", kernel)
    assert shown.exit_code == 1
    assert "KVM only     kvm_access_fault: IPA: 1000" in shown.output
    assert "dirty for KVM only (slot:page): 0:5" in shown.output
    assert "(profile 6.1): they part" in shown.output
    found = json.loads(diff("hello", "--kernel", kernel, "--json").output)
    assert found["same"] is False
    assert found["runs"][0]["dirty"]["only_kvm"] == [[0, 5]]


def test_profile_that_the_user_names_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel = pretend(monkeypatch, tmp_path, "@begin hello/as-run")
    found = diff("hello", "--kernel", kernel, "--json", "--kvm-profile", "2018")
    assert json.loads(found.output)["runs"][0]["profile"] == "2018"


def test_several_set_ups_are_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = pretend(
        monkeypatch, tmp_path, "@begin hello/plain", "@begin hello/log-eager", "@lacks 229"
    )
    shown = diff("hello", "--kernel", kernel, "--setup", "plain", "--setup", "log-eager")
    assert shown.exit_code == 1
    assert "hello/plain:" in shown.output
    assert "0 of 1 runs are the same" in shown.output
    assert "this KVM has no KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES" in shown.output


def test_capability_that_is_missing_is_no_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel = pretend(monkeypatch, tmp_path, "@begin hello/log-eager", "@lacks 229")
    shown = diff("hello", "--kernel", kernel, "--setup", "log-eager")
    assert shown.exit_code == 0
    assert "has no KVM_CAP_ARM_SUPPORTED_BLOCK_SIZES" in shown.output


def test_list_of_set_ups_names_each() -> None:
    shown = diff("--list-setups").output
    assert all(setup.name in shown for setup in ALL)


def test_guest_must_be_named() -> None:
    result = diff()
    assert result.exit_code == 2
    assert "Missing argument 'GUEST', or --all-guests" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--dirty-ring", "256"),
        ("--dirty-protect", "manual"),
        ("--dirty-after", "600"),
        ("--eager-split", "2M"),
        ("--harvest-every", "500"),
        ("--max-insns", "1000"),
        ("--dic",),
        ("--cpu", "max"),
        ("--idc",),
        ("--icache", "vipt"),
        ("--drive", "file=disk.img"),
        ("--rng",),
        ("--testdev",),
        ("--virtio", "modern"),
    ],
    ids=lambda options: options[0],
)
@pytest.mark.parametrize("log", [(), ("--dirty-log",)], ids=["", "logged"])
def test_option_that_would_apply_to_one_side_only_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    options: tuple[str, ...],
    log: tuple[str, ...],
) -> None:
    kernel = pretend(monkeypatch, tmp_path, "@begin hello/as-run")
    result = diff("hello", "--kernel", kernel, *log, *options)
    assert result.exit_code == 2
    assert result.stderr == (
        f"stage2: error: {options[0]} is not passed on to KVM and would apply to one run only; "
        "leave it out (what there is: stage2 diff-kvm --list-setups)\n"
    )


def test_backing_that_the_machine_with_kvm_lacks_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kernel = pretend(monkeypatch, tmp_path, "@begin hello/as-run")
    for backing in ("gmem", "1G"):
        result = diff("hello", "--kernel", kernel, "--mem", "1G", "--backing", backing)
        assert result.exit_code == 2
        assert f"the machine with KVM has no backing {backing}; use 4K or 2M" in result.stderr


@real
@pytest.mark.apt
def test_machine_has_kvm_and_its_tracepoints_fire() -> None:
    (experiment,) = planned("hello", [AS_RUN], ())
    machine = experiments.machine(qemu.vmm(), [experiment])
    report = parse(qemu.boot(qemu.find_kernel(None), machine.initramfs, machine.memory_mib))
    (run,) = report.runs.values()
    names = {event.partition(":")[0] for event in run.events}
    assert names == {"kvm_guest_fault", "kvm_mmio", "kvm_userspace_exit"}
    assert run.exits
    assert run.nanoseconds


@real
@pytest.mark.apt
@pytest.mark.parametrize(
    "guest", [guest.name for guest in catalogue.all_guests() if not asks_for_gic(guest.run)]
)
def test_guest_behaves_as_under_real_kvm_in_every_set_up(guest: str) -> None:
    result = diff(guest, "--setup", "all", "--json")
    runs = json.loads(result.output)["runs"]
    assert sum("same" in run for run in runs) >= 6
    assert [run for run in runs if not run.get("same", "lacks" in run)] == []
    assert result.exit_code == 0
