"""Disks as they are written on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.errors import UserError

SYNTAX: Final = "file=PATH[,ro][,cow]"

_KEYS: Final = {"file": True, "ro": False, "cow": False}
"""The keys of a ``--drive`` value, and whether they take one."""


@dataclass(frozen=True, slots=True)
class Drive:
    """One disk of the guest.

    Attributes
    ----------
    path : Path
        The raw image.
    read_only : bool
        The guest may only read.
    copy_on_write : bool
        What the guest writes is kept in memory, and lost with the run; the file is only read.
    """

    path: Path
    read_only: bool = False
    copy_on_write: bool = False

    def __str__(self) -> str:
        flags = ",ro" * self.read_only + ",cow" * self.copy_on_write
        return f"file={self.path}{flags}"


def parse_drive(spec: str) -> Drive:
    """Return the disk that a ``--drive`` value describes.

    Raises
    ------
    UserError
        If the text does not follow :data:`SYNTAX`.
    """
    fields: dict[str, str] = {}
    for item in spec.split(","):
        key, equals, value = item.strip().partition("=")
        if key not in _KEYS:
            raise _malformed(spec, f"{key!r} is not a key" if key else "an item is empty")
        if key in fields:
            raise _malformed(spec, f"{key!r} is given twice")
        if bool(equals) is not _KEYS[key] or (equals and not value):
            raise _malformed(spec, f"{key!r} {'needs a' if _KEYS[key] else 'takes no'} value")
        fields[key] = value
    if "file" not in fields:
        raise _malformed(spec, "file is missing")
    if "ro" in fields and "cow" in fields:
        raise _malformed(spec, "a disk that is only read (ro) has nothing to copy (cow)")
    return Drive(Path(fields["file"]), "ro" in fields, "cow" in fields)


def _malformed(spec: str, why: str) -> UserError:
    return UserError(f"--drive {spec!r}: {why}; write it as {SYNTAX}")
