"""Why the engine must not be given debug registers: it has breakpoints and a step of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
from unicorn import arm64_const as reg
from unicorn.unicorn_py3.arch.arm64 import UcAArch64

from emu.arch.registers.debug import DBGBCR_EL1, DBGBVR_EL1, MDSCR_EL1
from emu.arch.registers.exceptions import ELR_EL1, SPSR_EL1
from emu.cpu.debug_registers import IN_ENGINE
from tests.emu.cpu import a64
from tests.emu.cpu.a64 import NOP
from tests.emu.cpu.probe import CODE, PSTATE, X1, Probe

if TYPE_CHECKING:
    from emu.arch.fields import Encoding

SS: Final = 1 << 21
EL1H: Final = 0x3C5


@pytest.mark.parametrize("model", [reg.UC_CPU_ARM64_A72, reg.UC_CPU_ARM64_MAX])
def test_debug_registers_that_the_engine_knows(model: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_model = UcAArch64.ctl_set_cpu_model
    monkeypatch.setattr(UcAArch64, "ctl_set_cpu_model", lambda uc, _: set_model(uc, model))
    probe = Probe()
    found = set()
    for op1 in (0, 3):
        for crn in (0, 1, 7):
            for low in range(1 << 7):
                for is_read in (True, False):
                    encoding = (2, op1, crn, low >> 3, low & 7)
                    if knows(probe, encoding, is_read=is_read):
                        found.add((encoding, is_read))
    assert found == IN_ENGINE


def knows(probe: Probe, encoding: Encoding | tuple[int, ...], *, is_read: bool) -> bool:
    """Whether an MRS or MSR is no undefined instruction."""
    op0, op1, crn, crm, op2 = encoding
    probe.interrupts.clear()
    word = 0xD500_0001 | is_read << 21 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5
    probe.write(word, NOP)
    probe.uc.ctl_flush_tb()
    probe.uc.reg_write(PSTATE, EL1H)
    probe.uc.reg_write(X1, 0)
    probe.run(1)
    return not probe.interrupts


def test_engine_has_breakpoints_of_its_own(probe: Probe) -> None:
    probe.uc.reg_write(PSTATE, 0x5)
    probe.uc.reg_write(X1, CODE + 32)
    probe.write(
        a64.msr(DBGBVR_EL1[0], 1),
        a64.movz(1, 0x1E7),
        a64.msr(DBGBCR_EL1[0], 1),
        a64.movz(1, 0xA000),
        a64.msr(MDSCR_EL1, 1),
        *[NOP] * 8,
    )
    probe.run(10)
    assert probe.interrupts == [(3, CODE + 32)]


@pytest.mark.parametrize(("mdscr", "ss"), [(0, 0), (1, SS)])
def test_exception_return_drops_ss_unless_the_engine_itself_steps(
    probe: Probe, mdscr: int, ss: int
) -> None:
    probe.uc.reg_write(PSTATE, EL1H)
    probe.uc.cpr_write(3, 6, 1, 1, 0, 1 << 10)  # SCR_EL3.RW
    probe.write_system(MDSCR_EL1(mdscr))
    probe.write_system(ELR_EL1(CODE + 16))
    probe.write_system(SPSR_EL1(SS))
    probe.write(a64.ERET, *[NOP] * 8)
    probe.run(1)
    assert (probe.pc, probe.uc.reg_read(PSTATE)) == (CODE + 16, ss)
    probe.run(2, pc=CODE + 16)
    assert bool(probe.interrupts) is bool(ss)
