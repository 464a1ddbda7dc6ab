"""What differs between two dumps."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from emu.arch.address import IPA, PA
from hyp.errors import Errno
from hyp.pte import GRANULE, Prot, stage2_attr
from lab.ptdump import Change, Dump, Run, Table, compare, read_dump

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.ptdump.conftest import Tables

RW = Prot.R | Prot.W


def changes(old: Dump, new: Dump) -> list[tuple[Change, int, int]]:
    return [(found.change, found.start, found.end) for found in compare(old, new)]


def test_equal_tables_do_not_differ(mixed_dump: Dump) -> None:
    assert compare(mixed_dump, mixed_dump) == []


def test_mapped_and_unmapped_are_each_other_turned_round(tables: Tables) -> None:
    empty = read_dump(tables.vm)
    tables.map(0x401F_E000, 0x4000, 0x9_001F_E000, RW)
    full = read_dump(tables.vm)
    assert changes(empty, full) == [(Change.MAPPED, 0x401F_E000, 0x4020_2000)]
    assert changes(full, empty) == [(Change.UNMAPPED, 0x401F_E000, 0x4020_2000)]
    (found,) = compare(empty, full)
    assert str(found) == "+ 0x401f_e000-0x4020_2000    16K  4K rw- pa 0x9_001f_e000 Normal"
    (found,) = compare(full, empty)
    assert str(found) == "- 0x401f_e000-0x4020_2000    16K  4K rw- pa 0x9_001f_e000 Normal"


def test_two_mappings_that_do_not_go_on_are_two_differences(tables: Tables) -> None:
    empty = read_dump(tables.vm)
    tables.map(0x4000_0000, 0x1000, 0x9_0000_0000, RW)
    tables.map(0x4000_1000, 0x1000, 0x9_5000_0000, RW)
    assert len(compare(empty, read_dump(tables.vm))) == 2


def test_split_block_changed_its_size_alone(tables: Tables) -> None:
    tables.map(0x4020_0000, 0x40_0000, 0x9_0020_0000, RW)
    old = read_dump(tables.vm)
    tables.cache.topup(2)
    tables.vm.pgt.split(IPA(0x4020_0000), 0x40_0000, tables.cache)
    (found,) = compare(old, read_dump(tables.vm))
    assert (found.change, found.size, found.what()) == (
        Change.CHANGED,
        0x40_0000,
        ["size 2M -> 4K"],
    )
    assert str(found) == "~ 0x4020_0000-0x4060_0000     4M size 2M -> 4K"


def test_change_names_what_changed(tables: Tables) -> None:
    tables.map(0x4000_0000, 0x2000, 0x9_0000_0000, RW)
    old = read_dump(tables.vm)
    tables.vm.pgt.wrprotect(IPA(0x4000_0000), 0x1000)
    tables.vm.pgt.test_clear_young(IPA(0x4000_0000), 0x1000, mkold=True)
    tables.map(0x4000_1000, 0x1000, 0x9_0070_0000, RW | Prot.DEVICE)
    first, second = compare(old, read_dump(tables.vm))
    assert first.what() == ["perm rw- -> r--", "af 1 -> 0"]
    assert second.what() == [
        "pa 0x9_0000_1000 -> 0x9_0070_0000",
        "memory Normal -> Device-nGnRE",
    ]
    assert second.as_dict() == {
        "change": "changed",
        "ipa": 0x4000_1000,
        "size": 0x1000,
        "old": {"level": 3, "pte": second.old.pte},
        "new": {"level": 3, "pte": second.new.pte},
        "what": second.what(),
    }


def test_annotation_of_what_is_not_mapped_is_a_change(tables: Tables) -> None:
    tables.map(0x4000_0000, 0x2000, 0x9_0000_0000, RW)
    assert tables.vm.pgt.unmap(IPA(0x4000_0000), 0x1000) is Errno.OK
    old = read_dump(tables.vm)
    tables.store(0x4000_0000, 3, 1 << 60)
    (found,) = compare(old, read_dump(tables.vm))
    assert (found.change, found.what()) == (Change.CHANGED, ["entry none -> locked"])


def test_emptied_table_is_no_difference(tables: Tables) -> None:
    empty = read_dump(tables.vm)
    tables.map(0x4000_0000, 0x2000, 0x9_0000_0000, RW)
    tables.store(0x4000_0000, 3, 0)
    tables.store(0x4000_1000, 3, 0)
    dump = read_dump(tables.vm)
    assert len(dump.tables) == 3
    assert compare(empty, dump) == []


def test_smaller_address_space_maps_nothing_beyond_its_end(
    tables: Tables, make_tables: Callable[[int], Tables]
) -> None:
    small = read_dump(make_tables(32).vm)
    assert compare(small, read_dump(tables.vm)) == []
    tables.map(1 << 36, 0x4000_0000, 0xA_0000_0000, Prot.R)
    large = read_dump(tables.vm)
    assert changes(small, large) == [(Change.MAPPED, 1 << 36, (1 << 36) + 0x4000_0000)]
    assert changes(large, small) == [(Change.UNMAPPED, 1 << 36, (1 << 36) + 0x4000_0000)]


# Dumps of 32 bits: nothing but the 4 GiB's first 8 MiB, in blocks or in pages.
ATTR = [stage2_attr(prot, fwb=False) or 0 for prot in (Prot.R, RW)]
BLOCK = st.one_of(
    st.just(0),
    st.sampled_from([attr | 1 | 0x9_0000_0000 + (n << 21) for attr in ATTR for n in (0, 1)]),
)
PAGES = st.lists(
    st.one_of(
        st.just(0),
        st.sampled_from([attr | 3 | 0x9_0000_0000 + (n << 12) for attr in ATTR for n in (0, 1)]),
    ),
    min_size=4,
    max_size=4,
)


def dump_of(places: list[int | list[int]]) -> Dump:
    """Return a dump with a block, or four pages and a hole, in each place of 2 MiB."""
    runs: list[Run] = []
    tables = [Table(IPA(0), 2, PA(0x8_0000_0000))]
    for n, place in enumerate(places):
        base = n << 21
        if isinstance(place, int):
            runs.append(Run(IPA(base), 2, place, 1))
            continue
        tables.append(Table(IPA(base), 3, PA(0x8_0001_0000 + (n << 12))))
        runs += [Run(IPA(base + (page << 12)), 3, pte, 1) for page, pte in enumerate(place)]
        runs.append(Run(IPA(base + (len(place) << 12)), 3, 0, 512 - len(place)))
    runs.append(Run(IPA(len(places) << 21), 2, 0, 2048 - len(places)))
    return Dump(ipa_bits=32, start_level=2, fwb=False, tables=tuple(tables), runs=tuple(runs))


def by_page(dump: Dump) -> dict[int, tuple[int, int, int]]:
    """Return what each mapped page has: output, level, and the rest of its entry."""
    return {
        ipa: (run.output(IPA(ipa)), run.level, run.pte & 0x00FF_0000_0000_0FFC)
        for run in dump.leaves()
        for ipa in range(run.ipa, run.end, GRANULE[3])
    }


@given(st.lists(st.one_of(BLOCK, PAGES), min_size=4, max_size=4), st.data())
def test_differences_are_those_of_each_page(
    places: list[int | list[int]], data: st.DataObject
) -> None:
    others = [data.draw(st.one_of(st.just(place), BLOCK, PAGES)) for place in places]
    old, new = dump_of(places), dump_of(others)
    was, now = by_page(old), by_page(new)
    expected = {
        page: Change.MAPPED
        if page not in was
        else Change.UNMAPPED
        if page not in now
        else Change.CHANGED
        for page in was.keys() | now.keys()
        if was.get(page) != now.get(page)
    }
    found = compare(old, new)
    assert expected == {
        page: difference.change
        for difference in found
        for page in range(difference.start, difference.end, GRANULE[3])
    }
    assert all(before.end <= after.start for before, after in pairwise(found))
