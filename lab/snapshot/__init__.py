"""Snapshots: the state of a machine and all on it, kept, put back, compared, and in files."""

from lab.snapshot.file import digest, read, write
from lab.snapshot.kinds import SnapshotError
from lab.snapshot.snapshot import Snapshot, first_difference, is_equal, restore, take

__all__ = [
    "Snapshot",
    "SnapshotError",
    "digest",
    "first_difference",
    "is_equal",
    "read",
    "restore",
    "take",
    "write",
]
