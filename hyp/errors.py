"""Error numbers, and the exception for a call that the hypervisor refuses.

Two kinds of failure are kept apart. A *call* that cannot be served (an
overlapping memory slot, an unknown register) raises :class:`KvmError` and
leaves the VM as it was. A *step inside* the hypervisor that lost a race or
found nothing to do (``EAGAIN`` from a page-table walk) returns an
:class:`Errno`; ``OK`` is false, everything else is true.
"""

from __future__ import annotations

from enum import IntEnum


class Errno(IntEnum):
    """Linux error numbers, as far as KVM uses them here."""

    OK = 0
    EPERM = 1
    ENOENT = 2
    EINTR = 4
    EIO = 5
    ENXIO = 6
    E2BIG = 7
    ENOEXEC = 8
    EBADF = 9
    EAGAIN = 11
    ENOMEM = 12
    EFAULT = 14
    EBUSY = 16
    EEXIST = 17
    ENODEV = 19
    EINVAL = 22
    ENOSPC = 28
    ERANGE = 34
    ENOSYS = 38
    EOPNOTSUPP = 95
    EHWPOISON = 133


class KvmError(Exception):
    """A call that the hypervisor refuses. The VM is as it was before the call.

    Parameters
    ----------
    errno
        What KVM returns for this call.
    message
        The offending value, what was expected, and the way out.
    """

    def __init__(self, errno: Errno, message: str) -> None:
        super().__init__(f"{errno.name}: {message}")
        self.errno = errno
        self.message = message
