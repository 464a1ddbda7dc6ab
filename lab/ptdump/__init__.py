"""Page-table dumps of a VM: read, printed as Linux does, as a tree, compared, as a page."""

from lab.ptdump.diff import Change, Difference, compare
from lab.ptdump.dump import Dump, Extent, Run, SlotInfo, Table
from lab.ptdump.reading import read_dump
from lab.ptdump.text import FORMS, page_tables

__all__ = [
    "FORMS",
    "Change",
    "Difference",
    "Dump",
    "Extent",
    "Run",
    "SlotInfo",
    "Table",
    "compare",
    "page_tables",
    "read_dump",
]
