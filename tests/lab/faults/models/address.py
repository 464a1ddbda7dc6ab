"""Where things are in the small VM."""

from __future__ import annotations

from typing import Final

from emu.arch.address import IPA

RAM: Final = IPA(0x4000_0000)
SIZE: Final = 4 << 20
CODE: Final = RAM
VECTORS: Final = IPA(RAM + 0x1_0000)
DATA: Final = IPA(RAM + 0x10_0000)
TABLES: Final = IPA(RAM + 0x20_0000)
"""Of stage 1."""
