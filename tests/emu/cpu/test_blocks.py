"""The instruction budget by the block: exact to the instruction, natively and in Python."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.address import PA, VA
from emu.arch.registers.exceptions import PSTATE
from emu.cpu.blocks import MACHINE_CODE, BlockBudget
from emu.cpu.engine import Engine
from emu.memory import PhysicalMemory
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, Bare

if TYPE_CHECKING:
    from typing import Any

BASE: Final = PA(0x8000_0000)
LOOP: Final = (a64.add(2, 2, 1), a64.add(3, 3, 1), a64.subs(1, 1, 1), a64.b(-12))
"""Counts for ever; a block of four."""


def engine(*, native: bool) -> Engine:
    memory = PhysicalMemory(BASE, 0x1000)
    memory.write(BASE, b"".join(word.to_bytes(4, "little") for word in LOOP))

    def fill(_engine: Any, _va: int, _access: int, result: Any, _data: Any) -> bool:  # noqa: ANN401  # C
        result[0], result[1] = BASE, 5
        return True

    return Engine(memory, fill, lambda *_: None, lambda *_: 0, native=native)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("granted", [0, 1, 3, 4, 5, 4000, 4003])
def test_run_ends_before_the_block_that_would_exceed_the_grant(granted: int, native: bool) -> None:
    run = engine(native=native)
    run.blocks.grant(granted)
    run.start(VA(0))
    pc, _ = run.state()
    assert pc == 0
    assert run.blocks.completed(pc) == granted // 4 * 4
    assert run.blocks.left < 0


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_block_left_in_the_middle_counts_only_what_was_executed(count: int, native: bool) -> None:
    run = engine(native=native)
    run.blocks.grant(1000)
    run.start_until(VA(0), VA(4 * count), VA(16))
    pc, _ = run.state()
    assert pc == count * 4
    assert run.blocks.completed(pc) == count


def test_stop_within_a_block_is_for_one_run() -> None:
    run = engine(native=True)
    pcs = []
    for granted, stop in ((400, 0), (1000, 12), (400, 0), (1000, 4)):
        run.blocks.grant(granted)
        if stop:
            run.start_until(VA(0), VA(stop), VA(16))
        else:
            run.start(VA(0))
        pcs.append(run.state()[0])
    assert pcs == [0, 12, 0, 4]


def test_a_block_that_was_not_entered_does_not_count() -> None:
    budget = BlockBudget(ctypes.c_void_p(0), ctypes.c_uint32(), ctypes.c_uint32(), native=False)
    budget.grant(100)
    assert budget.completed(VA(0x1000)) == 0
    enter(budget, 0x1000, 16)
    assert budget.completed(VA(0x1000), fetching=True) == 4
    assert budget.completed(VA(0x1000)) == 0
    assert budget.completed(VA(0x1010)) == 4
    assert budget.block[1] == 0x1010


def enter(budget: BlockBudget, address: int, size: int) -> None:
    """Call the hook as the engine does."""
    budget.hook(None, address, size, budget.state)


def test_native_and_python_hooks_leave_the_same_state() -> None:
    states = []
    for native in (True, False):
        budget = BlockBudget(
            ctypes.c_void_p(0), ctypes.c_uint32(), ctypes.c_uint32(), native=native
        )
        budget.grant(50)
        enter(budget, 0xFFFF_0000_0000_1000, 64)
        enter(budget, 0x2000, 4)
        states.append((budget.left, budget.block[1], budget.completed(VA(0x2000))))
    assert states == [(33, 0x2004, 16)] * 2


STATE: Final = CODE + 0x1_0800
I, F = PSTATE.I.in_place, PSTATE.F.in_place
HOOK, RETURNED, STOPPED = CODE + 0x100, CODE + 0x200, CODE + 0x300


DAIF: Final = STATE + 0x40
MODE: Final = STATE + 0x48
EL0, EL1 = 0b0000, 0b0101
USER: Final = 1 << 31
"""The bit that has instructions of EL0 counted."""


@pytest.mark.parametrize(
    ("left", "pending", "daif", "mode", "user", "end"),
    [
        (11, 0, 0, EL0, 9, 1),
        (10, 0, 0, EL1, 9, 1),
        (9, 0, 0, EL1, 9, 2),
        (11, I, I | F, EL1, 9, 1),
        (11, I, F, EL1, 9, 2),
        (9, I, I, EL1, 9, 2),
        (11, I | F, I, EL1, 9, 2),
        (11, USER, 0, EL0, 10, 1),
        (11, USER, 0, EL0, 9, 2),
        (11, USER, 0, EL1, 9, 1),
        (9, USER, 0, EL0, 10, 2),
        (11, USER | I, I, EL0, 10, 1),
        (11, USER | I, F, EL0, 10, 2),
    ],
)
def test_the_aarch64_hook_does_the_same_when_our_own_machine_runs_it(
    bare: Bare, left: int, pending: int, daif: int, mode: int, user: int, end: int
) -> None:
    code = MACHINE_CODE["aarch64"]
    bare.code(*(int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4)), at=HOOK)
    bare.code(a64.hvc(1), at=RETURNED)
    bare.code(a64.hvc(2), at=STOPPED)
    state = bare.map_ipa(STATE & -0x1000) + (STATE & 0xFFF)
    for i, value in enumerate((left, 0, 0, STOPPED, DAIF, pending, MODE, user)):
        bare.memory.write_u64(PA(state + 8 * i), value)
    bare.memory.write_u64(PA(state + DAIF - STATE), daif)
    bare.memory.write_u64(PA(state + MODE - STATE), mode)
    bare.set_x(x1=0xFFFF_0000_1234_5678, x2=0xABC_0000_0028, x3=STATE, x30=RETURNED)
    bare.start(HOOK)
    assert bare.trap().esr & 0xFFFF == end
    after = [bare.memory.read_u64(PA(state + 8 * i)) for i in range(3)]
    assert after == [(left - 10) % (1 << 64), 0xFFFF_0000_1234_5678, 0x28]
    counted = mode == EL0 and pending & USER and left >= 10
    left_of_user = user - 10 if counted else user
    assert bare.memory.read_u64(PA(state + 56)) == left_of_user % (1 << 64)
