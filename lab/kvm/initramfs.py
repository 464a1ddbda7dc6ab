"""The archive that a Linux kernel unpacks as its first file system: cpio, "newc" form.

The format is described in Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

from typing import Final, NamedTuple

_MAGIC: Final = b"070701"
_ALIGN: Final = 4
_DIRECTORY: Final = 0o040755
_PROGRAM: Final = 0o100755
_DEVICE: Final = 0o020600
_END: Final = "TRAILER!!!"


class Entry(NamedTuple):
    """One file, folder or character device."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def folder(name: str) -> Entry:
    """Return a folder."""
    return Entry(name, _DIRECTORY)


def file(name: str, data: bytes) -> Entry:
    """Return a file that may be executed."""
    return Entry(name, _PROGRAM, data)


def character_device(name: str, major: int, minor: int) -> Entry:
    """Return a device node."""
    return Entry(name, _DEVICE, device=(major, minor))


def archive(entries: list[Entry]) -> bytes:
    """Return the archive of ``entries``; a folder comes before what is in it."""
    everything = [*entries, Entry(_END, 0)]
    return b"".join(_member(number, entry) for number, entry in enumerate(everything, 1))


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device of the file, device it is, name, check
    numbers = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % number for number in numbers)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGN)
