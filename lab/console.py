"""The guest's console: what it printed, and what that says about how it ended."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable

_STATUS = re.compile(rb"^EXIT: STATUS=(\d{1,9})\r?$", re.MULTILINE)


class Console:
    """Collects the bytes that the UART sends and passes them on at once.

    Parameters
    ----------
    sink : Callable[[bytes], None] or None
        Takes the bytes as they come, for a live console. May be changed at any time.
    """

    NOT_STATE: ClassVar = frozenset({"sink"})

    def __init__(self, sink: Callable[[bytes], None] | None = None) -> None:
        self.sink = sink
        self._printed = bytearray()

    def write(self, data: bytes) -> None:
        """Take what the guest printed."""
        self._printed += data
        if self.sink is not None:
            self.sink(data)

    def repeat(self) -> None:
        """Pass everything on that has been printed so far."""
        if self.sink is not None:
            self.sink(bytes(self._printed))

    @property
    def text(self) -> str:
        """Everything printed so far; bytes that are not UTF-8 become U+FFFD."""
        return self._printed.decode(errors="replace")

    @property
    def status(self) -> int | None:
        """The exit code that the last line ``EXIT: STATUS=n`` stands for, which is ``n >> 1``.

        Guests of kvm-unit-tests print such a line; the lowest bit is always set.
        """
        found = _STATUS.findall(self._printed)
        return int(found[-1]) >> 1 if found else None


class LiveConsole:
    """The guest's console on stdout, as it comes.

    Parameters
    ----------
    by_line : bool
        Hold text back until its line is complete: for a stream that nobody watches, and
        so that a trace on the same terminal does not tear the line apart.
    """

    def __init__(self, *, by_line: bool) -> None:
        self._stream = sys.stdout.buffer
        self._by_line = by_line
        self._held = bytearray()

    def __call__(self, data: bytes) -> None:
        """Take what the guest printed."""
        self._held += data
        if not self._by_line or data.endswith(b"\n"):
            self.flush()

    def flush(self) -> None:
        """Print what is held back."""
        if not self._held:
            return
        self._stream.write(self._held)
        self._stream.flush()
        self._held.clear()
