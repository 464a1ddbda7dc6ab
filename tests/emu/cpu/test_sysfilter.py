"""The filter of system instructions: what it lets pass never reaches Python."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.address import PA
from emu.arch.registers.control import TPIDR_EL0
from emu.arch.registers.exceptions import SP_EL1
from emu.cpu.engine import SYSTEM_CALLBACK
from emu.cpu.sysfilter import MACHINE_CODE, SystemFilter
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE

if TYPE_CHECKING:
    from tests.emu.cpu.bare import Bare

ASKED: Final = 7
ENGINE: Final = 0x1234_5678
LEAVE_CALLBACK: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32)
ONE: Final = (3, 7, 15, 14, 5)
"""op0, op1, CRn, CRm, op2."""
OTHER: Final = (3, 7, 15, 14, 4)


class _Encoding(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("crn", "crm", "op0", "op1", "op2"))


@pytest.mark.parametrize("native", [True, False])
def test_only_what_was_let_pass_is_not_asked_for(native: bool) -> None:
    left = []
    ask = SYSTEM_CALLBACK(lambda *_: ASKED)
    leave = LEAVE_CALLBACK(lambda engine, slot: left.append((engine, slot)))
    passing = SystemFilter(ask, leave, native=native)
    if native:
        passing.let_pass(ONE)
    hook = SYSTEM_CALLBACK(ctypes.cast(passing.hook, ctypes.c_void_p).value or 0)

    def answer(encoding: tuple[int, int, int, int, int]) -> int:
        op0, op1, crn, crm, op2 = encoding
        given = _Encoding(crn, crm, op0, op1, op2)
        return int(hook(ENGINE, 0, ctypes.byref(given), passing.state))

    assert answer(ONE) == (0 if native else ASKED)
    assert left == []
    assert answer(OTHER) == ASKED
    assert left == ([(ENGINE, 0)] if native else [])
    assert passing.leaves is native


STATE, ENCODING, PASSES = CODE + 0x1_0000, CODE + 0x1_0100, CODE + 0x2_0000
FILTER, RETURNED, ASK, LEAVE = CODE + 0x100, CODE + 0x200, CODE + 0x300, CODE + 0x400
STACK: Final = STATE + 0x800


@pytest.mark.parametrize(("encoding", "asked"), [(ONE, False), (OTHER, True)])
def test_the_aarch64_filter_does_the_same_when_our_own_machine_runs_it(
    bare: Bare, encoding: tuple[int, int, int, int, int], asked: bool
) -> None:
    code = MACHINE_CODE["aarch64"]
    words = [int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4)]
    bare.code(*words, at=FILTER)
    bare.code(a64.hvc(1), at=RETURNED)
    bare.code(a64.add(19, 0, 0), a64.movz(0, ASKED), a64.movz(3, 0), a64.RET, at=ASK)
    bare.code(a64.add(20, 0, 0), a64.add(21, 1, 0), a64.movz(0, 0), a64.RET, at=LEAVE)
    state = bare.map_ipa(STATE)
    bare.memory.write_u64(state, PASSES)
    bare.memory.write_u64(PA(state + 8), ASK)
    bare.memory.write_u64(PA(state + 16), LEAVE)
    op0, op1, crn, crm, op2 = encoding
    for i, value in enumerate((crn, crm, op0, op1, op2)):
        bare.memory.write(PA(state + 0x100 + 4 * i), value.to_bytes(4, "little"))
    index = 3 << 14 | 7 << 11 | 15 << 7 | 14 << 3 | 5
    page = bare.map_ipa(PASSES + (index & -0x1000))
    bare.memory.write(PA(page + (index & 0xFFF)), b"\1")
    bare.set_x(x2=ENCODING, x3=STATE, x30=RETURNED, x0=ENGINE, x1=5, x19=0, x20=0, x21=5)
    bare.pe.write(SP_EL1(STACK))
    bare.start(FILTER)
    assert bare.trap().esr & 0xFFFF == 1
    assert bare.x(0) == (ASKED if asked else 0)
    assert (bare.x(19), bare.x(20), bare.x(21)) == ((ENGINE, ENGINE, 0) if asked else (0, 0, 5))
    assert bare.pe.read(SP_EL1) == STACK


def test_registers_that_concern_nobody_are_asked_for_once(bare: Bare) -> None:
    asked: list[int] = []
    let_pass = bare.pe.code.let_pass
    bare.pe.code.let_pass = lambda word: asked.append(word) or let_pass(word)  # type: ignore[method-assign,func-returns-value]  # a spy
    bare.set_x(x6=5)
    code = (a64.msr(TPIDR_EL0, 6), a64.mrs(7, TPIDR_EL0), a64.subs(6, 6, 1), a64.cbnz(6, -12))
    bare.run(*code, a64.hvc(0))
    assert asked == [*code[:2]], "each direction once"
    assert bare.x(7) == 1
