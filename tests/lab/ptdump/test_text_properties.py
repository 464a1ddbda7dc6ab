"""Whatever is mapped can be read off the text again."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import IPA
from hyp.errors import Errno
from hyp.pte import GRANULE, PTE_AF, PTE_R, PTE_W, Prot, Stage2Pte
from lab.ptdump import FORMS, page_tables, read_dump
from tests.lab.ptdump.conftest import Tables

LINE = re.compile(
    r"0x(?P<start>[0-9a-f]{16})-0x(?P<end>[0-9a-f]{16})   (?P<size> {0,8}[0-9]+)(?P<unit>[KMGTPE]) "
    r"(?P<level>[0-3])(?P<columns>.*)"
)
EXECUTABLE = {
    "6.13": (" ", "X"),
    "6.18": ("x ", "NX"),
    "6.19": ("px ux ", "PXNUXN"),
    "7.3": ("px ux ", "PXNUXN"),
}

Leaf = tuple[int, int, str]

# 24 places of 2 MiB; each holds a block, or some pages, or nothing.
RIGHTS = st.sampled_from([Prot.R, Prot.R | Prot.W, Prot.R | Prot.X, Prot.R | Prot.W | Prot.X])
PAGES = st.dictionaries(st.integers(0, 511), RIGHTS, max_size=12)
PLACES = st.dictionaries(st.integers(0, 23), st.one_of(RIGHTS, PAGES), max_size=10)


def leaves_of_text(text: str, linux: str) -> set[Leaf]:
    """Return address, level and rights of what a text says is mapped."""
    executable, never = EXECUTABLE[linux]
    columns = re.compile(
        rf"   (?P<r>[R ]) (?P<w>[W ]) (?P<x>{re.escape(executable)}|{never}) AF (?P<blk>BLK|   )"
    )
    found: set[Leaf] = set()
    head, *lines = text.splitlines()
    assert head == "---[ Guest IPA ]---"
    at = 0
    for line in lines:
        match = LINE.fullmatch(line)
        assert match is not None, line
        start, end, level = int(match["start"], 16), int(match["end"], 16), int(match["level"])
        assert start == at
        at = end
        shift = 10 * ("KMGTPE".index(match["unit"]) + 1)
        assert int(match["size"]) << shift == end - start
        if not match["columns"]:
            continue
        fields = columns.fullmatch(match["columns"])
        assert fields is not None, line
        assert (fields["blk"] == "BLK") is (level < 3)
        rights = fields["r"] + fields["w"] + ("x" if fields["x"] == executable else "-")
        found |= {(ipa, level, rights) for ipa in range(start, end, GRANULE[level])}
    return found


def leaves_of_tables(tables: Tables) -> set[Leaf]:
    """Return the same, asked of the page table leaf by leaf."""
    found: set[Leaf] = set()
    ipa = 0x4000_0000
    while ipa < 0x4000_0000 + (24 << 21):
        pte, level = tables.vm.pgt.get_leaf(IPA(ipa))
        if pte & 1:
            assert pte & PTE_AF
            r, w = "R" if pte & PTE_R else " ", "W" if pte & PTE_W else " "
            found.add((ipa, level, r + w + ("-" if Stage2Pte(pte).XN else "x")))
        ipa += GRANULE[level]
    return found


@pytest.fixture(scope="module")
def shared() -> Tables:
    """Return one VM for all examples; each begins by unmapping everything."""
    return Tables()


@given(places=PLACES)
def test_text_holds_the_set_of_leaves(
    shared: Tables, places: dict[int, Prot | dict[int, Prot]]
) -> None:
    assert shared.vm.pgt.unmap(IPA(0), 1 << 40) is Errno.OK
    for place, content in places.items():
        base = 0x4000_0000 + (place << 21)
        if isinstance(content, dict):
            for page, prot in content.items():
                shared.map(base + (page << 12), 0x1000, 0x9_0000_0000 + (page << 12), prot)
        else:
            shared.map(base, 1 << 21, 0xA_0000_0000 + (place << 21), content)
    dump, leaves = read_dump(shared.vm), leaves_of_tables(shared)
    for linux in FORMS:
        assert leaves_of_text(page_tables(dump, linux), linux) == leaves
