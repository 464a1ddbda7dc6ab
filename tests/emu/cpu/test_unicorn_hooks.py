"""What emu/cpu relies on and Unicorn does not promise: hooks on instructions, changing code."""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING

import pytest
from unicorn import arm64_const as reg
from unicorn import unicorn_const as const

from emu.arch.a64.maintenance import DC
from emu.arch.a64.tlbi import TLBI
from emu.arch.registers.identification import MIDR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from tests.emu.cpu import a64
from tests.emu.cpu.a64 import NOP
from tests.emu.cpu.probe import CODE, PC, X1, X2, X3, Probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from unicorn.unicorn_py3.arch.arm64 import UcAArch64


# Hooks on system instructions


def test_system_hook_is_bound_to_its_address_and_skips_by_returning_one(probe: Probe) -> None:
    seen: list[int] = []

    def hook(uc: UcAArch64, _register: int, _encoding: object, _data: object) -> int:
        seen.append(uc.reg_read(PC))
        uc.reg_write(X1, 42)
        return 1

    mrs = a64.mrs(1, MIDR_EL1)
    probe.write(mrs, a64.add(2, 1, 0), mrs, a64.add(3, 1, 0))
    _hook_system(probe, CODE + 8, hook)
    probe.run(4)
    assert seen == [CODE + 8]
    assert probe.x(X2) == 0x410F_D083
    assert probe.x(X3) == 42


def test_system_hook_that_returns_zero_lets_the_instruction_run(probe: Probe) -> None:
    probe.write(a64.mrs(1, MIDR_EL1), NOP)
    _hook_system(probe, CODE, lambda *_: 0)
    probe.run(2)
    assert probe.x(X1) == 0x410F_D083


def test_stop_inside_a_system_hook_waits_for_a_code_hook_or_the_next_block(probe: Probe) -> None:
    def hook(uc: UcAArch64, *_: object) -> int:
        uc.emu_stop()
        return 1

    probe.write(a64.mrs(1, MIDR_EL1), a64.add(2, 2, 1), a64.add(2, 2, 1), a64.b(0))
    _hook_system(probe, CODE, hook)
    assert probe.run(0) == const.UC_ERR_OK
    assert probe.pc == CODE + 12 or probe.x(X2) == 2, "the rest of the block still executes"
    other = Probe()
    other.write(a64.mrs(1, MIDR_EL1), a64.add(2, 2, 1), a64.add(2, 2, 1), a64.b(0))
    _hook_system(other, CODE, hook)
    other.uc.hook_add(const.UC_HOOK_CODE, lambda *_: None, begin=CODE + 4, end=CODE + 4)
    assert other.run(0) == const.UC_ERR_OK
    assert (other.pc, other.x(X2)) == (CODE + 4, 0)


def test_block_hook_is_given_the_length_of_the_block_at_each_entry(probe: Probe) -> None:
    blocks: list[tuple[int, int]] = []

    def hook(uc: UcAArch64, address: int, size: int, _data: object) -> None:
        blocks.append((address, size))
        if len(blocks) == 3:
            uc.emu_stop()

    probe.write(NOP, NOP, a64.b(-8))
    probe.uc.hook_add(const.UC_HOOK_BLOCK, hook)
    assert probe.run(0) == const.UC_ERR_OK
    assert blocks == [(CODE, 12)] * 3
    assert probe.pc == CODE, "the block that finds the stop is not executed"


def test_system_hook_costs_nothing_where_another_instruction_stands(probe: Probe) -> None:
    seen: list[int] = []
    _hook_system(probe, CODE, note_in(seen))
    probe.write(NOP, NOP)
    probe.run(2)
    assert seen == []


def test_system_hook_must_be_there_before_the_code_is_translated(probe: Probe) -> None:
    seen: list[int] = []
    probe.write(a64.mrs(1, MIDR_EL1), NOP)
    probe.run(2)
    _hook_system(probe, CODE, note_in(seen))
    probe.run(2)
    assert seen == []
    probe.uc.ctl_flush_tb()
    probe.run(2)
    assert seen == [1]


def test_system_hook_added_in_the_fetch_fill_is_in_time(probe: Probe) -> None:
    seen: list[int] = []
    probe.write(a64.mrs(1, MIDR_EL1), NOP)
    probe.on_fill = lambda page: _hook_system(probe, page, note_in(seen))
    probe.run(2)
    assert seen == [1]


def note_in(seen: list[int]) -> Callable[..., int]:
    """Return a hook that takes note of its call and lets the instruction run."""

    def hook(*_: object) -> int:
        seen.append(1)
        return 0

    return hook


def _hook_system(probe: Probe, va: int, hook: Callable[..., int]) -> None:
    probe.uc.hook_add(const.UC_HOOK_INSN, hook, None, va, va, reg.UC_ARM64_INS_MRS)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (TLBI.RVAE1.word(1), reg.UC_ARM64_INS_SYS),
        (TLBI.VMALLE1OS.word(), reg.UC_ARM64_INS_SYS),
        (DC.CVAP.word(2), reg.UC_ARM64_INS_SYS),
        (a64.mrs(1, HCR_EL2), reg.UC_ARM64_INS_MRS),
        (a64.msr(HCR_EL2, 1), reg.UC_ARM64_INS_MSR),
    ],
)
@pytest.mark.parametrize(("skip", "calls"), [(0, 1), (1, 3)])
def test_hooked_instruction_that_unicorn_lacks_is_undefined_or_never_left(
    probe: Probe, word: int, kind: int, skip: int, calls: int
) -> None:
    seen: list[int] = []

    def hook(uc: UcAArch64, *_: object) -> int:
        seen.append(uc.reg_read(PC))
        return skip

    probe.uc.hook_add(const.UC_HOOK_INSN, hook, None, CODE + 4, CODE + 4, kind)
    probe.write(NOP, word, NOP)
    probe.run(4)
    assert seen == [CODE + 4] * calls
    assert (probe.pc, bool(probe.interrupts)) == (CODE + 4, not skip)


def test_pc_written_inside_an_interrupt_hook_goes_on_there(probe: Probe) -> None:
    probe.on_interrupt = lambda: probe.uc.reg_write(PC, CODE + 8)
    probe.write(a64.UDF, a64.movz(1, 1), a64.movz(2, 2), a64.movz(3, 3), NOP)
    probe.uc.reg_write(X1, 0)
    probe.run(3)
    assert (probe.x(X1), probe.x(X2), probe.x(X3)) == (0, 2, 3)


# Code


def test_code_written_by_python_runs_only_after_translated_code_is_forgotten(probe: Probe) -> None:
    buffer = mmap.mmap(-1, 0x1000)
    pointer = ctypes.c_char.from_buffer(buffer)
    probe.uc.mem_map_ptr(0x30_0000, 0x1000, const.UC_PROT_ALL, ctypes.addressof(pointer))

    def run_with(value: int, prepare: Callable[[], object]) -> int:
        buffer[0:4] = a64.movz(1, value).to_bytes(4, "little")
        prepare()
        probe.run(1, pc=0x30_0000)
        return probe.x(X1)

    assert run_with(1, lambda: None) == 1
    assert run_with(2, lambda: None) == 1
    flush = (const.UC_CTL_TLB_FLUSH, const.UC_CTL_IO_WRITE)
    assert run_with(3, lambda: probe.uc.ctl(*flush)) == 1
    assert run_with(4, probe.uc.ctl_flush_tb) == 4


def test_code_written_by_the_guest_itself_is_noticed(probe: Probe) -> None:
    target = CODE + 0x1000
    probe.write(a64.movz(3, 1), at=target)
    probe.run(1, pc=target)
    probe.write(a64.str_(1, 2, 0, 4), NOP)
    probe.uc.reg_write(X1, a64.movz(3, 2))
    probe.uc.reg_write(X2, target)
    probe.run(2)
    probe.run(1, pc=target)
    assert probe.x(X3) == 2
