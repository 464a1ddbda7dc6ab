"""The ID registers of a guest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from emu.arch.esr.classes import ExceptionClass
from emu.arch.fields import Encoding
from emu.arch.profiles import profile
from emu.arch.registers import REGISTERS
from emu.arch.registers.exceptions import ELR_EL1, ESR_EL1, PSTATE
from emu.arch.registers.identification import (
    ID_AA64DFR0_EL1,
    ID_AA64ISAR1_EL1,
    ID_AA64MMFR2_EL1,
    ID_AA64PFR0_EL1,
    ID_AA64PFR1_EL1,
)
from emu.machine import Machine
from hyp import one_reg
from hyp.hypercalls import ArchFeature
from hyp.idregs import ID_SPACE
from hyp.vm import VM
from tests.emu.cpu import a64
from tests.hyp.test_pmu import OFF, RAM, Box

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister


def mrs(encoding: Encoding) -> int:
    """MRS X5 of any encoding."""
    op0, op1, crn, crm, op2 = encoding
    return 0xD520_0005 | op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5


AARCH32 = [Encoding(3, 0, 0, crm, op2) for crm in (1, 2, 3) for op2 in range(8)]
UNDECLARED = [encoding for encoding in ID_SPACE if encoding not in REGISTERS]


@pytest.mark.parametrize("encoding", sorted({*AARCH32, *UNDECLARED}))
def test_aarch32_and_reserved_id_registers_read_as_zero(encoding: Encoding) -> None:
    box = Box(mrs(encoding), *OFF, pmu=False)
    box.set_x(x5=0xDEAD)
    box.run()
    assert box.x(5) == 0
    assert box.vcpu.get_one_reg(one_reg.system(encoding)) == 0


@pytest.mark.parametrize("encoding", [AARCH32[0], ID_AA64PFR0_EL1.encoding, (3, 0, 0, 0, 0)])
def test_el0_takes_them_for_undefined(encoding: tuple[int, int, int, int, int]) -> None:
    box = Box(mrs(Encoding(*encoding)), pmu=False)
    box.vcpu.set_one_reg(one_reg.PSTATE, int(PSTATE.build(D=1, A=1, I=1, F=1)))
    box.run()
    assert box.vcpu.read(ESR_EL1).EC == ExceptionClass.UNKNOWN
    assert int(box.vcpu.read(ELR_EL1)) == RAM


def guest_registers(name: str) -> dict[Encoding, int]:
    return VM(Machine(1 << 20, features=profile(name))).id_registers


@pytest.mark.parametrize(
    ("register", "fields"),
    [
        (ID_AA64PFR0_EL1, ("EL2", "EL3", "GIC", "SVE", "AMU", "MPAM", "RME")),
        (ID_AA64PFR1_EL1, ("MTE", "SME")),
        (ID_AA64DFR0_EL1, ("PMUVer", "PMSVer", "TraceVer")),
        (ID_AA64ISAR1_EL1, ("APA", "API", "GPA", "GPI", "LS64")),
        (ID_AA64MMFR2_EL1, ("NV", "CCIDX")),
    ],
)
@pytest.mark.parametrize("name", ["max", "cortex-a72", "neoverse-n1"])
def test_what_a_vcpu_must_ask_for_or_cannot_have(
    name: str, register: type[SystemRegister], fields: tuple[str, ...]
) -> None:
    value = register(guest_registers(name)[register.encoding])
    assert not any(register.FIELDS[field].decode(value) for field in fields)


def test_debug_version_is_the_cpus() -> None:
    for name in ("max", "cortex-a72", "neoverse-n1"):
        shown = ID_AA64DFR0_EL1(guest_registers(name)[ID_AA64DFR0_EL1.encoding])
        assert shown.DebugVer == profile(name).read(ID_AA64DFR0_EL1).DebugVer
        assert shown.BRPs == profile(name).read(ID_AA64DFR0_EL1).BRPs


def test_id_registers_and_firmware_agree_that_nothing_speculates() -> None:
    for name in ("cortex-a72", "max"):
        pfr0 = ID_AA64PFR0_EL1(guest_registers(name)[ID_AA64PFR0_EL1.encoding])
        assert (pfr0.CSV2, pfr0.CSV3) == (1, 1)
    box = Box(a64.hvc(0), a64.add(5, 0, 0), *OFF)
    box.set_x(x0=0x8000_0001, x1=ArchFeature.WORKAROUND_1)
    box.run()
    assert box.x(5) == 1
