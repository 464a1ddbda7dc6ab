"""What emu/cpu relies on and Unicorn does not promise.

Each test pins one measured fact, with Unicorn's own binding. When an upgrade fails one of
them, the code that depends on it must be looked at before the pin is moved.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from unicorn import arm64_const as reg
from unicorn import unicorn_const as const
from unicorn.unicorn_py3.arch.arm64 import UcAArch64
from unicorn.unicorn_py3.unicorn import UcError

from emu.arch.registers.control import CPACR_EL1
from emu.arch.registers.exceptions import ELR_EL1, SPSR_EL1
from emu.arch.registers.identification import MIDR_EL1
from emu.arch.registers.virtualization import HCR_EL2
from tests.emu.cpu import a64

if TYPE_CHECKING:
    from collections.abc import Callable

    from emu.arch.fields import SystemRegister

CODE: Final = 0x10_0000
DATA: Final = 0x11_0000
SIZE: Final = 0x10_0000
NOP: Final = a64.NOP
LDR: Final = a64.ldr(1, 2)
STR: Final = a64.str_(1, 2)
X1, X2, X3 = reg.UC_ARM64_REG_X1, reg.UC_ARM64_REG_X2, reg.UC_ARM64_REG_X3
PC, PSTATE = reg.UC_ARM64_REG_PC, reg.UC_ARM64_REG_PSTATE
FETCH, READ, WRITE = const.UC_MEM_FETCH, const.UC_MEM_READ, const.UC_MEM_WRITE


class Fill(NamedTuple):
    """One call of the fill hook."""

    page: int
    access: int
    pc: int


class Probe:
    """One instance set up as the engine does it, with a fill hook that can refuse pages."""

    def __init__(self, *, page_size: int | None = 4096, exits: bool = True) -> None:
        self.uc = UcAArch64(const.UC_ARCH_ARM64, const.UC_MODE_ARM)
        self.uc.ctl_set_cpu_model(reg.UC_CPU_ARM64_A72)
        if page_size:
            self.uc.ctl_set_page_size(page_size)
        self.uc.ctl_set_tlb_mode(const.UC_TLB_VIRTUAL)
        if exits:
            self.uc.ctl_exits_enabled(True)
            self.uc.ctl_set_exits([])
        self.uc.mem_map(CODE, SIZE)
        self.fills: list[Fill] = []
        self.refused: set[int] = set()
        self.perms = const.UC_PROT_ALL
        self.on_fill: Callable[[int], None] = lambda _page: None
        self.interrupts: list[tuple[int, int]] = []
        self.uc.hook_add(const.UC_HOOK_TLB_FILL, self._fill)
        self.uc.hook_add(const.UC_HOOK_INTR, self._interrupt)

    def _fill(self, uc: UcAArch64, page: int, access: int, result: Any, _data: object) -> bool:  # noqa: ANN401
        self.fills.append(Fill(page, access, uc.reg_read(PC)))
        self.on_fill(page)
        result.paddr = page
        result.perms = self.perms
        return page not in self.refused

    def _interrupt(self, uc: UcAArch64, number: int, _data: object) -> None:
        self.interrupts.append((number, uc.reg_read(PC)))
        uc.emu_stop()

    @property
    def pc(self) -> int:
        """The program counter."""
        return int(self.uc.reg_read(PC))

    def x(self, register: int) -> int:
        """Return a general register."""
        return int(self.uc.reg_read(register))

    def write(self, *words: int, at: int = CODE) -> None:
        """Write code through Unicorn's interface."""
        self.uc.mem_write(at, b"".join(word.to_bytes(4, "little") for word in words))

    def write_system(self, value: SystemRegister) -> None:
        """Write a system register."""
        op0, op1, crn, crm, op2 = value.encoding
        self.uc.cpr_write(op0, op1, crn, crm, op2, int(value))

    def run(self, count: int, pc: int = CODE, until: int = 0) -> int:
        """Run; return the error code."""
        try:
            self.uc.emu_start(pc, until, count=count)
        except UcError as error:
            return int(error.errno)
        return const.UC_ERR_OK


@pytest.fixture
def probe() -> Probe:
    """Return an instance set up as the engine does it."""
    return Probe()


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
    assert probe.uc.cpr_read(*_mrs_order(SPSR_EL1)) == 0


def _mrs_order(register: type[SystemRegister]) -> tuple[int, int, int, int, int]:
    op0, op1, crn, crm, op2 = register.encoding
    return op0, op1, crn, crm, op2


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
