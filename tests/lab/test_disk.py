"""Disks on the command line: how they are written, opened, and refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hyp.devices.virtio.image import Overlay
from lab.disk import FileImage, open_drive
from lab.drive import Drive, parse_drive
from lab.errors import UserError

if TYPE_CHECKING:
    from hyp.devices.virtio.image import Image

CONTENTS = bytes(range(256)) * 8


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(CONTENTS)
    return path


@pytest.mark.parametrize(
    ("spec", "drive"),
    [
        ("file=disk.raw", Drive(Path("disk.raw"))),
        ("file=a=b,ro", Drive(Path("a=b"), read_only=True)),
        ("cow,file=disk.raw", Drive(Path("disk.raw"), copy_on_write=True)),
        ("file=disk.raw, ro", Drive(Path("disk.raw"), read_only=True)),
    ],
)
def test_a_drive_is_what_is_written_and_prints_the_same(spec: str, drive: Drive) -> None:
    assert parse_drive(spec) == drive
    assert parse_drive(str(drive)) == drive


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("", "an item is empty"),
        ("disk.raw", "'disk.raw' is not a key"),
        ("file=", "'file' needs a value"),
        ("file", "'file' needs a value"),
        ("file=a,", "an item is empty"),
        ("file=a,ro=1", "'ro' takes no value"),
        ("file=a,cow=", "'cow' takes no value"),
        ("file=a,file=b", "'file' is given twice"),
        ("file=a,format=qcow2", "'format' is not a key"),
        ("ro", "file is missing"),
        ("file=a,ro,cow", "a disk that is only read (ro) has nothing to copy (cow)"),
    ],
)
def test_a_malformed_drive_is_refused_by_one_line(spec: str, why: str) -> None:
    with pytest.raises(UserError) as refusal:
        parse_drive(spec)
    assert str(refusal.value) == f"--drive {spec!r}: {why}; write it as file=PATH[,ro][,cow]"


def write_through(image: Image) -> bytes:
    image.write(512, b"x" * 512)
    return image.read(0, 1024)


def test_a_drive_is_written_through(disk: Path) -> None:
    image = open_drive(Drive(disk)).image
    assert (image.size, image.read_only) == (len(CONTENTS), False)
    assert write_through(image) == CONTENTS[:512] + b"x" * 512
    image.flush()
    assert disk.read_bytes() == CONTENTS[:512] + b"x" * 512 + CONTENTS[1024:]


def test_a_copy_on_write_drive_leaves_the_file_alone(disk: Path) -> None:
    disk.chmod(0o444)
    image = open_drive(Drive(disk, copy_on_write=True)).image
    assert isinstance(image, Overlay)
    assert not image.read_only
    assert write_through(image) == CONTENTS[:512] + b"x" * 512
    assert disk.read_bytes() == CONTENTS


def test_a_read_only_drive_is_opened_for_reading(disk: Path) -> None:
    image = open_drive(Drive(disk, read_only=True)).image
    assert (image.read(1024, 1024), image.read_only) == (CONTENTS[1024:], True)
    with pytest.raises(OSError, match="Bad file"):
        image.write(0, bytes(512))


def test_a_file_that_shrinks_is_an_error_of_the_read(disk: Path) -> None:
    image = open_drive(Drive(disk)).image
    os.truncate(disk, 512)
    with pytest.raises(OSError, match="the file ends at 512"):
        image.read(0, 1024)


@pytest.mark.parametrize(
    "drive",
    [Drive(Path("d")), Drive(Path("d"), copy_on_write=True), Drive(Path("d"), read_only=True)],
)
def test_a_run_can_be_repeated_with_the_disk_as_it_was(
    drive: Drive, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(disk.parent)
    disk.rename("d")
    opened = open_drive(drive)
    if not drive.read_only:
        for at in (512, 0):
            opened.image.write(at, b"x" * 1024)
    after = Path("d").read_bytes()
    for _ in range(2):
        again = opened.again().image
        assert again.read(0, again.size) == CONTENTS
        assert again.read_only is drive.read_only
        if not drive.read_only:
            again.write(0, b"z" * 512)
    assert Path("d").read_bytes() == after
    opened.close()


def refusal_of(drive: Drive) -> str:
    with pytest.raises(UserError) as refusal:
        open_drive(drive)
    text = str(refusal.value)
    assert "\n" not in text
    start = f"--drive {str(drive)!r}: "
    assert text.startswith(start)
    return text.removeprefix(start)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.raw"
    assert refusal_of(Drive(path)) == (
        f"there is no such file; make one, such as with truncate -s 64M {path}"
    )


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal_of(Drive(tmp_path)) == "this is a directory; give a raw image"
    for path in (tmp_path / "pipe", Path("/dev/null")):
        assert refusal_of(Drive(path)) == "this is no file and no block device; give a raw image"


@pytest.mark.parametrize(("size", "better"), [(0, 512), (1, 512), (511, 512), (513, 1024)])
def test_a_size_that_is_not_of_whole_sectors_is_refused(
    tmp_path: Path, size: int, better: int
) -> None:
    path = tmp_path / "odd.raw"
    path.write_bytes(bytes(size))
    assert refusal_of(Drive(path)) == (
        f"{size} bytes are not whole sectors of 512; extend it to {better}, such as with truncate"
    )


@pytest.mark.parametrize(
    ("drive", "text"),
    [
        (Drive(Path("d")), "may not be written; change its mode, or add ro or cow"),
        (Drive(Path("d"), read_only=True), "may not be read; change its mode"),
        (Drive(Path("d"), copy_on_write=True), "may not be read; change its mode"),
    ],
)
def test_a_file_without_permission_is_refused(
    drive: Drive, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d").write_bytes(CONTENTS)

    def refuse(*_: object) -> int:  # the tests may run as root, whom nothing is refused
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert refusal_of(drive) == text


def test_another_error_of_the_host_is_passed_on(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(26, "Text file busy")

    monkeypatch.setattr(os, "open", refuse)
    assert refusal_of(Drive(disk)) == "cannot be opened: Text file busy; check file="


def test_a_partial_write_of_the_host_is_continued(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = FileImage(disk, read_only=False)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: whole(file, data[:100], at))
    image.write(0, b"y" * 512)
    image.close()
    assert disk.read_bytes()[:513] == b"y" * 512 + CONTENTS[512:513]
