"""The filter of system instructions: what it lets pass never reaches Python."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.address import PA
from emu.arch.registers.control import TPIDR_EL0
from emu.cpu.engine import SYSTEM_CALLBACK
from emu.cpu.sysfilter import MACHINE_CODE, SystemFilter
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE

if TYPE_CHECKING:
    from tests.emu.cpu.bare import Bare

ASKED: Final = 7
ONE: Final = (3, 7, 15, 14, 5)
"""op0, op1, CRn, CRm, op2."""
OTHER: Final = (3, 7, 15, 14, 4)


class _Encoding(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("crn", "crm", "op0", "op1", "op2"))


@pytest.mark.parametrize("native", [True, False])
def test_only_what_was_let_pass_is_not_asked_for(native: bool) -> None:
    ask = SYSTEM_CALLBACK(lambda *_: ASKED)
    passing = SystemFilter(ask, native=native)
    if native:
        passing.let_pass(ONE)
    hook = SYSTEM_CALLBACK(ctypes.cast(passing.hook, ctypes.c_void_p).value or 0)

    def answer(encoding: tuple[int, int, int, int, int]) -> int:
        op0, op1, crn, crm, op2 = encoding
        given = _Encoding(crn, crm, op0, op1, op2)
        return int(hook(None, 0, ctypes.byref(given), passing.state))

    assert answer(ONE) == (0 if native else ASKED)
    assert answer(OTHER) == ASKED


STATE, ENCODING, PASSES = CODE + 0x1_0000, CODE + 0x1_0100, CODE + 0x2_0000
FILTER, RETURNED, STOPPED = CODE + 0x100, CODE + 0x200, CODE + 0x300


@pytest.mark.parametrize(("encoding", "end"), [(ONE, 1), (OTHER, 2)])
def test_the_aarch64_filter_does_the_same_when_our_own_machine_runs_it(
    bare: Bare, encoding: tuple[int, int, int, int, int], end: int
) -> None:
    code = MACHINE_CODE["aarch64"]
    words = [int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4)]
    bare.code(*words, at=FILTER)
    bare.code(a64.hvc(1), at=RETURNED)
    bare.code(a64.hvc(2), at=STOPPED)
    state = bare.map_ipa(STATE)
    bare.memory.write_u64(state, PASSES)
    bare.memory.write_u64(PA(state + 8), STOPPED)
    op0, op1, crn, crm, op2 = encoding
    for i, value in enumerate((crn, crm, op0, op1, op2)):
        bare.memory.write(PA(state + 0x100 + 4 * i), value.to_bytes(4, "little"))
    index = 3 << 14 | 7 << 11 | 15 << 7 | 14 << 3 | 5
    page = bare.map_ipa(PASSES + (index & -0x1000))
    bare.memory.write(PA(page + (index & 0xFFF)), b"\1")
    bare.set_x(x2=ENCODING, x3=STATE, x30=RETURNED, x0=9)
    bare.start(FILTER)
    assert bare.trap().esr & 0xFFFF == end
    assert bare.x(0) == (0 if end == 1 else 9)


def test_registers_that_concern_nobody_are_asked_for_once(bare: Bare) -> None:
    asked = []
    at = bare.pe.code.at
    bare.pe.code.at = lambda pc, word: asked.append(pc) or at(pc, word)  # type: ignore[method-assign,func-returns-value]  # a spy
    bare.set_x(x6=5)
    bare.run(a64.msr(TPIDR_EL0, 6), a64.mrs(7, TPIDR_EL0), a64.subs(6, 6, 1), a64.cbnz(6, -12),
             a64.hvc(0))  # fmt: skip
    assert asked == [CODE, CODE + 4], "each direction once"
    assert bare.x(7) == 1
