"""The identification registers that every PrimeCell ends with (Arm DDI 0183, DDI 0224)."""

from __future__ import annotations

from typing import Final

SIZE: Final = 0x1000
"""A PrimeCell's registers and their reserved space, in bytes."""

_BASE: Final = 0xFE0
_CELL_ID: Final = (0x0D, 0xF0, 0x05, 0xB1)


def identification(peripheral: tuple[int, int, int, int], offset: int) -> int | None:
    """Return PeriphID0-3 and PCellID0-3, one a word from 0xFE0 on; None below."""
    if not _BASE <= offset < SIZE:
        return None
    number, odd = divmod(offset - _BASE, 4)
    return 0 if odd else (*peripheral, *_CELL_ID)[number]
