"""Snapshots in files, and digests."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from guests.catalogue import all_guests
from lab.snapshot import (
    Snapshot,
    SnapshotError,
    digest,
    first_difference,
    read,
    restore,
    take,
    write,
)
from tests.lab.snapshot.machines import Recorded
from tests.lab.snapshot.test_restoring import SEEDED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def snapshot_at(moment: int, *options: str) -> tuple[Recorded, Snapshot]:
    guest = Recorded(*options)
    assert guest.vmm.run_to(moment) is None
    return guest, take(guest.vmm)


def check(path: Path, moment: int, options: tuple[str, ...]) -> None:
    first, snapshot = snapshot_at(moment, *options)
    write(snapshot, path)
    at, golden, end = digest(first.vmm), first.finish(), digest(first.vmm)
    second = Recorded(*options)
    restored = read(path, second.vmm)
    assert restored.instructions == moment
    restore(second.vmm, restored)
    assert first_difference(second.vmm, restored) is None
    assert digest(second.vmm) == at
    assert second.finish() == golden
    assert digest(second.vmm) == end


@pytest.mark.parametrize("name", [guest.name for guest in all_guests()])
def test_a_fresh_machine_goes_on_from_a_file(name: str, tmp_path: Path) -> None:
    instructions = Recorded(name).finish().instructions
    check(tmp_path / "file", instructions * 3 // 5, (name,))


@pytest.mark.parametrize(
    "options",
    [
        ("smp_lock", *SEEDED),
        ("dirty_pattern", "--dirty-log", "--dirty-protect", "manual", "--harvest-every", "500"),
        ("dirty_pattern", "--dirty-log", "--dirty-ring", "1024"),
        ("huge", "--backing", "thp"),
        ("hello", "--pmu", "--gic", "2"),
    ],
    ids=" ".join,
)
def test_options_make_no_difference(options: tuple[str, ...], tmp_path: Path) -> None:
    instructions = Recorded(*options).finish().instructions
    check(tmp_path / "file", instructions // 2, options)


@pytest.mark.parametrize("moment", [0, 1, 517])
def test_the_first_and_the_last_moment_will_do(moment: int, tmp_path: Path) -> None:
    check(tmp_path / "file", moment, ("hello",))


def test_a_machine_that_has_run_takes_a_file_too(tmp_path: Path) -> None:
    first, snapshot = snapshot_at(700, "self_modify")
    write(snapshot, tmp_path / "file")
    golden = first.finish()
    second = Recorded("self_modify")
    second.finish()
    restore(second.vmm, read(tmp_path / "file", second.vmm))
    assert second.finish() == golden


_DIGEST = """
from tests.lab.snapshot.test_file import snapshot_at
from lab.snapshot import digest
print(digest(snapshot_at(400, "hello")[0].vmm).hex())
"""


def test_a_digest_is_the_same_in_another_process() -> None:
    found = subprocess.run(  # this Python
        [sys.executable, "-c", _DIGEST], check=True, capture_output=True, text=True
    )
    assert found.stdout.strip() == digest(snapshot_at(400, "hello")[0].vmm).hex()


def test_a_digest_changes_with_the_state() -> None:
    guest, _snapshot = snapshot_at(400, "hello")
    before = digest(guest.vmm)
    assert digest(guest.vmm) == before
    guest.vmm.pe.write_x(5, guest.vmm.pe.read_x(5) ^ 1)
    assert digest(guest.vmm) != before


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("snapshot") / "file"
    write(snapshot_at(400, "hello")[1], path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("hello", "--mem", "128M"), "another --mem: 67108864, not 134217728"),
        (("hello", "--seed", "3"), "another --seed: 0, not 3"),
        (("hello", "--smp", "2"), "another --smp: 1, not 2"),
        (
            ("hello", "--cpu", "neoverse-n1"),
            "another CPU: ID_AA64DFR0_EL1 was 0x10305106, not 0x110305408",
        ),
        (("el0",), "of another guest, or of another build of it"),
    ],
)
def test_another_machine_is_refused(
    options: tuple[str, ...], words: str, written: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(written)
    with pytest.raises(SnapshotError, match=words) as refusal:
        read(path, Recorded(*options).vmm)
    assert "\n" not in str(refusal.value)
    assert str(path) in str(refusal.value)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: data[:0], "is no snapshot of stage2"),
    "other": (lambda data: b"\x7fELF" + data, "is no snapshot of stage2"),
    "cut": (lambda data: data[:5000], "is damaged or cut off"),
    "short": (lambda data: data[:60], "is damaged or cut off"),
    "changed": (lambda data: data[:3000] + b"?" + data[3001:], "is damaged or cut off"),
    "old": (lambda data: data.replace(b"snapshot 1", b"snapshot 0", 1), "of another version of"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused(kind: str, written: bytes, tmp_path: Path) -> None:
    damage, words = DAMAGE[kind]
    path = tmp_path / "file"
    path.write_bytes(damage(written))
    with pytest.raises(SnapshotError, match=words):
        read(path, Recorded("hello").vmm)


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    guest, snapshot = snapshot_at(10, "hello")
    with pytest.raises(SnapshotError, match=r"cannot read the snapshot .*No such file"):
        read(tmp_path / "none", guest.vmm)
    with pytest.raises(SnapshotError, match=r"cannot write the snapshot .*No such file"):
        write(snapshot, tmp_path / "none" / "file")
