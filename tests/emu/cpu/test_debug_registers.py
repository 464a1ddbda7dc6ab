"""MRS and MSR of debug registers by the guest, and their traps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.esr.build import system_register_trap
from emu.arch.features import CORTEX_A72
from emu.arch.registers.debug import (
    DBGAUTHSTATUS_EL1,
    DBGBCR_EL1,
    DBGBVR_EL1,
    DBGCLAIMCLR_EL1,
    DBGCLAIMSET_EL1,
    DBGDTR_EL0,
    DBGDTRRX_EL0,
    DBGPRCR_EL1,
    DBGWCR_EL1,
    DBGWVR_EL1,
    MDCCINT_EL1,
    MDCCSR_EL0,
    MDRAR_EL1,
    MDSCR_EL1,
    OSDLR_EL1,
    OSDTRRX_EL1,
    OSDTRTX_EL1,
    OSECCR_EL1,
    OSLAR_EL1,
    OSLSR_EL1,
)
from emu.arch.registers.identification import ID_AA64DFR0_EL1
from emu.arch.registers.virtualization import MDCR_EL2
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, EL0T, EL1H, Bare, Taken

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

UNDEFINED: Final = 0x0200_0000
HVC_7: Final = 0x5A00_0007
PLAIN: Final = {
    DBGBVR_EL1[0]: 0x1234_5678_9ABC,
    DBGBCR_EL1[5]: 0x00FF_E1E7,
    DBGWVR_EL1[3]: 0xFFFF_8000_0000_1000,
    DBGWCR_EL1[0]: 0x1FF8,
    MDSCR_EL1: 0xB001,
    MDCCINT_EL1: 0x6000_0000,
    OSDLR_EL1: 1,
    DBGPRCR_EL1: 1,
    OSDTRRX_EL1: 0x1234,
    OSDTRTX_EL1: 0x1234,
}
ZERO: Final = (MDRAR_EL1, DBGAUTHSTATUS_EL1, MDCCSR_EL0)
IGNORED: Final = (OSECCR_EL1, DBGDTR_EL0, DBGDTRRX_EL0)
OS_LOCK: Final = (OSLAR_EL1, OSLSR_EL1, OSDLR_EL1, DBGPRCR_EL1)


def by_name(register: object) -> str:
    """Return the id of a case."""
    return getattr(register, "__name__", str(register))


def trap_of(register: type[SystemRegister], *, read: bool) -> int:
    """Return ESR of a trapped access by X1."""
    return int(system_register_trap(register.encoding, rt=1, read=read))


@pytest.mark.parametrize("register", PLAIN, ids=by_name)
def test_register_holds_what_is_written(bare: Bare, register: type[SystemRegister]) -> None:
    bare.set_x(x1=PLAIN[register])
    words = (a64.msr(register, 1), a64.NOP, a64.mrs(2, register), a64.hvc(7))
    assert bare.trap(*words).esr == HVC_7
    assert bare.x(2) == PLAIN[register] == bare.pe.read(register)
    assert bare.pe.retired == 4


def test_os_lock_is_set_at_reset_and_cleared_by_the_guest(bare: Bare) -> None:
    bare.set_x(x1=0, x3=1)
    words = (
        a64.mrs(4, OSLSR_EL1),
        a64.msr(OSLAR_EL1, 1),
        a64.mrs(5, OSLSR_EL1),
        a64.msr(OSLAR_EL1, 3),
        a64.mrs(6, OSLSR_EL1),
        a64.hvc(7),
    )
    assert bare.trap(*words).esr == HVC_7
    assert (bare.x(4), bare.x(5), bare.x(6)) == (0xA, 0x8, 0xA)


def test_claim_tags(bare: Bare) -> None:
    bare.set_x(x1=0xF0, x2=0x30)
    words = (
        a64.msr(DBGCLAIMSET_EL1, 1),
        a64.msr(DBGCLAIMCLR_EL1, 2),
        a64.mrs(3, DBGCLAIMCLR_EL1),
        a64.mrs(4, DBGCLAIMSET_EL1),
        a64.hvc(7),
    )
    assert bare.trap(*words).esr == HVC_7
    assert (bare.x(3), bare.x(4)) == (0xC0, 0xFF)


@pytest.mark.parametrize("register", [*ZERO, *IGNORED], ids=by_name)
def test_register_reads_as_zero(bare: Bare, register: type[SystemRegister]) -> None:
    assert bare.trap(a64.mrs(1, register), a64.hvc(7)).esr == HVC_7
    assert bare.x(1) == 0


@pytest.mark.parametrize("register", IGNORED, ids=by_name)
def test_write_is_ignored(bare: Bare, register: type[SystemRegister]) -> None:
    assert bare.trap(a64.msr(register, 1), a64.mrs(1, register), a64.hvc(7)).esr == HVC_7
    assert bare.x(1) == 0


@pytest.mark.parametrize(
    "word",
    [
        a64.mrs(1, OSLAR_EL1),
        *(a64.msr(register, 1) for register in (*ZERO, OSLSR_EL1)),
        a64.mrs(1, DBGBVR_EL1[6]),
        a64.msr(DBGWCR_EL1[4], 1),
        0xD530_0101,  # MRS of an encoding without register, which the engine reads
        0xD532_1001,  # a register of the trace unit
    ],
    ids=hex,
)
@pytest.mark.parametrize("pstate", [EL0T, EL1H])
def test_access_is_undefined(bare: Bare, word: int, pstate: int) -> None:
    bare.pe.write(MDCR_EL2.build(TDA=1, TDOSA=1, TDRA=1))
    vector = 0x200 if pstate == EL1H else 0x400
    assert bare.taken_to_el1(word, pstate=pstate) == Taken(vector, UNDEFINED, 0, CODE, pstate)


@pytest.mark.parametrize("register", [*PLAIN, OSLSR_EL1], ids=by_name)
def test_el0_has_no_access_to_registers_of_el1(bare: Bare, register: type[SystemRegister]) -> None:
    assert bare.taken_to_el1(a64.mrs(1, register), pstate=EL0T).esr == UNDEFINED


@pytest.mark.parametrize("register", [MDCCSR_EL0, DBGDTR_EL0, DBGDTRRX_EL0], ids=by_name)
def test_el0_reads_the_communications_channel_unless_tdcc(
    bare: Bare, register: type[SystemRegister]
) -> None:
    assert bare.taken_to_el1(a64.mrs(1, register), a64.svc(7), pstate=EL0T).esr == 0x5600_0007
    assert bare.x(1) == 0
    bare.pe.write(MDSCR_EL1.build(TDCC=1))
    bare.start(CODE, EL0T)
    assert bare.taken_to_el1().esr == trap_of(register, read=True)
    bare.start(CODE, EL1H)
    assert bare.taken_to_el1().esr == 0x5600_0007, "EL1 is not trapped"


@pytest.mark.parametrize("register", [*PLAIN, OSLSR_EL1, MDRAR_EL1, MDCCSR_EL0], ids=by_name)
@pytest.mark.parametrize("bit", ["TDA", "TDOSA", "TDRA", "TDE"])
def test_mdcr_traps(bare: Bare, register: type[SystemRegister], bit: str) -> None:
    wanted = "TDOSA" if register in OS_LOCK else "TDRA" if register is MDRAR_EL1 else "TDA"
    bare.pe.write(MDCR_EL2.build(**{bit: 1}))
    trap = bare.trap(a64.mrs(1, register), a64.hvc(7))
    expected = trap_of(register, read=True) if bit in (wanted, "TDE") else HVC_7
    assert trap.esr == expected


@pytest.mark.parametrize("register", [MDSCR_EL1, DBGBVR_EL1[1], OSLAR_EL1], ids=by_name)
def test_mdcr_traps_writes_too(bare: Bare, register: type[SystemRegister]) -> None:
    bare.pe.write(MDCR_EL2.build(TDA=1, TDOSA=1))
    assert bare.trap(a64.msr(register, 1)).esr == trap_of(register, read=False)


def test_cpu_with_more_breakpoints_than_the_engine() -> None:
    dfr0 = CORTEX_A72.read(ID_AA64DFR0_EL1).replace(BRPs=15, WRPs=15)
    bare = Bare(CORTEX_A72.replace(dfr0))
    bare.code(a64.NOP)
    bare.stage1_on()
    bare.set_x(x1=CODE + 20, x2=0x1E7, x3=0xA000, x4=0)
    words = (
        a64.msr(OSLAR_EL1, 4),
        a64.msr(MDSCR_EL1, 3),
        a64.msr(DBGBVR_EL1[15], 1),
        a64.msr(DBGBCR_EL1[15], 2),
        a64.mrs(5, DBGBVR_EL1[15]),
        a64.NOP,
    )
    taken = bare.taken_to_el1(*words, pstate=0x1C5)
    assert (taken.esr, taken.elr, bare.x(5)) == (0xC600_0022, CODE + 20, CODE + 20)
    assert bare.pe.retired == 6
