"""Faults in registers, of programs and of the system."""

from __future__ import annotations

from typing import Any

import pytest

from emu.arch.esr.classes import ExceptionClass
from emu.arch.esr.fsc import FaultStatusCode
from emu.arch.registers.exceptions import ESR_EL1, ESR_EL2, PSTATE
from emu.arch.registers.translation import SCTLR_EL1
from emu.arch.registers.virtualization import VTTBR_EL2
from hyp.exits import InternalError, Intr, SystemEvent
from lab.errors import UserError
from lab.faults.models.registers import FLAGS, RegisterFlip, RegisterSet, RegisterStuck
from lab.faults.models.system_registers import (
    SYSTEM,
    SystemRegisterFlip,
    SystemRegisterSet,
    SystemRegisterStuck,
)
from tests.emu.cpu import a64
from tests.lab.faults.models.address import CODE, DATA
from tests.lab.faults.models.box import NOP, SYSTEM_OFF, Box

LOOP = (a64.add(3, 3, 1), a64.b(-4))


def paused(*program: int, **options: Any) -> Box:  # noqa: ANN401  # of Box
    """Return a VM that has executed one instruction."""
    box = Box(NOP, *program, **options)
    assert isinstance(box.run(1), Intr)
    return box


def test_bit_of_a_general_register_flips_and_the_program_goes_on_with_it() -> None:
    box = paused(a64.add(4, 3, 1), *SYSTEM_OFF, x3=0x10)
    assert box.changes(RegisterFlip(register="x3", bit=2)) == {"x3": (0x10, 0x14)}
    assert isinstance(box.run(), SystemEvent)
    assert box.x(4) == 0x15


def test_neighbouring_bits_flip_together() -> None:
    box = paused(x3=0b0101)
    assert box.changes(RegisterFlip(register="x3", bit=1, width=3)) == {"x3": (0b0101, 0b1011)}


@pytest.mark.parametrize("register", ["x0", "x30", "sp", "pc", "q7"])
def test_registers_of_every_kind_are_set_with_nothing_else(register: str) -> None:
    box = paused(NOP, NOP)
    found = box.changes(RegisterSet(register=register, value=0x4000_0010))
    names = {"sp": "SP_EL1", "pc": "ELR_EL2"}
    assert {name: new for name, (_, new) in found.items()} == {
        names.get(register, register): 0x4000_0010
    }


@pytest.mark.parametrize("register", ["x5", "q31", "sp", "pc", "pstate.Z"])
def test_registers_of_a_vcpu_that_no_pe_has_loaded_can_be_wrong_too(register: str) -> None:
    box = Box(NOP)
    assert box.vcpu.loaded_on is None
    before = box.vcpu.ctxt.q[31], dict(box.vcpu.ctxt.system), list(box.vcpu.ctxt.x)
    assert box.inject(RegisterFlip(register=register, bit=0)).detail
    ctxt = box.vcpu.ctxt
    assert (ctxt.q[31], ctxt.system, ctxt.x) != before
    if register == "q31":
        assert ctxt.q[31] == 1


def test_wrong_pc_is_where_the_guest_goes_on() -> None:
    box = paused(a64.b(0), a64.movz(5, 7), *SYSTEM_OFF)
    box.inject(RegisterSet(register="pc", value=CODE + 8))
    assert isinstance(box.run(), SystemEvent)
    assert box.x(5) == 7


@pytest.mark.parametrize("flag", FLAGS)
def test_flag_of_pstate_flips_alone(flag: str) -> None:
    box = paused(NOP)
    if not getattr(box.vm.features.pstate, flag, True):
        assert box.refusal(RegisterFlip(register=f"pstate.{flag}", bit=0)) == (
            f"the CPU has no pstate.{flag}"
        )
        return
    found = box.changes(RegisterFlip(register=f"pstate.{flag}", bit=0))
    assert list(found) == ["SPSR_EL2"]
    old, new = found["SPSR_EL2"]
    assert old ^ new == PSTATE.FIELDS[flag].in_place
    box.run(1)
    assert int(box.vcpu.pstate) == new


def test_flipped_flag_decides_the_next_branch() -> None:
    b_eq = 0x5400_0000 | 2 << 5
    box = Box(a64.subs(3, 3, 1), b_eq, a64.movz(5, 7), *SYSTEM_OFF, x3=1)
    box.run(1)
    box.inject(RegisterSet(register="pstate.Z", value=0))
    box.run()
    assert box.x(5) == 7


def test_fault_leaves_the_exclusive_monitor_alone() -> None:
    box = Box(a64.ldxr(4, 1), a64.stxr(5, 6, 1), *SYSTEM_OFF, x6=3)
    box.run(1)
    for fault in (
        RegisterFlip(register="x6", bit=3),
        RegisterFlip(register="pstate.N", bit=0),
        RegisterFlip(register="q2", bit=3),
        SystemRegisterFlip(register="TPIDR_EL1", bit=3),
    ):
        box.changes(fault)
    box.run()
    assert box.x(5) == 0
    assert box.read64(DATA) == 11


def test_stuck_bit_is_held_against_every_write() -> None:
    box = paused(a64.movz(3, 0xFF), a64.movz(3, 1), *SYSTEM_OFF)
    injection = box.inject(RegisterStuck(register="x3", bit=4, width=2, stuck_at=0))
    assert injection.hold is not None
    assert injection.end is None
    for expected in (0xCF, 1):
        box.run(1)
        injection.hold()
        assert box.x(3) == expected


def test_bit_that_is_stuck_at_what_it_is_changes_nothing_now() -> None:
    box = paused(x3=1)
    before = box.state()
    assert box.inject(RegisterStuck(register="x3", bit=0, stuck_at=1)).hold is not None
    assert box.state() == before


def test_register_that_has_the_value_already_is_no_fault() -> None:
    assert paused(x3=5).refusal(RegisterSet(register="x3", value=5)) == "x3 is 0x5 already"


@pytest.mark.parametrize("register", sorted(SYSTEM))
def test_bit_of_any_system_register_flips_with_nothing_else(register: str) -> None:
    box = paused()
    for bit in range(0, 64, 9):
        before = box.state()
        injection = box.inject(SystemRegisterFlip(register=register, bit=bit))
        after = box.state()
        changed = {name for name in before if before[name] != after.get(name)}
        changed -= {"0 paused"}  # SPSR_EL1 and others are part of no pause
        if injection.status.value == "invalid":
            assert "keeps its value" in injection.detail
            assert not changed
        else:
            assert changed <= {register, f"0 {register}"}, injection
            assert changed
            box.inject(SystemRegisterFlip(register=register, bit=bit))


def test_field_of_a_system_register_is_set() -> None:
    box = paused(a64.br(1), stage1=True)
    found = box.changes(SystemRegisterSet(register="SCTLR_EL1", field="WXN", value=1))
    old, new = found.pop("SCTLR_EL1")
    assert old ^ new == SCTLR_EL1.WXN.in_place
    assert not found
    assert isinstance(box.run(), InternalError)  # of the vectors, too
    esr = box.vcpu.read(ESR_EL1)
    assert esr.ISS & 0x3F == FaultStatusCode.PERMISSION_L3


def test_wrong_vectors_are_where_exceptions_go() -> None:
    box = paused(a64.svc(0))
    box.put(DATA, NOP)
    box.put(DATA + 0x200, a64.movz(7, 9), *SYSTEM_OFF)
    box.inject(SystemRegisterSet(register="VBAR_EL1", value=DATA))
    box.run()
    assert box.x(7) == 9


def test_wrong_base_of_stage_2_is_followed_by_the_next_walk() -> None:
    box = paused(a64.ldr(3, 1), *SYSTEM_OFF)
    (change,) = box.changes(SystemRegisterFlip(register="VTTBR_EL2", field="BADDR", bit=40)).items()
    assert change[0] == "0 VTTBR_EL2"
    assert change[1][0] ^ change[1][1] == 1 << 41
    assert isinstance(box.run(), InternalError)  # KVM injects an SError, which is masked
    esr = box.pe.read(ESR_EL2)
    assert esr.EC is ExceptionClass.DABT_LOW
    assert esr.ISS & 0x3F == FaultStatusCode.EXTERNAL_ON_WALK_L1


def test_wrong_vmid_finds_none_of_the_entries() -> None:
    box = paused(a64.ldr(3, 1), *LOOP)
    box.run(2)
    vmid = box.pe.read(VTTBR_EL2).VMID
    misses = box.pe.mmu.misses
    box.inject(SystemRegisterFlip(register="VTTBR_EL2", field="VMID", bit=3))
    box.run(2)
    assert box.pe.mmu.misses > misses
    assert {entry.vmid for entry in box.pe.mmu.tlb.combined_entries()} == {vmid, vmid ^ 8}


def test_stuck_field_of_a_system_register_is_held() -> None:
    box = paused(a64.msr(type(box_register()), 3), *SYSTEM_OFF, x3=0xFF)
    fault = SystemRegisterStuck(register="TPIDR_EL1", bit=1, stuck_at=0)
    injection = box.inject(fault)
    assert injection.hold is not None
    box.run(1)
    injection.hold()
    assert int(box.vcpu.read(type(box_register()))) == 0xFD


def box_register() -> Any:  # noqa: ANN401  # a system register
    return SYSTEM["TPIDR_EL1"](0)


def test_registers_of_the_vm_are_nowhere_while_the_vcpu_is_not_loaded() -> None:
    box = Box(NOP)
    detail = box.inject(SystemRegisterFlip(register="VTTBR_EL2", bit=3)).detail
    assert detail == "no PE has vCPU 0 loaded, so none has its VTTBR_EL2"


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: RegisterFlip(register="x31", bit=0),
            (
                "RegisterFlip: register is x0 to x30, sp, pc, q0 to q31, or pstate.N "
                "(x3, x1, x30?), not 'x31'"
            ),
        ),
        (
            lambda: RegisterFlip(register="x3", bit=64),
            "RegisterFlip: bit is 0 to 63 (x3 has 64 bits, and width is 1), not 0x40",
        ),
        (
            lambda: RegisterSet(register="pstate.Z", value=2),
            "RegisterSet: value is 0 to 0x1 (pstate.Z has 1 bits), not 2",
        ),
        (
            lambda: RegisterStuck(register="x3", bit=1, stuck_at=2),
            "RegisterStuck: stuck_at is one of 0, 1, not 2 (what the bits are stuck at)",
        ),
        (
            lambda: SystemRegisterFlip(register="SCTRL_EL1", bit=0),
            (
                "SystemRegisterFlip: register is a system register of EL1 or EL2 (SCTLR_EL1, "
                "SCTLR_EL2, MDSCR_EL1?), not 'SCTRL_EL1'"
            ),
        ),
        (
            lambda: SystemRegisterFlip(register="MIDR_EL1", bit=0),
            (
                "SystemRegisterFlip: register is a register that a vCPU has for itself, which KVM "
                "saves and restores as it is, not 'MIDR_EL1'"
            ),
        ),
        (
            lambda: SystemRegisterFlip(register="VTTBR_EL2", field="VIMD", bit=0),
            "SystemRegisterFlip: field is a field of VTTBR_EL2 (VMID?), not 'VIMD'",
        ),
        (
            lambda: SystemRegisterFlip(register="VTTBR_EL2", field="CnP", bit=1),
            "SystemRegisterFlip: bit is 0 to 0 (CnP has 1 bits, and width is 1), not 1",
        ),
    ],
)
def test_impossible_parameters_are_refused_in_one_line(make: Any, text: str) -> None:  # noqa: ANN401
    with pytest.raises(UserError) as refused:
        make()
    assert str(refused.value) == text
