"""What emu/cpu relies on and Unicorn does not promise.

Each test pins one measured fact, with Unicorn's own binding. When an upgrade fails one of
them, the code that depends on it must be looked at before the pin is moved.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

import pytest
from unicorn import unicorn_const as const

from emu.arch.registers.control import CPACR_EL1
from emu.arch.registers.exceptions import ELR_EL1, SPSR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from tests.emu.cpu import a64
from tests.emu.cpu.a64 import NOP
from tests.emu.cpu.probe import CODE, DATA, PSTATE, X1, X2, X3, Fill, Probe

LDR: Final = a64.ldr(1, 2)
STR: Final = a64.str_(1, 2)
FETCH, READ, WRITE = const.UC_MEM_FETCH, const.UC_MEM_READ, const.UC_MEM_WRITE


# Set-up


def test_tlb_pages_are_1_kib_unless_the_page_size_is_set() -> None:
    fills = []
    for page_size in (None, 4096):
        probe = Probe(page_size=page_size)
        probe.write(NOP, LDR)
        probe.uc.reg_write(X2, DATA + 0xC08)
        probe.run(2)
        fills.append([fill.page for fill in probe.fills])
    assert fills == [[CODE, DATA + 0xC00], [CODE, DATA]]


def test_return_probes_the_page_of_until_unless_exits_are_a_list() -> None:
    until = CODE + 0xF_0000
    fills = []
    for exits in (False, True):
        probe = Probe(exits=exits)
        probe.write(NOP, NOP)
        probe.run(2, until=until)
        fills.append([(fill.page, fill.access) for fill in probe.fills])
    assert len(fills[0]) == 2
    assert fills[0][1][1] == FETCH
    assert fills[1] == [(CODE, FETCH)]


def test_memory_given_by_pointer_is_shared_both_ways(probe: Probe) -> None:
    buffer = mmap.mmap(-1, 0x1000)
    pointer = ctypes.c_char.from_buffer(buffer)
    probe.uc.mem_map_ptr(0x30_0000, 0x1000, const.UC_PROT_ALL, ctypes.addressof(pointer))
    buffer[0] = 0x5A
    probe.write(LDR, a64.str_(1, 2, 8))
    probe.uc.reg_write(X2, 0x30_0000)
    probe.run(2)
    assert (probe.x(X1), buffer[8]) == (0x5A, 0x5A)


# The fill hook


@pytest.mark.parametrize(
    ("word", "access"),
    [
        (LDR, READ),
        (STR, WRITE),
        (a64.ldxr(1, 2), READ),
        (a64.ldp(1, 3, 2), READ),
        (a64.stp(1, 3, 2), WRITE),
        (0xD50B_7422, WRITE),  # DC ZVA, X2
    ],
)
def test_fill_is_given_the_page_and_the_access_and_pc_is_exact(
    probe: Probe, word: int, access: int
) -> None:
    probe.write(NOP, NOP, word, NOP)
    probe.uc.reg_write(X2, DATA + 0x840)
    probe.run(4)
    assert probe.fills == [Fill(CODE, FETCH, CODE), Fill(DATA, access, CODE + 8)]


def test_store_exclusive_asks_for_a_write(probe: Probe) -> None:
    probe.write(a64.ldxr(1, 2), a64.stxr(3, 1, 2))
    probe.uc.reg_write(X2, DATA)
    probe.perms = const.UC_PROT_READ | const.UC_PROT_EXEC
    probe.on_fill = lambda _page: setattr(
        probe, "perms", const.UC_PROT_ALL if len(probe.fills) == 3 else probe.perms
    )
    probe.run(2)
    assert [fill.access for fill in probe.fills] == [FETCH, READ, WRITE]
    assert probe.x(X3) == 0


def test_prefetch_never_asks(probe: Probe) -> None:
    probe.write(a64.prfm(2), NOP)
    probe.uc.reg_write(X2, DATA)
    probe.run(2)
    assert [fill.access for fill in probe.fills] == [FETCH]


@pytest.mark.parametrize(("word", "access"), [(LDR, READ), (STR, WRITE)])
def test_access_across_pages_asks_for_each_of_them(probe: Probe, word: int, access: int) -> None:
    probe.write(word)
    probe.uc.reg_write(X2, DATA + 0xFFC)
    probe.run(1)
    asked = {(fill.page, fill.access) for fill in probe.fills[1:]}
    assert asked == {(DATA, access), (DATA + 0x1000, access)}


def test_answer_is_kept_until_the_tlb_is_flushed(probe: Probe) -> None:
    probe.write(LDR, LDR)
    probe.uc.reg_write(X2, DATA)
    probe.run(2)
    probe.run(2)
    assert len(probe.fills) == 2
    probe.uc.ctl(const.UC_CTL_TLB_FLUSH, const.UC_CTL_IO_WRITE)
    probe.run(2)
    assert len(probe.fills) == 4


def test_permission_that_was_not_given_is_asked_for_again(probe: Probe) -> None:
    probe.write(LDR, STR)
    probe.uc.reg_write(X2, DATA)
    probe.perms = const.UC_PROT_READ | const.UC_PROT_EXEC
    probe.on_fill = lambda page: probe.refused.add(page) if len(probe.fills) == 3 else None
    assert probe.run(2) == const.UC_ERR_EXCEPTION
    assert [fill.access for fill in probe.fills] == [FETCH, READ, WRITE]


def test_refusal_stops_at_the_instruction_with_an_exception_code(probe: Probe) -> None:
    probe.write(NOP, NOP, LDR, NOP)
    probe.uc.reg_write(X2, DATA)
    probe.refused.add(DATA)
    assert probe.run(4) == const.UC_ERR_EXCEPTION
    assert probe.pc == CODE + 8
    probe.refused.clear()
    assert probe.run(2, pc=probe.pc) == const.UC_ERR_OK
    assert probe.pc == CODE + 0x10


def test_refused_writeback_leaves_the_base_register(probe: Probe) -> None:
    probe.write(a64.ldr_post(1, 2, 8))
    probe.uc.reg_write(X2, DATA)
    probe.refused.add(DATA)
    assert probe.run(1) == const.UC_ERR_EXCEPTION
    assert probe.x(X2) == DATA


def test_tlb_flush_inside_the_fill_hook_is_safe(probe: Probe) -> None:
    def flush(_page: int) -> None:
        if len(probe.fills) % 7 == 0:
            probe.uc.ctl(const.UC_CTL_TLB_FLUSH, const.UC_CTL_IO_WRITE)

    probe.on_fill = flush
    # Store a counter to 64 pages in turn, 8 rounds.
    loop = (
        STR,
        a64.add(1, 1, 1),
        0x9140_0442,  # ADD X2, X2, #1, LSL #12
        a64.subs(3, 3, 1),
        a64.cbnz(3, -16),
    )
    probe.write(*loop)
    for _ in range(8):
        probe.uc.reg_write(X1, 1000)
        probe.uc.reg_write(X2, DATA)
        probe.uc.reg_write(X3, 64)
        assert probe.run(64 * 5) == const.UC_ERR_OK
    stored = [int.from_bytes(probe.uc.mem_read(DATA + 0x1000 * i, 8), "little") for i in range(64)]
    assert stored == list(range(1000, 1064))
    assert len(probe.fills) > 64


# Counting


@pytest.mark.parametrize("count", range(1, 12))
def test_count_is_exact_inside_and_across_blocks(probe: Probe, count: int) -> None:
    probe.write(a64.add(1, 1, 1), a64.add(2, 2, 1), a64.b(-8))
    probe.uc.reg_write(X1, 0)
    probe.uc.reg_write(X2, 0)
    probe.run(count)
    assert probe.x(X1) == (count + 2) // 3
    assert probe.x(X2) == (count + 1) // 3
    assert probe.pc == CODE + 4 * (count % 3)


def test_wfi_stops_behind_itself(probe: Probe) -> None:
    probe.write(NOP, a64.WFI, NOP)
    assert probe.run(10) == const.UC_ERR_OK
    assert probe.pc == CODE + 8


def test_wfe_does_not_stop(probe: Probe) -> None:
    probe.write(NOP, a64.WFE, NOP)
    probe.run(3)
    assert probe.pc == CODE + 12


# Exceptions


@pytest.mark.parametrize(
    ("word", "number", "offset"),
    [
        (a64.UDF, 1, 0),
        (0xFFFF_FFFF, 1, 0),
        (a64.hvc(1), 1, 0),
        (0xD440_0000, 1, 0),  # HLT #0
        (a64.mrs(1, HCR_EL2), 1, 0),
        (0xD538_CC00, 1, 0),  # MRS X0, ICC_IAR1_EL1
        (a64.svc(1), 2, 4),
        (a64.brk(1), 7, 0),
        (a64.smc(1), 13, 4),
        (a64.ldxr(1, 2), 4, 0),  # misaligned
    ],
)
def test_interrupt_number_and_pc(probe: Probe, word: int, number: int, offset: int) -> None:
    probe.write(NOP, word, NOP)
    probe.uc.reg_write(X2, DATA + 2)
    assert probe.run(10) == const.UC_ERR_OK
    assert probe.interrupts == [(number, CODE + 4 + offset)]
    assert probe.pc == CODE + 4 + offset


def test_nothing_is_vectored(probe: Probe) -> None:
    before = probe.uc.reg_read(PSTATE)
    probe.write(a64.svc(0))
    probe.run(10)
    assert probe.pc == CODE + 4
    assert probe.uc.reg_read(PSTATE) == before
    assert probe.uc.cpr_read(*SPSR_EL1.encoding) == 0


def test_pstate_alone_does_not_change_the_exception_level_but_a_system_register_write_does(
    probe: Probe,
) -> None:
    probe.write(a64.mrs(1, CPACR_EL1), NOP)
    probe.uc.reg_write(PSTATE, 0x3C0)
    probe.run(1)
    assert probe.interrupts == []
    probe.write_system(SPSR_EL1(0))
    probe.run(1)
    assert probe.interrupts == [(1, CODE)]


@pytest.mark.parametrize("pstate", [0x3C0, 0x3C5])
def test_floating_point_is_never_trapped_by_cpacr(probe: Probe, pstate: int) -> None:
    probe.write(a64.fmov(1, 2), NOP)
    probe.uc.reg_write(PSTATE, pstate)
    probe.write_system(CPACR_EL1(0))
    probe.run(2)
    assert probe.interrupts == []


SCR_EL3: Final = (3, 6, 1, 1, 0)


@pytest.mark.parametrize(
    ("scr", "spsr", "pstate"),
    [
        (0, 0x3C0, 0x3C0),
        (0, 0x3C4, 0x10_03C5),
        (0, 0x3C5, 0x10_03C5),
        (1 << 10, 0x3C0, 0x3C0),
        (1 << 10, 0x3C4, 0x3C4),
        (1 << 10, 0x3C5, 0x3C5),
        (1 << 10, 0x3C9, 0x10_03C5),
    ],
)
def test_eret_to_el1_is_illegal_unless_scr_el3_says_aarch64(
    probe: Probe, scr: int, spsr: int, pstate: int
) -> None:
    probe.write(NOP, a64.ERET, NOP, NOP)
    probe.uc.cpr_write(*SCR_EL3, scr)
    probe.write_system(ELR_EL1(CODE + 8))
    probe.write_system(SPSR_EL1(spsr))
    probe.run(3)
    assert (probe.pc, probe.uc.reg_read(PSTATE)) == (CODE + 12, pstate)


def test_illegal_state_is_not_noticed(probe: Probe) -> None:
    probe.write(NOP, NOP)
    probe.uc.reg_write(PSTATE, 0x10_03C5)
    probe.write_system(SPSR_EL1(0))
    probe.run(2)
    assert probe.interrupts == []
