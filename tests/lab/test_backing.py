"""What is behind a guest's memory, as the command line says it and the guest meets it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from lab.backing import BACKINGS, Backing, Kind, parse_backing
from lab.cli import cli
from lab.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X1_UNTOUCHED = 0xD2A84001  # mov x1, #0x42000000
LOAD = 0xF9400022  # ldr x2, [x1]
STORE = 0xF9000022  # str x2, [x1]
NEXT_PAGE = 0x91400421  # add x1, x1, #0x1000
SYSTEM_OFF = (0xD2800100, 0xF2B08000, 0xD4000002)  # mov x0, #8; movk x0, #0x8400, lsl 16; hvc #0


@pytest.mark.parametrize("name", BACKINGS)
@pytest.mark.parametrize("offset", ["", "+4K", "+3M"])
def test_a_backing_is_printed_as_it_is_written(name: str, offset: str) -> None:
    assert str(parse_backing(name + offset)) == name + offset


@pytest.mark.parametrize(
    ("text", "backing"),
    [
        ("4k", Backing()),
        ("2M", Backing(2 << 20)),
        ("1G+2M", Backing(1 << 30, offset=2 << 20)),
        ("PRIVATE", Backing(kind=Kind.PRIVATE)),
        ("private-2M", Backing(2 << 20, Kind.PRIVATE)),
        ("thp+0x1000", Backing(kind=Kind.THP, offset=4096)),
        ("thp+0", Backing(kind=Kind.THP)),
    ],
)
def test_a_backing_is_a_name_and_maybe_an_offset(text: str, backing: Backing) -> None:
    assert parse_backing(text) == backing


@pytest.mark.parametrize("text", ["16K", "thp-2M", "2M-thp", "private-thp", "", "+4K", "shared"])
def test_an_unknown_backing_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_backing(text)
    assert str(caught.value) == (
        f"a backing is one of {', '.join(BACKINGS)}, each with +OFFSET if wanted, not {text!r}"
    )


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (
            "thp+100",
            "the offset in backing 'thp+100' is not page aligned; the next page is thp+0x1000",
        ),
        (
            "2M+0x1fff",
            "the offset in backing '2M+0x1fff' is not page aligned; the next page is 2M+0x2000",
        ),
        (
            "2M+",
            "the offset in backing '2M+' is a number such as 64K, 1G, 4096 or 0x1000, not ''",
        ),
    ],
)
def test_an_offset_that_is_not_of_whole_pages_is_refused(text: str, refusal: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_backing(text)
    assert str(caught.value) == refusal


def mapped(*arguments: str | Path) -> dict[str, int]:
    """Return the stage-2 leaves that a run installed, by size."""
    result = CliRunner().invoke(cli, ["run", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    pages: dict[str, int] = json.loads(result.stdout)["pages_mapped"]
    return pages


@pytest.mark.parametrize(
    ("backing", "memory", "pages"),
    [
        ("4K", "64M", {"4K": 3}),
        ("2M", "64M", {"2M": 2}),
        ("1G", "1G", {"1G": 1}),
        ("private", "64M", {"4K": 3}),
        ("private-2M", "64M", {"2M": 2}),
        ("private-1G", "1G", {"1G": 1}),
        ("thp", "64M", {"2M": 2}),
        # hva and gpa are not congruent modulo 2M: no block maps both (force_pte).
        ("2M+4K", "64M", {"4K": 3}),
        ("1G+64K", "1G", {"4K": 3}),
        ("thp+4K", "64M", {"4K": 3}),
        # They are again; modulo 1G they are not.
        ("thp+4M", "64M", {"2M": 2}),
        ("1G+2M", "1G", {"2M": 2}),
    ],
)
def test_the_backing_of_ram_decides_what_one_fault_maps(
    program: Callable[..., Path], backing: str, memory: str, pages: dict[str, int]
) -> None:
    path = program(X1_UNTOUCHED, STORE, NEXT_PAGE, STORE, *SYSTEM_OFF)
    assert mapped(path, "--mem", memory, "--backing", backing) == pages


@pytest.mark.parametrize(
    ("backing", "pages"), [("4K", {"4K": 2}), ("thp", {"4K": 1, "2M": 1}), ("thp+4K", {"4K": 2})]
)
def test_a_slot_has_a_backing_of_its_own(
    program: Callable[..., Path], backing: str, pages: dict[str, int]
) -> None:
    path = program(0xD2AA0001, LOAD, *SYSTEM_OFF)  # mov x1, #0x50000000
    slot = f"id=1,gpa=0x50000000,size=2M,backing={backing}"
    assert mapped(path, "--slot", slot) == pages


def test_private_memory_that_is_read_and_then_written_is_copied(
    program: Callable[..., Path],
) -> None:
    path = program(X1_UNTOUCHED, LOAD, STORE, *SYSTEM_OFF)
    assert mapped(path, "--backing", "4K") == {"4K": 2}
    # The page of zeros, then the copy.
    assert mapped(path, "--backing", "private") == {"4K": 3}


@pytest.mark.parametrize("backing", ["private", "private-2M", "thp", "2M+4K"])
def test_a_slot_of_any_memory_is_filled_from_its_file(
    program: Callable[..., Path], tmp_path: Path, backing: str
) -> None:
    (tmp_path / "rom").write_bytes(bytes(0x3000) + (7).to_bytes(4, "little"))
    path = program(
        0xD2AA0003,  # mov x3, #0x50000000
        0x91400C63,  # add x3, x3, #0x3000
        0xB9400062,  # ldr w2, [x3]
        0xD2A16001,  # mov x1, #0x0b000000
        0xB9000022,  # str w2, [x1]
        *SYSTEM_OFF,
    )
    slot = f"id=1,gpa=0x50000000,size=2M,backing={backing},file={tmp_path / 'rom'}"
    assert CliRunner().invoke(cli, ["run", str(path), "--slot", slot]).exit_code == 7
