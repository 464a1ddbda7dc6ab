"""The host's end of the test device of kvm-unit-tests: commands that come over a console.

A test ends with ``<code>q``. QEMU's ``testdev`` character device then exits, with
``(code << 1) | 1``; here the exit code is the guest's own.
"""

from __future__ import annotations

import re
from typing import Final

_COMMAND: Final = re.compile(rb"\s*+(\d*+)\s*+(\S)")
_MAX_PENDING: Final = 32
"""More than this without a command is no command."""


class ChrTestdev:
    """Reads what the guest sends, in pieces of any size.

    A command is a decimal argument, 0 if it is missing, and a character that says what to
    do. White space may stand before either. Unknown commands are skipped.

    Attributes
    ----------
    code : int or None
        The argument of the first ``q``; ``None`` until it comes.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self._pending = b""

    def __call__(self, data: bytes) -> None:
        """Take what the guest sent."""
        self._pending += data
        while self.code is None and (command := _COMMAND.match(self._pending)):
            argument, letter = command.groups()
            if letter == b"q":
                self.code = int(argument[:_MAX_PENDING] or b"0")
            self._pending = self._pending[command.end() :]
        self._pending = self._pending[-_MAX_PENDING:]
