"""SP alignment faults: SCTLR_EL1.SA and SA0 (Arm ARM D1.8.2)."""

from __future__ import annotations

from typing import Final

import pytest

from emu.arch.registers.exceptions import SP_EL0, SP_EL1
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, S1_USER, Bare

HVC_1: Final = 0x5A00_0001
SP_FAULT: Final = 0x9A00_0000
"""EC 0x26, IL, no ISS."""
EL1T: Final = EL1H & ~1
MOV_SP_X3: Final = 0x9100_007F
STACK: Final = DATA + 0x100

ACCESSES: Final = {
    "ldr": a64.ldr(1, a64.SP),
    "ldr aligned by its offset": a64.ldr(1, a64.SP, 8),
    "strb": a64.str_(1, a64.SP, size=1),
    "pre-index": a64.str_pre(1, a64.SP, -8),
    "ldp": a64.ldp(1, 4, a64.SP),
    "ldr q": a64.ldr_q(1, a64.SP),
    "ldxr": a64.ldxr(1, a64.SP),
    "ldar": a64.ldar(1, a64.SP),
}
MISALIGNING: Final = {
    "mov": MOV_SP_X3,
    "add": a64.add(a64.SP, a64.SP, 8),
    "post-index": a64.ldr_post(5, a64.SP, 8),
    "orr": 0xB240_007F,  # ORR SP, X3, #1
}


def machine(*words: int, pstate: int = EL1H, stack: int = STACK, **sctlr: int) -> Bare:
    """Return a machine with stage 1 on, x3 = STACK + 8, and a program that ends with HVC."""
    bare = Bare()
    bare.map_ipa(DATA)
    bare.code(*words, a64.hvc(1))
    bare.stage1_on(**{"SA": 1, "SA0": 1} | sctlr)
    bare.map_va(DATA, DATA, S1_USER)
    bare.pe.write(SP_EL0(stack))
    bare.pe.write(SP_EL1(stack))
    bare.set_x(x3=STACK + 8)
    bare.start(CODE, pstate)
    return bare


@pytest.mark.parametrize("access", ACCESSES.values(), ids=ACCESSES)
def test_access_by_a_misaligned_stack_pointer_faults(access: int) -> None:
    bare = machine(MOV_SP_X3, access)
    before = bare.x(1)
    taken = bare.taken_to_el1()
    assert (taken.vector, taken.esr, taken.elr) == (0x200, SP_FAULT, CODE + 4)
    assert bare.x(1) == before, "nothing was loaded"


@pytest.mark.parametrize("change", MISALIGNING.values(), ids=MISALIGNING)
def test_every_way_to_misalign_it_is_noticed(change: int) -> None:
    bare = machine(change, a64.NOP, a64.ldr(1, a64.SP))
    taken = bare.taken_to_el1()
    assert (taken.esr, taken.elr) == (SP_FAULT, CODE + 8)


def test_stack_pointer_that_is_misaligned_and_not_used_is_no_fault() -> None:
    bare = machine(MOV_SP_X3, a64.add(a64.SP, a64.SP, 8), a64.ldr(1, a64.SP), a64.prfm(a64.SP))
    assert bare.trap().esr == HVC_1


def test_prefetch_does_not_check() -> None:
    assert machine(MOV_SP_X3, a64.prfm(a64.SP)).trap().esr == HVC_1


def test_other_bases_are_not_concerned() -> None:
    assert machine(MOV_SP_X3, a64.ldr(1, 3)).trap().esr == HVC_1


def test_stack_pointer_that_el2_misaligned() -> None:
    assert machine(a64.ldr(1, a64.SP), stack=STACK + 8).taken_to_el1().esr == SP_FAULT


@pytest.mark.parametrize(
    ("pstate", "sctlr", "faults"),
    [
        (EL1H, {"SA": 0}, False),
        (EL1H, {"SA0": 0}, True),
        (EL1T, {"SA": 0}, False),
        (EL1T, {"SA0": 0}, True),
        (EL0T, {"SA": 0}, True),
        (EL0T, {"SA0": 0}, False),
    ],
)
def test_sa_is_for_el1_and_sa0_for_el0(pstate: int, sctlr: dict[str, int], *, faults: bool) -> None:
    bare = machine(MOV_SP_X3, a64.ldr(1, a64.SP), a64.svc(1), pstate=pstate, **sctlr)
    esr = bare.taken_to_el1().esr
    assert esr == (SP_FAULT if faults else 0x5600_0001)


def test_it_comes_before_translation() -> None:
    bare = machine(MOV_SP_X3, a64.ldr(1, a64.SP))
    bare.set_x(x3=0x7F_0000_0008)
    assert bare.taken_to_el1().esr == SP_FAULT


def test_time_is_exact() -> None:
    bare = machine(a64.NOP, MOV_SP_X3, a64.NOP, a64.ldr(1, a64.SP))
    before = bare.pe.retired
    bare.taken_to_el1()
    assert bare.pe.retired - before == 4, "three of the program, and the vector's HVC"
