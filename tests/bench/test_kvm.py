from __future__ import annotations

import pytest

from bench import kvm, qemu
from bench.guest import RAM
from lab.errors import UserError
from lab.kvm.qemu import find_kernel


def has_kvm() -> bool:
    try:
        find_kernel(None)
    except UserError:
        return False
    return qemu.is_installed()


def test_every_round_runs_every_guest_in_a_vm_of_its_own() -> None:
    cases = [case for case in kvm.CASES for _ in range(2)]
    lines, files = kvm.experiment(cases, [1, 2] * len(kvm.CASES), 3)
    assert lines[:2] == ["pauses", "write /proc/sys/vm/nr_hugepages 3"]
    assert lines[2:10] == [
        "begin guest0/0",
        "vm 40",
        "area 0 0x400000 0x1000 shared",
        f"slot 0 {RAM:#x} 0x400000 0 0 0",
        f"load {RAM:#x} /guest0",
        "vcpu",
        f"pc {RAM:#x}",
        "run",
    ]
    assert lines.count("run") == 3 * len(cases)
    assert list(files) == [f"guest{n}" for n in range(len(cases))]


def test_two_vcpus_share_the_code_and_have_registers_of_their_own() -> None:
    (case,) = (case for case in kvm.CASES if case.cpus == 2)
    lines, _ = kvm.experiment([case], [7], 1)
    start = lines.index("vcpu")
    assert lines[start:] == [
        *("vcpu", f"pc {RAM:#x}", "x 5 0x2", "x 6 0x8000000", "x 8 0x0", "x 19 0x7"),
        *("vcpu", f"pc {RAM:#x}", "x 5 0x1", "x 6 0x8000000", "x 8 0x1"),
        *("x 19 0xffffffffffffffff", "gic 0x8000000 0x80a0000", "run"),
    ]


@pytest.mark.apt
@pytest.mark.skipif(not has_kvm(), reason="needs qemu-system-aarch64 and an arm64 kernel")
def test_each_case_runs_under_kvm_to_its_end() -> None:
    assert len(kvm.under_kvm([16] * len(kvm.CASES), 1)) == len(kvm.CASES)
