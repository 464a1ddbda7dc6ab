from pathlib import Path

import pytest

from emu.arch.address import IPA
from lab.backing import Backing
from lab.errors import UserError
from lab.loader.image import Region
from lab.slots import Slot, check_layout, parse_slot

RAM = Slot(id=0, region=Region(IPA(0x4000_0000), 64 << 20))


def slot(base: int = 0x5000_0000, size: int = 0x1_0000, number: int = 1) -> Slot:
    return Slot(id=number, region=Region(IPA(base), size))


def test_a_slot_needs_only_id_gpa_and_size() -> None:
    assert parse_slot("id=1,gpa=0x50000000,size=64K") == slot()


def test_a_slot_may_be_read_only_logged_huge_and_filled_from_a_file() -> None:
    assert parse_slot("id=2,gpa=1G,size=2M,ro,log,backing=2M,file=rom.bin") == Slot(
        id=2,
        region=Region(IPA(1 << 30), 2 << 20),
        read_only=True,
        log_dirty=True,
        backing=Backing(2 << 20),
        file=Path("rom.bin"),
    )


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("", "an item is empty"),
        ("id=1,,gpa=0,size=4K", "an item is empty"),
        ("id=1,gpa=0", "size missing"),
        ("size=4K", "id and gpa missing"),
        ("id=1,id=2,gpa=0,size=4K", "'id' is given twice"),
        ("id=1,gpa=0,size=4K,rw", "'rw' is not a key"),
        ("id=1,gpa=0,size=4K,ro=1", "'ro' takes no value"),
        ("id,gpa=0,size=4K", "'id' needs a value"),
        ("id=one,gpa=0,size=4K", "id is a number, not 'one'"),
        ("id=-1,gpa=0,size=4K", "id is a number, not '-1'"),
    ],
)
def test_a_malformed_slot_is_refused_with_the_syntax(spec: str, why: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_slot(spec)
    assert str(caught.value) == (
        f"--slot {spec!r}: {why}; write it as "
        "id=1,gpa=0x50000000,size=64K[,ro][,log][,backing=2M][,file=PATH]"
    )


def test_a_bad_number_in_a_slot_names_the_key() -> None:
    with pytest.raises(UserError, match="gpa in --slot 'id=1,gpa=x,size=4K' is a number such"):
        parse_slot("id=1,gpa=x,size=4K")


def test_slots_side_by_side_are_accepted() -> None:
    check_layout([RAM, slot(0x4400_0000), slot(0x3FFF_0000, number=2)], 40)


def test_a_slot_may_end_exactly_at_the_end_of_the_ipa_space() -> None:
    check_layout([RAM, slot((1 << 32) - 0x1_0000)], 32)


@pytest.mark.parametrize(
    ("slots", "text"),
    [
        (
            [RAM, slot(0x43FF_F000)],
            (
                "RAM at 0x4000_0000 to 0x43ff_ffff and slot 1 at 0x43ff_f000 to 0x4400_efff "
                "overlap; move one with gpa="
            ),
        ),
        (
            [slot(number=2), slot(0x5000_F000)],
            (
                "slot 2 at 0x5000_0000 to 0x5000_ffff and slot 1 at 0x5000_f000 to 0x5001_efff "
                "overlap; move one with gpa="
            ),
        ),
        (
            [RAM, slot(0x5000_0800)],
            (
                "slot 1 starts at 0x50000800, which is not page aligned; the next page is "
                "gpa=0x50001000"
            ),
        ),
        (
            [slot(size=0x1800)],
            "slot 1 has 6K, which is not a multiple of its 4K pages; change size= or the backing",
        ),
        ([slot(size=0)], "slot 1 has size 0; give it at least one page of 4K with size="),
        (
            [slot(), slot(0x6000_0000)],
            "slot id 1 is used twice; give every --slot its own id",
        ),
        ([slot(number=32767)], "a slot id is 1 to 32766, not 32767; change id="),
        (
            [slot((1 << 32) - 0x1000)],
            (
                "slot 1 ends at 0x1_0000_f000, beyond the guest's 32-bit addresses "
                "(0x1_0000_0000); shrink it or raise --ipa-bits"
            ),
        ),
        (
            [Slot(id=0, region=RAM.region, backing=Backing(1 << 30))],
            "RAM has 64M, which is not a multiple of its 1G pages; change --mem or the backing",
        ),
    ],
)
def test_an_impossible_layout_is_refused(slots: list[Slot], text: str) -> None:
    with pytest.raises(UserError) as caught:
        check_layout(slots, 32)
    assert str(caught.value) == text
