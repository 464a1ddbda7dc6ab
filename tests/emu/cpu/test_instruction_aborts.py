"""Stage-2 instruction aborts taken to EL2."""

from __future__ import annotations

from typing import Final

import pytest

from emu.arch.features import CORTEX_A72
from emu.arch.registers.exceptions import HPFAR_EL2
from emu.arch.registers.identification import ID_AA64MMFR1_EL1
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, S2_NORMAL, S2_RW, Bare, Trap

STALE_HPFAR: Final = 0x1234_5670
WITH_XNX: Final = CORTEX_A72.replace(ID_AA64MMFR1_EL1.build(XNX=1))


@pytest.mark.parametrize("pstate", [EL0T, EL1H])
@pytest.mark.parametrize(
    ("target", "code"),
    [(1 << 40, 0x04), (0xC000_0000, 0x05), (0x6000_0000, 0x06), (CODE + 0x5_0000, 0x07)],
)
def test_branch_to_an_unmapped_page(bare: Bare, target: int, code: int, pstate: int) -> None:
    bare.set_x(x2=target + 0x14)
    trap = bare.trap(a64.NOP, a64.br(2), pstate=pstate)
    assert trap == Trap(0x8200_0000 | code, target + 0x14, target >> 12 << 4, target + 0x14, pstate)
    assert bare.pe.retired == 2


def test_first_fetch_of_a_run(bare: Bare) -> None:
    bare.start(DATA)
    trap = bare.trap()
    assert (trap.esr & ~3, trap.far, trap.elr) == (0x8200_0004, DATA, DATA)
    assert bare.pe.retired == 0


def test_running_over_the_end_of_a_page(bare: Bare) -> None:
    bare.code(*[a64.NOP] * 4, at=CODE + 0xFF0)
    bare.start(CODE + 0xFF0)
    trap = bare.trap()
    assert trap == Trap(0x8200_0007, CODE + 0x1000, (CODE + 0x1000) >> 12 << 4, CODE + 0x1000, EL1H)
    assert bare.pe.retired == 4


def test_execution_goes_on_once_the_page_is_mapped(bare: Bare) -> None:
    bare.set_x(x2=DATA)
    bare.trap(a64.br(2))
    bare.code(a64.movz(5, 77), a64.hvc(3), at=DATA)
    assert bare.trap().esr == 0x5A00_0003
    assert bare.x(5) == 77
    assert bare.pe.retired == 3


@pytest.mark.parametrize("pstate", [EL0T, EL1H])
@pytest.mark.parametrize("xn", [2, 3])
def test_execute_never_leaves_hpfar_stale(bare: Bare, pstate: int, xn: int) -> None:
    bare.map_ipa(DATA, attributes=S2_RW | xn << 53)
    bare.pe.write(HPFAR_EL2(STALE_HPFAR))
    bare.set_x(x2=DATA)
    assert bare.trap(a64.br(2), pstate=pstate) == Trap(0x8200_000F, DATA, STALE_HPFAR, DATA, pstate)


@pytest.mark.parametrize("pstate", [EL0T, EL1H])
def test_read_permission_is_not_needed_to_execute(bare: Bare, pstate: int) -> None:
    bare.code(a64.svc(0) if pstate == EL0T else a64.hvc(1), at=DATA)
    bare.map_ipa(DATA, bare.map_ipa(DATA), S2_NORMAL)
    bare.code(a64.svc(0) if pstate == EL0T else a64.hvc(1), at=DATA)
    bare.set_x(x2=DATA)
    assert bare.trap(a64.br(2), pstate=pstate).esr >> 26 == 0x16


@pytest.mark.parametrize(
    ("xn", "pstate", "executes"),
    [
        (0, EL0T, True),
        (0, EL1H, True),
        (1, EL0T, True),
        (1, EL1H, False),
        (2, EL0T, False),
        (2, EL1H, False),
        (3, EL0T, False),
        (3, EL1H, True),
    ],
)
def test_execute_never_tells_el0_from_el1_with_feat_xnx(
    xn: int, pstate: int, *, executes: bool
) -> None:
    bare = Bare(WITH_XNX)
    bare.code(a64.svc(0), at=DATA)
    bare.s2.write(DATA, bare.s2.read(DATA) | xn << 53)
    bare.set_x(x2=DATA)
    trap = bare.trap(a64.br(2), pstate=pstate)
    assert (trap.esr >> 26 == 0x16) is executes
    if not executes:
        assert trap.esr == 0x8200_000F


def test_access_flag_fault_of_a_fetch(bare: Bare) -> None:
    bare.map_ipa(DATA, attributes=S2_RW & ~tables.AF)
    bare.set_x(x2=DATA)
    trap = bare.trap(a64.br(2))
    assert (trap.esr, trap.hpfar) == (0x8200_000B, DATA >> 12 << 4)


def test_data_mapping_made_first_does_not_let_code_run_unscanned(bare: Bare) -> None:
    """A page that was read before it is executed is still scanned for system instructions."""
    bare.code(a64.mrs(5, HPFAR_EL2), a64.hvc(0), at=DATA)
    bare.set_x(x2=DATA)
    taken = bare.taken_to_el1(a64.ldr(1, 2), a64.br(2))
    assert (taken.vector, taken.esr, taken.elr) == (0x200, 0x0200_0000, DATA)
