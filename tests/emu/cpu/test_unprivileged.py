"""LDTR and STTR at EL1 are checked with the permissions of EL0 (Arm ARM D8.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.a64.tlbi import TLBI
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import CODE, DATA, EL1H, S1_RW, S1_USER, S2_NORMAL, Taken, Trap

if TYPE_CHECKING:
    from emu.arch.address import PA
    from tests.emu.cpu.bare import Bare


def on(bare: Bare, attributes: int, *words: int) -> PA:
    """Map DATA at both stages and turn stage 1 on."""
    pa = bare.map_ipa(DATA)
    bare.code(*words)
    bare.stage1_on()
    bare.map_va(DATA, DATA, attributes)
    bare.set_x(x2=DATA + 8)
    return pa


@pytest.mark.parametrize(("word", "wnr"), [(a64.ldtr(1, 2), 0), (a64.sttr(1, 2), 0x40)])
def test_page_of_el1_is_refused(bare: Bare, word: int, wnr: int) -> None:
    on(bare, S1_RW, word)
    taken = bare.taken_to_el1(a64.NOP, word)
    assert taken == Taken(0x200, 0x9600_000F | wnr, DATA + 8, CODE + 4, EL1H)


@pytest.mark.parametrize("word", [a64.ldtr(1, 2), a64.sttr(1, 2)])
def test_page_of_el0_is_reached(bare: Bare, word: int) -> None:
    on(bare, S1_USER, word, a64.hvc(0))
    assert bare.trap(word, a64.hvc(0)).esr == 0x5A00_0000


def test_store_to_a_page_that_el0_only_reads_is_refused(bare: Bare) -> None:
    on(bare, S1_USER | tables.S1_READ_ONLY, a64.sttr(1, 2))
    assert bare.taken_to_el1(a64.sttr(1, 2)).esr == 0x9600_004F


def test_refused_although_an_ordinary_access_went_before(bare: Bare) -> None:
    words = (a64.ldr(1, 2), a64.ldtr(1, 2))
    on(bare, S1_RW, *words)
    assert bare.taken_to_el1(*words).esr == 0x9600_000F


def test_ordinary_access_is_allowed_although_an_unprivileged_one_went_before(bare: Bare) -> None:
    words = (a64.ldtr(1, 2), a64.str_(1, 2), a64.hvc(0))
    on(bare, S1_USER, *words)
    assert bare.trap(*words).esr == 0x5A00_0000


@pytest.mark.parametrize("xn", [0, 2])
def test_stage_2_refuses_both_alike(bare: Bare, xn: int) -> None:
    on(bare, S1_USER, a64.ldtr(1, 2))
    bare.s2.map(DATA, bare.frame(), S2_NORMAL | tables.S2_WRITE | xn << 53)
    trap = bare.trap(a64.ldtr(1, 2))
    assert trap == Trap(0x93C1_800F, DATA + 8, 0, CODE, EL1H)


def test_at_el0_they_are_ordinary(bare: Bare) -> None:
    pa = on(bare, S1_USER, a64.ldtr(1, 2), a64.svc(0))
    bare.memory.write(pa, bytes(range(16)))
    bare.taken_to_el1(a64.ldtr(1, 2), a64.svc(0), pstate=0x3C0)
    assert bare.x(1) == 0x0F0E_0D0C_0B0A_0908


def test_refused_after_the_guest_has_invalidated(bare: Bare) -> None:
    words = (a64.ldr(1, 2), TLBI.VMALLE1.word(), a64.ldtr(1, 2))
    on(bare, S1_RW, *words)
    assert bare.taken_to_el1(*words).esr == 0x9600_000F
