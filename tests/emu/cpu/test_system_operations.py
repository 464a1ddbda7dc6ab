"""Every SYS operation at EL1: it runs, or is undefined on a CPU without its feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.maintenance import AT, DC, IC
from emu.arch.a64.tlbi import TLBI
from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import ESR_EL1
from emu.arch.registers.identification import (
    ID_AA64ISAR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64MMFR1_EL1,
    ID_AA64PFR1_EL1,
)
from tests.emu.cpu import a64
from tests.emu.cpu.bare import DATA, EL0T, SCTLR_RES1, Bare

if TYPE_CHECKING:
    from emu.arch.a64.system import Operation

UNDEFINED: Final = 0x0200_0000

OPERATIONS: Final[list[Operation]] = [o for table in (TLBI, AT, DC, IC) for o in table]
AT_EL1: Final = [o for o in OPERATIONS if o.op1 != 4]
NEWER: Final[dict[str, tuple[str, ...]]] = {
    "TLB": tuple(o.name for o in TLBI if o.name.startswith("R") or o.name.endswith("OS")),
    "DPB": ("CVAP", "CVADP"),
    "MTE": tuple(o.name for o in DC if "G" in o.name),
    "PAN": ("S1E1RP", "S1E1WP"),
}
"""Operations beyond Armv8.0, by the ID register field that tells of them."""
ALL_NEWER: Final = {name for names in NEWER.values() for name in names}

EVERYTHING: Final = CORTEX_A72.replace(
    ID_AA64ISAR0_EL1.build(TLB=2),
    ID_AA64ISAR1_EL1.build(DPB=2),
    ID_AA64PFR1_EL1.build(MTE=2),
    ID_AA64MMFR1_EL1.build(PAN=2),
)


def name_of(operation: Operation) -> str:
    """Return the operation's name for the report."""
    return f"{type(operation).__name__} {operation.name}"


@pytest.mark.parametrize("operation", AT_EL1, ids=name_of)
def test_operation_on_the_cortex_a72(operation: Operation) -> None:
    bare = Bare()
    bare.map_ipa(DATA)
    bare.set_x(x5=DATA)
    trap = bare.trap(a64.NOP, operation.word(5), a64.movz(6, 7), a64.hvc(9))
    if operation.name in ALL_NEWER:
        assert trap.esr == 0x5A00_0104
        assert bare.pe.read(ESR_EL1) == UNDEFINED
        assert not bare.pe.maintenance
    else:
        assert (trap.esr, bare.x(6)) == (0x5A00_0009, 7)
        assert bare.pe.retired == 4


@pytest.mark.parametrize(
    "operation",
    [o for o in AT_EL1 if o.name in ALL_NEWER and o not in {DC.GVA, DC.GZVA}],
    ids=name_of,
)
def test_newer_operation_on_a_cpu_that_has_it(operation: Operation) -> None:
    bare = Bare(EVERYTHING)
    bare.map_ipa(DATA)
    bare.set_x(x5=DATA)
    trap = bare.trap(a64.NOP, operation.word(5), a64.movz(6, 7), a64.hvc(9))
    assert (trap.esr, bare.x(6)) == (0x5A00_0009, 7)
    assert bare.pe.retired == 4
    if not isinstance(operation, AT):
        assert bare.pe.maintenance == {operation.name: 1}


HALF: Final = CORTEX_A72.replace(ID_AA64ISAR0_EL1.build(TLB=1), ID_AA64ISAR1_EL1.build(DPB=1))


@pytest.mark.parametrize(
    ("operation", "esr"),
    [
        (TLBI.VAE1OS, 0x5A00_0009),
        (TLBI.RVAE1, 0x5A00_0104),
        (TLBI.RVAE1OS, 0x5A00_0104),
        (DC.CVAP, 0x5A00_0009),
        (DC.CVADP, 0x5A00_0104),
    ],
    ids=str,
)
def test_lower_value_of_a_field_brings_only_part(operation: Operation, esr: int) -> None:
    bare = Bare(HALF)
    bare.map_ipa(DATA)
    bare.set_x(x5=DATA)
    assert bare.trap(operation.word(5), a64.hvc(9)).esr == esr


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.op1 == 4], ids=name_of)
def test_operation_of_el2_is_undefined_at_el1(operation: Operation) -> None:
    taken = Bare(EVERYTHING).taken_to_el1(operation.word(5))
    assert taken.esr == UNDEFINED


@pytest.mark.parametrize("operation", AT_EL1, ids=name_of)
def test_operation_at_el0(operation: Operation) -> None:
    bare = Bare()
    bare.pe.write(SCTLR_RES1.replace(UCI=1, DZE=1))
    bare.map_ipa(DATA)
    bare.set_x(x5=DATA)
    taken = bare.taken_to_el1(a64.NOP, operation.word(5), a64.svc(3), pstate=EL0T)
    allowed = operation.op1 == 3 and operation.name not in ALL_NEWER
    assert taken.esr == (0x5600_0003 if allowed else UNDEFINED)


@pytest.mark.parametrize("crm", range(1, 8))
@pytest.mark.parametrize("op2", range(8))
def test_every_id_register_can_be_read(bare: Bare, crm: int, op2: int) -> None:
    word = 0xD538_0005 | crm << 8 | op2 << 5
    assert bare.trap(word, a64.hvc(9)).esr == 0x5A00_0009
