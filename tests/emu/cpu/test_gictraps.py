"""Accesses to the GICv3's CPU interface: what of them traps to EL2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.fields import Encoding
from emu.arch.registers.exceptions import ELR_EL2
from emu.arch.registers.gic import ICH_HCR_EL2
from emu.arch.registers.identification import ID_AA64PFR0_EL1
from emu.arch.registers.virtualization import HCR_EL2
from emu.cpu.gictraps import gic_traps
from tests.emu.cpu.bare import CODE, EL0T, Bare

if TYPE_CHECKING:
    from collections.abc import Iterator

TC, TALL0, TALL1, TDIR = 1 << 10, 1 << 11, 1 << 12, 1 << 14
IMO, FMO = HCR_EL2.IMO.in_place, HCR_EL2.FMO.in_place
ICH: Final = {"TC": TC, "TALL0": TALL0, "TALL1": TALL1, "TDIR": TDIR}

# IHI 0069, the pages of the registers: CRm, op2 of op0 3, op1 0, CRn 12; by which bits; access.
GROUP0 = [
    *[(8, op2, TALL0) for op2 in range(8)],  # IAR0, EOIR0, HPPIR0, BPR0, AP0R0 to AP0R3
    (12, 6, TALL0),  # IGRPEN0
]
GROUP1 = [
    *[(9, op2, TALL1) for op2 in range(4)],  # AP1R0 to AP1R3
    *[(12, op2, TALL1) for op2 in range(4)],  # IAR1, EOIR1, HPPIR1, BPR1
    (12, 7, TALL1),  # IGRPEN1
]
COMMON = [
    (11, 1, TC | TDIR),  # DIR
    (11, 3, TC),  # RPR
    (11, 5, TC),  # SGI1R
    (11, 6, TC),  # ASGI1R
    (11, 7, TC),  # SGI0R
    (12, 4, TC),  # CTLR
    (12, 5, TC),  # SRE
]
READ_ONLY = {(8, 0), (8, 2), (11, 3), (12, 0), (12, 2)}
WRITE_ONLY = {(8, 1), (12, 1), (11, 1), (11, 5), (11, 6), (11, 7)}
SGIS = {(11, 5), (11, 6), (11, 7)}


def word(encoding: Encoding, rt: int, *, read: bool) -> int:
    op0, op1, crn, crm, op2 = encoding
    return 0xD500_0000 | read << 21 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5 | rt


def registers() -> Iterator[tuple[Encoding, int]]:
    yield Encoding(3, 0, 4, 6, 0), TC  # PMR
    for crm, op2, bits in (*GROUP0, *GROUP1, *COMMON):
        yield Encoding(3, 0, 12, crm, op2), bits


REGISTERS: Final = list(registers())
IDS = [f"c{e.CRm}_{e.op2}" for e, _ in REGISTERS]


@pytest.mark.parametrize(("encoding", "bits"), REGISTERS, ids=IDS)
@pytest.mark.parametrize("bit", ICH)
def test_each_bit_of_ich_hcr_traps_its_registers(encoding: Encoding, bits: int, bit: str) -> None:
    assert gic_traps(encoding)[0] == bits
    read = (encoding.CRm, encoding.op2) not in WRITE_ONLY
    bare = Bare()
    bare.change_hcr(IMO=0, FMO=0)
    bare.pe.write(ICH_HCR_EL2.build(**{bit: 1}))
    instruction = word(encoding, 5, read=read)
    if bits & ICH[bit]:
        trap = bare.trap(instruction)
        assert trap.esr >> 26 == 0x18
        assert trap.elr == CODE
    else:
        assert bare.taken_to_el1(instruction).esr == 0x0200_0000, "the machine has no interface"


@pytest.mark.parametrize("route", ["IMO", "FMO"])
@pytest.mark.parametrize("op2", [5, 6, 7])
def test_sgis_trap_where_interrupts_are_routed_to_el2(route: str, op2: int) -> None:
    bare = Bare()
    bare.change_hcr(**{route: 1})
    trap = bare.trap(word(Encoding(3, 0, 12, 11, op2), 7, read=False))
    assert trap.esr == 0x18 << 26 | 1 << 25 | 3 << 20 | op2 << 17 | 12 << 10 | 7 << 5 | 11 << 1


@pytest.mark.parametrize(("encoding", "_bits"), REGISTERS, ids=IDS)
def test_el0_reaches_none_of_them(encoding: Encoding, _bits: int) -> None:
    bare = Bare()
    bare.pe.write(ICH_HCR_EL2.build(TC=1, TALL0=1, TALL1=1))
    read = (encoding.CRm, encoding.op2) not in WRITE_ONLY
    taken = bare.taken_to_el1(word(encoding, 5, read=read), pstate=EL0T)
    assert taken.esr == 0x0200_0000


@pytest.mark.parametrize(("encoding", "_bits"), REGISTERS, ids=IDS)
def test_a_cpu_without_them_traps_none(encoding: Encoding, _bits: int) -> None:
    features = CORTEX_A72.replace(CORTEX_A72.read(ID_AA64PFR0_EL1).replace(GIC=0))
    bare = Bare(features)
    bare.change_hcr(IMO=1, FMO=1)
    bare.pe.write(ICH_HCR_EL2.build(TC=1, TALL0=1, TALL1=1, TDIR=1))
    read = (encoding.CRm, encoding.op2) not in WRITE_ONLY
    assert bare.taken_to_el1(word(encoding, 5, read=read)).esr == 0x0200_0000


def test_other_registers_near_them_are_no_concern_of_ich_hcr() -> None:
    for encoding in (Encoding(3, 0, 12, 0, 0), Encoding(3, 0, 12, 1, 0), Encoding(3, 4, 12, 9, 5)):
        assert gic_traps(encoding) == (0, 0)


def test_a_trap_that_is_turned_on_later_takes_effect(bare: Bare) -> None:
    pmr = word(Encoding(3, 0, 4, 6, 0), 5, read=True)
    bare.change_hcr(IMO=0, FMO=0)
    assert bare.taken_to_el1(pmr).esr == 0x0200_0000
    bare.pe.write(ICH_HCR_EL2.build(TC=1))
    bare.pe.write(ELR_EL2(CODE))
    assert bare.trap().esr >> 26 == 0x18
