"""Permissions of every combination of bits, against tables written by hand (Arm ARM D8.4)."""

from __future__ import annotations

from itertools import product
from typing import Final

import pytest

from emu.mmu.permissions import ALL, EXECUTE, READ, WRITE, stage1_permissions, stage2_permissions

LETTERS: Final = {"r": READ, "w": WRITE, "x": EXECUTE, "-": 0}


def mask(text: str) -> int:
    """Return the mask for ``rwx`` with dashes for what is missing."""
    return sum(LETTERS[letter] for letter in text)


STAGE_1: Final = """
    AP UXN PXN WXN  EL0  EL1  EL1 with PAN
    0   0   0   0   --x  rwx  rwx
    0   0   0   1   --x  rw-  rw-
    0   0   1   0   --x  rw-  rw-
    0   0   1   1   --x  rw-  rw-
    0   1   0   0   ---  rwx  rwx
    0   1   0   1   ---  rw-  rw-
    0   1   1   0   ---  rw-  rw-
    0   1   1   1   ---  rw-  rw-
    1   0   0   0   rwx  rw-  ---
    1   0   0   1   rw-  rw-  ---
    1   0   1   0   rwx  rw-  ---
    1   0   1   1   rw-  rw-  ---
    1   1   0   0   rw-  rw-  ---
    1   1   0   1   rw-  rw-  ---
    1   1   1   0   rw-  rw-  ---
    1   1   1   1   rw-  rw-  ---
    2   0   0   0   --x  r-x  r-x
    2   0   0   1   --x  r-x  r-x
    2   0   1   0   --x  r--  r--
    2   0   1   1   --x  r--  r--
    2   1   0   0   ---  r-x  r-x
    2   1   0   1   ---  r-x  r-x
    2   1   1   0   ---  r--  r--
    2   1   1   1   ---  r--  r--
    3   0   0   0   r-x  r-x  --x
    3   0   0   1   r-x  r-x  --x
    3   0   1   0   r-x  r--  ---
    3   0   1   1   r-x  r--  ---
    3   1   0   0   r--  r-x  --x
    3   1   0   1   r--  r-x  --x
    3   1   1   0   r--  r--  ---
    3   1   1   1   r--  r--  ---
"""
ROWS: Final = [line.split() for line in STAGE_1.strip().splitlines()[1:]]


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_stage_1(row: list[str]) -> None:
    ap, uxn, pxn, wxn = map(int, row[:4])
    assert stage1_permissions(ap, uxn, pxn, wxn, 0) == tuple(map(mask, row[4:]))


@pytest.mark.parametrize("row", ROWS, ids=" ".join)
def test_epan_keeps_el1_off_what_el0_may_execute(row: list[str]) -> None:
    ap, uxn, pxn, wxn = map(int, row[:4])
    el0, el1, pan = map(mask, row[4:])
    if not uxn:
        pan &= EXECUTE
    assert stage1_permissions(ap, uxn, pxn, wxn, 1) == (el0, el1, pan)


def test_the_table_of_stage_1_has_every_combination() -> None:
    assert [tuple(map(int, row[:4])) for row in ROWS] == list(
        product(range(4), range(2), range(2), range(2))
    )


S2AP: Final = {0: "--", 1: "r-", 2: "-w", 3: "rw"}
XN_WITH_XNX: Final = {0: ("x", "x"), 1: ("x", "-"), 2: ("-", "-"), 3: ("-", "x")}
XN_WITHOUT: Final = {0: ("x", "x"), 1: ("x", "x"), 2: ("-", "-"), 3: ("-", "-")}


@pytest.mark.parametrize("s2ap", S2AP)
@pytest.mark.parametrize("xn", range(4))
@pytest.mark.parametrize(("xnx", "table"), [(True, XN_WITH_XNX), (False, XN_WITHOUT)])
def test_stage_2(s2ap: int, xn: int, table: dict[int, tuple[str, str]], *, xnx: bool) -> None:
    el0, el1 = (mask(S2AP[s2ap] + execute) for execute in table[xn])
    assert stage2_permissions(s2ap, xn, xnx=xnx) == (el0, el1, el1), "PAN is stage 1's affair"


def test_masks_are_apart() -> None:
    assert sorted({READ, WRITE, EXECUTE}) == [1, 2, 4]
    assert ALL == 7
