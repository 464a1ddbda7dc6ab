"""The text of ``stage2_page_tables``, to the column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hyp.pte import Prot
from lab.commands.ptdump import LINUX
from lab.ptdump import FORMS, page_tables, read_dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.ptdump import Dump
    from tests.lab.ptdump.conftest import Tables

# Arrows stand for the ends of lines, which may be blanks.
GOLDEN = {
    "6.13": """\
---[ Guest IPA ]---<
0x0000000000000000-0x0000000040000000           1G 1<
0x0000000040000000-0x0000000040002000           8K 3   R W   AF    <
0x0000000040002000-0x0000000040003000           4K 3   R   X AF    <
0x0000000040003000-0x0000000040004000           4K 3   R     AF    <
0x0000000040004000-0x0000000040005000           4K 3   R W X AF    <
0x0000000040005000-0x0000000040006000           4K 3<
0x0000000040006000-0x0000000040007000           4K 3 F     X       <
0x0000000040007000-0x0000000040008000           4K 3   R W X       <
0x0000000040008000-0x0000000040009000           4K 3   R W X AF    <
0x0000000040009000-0x000000004000a000           4K 3   R W X AF BLK<
0x000000004000a000-0x0000000040200000        2008K 3<
0x0000000040200000-0x0000000040600000           4M 2   R W X AF BLK<
0x0000000040600000-0x0000000080000000        1018M 2<
0x0000000080000000-0x00000000c0000000           1G 1   R   X AF BLK<
""",
    "6.18": """\
---[ Guest IPA ]---<
0x0000000000000000-0x0000000040000000           1G 1<
0x0000000040000000-0x0000000040002000           8K 3   R W x  AF    <
0x0000000040002000-0x0000000040003000           4K 3   R   NX AF    <
0x0000000040003000-0x0000000040004000           4K 3   R   x  AF    <
0x0000000040004000-0x0000000040005000           4K 3   R W NX AF    <
0x0000000040005000-0x0000000040006000           4K 3<
0x0000000040006000-0x0000000040007000           4K 3 F R W x        <
0x0000000040007000-0x0000000040008000           4K 3   R W NX       <
0x0000000040008000-0x0000000040009000           4K 3   R W NX AF    <
0x0000000040009000-0x000000004000a000           4K 3   R W NX AF BLK<
0x000000004000a000-0x0000000040200000        2008K 3<
0x0000000040200000-0x0000000040600000           4M 2   R W NX AF BLK<
0x0000000040600000-0x0000000080000000        1018M 2<
0x0000000080000000-0x00000000c0000000           1G 1   R   NX AF BLK<
""",
    "6.19": """\
---[ Guest IPA ]---<
0x0000000000000000-0x0000000040000000           1G 1<
0x0000000040000000-0x0000000040002000           8K 3   R W px ux  AF    <
0x0000000040002000-0x0000000040003000           4K 3   R   PXNUXN AF    <
0x0000000040003000-0x0000000040004000           4K 3   R   px ux  AF    <
0x0000000040004000-0x0000000040005000           4K 3   R W PXNUXN AF    <
0x0000000040005000-0x0000000040006000           4K 3<
0x0000000040006000-0x0000000040007000           4K 3 F R W px ux        <
0x0000000040007000-0x0000000040008000           4K 3   R W PXNUXN       <
0x0000000040008000-0x0000000040009000           4K 3   R W px UXN AF    <
0x0000000040009000-0x000000004000a000           4K 3   R W PXNUXN AF BLK<
0x000000004000a000-0x0000000040200000        2008K 3<
0x0000000040200000-0x0000000040600000           4M 2   R W PXNUXN AF BLK<
0x0000000040600000-0x0000000080000000        1018M 2<
0x0000000080000000-0x00000000c0000000           1G 1   R   PXNUXN AF BLK<
""",
}
LAST = "0x00000000c0000000-0x0000010000000000        1021G 1<\n"


@pytest.mark.parametrize("linux", FORMS)
def test_every_sort_of_entry_is_printed_as_that_version_does(mixed_dump: Dump, linux: str) -> None:
    golden = GOLDEN["6.19"] + LAST if linux == "7.3" else GOLDEN[linux]
    # Of this annotation 6.13 tests VALID with each bit, but tells ranges apart by all of them.
    assert page_tables(mixed_dump, linux) == golden.replace("<", "")


def test_command_knows_every_version() -> None:
    assert tuple(FORMS) == LINUX


def test_mapping_at_the_very_end_is_missing_before_7_3(tables: Tables) -> None:
    tables.map((1 << 40) - 0x4000_0000, 0x4000_0000, 0xA_0000_0000, Prot.R)
    dump = read_dump(tables.vm)
    line = "-0x0000010000000000           1G 1   R"
    assert [linux for linux in FORMS if line in page_tables(dump, linux)] == ["7.3"]


@pytest.mark.parametrize(
    ("bits", "level", "line"), [(32, 2, "4G 2"), (40, 1, "1T 1"), (44, 0, "16T 0")]
)
def test_hole_has_the_number_of_the_top_level(
    make_tables: Callable[[int], Tables], bits: int, level: int, line: str
) -> None:
    dump = read_dump(make_tables(bits).vm)
    assert dump.start_level == level
    end = 1 << bits
    assert page_tables(dump).splitlines()[1] == f"0x{0:016x}-0x{end:016x}   {line:>12}"


def test_outputs_do_not_matter_and_tables_do_not_part_ranges(tables: Tables) -> None:
    tables.map(0x401F_F000, 0x1000, 0x9_0000_0000, Prot.R)
    tables.map(0x4020_0000, 0x1000, 0x9_5000_0000, Prot.R)
    text = page_tables(read_dump(tables.vm))
    assert "0x00000000401ff000-0x0000000040201000           8K 3   R" in text
