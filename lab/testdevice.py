"""The test device: one page in user space through which a guest reports and plays.

======== ====== =====================================================
offset   bytes  function
======== ====== =====================================================
0x000    4, 8   EXIT: write the guest's exit code; reads as 0
0x100    256    scratch: reads back what was written, in any width
======== ====== =====================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.virtmap import TEST_DEVICE

if TYPE_CHECKING:
    from emu.arch.address import IPA

EXIT = 0x000
SCRATCH = 0x100
SCRATCH_SIZE = 0x100


class TestDevice:
    """The state behind the page.

    Attributes
    ----------
    exit_code : int or None
        What the guest wrote to EXIT last.
    """

    __test__ = False  # not a test class, in spite of its name

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._scratch = bytearray(SCRATCH_SIZE)

    def read(self, address: IPA, length: int) -> bytes | None:
        """Return what a load of ``length`` bytes gives, or None if nothing is there."""
        offset = address - TEST_DEVICE.base
        if _in_scratch(offset, length):
            start = offset - SCRATCH
            return bytes(self._scratch[start : start + length])
        return bytes(length) if _is_exit(offset, length) else None

    def write(self, address: IPA, data: bytes) -> bool:
        """Take a store; return whether something is there."""
        offset = address - TEST_DEVICE.base
        if _in_scratch(offset, len(data)):
            start = offset - SCRATCH
            self._scratch[start : start + len(data)] = data
            return True
        if _is_exit(offset, len(data)):
            self.exit_code = int.from_bytes(data, "little")
            return True
        return False


def _in_scratch(offset: int, length: int) -> bool:
    return offset >= SCRATCH and offset + length <= SCRATCH + SCRATCH_SIZE


def _is_exit(offset: int, length: int) -> bool:
    return offset == EXIT and length in {4, 8}
