"""Tables as a tree."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich.console import Console

from emu.arch.address import IPA
from lab.ptdump import read_dump
from lab.ptdump.tree import tree

if TYPE_CHECKING:
    from lab.ptdump import Dump
    from tests.lab.ptdump.conftest import Tables


def lines(dump: Dump) -> list[str]:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(tree(dump))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_tables_hold_their_entries_and_equal_ones_share_a_line(mixed_dump: Dump) -> None:
    top, second, third = (f"0x{table.pa:09_x}" for table in mixed_dump.tables)
    assert lines(mixed_dump) == [
        "by hand, power_off, 1,234 instructions: ipa_range 40, stage2_levels 3, 3 tables",
        f"└── L1 table at PA {top} for 0x0000_0000",
        "    ├── L1 0x0000_0000  1G empty",
        f"    ├── L2 table at PA {second} for 0x4000_0000",
        f"    │   ├── L3 table at PA {third} for 0x4000_0000",
        "    │   │   ├── L3 0x4000_0000  2 x 4K page -> 0x9_0000_0000  rwx, Normal",
        "    │   │   ├── L3 0x4000_2000  4K page -> 0x9_0000_2000  r--, Normal",
        "    │   │   ├── L3 0x4000_3000  4K page -> 0x9_1000_0000  r-x, Normal",
        "    │   │   ├── L3 0x4000_4000  4K page -> 0x9_2000_0000  rw-, Device-nGnRE",
        "    │   │   ├── L3 0x4000_5000  4K locked",
        "    │   │   ├── L3 0x4000_6000  4K guest poisoned 0xc0",
        "    │   │   ├── L3 0x4000_7000  4K page -> 0x9_0000_7000  rw-, Normal, old",
        "    │   │   ├── L3 0x4000_8000  4K page -> 0x9_0000_8000  rwp, Normal",
        "    │   │   ├── L3 0x4000_9000  4K reserved -> 0x9_0000_9000  rw-, Normal",
        "    │   │   └── L3 0x4000_a000  502 x 4K empty",
        "    │   ├── L2 0x4020_0000  2 x 2M block -> 0x9_0020_0000  rw-, Normal",
        "    │   └── L2 0x4060_0000  509 x 2M empty",
        "    ├── L1 0x8000_0000  1G block -> 0xa_0000_0000  r--, Normal",
        "    └── L1 0xc000_0000  1021 x 1G empty",
    ]


def test_software_bits_and_shareability_are_named(mixed: Tables) -> None:
    leaf = mixed.vm.pgt.get_leaf(IPA(0x4000_2000)).pte
    mixed.store(0x4000_2000, 3, leaf & ~(3 << 8) | 5 << 55)
    assert any(
        line.endswith("r--, Normal, non shareable, sw 0x5") for line in lines(read_dump(mixed.vm))
    )
