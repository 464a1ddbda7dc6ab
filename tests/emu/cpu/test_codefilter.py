"""The filter of watched accesses: what was not marked never reaches Python."""

from __future__ import annotations

import ctypes
from typing import Final

import pytest

from emu.arch.address import PA, VA
from emu.cpu.codefilter import MACHINE_CODE, PLACES, CodeFilter
from emu.cpu.engine import CODE_CALLBACK
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, Bare

ENGINE: Final = 0x1234_5678
MARKED, OTHER = VA(0xFFFF_8000_4009_1234), VA(0xFFFF_8000_4009_1238)


def calls(code: CodeFilter, seen: list[tuple[int, int]], va: int) -> bool:
    """Whether the hook calls Python for the instruction at ``va``, with what it was given."""
    seen.clear()
    CODE_CALLBACK(ctypes.cast(code.hook, ctypes.c_void_p).value or 0)(ENGINE, va, 4, code.state)
    assert seen in ([], [(ENGINE, va)])
    return bool(seen)


@pytest.mark.parametrize("native", [True, False])
def test_python_is_called_for_marked_instructions(native: bool) -> None:
    seen: list[tuple[int, int]] = []
    look = CODE_CALLBACK(lambda engine, va, _size, _data: seen.append((engine, va)))
    code = CodeFilter(look, native=native)
    code.mark(MARKED)
    assert calls(code, seen, MARKED)
    assert calls(code, seen, OTHER) is not native
    assert calls(code, seen, MARKED - 4) is not native
    assert calls(code, seen, MARKED + 4 * PLACES), "places are shared"
    code.mark_all()
    assert calls(code, seen, OTHER)
    code.clear()
    assert calls(code, seen, MARKED) is not native


STATE, MARKS, FILTER = CODE + 0x1_0000, CODE + 0x2_0000, CODE + 0x100
RETURNED, LOOK = CODE + 0x200, CODE + 0x300


@pytest.mark.parametrize("marked", [False, True])
def test_the_aarch64_filter_does_the_same_when_our_own_machine_runs_it(
    bare: Bare, marked: bool
) -> None:
    code = MACHINE_CODE["aarch64"]
    words = [int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4)]
    bare.code(*words, at=FILTER)
    bare.code(a64.hvc(1), at=RETURNED)
    bare.code(a64.add(19, 0, 0), a64.add(20, 1, 0), a64.RET, at=LOOK)
    state = bare.map_ipa(STATE)
    bare.memory.write_u64(state, MARKS)
    bare.memory.write_u64(PA(state + 8), LOOK)
    place = MARKED // 4 % PLACES
    page = bare.map_ipa(MARKS + (place & -0x1000))
    bare.memory.write(PA(page + (place & 0xFFF)), b"\1")
    va = MARKED if marked else OTHER
    bare.set_x(x0=ENGINE, x1=va, x2=4, x3=STATE, x19=0, x20=0, x30=RETURNED)
    bare.start(FILTER)
    assert bare.trap().esr & 0xFFFF == 1
    assert (bare.x(19), bare.x(20)) == ((ENGINE, va) if marked else (0, 0))


def test_of_watched_code_only_accesses_are_looked_at(bare: Bare) -> None:
    seen: list[int] = []
    look = bare.pe.progress.is_behind_last_access
    bare.pe.progress.is_behind_last_access = lambda va: bool(seen.append(va)) or look(va)  # type: ignore[method-assign,func-returns-value]  # a spy
    words = (a64.add(2, 1, 0), a64.ldr(3, 1), a64.add(4, 1, 0), a64.hvc(0))
    bare.code(*words)
    bare.stage1_on(A=1)
    bare.set_x(x1=CODE)
    bare.run(*words)
    assert bare.pe.code.strict
    assert seen == [CODE + 4]
