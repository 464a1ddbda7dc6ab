"""What the user's side raises, and how the hypervisor's refusals become part of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class UserError(Exception):
    """The user asked for something that cannot be done.

    The text is one line that names the value, what was expected, and the way
    out. The command line prints it as ``stage2: error: TEXT`` and exits with
    status 2; a library user catches it. Anything else that escapes is a bug.

    Parameters
    ----------
    message : str
        The line.
    detail : str
        What another program had to say about it, such as a compiler's messages;
        printed above the line.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@contextmanager
def hypervisor_refusals() -> Iterator[None]:
    """Turn what the hypervisor or the host refuses into a :class:`UserError`."""
    from hyp.errors import KvmError  # noqa: PLC0415  # start-up time

    try:
        yield
    except KvmError as error:
        raise UserError(f"the hypervisor refuses: {error.message} ({error.errno.name})") from error
    except MemoryError as error:
        raise UserError("this host has too little memory for such a guest; give less") from error
