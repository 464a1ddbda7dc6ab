"""The walk that finds the level of a descriptor."""

from __future__ import annotations

from itertools import pairwise

import pytest

from emu.arch.address import IPA, VA
from emu.arch.registers.translation import SCTLR_EL1, TCR_EL1, TG0, TG1, TTBR0_EL1, TTBR1_EL1
from hyp.host import HVA
from hyp.stage1 import find_s1_desc_level
from tests.hyp.fake_machine import HOLE, RAM, Guest, make_guest

TABLE = 3
PAGE = 0x1000


@pytest.fixture
def guest() -> Guest:
    return make_guest()


def put(guest: Guest, ipa: int, descriptor: int, order: str = "little") -> None:
    data = descriptor.to_bytes(8, "big" if order == "big" else "little")
    guest.vm.host.write(HVA(guest.hva + ipa - RAM), data)


def level(guest: Guest, va: int, ipa: int) -> int | None:
    return find_s1_desc_level(guest.vcpu, VA(va), IPA(ipa))


def chain(guest: Guest, va: int, step: int = PAGE, bits: int = 9, shift: int = 39) -> list[int]:
    """Build tables one behind another from RAM on, along ``va``; return where each lies."""
    tables = [RAM + n * step for n in range(4)]
    for here, after in pairwise(tables):
        put(guest, here + 8 * (va >> shift & (1 << bits) - 1), after | TABLE)
        shift -= bits
    return tables


@pytest.mark.parametrize("va", [0x0000_1234_5678_9000, 0])
def test_each_level_of_a_48_bit_walk(guest: Guest, va: int) -> None:
    tables = chain(guest, va)
    guest.pe.write(TCR_EL1.build(T0SZ=16))
    guest.pe.write(TTBR0_EL1(RAM | 5 << 48 | 1))
    for number, table in enumerate(tables):
        shift = 39 - 9 * number
        assert level(guest, va, table + 8 * (va >> shift & 511)) == number


def test_upper_half_starts_at_ttbr1(guest: Guest) -> None:
    guest.pe.write(TCR_EL1.build(T1SZ=25, TG1=TG1.KB4))
    guest.pe.write(TTBR1_EL1(RAM))
    assert level(guest, 0xFFFF_FF80_0000_0000, RAM) == 1
    assert level(guest, 0xFFFF_FFFF_FFFF_F000, RAM + 0xFF8) == 1


def test_64k_granule(guest: Guest) -> None:
    va = 0x0000_0123_4567_0000
    tables = chain(guest, va, step=0x1_0000, bits=13, shift=42)
    guest.pe.write(TCR_EL1.build(T0SZ=16, TG0=TG0.KB64))
    guest.pe.write(TTBR0_EL1(RAM))
    assert level(guest, va, tables[0]) == 1
    assert level(guest, va, tables[1] + 8 * (va >> 29 & 8191)) == 2


def test_16k_granule_starts_at_level_0_with_one_bit(guest: Guest) -> None:
    guest.pe.write(TCR_EL1.build(T0SZ=16, TG0=TG0.KB16))
    guest.pe.write(TTBR0_EL1(RAM))
    assert level(guest, 0, RAM) == 0


def test_big_endian_descriptors(guest: Guest) -> None:
    put(guest, RAM, HOLE | TABLE, "big")
    guest.pe.write(SCTLR_EL1.build(EE=1))
    guest.pe.write(TCR_EL1.build(T0SZ=25))
    guest.pe.write(TTBR0_EL1(RAM))
    assert level(guest, 0, HOLE) == 2


@pytest.mark.parametrize(
    "descriptor", [0, RAM | 1, HOLE | TABLE], ids=["invalid", "block", "table in a hole"]
)
def test_walk_that_never_comes_there_has_no_level(guest: Guest, descriptor: int) -> None:
    put(guest, RAM, descriptor)
    guest.pe.write(TCR_EL1.build(T0SZ=25))
    guest.pe.write(TTBR0_EL1(RAM))
    assert level(guest, 0, 0x7000_0000) is None


def test_walk_that_ends_elsewhere_has_no_level(guest: Guest) -> None:
    chain(guest, 0)
    guest.pe.write(TCR_EL1.build(T0SZ=16))
    guest.pe.write(TTBR0_EL1(RAM))
    put(guest, RAM + 3 * PAGE, RAM | TABLE)
    assert level(guest, 0, 0x7000_0000) is None


@pytest.mark.parametrize(
    ("tcr", "va"),
    [
        (TCR_EL1.build(T0SZ=25, TG0=3), 0),
        (TCR_EL1.build(T0SZ=15), 0),
        (TCR_EL1.build(T0SZ=49), 0),
        (TCR_EL1.build(T1SZ=25, TG1=0), 1 << 55),
    ],
)
def test_impossible_controls_have_no_walk(guest: Guest, tcr: TCR_EL1, va: int) -> None:
    guest.pe.write(tcr)
    assert level(guest, va, RAM) is None
