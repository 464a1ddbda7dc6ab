"""The catalogue: what the header comments of the guests' sources say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from guests.catalogue import GUESTS, all_guests, find, parse

if TYPE_CHECKING:
    from pathlib import Path

ROOT = GUESTS.parent
NAMES = [guest.name for guest in all_guests()]


def write(folder: Path, text: str) -> Path:
    source = folder / "mine.c"
    source.write_text(text)
    return source


def test_guests_are_listed_in_alphabetical_order() -> None:
    assert sorted(NAMES) == NAMES


def test_every_source_in_the_folder_is_a_guest() -> None:
    assert set(NAMES) == {path.stem for path in GUESTS.iterdir() if path.suffix in {".c", ".S"}}


@pytest.mark.parametrize("name", NAMES)
def test_every_guest_is_described_and_built(name: str) -> None:
    guest = find(name)
    assert guest.summary.endswith(".")
    assert len(guest.watch) > 40
    assert guest.image.is_file()


@pytest.mark.parametrize("name", NAMES)
def test_every_guest_fits_on_a_page(name: str) -> None:
    assert len(find(name).source.read_text().splitlines()) <= 110


def test_no_image_is_left_of_a_guest_that_is_gone() -> None:
    assert {path.name for path in (GUESTS / "elf").iterdir()} == {
        guest.image.name for guest in all_guests()
    }


def test_the_page_about_guests_names_every_one() -> None:
    text = (ROOT / "docs" / "guests.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in text] == []


def test_labels_of_the_comment_are_read_with_their_continuation_lines(tmp_path: Path) -> None:
    guest = parse(
        write(
            tmp_path,
            "/*\n * Do this.\n *\n * More about it.\n * Watch: one\n *        two.\n"
            ' * Run:   --slot "id=1,gpa=0x50000000"\n *        --nisv\n * Format: flat\n */\n',
        )
    )
    assert guest.summary == "Do this."
    assert guest.watch == "one two."
    assert guest.run == ("--slot", "id=1,gpa=0x50000000", "--nisv")
    assert guest.image.name == "mine.bin"


def test_a_guest_without_options_is_an_elf_file(tmp_path: Path) -> None:
    guest = parse(write(tmp_path, "/* Do this.\n * Watch: that. */\n"))
    assert guest.run == ()
    assert guest.image.name == "mine.elf"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("int main(void);\n", "starts with a /\\* \\*/ comment"),
        ("/* Do this. */\n", "lacks a `Watch:` paragraph"),
        ("/* Watch: that. */\n", "lacks a one-line summary"),
        ("/* Do.\n * Watch: that.\n * Format: exe */\n", "Image, flat, not 'exe'"),
    ],
)
def test_an_unfit_comment_is_refused_with_the_file_name(
    tmp_path: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=f"mine.c: .*{complaint}"):
        parse(write(tmp_path, text))


def test_an_unknown_name_is_answered_with_those_that_exist() -> None:
    with pytest.raises(KeyError, match=r"no guest is called 'helo'; there are .*hello"):
        find("helo")
