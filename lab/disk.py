"""Files of the host as disks of the guest."""

from __future__ import annotations

import copy
import os
import stat
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hyp.devices.virtio.image import SECTOR, Overlay, Recorder
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from hyp.devices.virtio.image import Image
    from lab.drive import Drive


class FileImage:
    """A raw image in a file or on a block device of the host.

    Parameters
    ----------
    path : Path
        The file.
    read_only : bool
        Open it for reading only.

    Raises
    ------
    OSError
        If it cannot be opened so.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.read_only = read_only
        flags = os.O_RDONLY if read_only else os.O_RDWR
        self._file = os.open(path, flags | os.O_CLOEXEC)
        self.size = os.lseek(self._file, 0, os.SEEK_END)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes of the file.

        Raises
        ------
        OSError
            If the host cannot read them all.
        """
        data = os.pread(self._file, size, offset)
        if len(data) != size:
            raise OSError(f"the file ends at {offset + len(data)}; it was longer")
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes to the file.

        Raises
        ------
        OSError
            If the host cannot write them all.
        """
        done = 0
        while done < len(data):
            done += os.pwrite(self._file, data[done:], offset + done)

    def save_state(self) -> int:
        """Return the size, for a snapshot; what is in the file is no part of one.

        Raises
        ------
        UserError
            If the guest writes to the file: that could not be taken back.
        """
        if not self.read_only:
            raise UserError(
                "no snapshot is possible while the guest writes to a file; add cow or ro to --drive"
            )
        return self.size

    def load_state(self, size: int) -> None:
        """Check that the file has the size that it had.

        Raises
        ------
        UserError
            If it has another.
        """
        if size != self.size:
            raise UserError(
                f"--drive: the file had {size} bytes when the snapshot was taken, "
                f"and has {self.size}; use the same file"
            )

    def flush(self) -> None:
        """Have the host write everything to its disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Disk:
    """An open disk.

    Parameters
    ----------
    file : FileImage
        What is behind it.
    copy_on_write : bool
        Keep what the guest writes in memory.

    Attributes
    ----------
    image : Image
        For the device. The sectors of a file that the guest writes are remembered as they
        were, in memory.
    """

    def __init__(self, file: FileImage, *, copy_on_write: bool) -> None:
        self._file = file
        self._recorder = Recorder(file)
        self.image: Image = self._recorder
        if copy_on_write:
            self.image = Overlay(file)
        elif file.read_only:
            self.image = file

    def digest(self) -> str:
        """Return a hash of what the guest has written; empty if it is not kept in memory."""
        return self.image.digest() if isinstance(self.image, Overlay) else ""

    def again(self) -> Disk:
        """Return the disk as it was when it was opened, for a run to be repeated.

        The file is not written by it.
        """
        disk = copy.copy(self)
        if self.image is not self._file:
            disk.image = self._recorder.before()
        return disk

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def open_drives(drives: Iterable[Drive]) -> Iterator[list[Disk]]:
    """Provide the disks, open as long as the block lasts.

    Raises
    ------
    UserError
        As :func:`open_drive` does.
    """
    with ExitStack() as files:
        disks = []
        for drive in drives:
            disks.append(open_drive(drive))
            files.callback(disks[-1].close)
        yield disks


def open_drive(drive: Drive) -> Disk:
    """Open the file of a disk.

    Raises
    ------
    UserError
        If there is none that can be used so, or its size is not of whole sectors.
    """
    only_read = drive.read_only or drive.copy_on_write
    what = f"--drive {str(drive)!r}"
    try:
        kind = drive.path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
            name = "a directory" if stat.S_ISDIR(kind) else "no file and no block device"
            raise UserError(f"{what}: this is {name}; give a raw image")
        file = FileImage(drive.path, read_only=only_read)
    except FileNotFoundError as error:
        raise UserError(
            f"{what}: there is no such file; make one, such as with truncate -s 64M {drive.path}"
        ) from error
    except PermissionError as error:
        access, others = ("read", "") if only_read else ("written", ", or add ro or cow")
        raise UserError(f"{what}: may not be {access}; change its mode{others}") from error
    except OSError as error:
        raise UserError(f"{what}: cannot be opened: {error.strerror}; check file=") from error
    rest = file.size % SECTOR
    if rest or not file.size:
        file.close()
        raise UserError(
            f"{what}: {file.size} bytes are not whole sectors of {SECTOR}; "
            f"extend it to {file.size - rest + SECTOR}, such as with truncate"
        )
    return Disk(file, copy_on_write=drive.copy_on_write)
