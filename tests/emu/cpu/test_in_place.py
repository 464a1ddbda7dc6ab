"""A trap handled while the engine waits leaves no trace that leaving it would not leave.

Random programs over memory that EL2 maps when it is touched, read-only first, and with registers
that EL2 emulates, run in three ways: with EL2's vector resolving in place, leaving run() for
every trap, and in budgets of one to seven instructions. Registers, memory, the traps and the
time of each must be equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.arch.a64.maintenance import DC
from emu.arch.a64.tlbi import TLBI
from emu.arch.a64.tlbi_arguments import tlbi_ipa
from emu.arch.address import IPA, PA
from emu.arch.esr.classes import ExceptionClass
from emu.arch.registers.control import TPIDR_EL1
from emu.arch.registers.exceptions import ELR_EL2, ESR_EL2, FAR_EL2, HPFAR_EL2, SPSR_EL2, VBAR_EL1
from emu.arch.registers.identification import CSSELR_EL1, CTR_EL0, MIDR_EL1
from emu.arch.registers.timer import CNTVCT_EL0
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64, tables
from tests.emu.cpu.bare import EL1H, S1_RW, S2_NORMAL, SCTLR_RES1, Bare, ipa_page

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DATA: Final = 0x6000_0000
DATA_PAGES: Final = 16
BASES: Final = {20: 0x2000, 21: 0x3FF8, 22: 0x4FFC, 23: 0x5800}
"""Registers and the offsets into the data that they start with."""
CODE: Final = 0x6100_0000
CODE_PAGES: Final = 2
HANDLER: Final = 0x6200_0000
PERMISSION: Final = 0x0C
HVC: Final = 0x16
SYS64: Final = 0x18
DONE: Final = 0x7FF


class Seen(NamedTuple):
    """One trap as EL2 sees it, and when."""

    esr: int
    far: int
    hpfar: int
    elr: int
    spsr: int
    retired: int


class Outcome(NamedTuple):
    """All that a run leaves behind."""

    traps: list[Seen]
    registers: list[int]
    memory: bytes
    retired: int
    elr: int


class Lazy:
    """A machine whose EL2 maps pages when they are touched."""

    def __init__(self, program: Sequence[int], start: int, *, stage1: bool) -> None:
        self.bare = bare = Bare()
        self.backing = {}
        for base, count in ((DATA, DATA_PAGES), (CODE, CODE_PAGES), (HANDLER, 1)):
            for i in range(count):
                self.backing[base + 0x1000 * i] = bare.frame()
        for i, page in enumerate(p for b, p in self.backing.items() if b < CODE):
            bare.memory.write(page, bytes((i * 37 + j) & 0xFF for j in range(0x1000)))
        for i, word in enumerate((*program, a64.hvc(DONE))):
            self._write(start + 4 * i, word)
        for i, word in enumerate((a64.add(9, 9, 1), a64.ERET)):
            self._write(HANDLER + 0x200 + 4 * i, word)
        bare.pe.write(VBAR_EL1(HANDLER))
        bare.change_hcr(TID2=1)
        if stage1:
            self._turn_on_stage1()
        for n, offset in BASES.items():
            bare.pe.write_x(n, DATA + offset)
        bare.start(start)
        self.traps: list[Seen] = []

    def _write(self, ipa: int, word: int) -> None:
        pa = PA(self.backing[ipa & -0x1000] | ipa & 0xFFF)
        self.bare.memory.write(pa, word.to_bytes(4, "little"))

    def _turn_on_stage1(self) -> None:
        """Map all flat; the tables themselves are lazy, too."""
        bare = self.bare
        for page in self.backing:
            bare.map_va(page, page, S1_RW | (0 if page < CODE else tables.S1_READ_ONLY))
        named = {bare.s1.root, *(bare.s1.address_of(page) & -0x1000 for page in self.backing)}
        named |= {bare.s1.address_of(page, 2) & -0x1000 for page in self.backing}
        for table in named:
            self.backing[table] = PA(bare.s2.read(table) & tables.ADDRESS)
            bare.s2.unmap(table)
        bare.pe.write(SCTLR_RES1.replace(M=1))

    def handle(self) -> bool:
        """Serve one trap as EL2; return whether the guest goes on."""
        bare = self.bare
        pe = bare.pe
        esr, far = int(pe.read(ESR_EL2)), int(pe.read(FAR_EL2))
        hpfar = int(pe.read(HPFAR_EL2))
        self.traps.append(
            Seen(esr, far, hpfar, int(pe.read(ELR_EL2)), int(pe.read(SPSR_EL2)), pe.retired)
        )
        if esr >> 26 == HVC:
            return esr & 0xFFFF != DONE
        if esr >> 26 == SYS64:
            self._emulate(esr)
            return True
        permission = esr & 0x3C == PERMISSION
        ipa = far & -0x1000 if permission else ipa_page(hpfar)
        writable = permission or bool(esr & 1 << 6)
        rights = tables.S2_RW if writable else tables.S2_READ
        bare.map_ipa(ipa, self.backing[ipa], S2_NORMAL | rights)
        if permission:
            pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(IPA(ipa), 3))
            pe.tlbi(TLBI.VMALLE1IS)
        return True

    def _emulate(self, esr: int) -> None:
        """Read CTR_EL0 as what no instruction has left there; keep CSSELR_EL1 in TPIDR_EL1."""
        pe = self.bare.pe
        rt = esr >> 5 & 0x1F
        if esr & 1:
            pe.write_x(rt, len(self.traps) << 32)
        else:
            pe.write(TPIDR_EL1(pe.read_x(rt)))
        pe.write(ELR_EL2(pe.read(ELR_EL2) + 4))

    def outcome(self) -> Outcome:
        """Return what is left."""
        bare = self.bare
        return Outcome(
            self.traps,
            [bare.x(n) for n in range(31)],
            b"".join(bare.memory.read(pa, 0x1000) for pa in self.backing.values()),
            bare.pe.retired,
            int(bare.pe.read(ELR_EL2)),
        )


def in_place(guest: Lazy) -> Outcome:
    """Let the vector resolve every trap."""
    guest.bare.pe.el2_vector = guest.handle
    assert guest.bare.pe.run(100_000) is EL2Entry.TRAP
    return guest.outcome()


def leaving(guest: Lazy) -> Outcome:
    """Leave run() for every trap."""
    while True:
        assert guest.bare.pe.run(100_000) is EL2Entry.TRAP
        if not guest.handle():
            return guest.outcome()


def in_budgets_of(size: int) -> Callable[[Lazy], Outcome]:
    """Return a way of running that stops every ``size`` instructions."""

    def run(guest: Lazy) -> Outcome:
        pe = guest.bare.pe
        while True:
            before = pe.retired
            why = pe.run(size)
            assert pe.retired - before <= size
            if why is EL2Entry.IRQ:
                assert pe.retired - before == size
            elif not guest.handle():
                return guest.outcome()

    return run


def in_place_in_budgets_of(size: int) -> Callable[[Lazy], Outcome]:
    """Return the same with the vector resolving in place."""

    def run(guest: Lazy) -> Outcome:
        guest.bare.pe.el2_vector = guest.handle
        while guest.bare.pe.run(size) is EL2Entry.IRQ:
            pass
        return guest.outcome()

    return run


BASE = st.sampled_from(sorted(BASES))
VALUES = st.integers(1, 8)
SIZES = st.sampled_from([1, 2, 4, 8])
OFFSETS = st.integers(0, 15)
SMALL = st.integers(-16, 15)

INSTRUCTIONS = st.one_of(
    st.builds(
        lambda rt, rn, n, size: a64.ldr(rt, rn, n * size, size), VALUES, BASE, OFFSETS, SIZES
    ),
    st.builds(
        lambda rt, rn, n, size: a64.str_(rt, rn, n * size, size), VALUES, BASE, OFFSETS, SIZES
    ),
    st.builds(a64.ldur, VALUES, BASE, SMALL, SIZES),
    st.builds(a64.stur, VALUES, BASE, SMALL, SIZES),
    st.builds(lambda rn, n: a64.ldp(1, 2, rn, 8 * n), BASE, SMALL),
    st.builds(lambda rt, rn, n: a64.stp(rt, 3, rn, 8 * n), VALUES, BASE, SMALL),
    st.builds(a64.ldr_post, VALUES, BASE, SMALL, SIZES),
    st.builds(a64.ldr_pre, VALUES, BASE, SMALL, SIZES),
    st.builds(a64.str_post, VALUES, BASE, SMALL, SIZES),
    st.builds(a64.str_pre, VALUES, BASE, SMALL, SIZES),
    st.builds(a64.ldr_q, VALUES, BASE),
    st.builds(a64.str_q, VALUES, BASE),
    st.builds(a64.add, VALUES, VALUES, st.integers(0, 9)),
    st.builds(a64.mrs, VALUES, st.just(CNTVCT_EL0)),
    st.builds(a64.mrs, VALUES, st.just(CTR_EL0)),
    st.builds(a64.msr, st.just(CSSELR_EL1), VALUES),
    st.builds(a64.mrs, VALUES, st.just(TPIDR_EL1)),
    st.builds(lambda rn, n: a64.add(rn, rn, n * 256), BASE, st.integers(0, 2)),
    st.builds(DC.ZVA.word, BASE),
    st.builds(DC.CIVAC.word, BASE),
    st.just(a64.svc(0)),
    st.just(a64.hvc(1)),
    st.just(TLBI.VMALLE1.word()),
)


@given(
    body=st.lists(INSTRUCTIONS, min_size=1, max_size=24),
    rounds=st.integers(1, 3),
    offset=st.sampled_from([0, 0xFC0, 0xFF4, 0xFFC]),
    size=st.integers(1, 7),
    stage1=st.booleans(),
)
def test_every_way_of_running_gives_the_same(
    body: list[int], rounds: int, offset: int, size: int, *, stage1: bool
) -> None:
    program = [
        a64.movz(15, rounds),
        *body,
        a64.subs(15, 15, 1),
        a64.cbnz(15, -4 * (len(body) + 1)),
    ]
    ways = (in_place, leaving, in_budgets_of(size), in_place_in_budgets_of(size))
    first, *others = (way(Lazy(program, CODE + offset, stage1=stage1)) for way in ways)
    for other in others:
        assert other == first


@pytest.mark.parametrize("way", [in_place, leaving, in_budgets_of(1), in_budgets_of(3)])
def test_a_program_by_hand(way: Callable[[Lazy], Outcome]) -> None:
    program = (
        a64.ldr(1, 20),
        a64.str_(1, 20, 8),
        a64.svc(0),
        a64.str_(1, 22),
        a64.mrs(2, CNTVCT_EL0),
    )
    outcome = way(Lazy(program, CODE + 0xFF8, stage1=False))
    where = [(trap.esr, trap.elr - CODE, trap.retired) for trap in outcome.traps]
    assert where == [
        (0x8200_0006, 0xFF8, 0),
        (0x93C1_8006, 0xFF8, 0),
        (0x93C1_804F, 0xFFC, 1),
        (0x8200_0007, 0x1000, 2),
        (0x8200_0006, HANDLER + 0x200 - CODE, 3),
        (0x93C1_8047, 0x1004, 5),
        (0x93C1_8047, 0x1004, 5),
        (0x5A00_07FF, 0x1010, 8),
    ]
    assert outcome.retired == 8
    assert outcome.registers[2] == 0
    assert (outcome.elr, outcome.traps[-1].spsr) == (CODE + 0x1010, EL1H)


@pytest.mark.parametrize(
    ("word", "starts"), [(a64.mrs(1, CTR_EL0), 1), (a64.msr(CSSELR_EL1, 1), 4)]
)
def test_only_a_trap_that_changes_the_system_leaves_the_engine(word: int, starts: int) -> None:
    guest = Lazy([word] * 3, CODE, stage1=False)
    engine, started = guest.bare.pe.engine, []
    start = engine.start
    engine.start = lambda pc: started.append(pc) or start(pc)  # type: ignore[method-assign,func-returns-value]  # a spy
    outcome = in_place(guest)
    assert [trap.elr - CODE for trap in outcome.traps] == [0, 0, 4, 8, 16]
    assert [trap.retired for trap in outcome.traps] == [0, 0, 0, 0, 1], "trapped, so not retired"
    assert len(started) == starts


def test_a_library_that_hides_its_functions_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        a64.ldr(1, 20),
        a64.mrs(2, CTR_EL0),
        a64.msr(CSSELR_EL1, 2),
        a64.mrs(3, MIDR_EL1),
        TLBI.VMALLE1.word(),
        a64.str_(1, 20, 8),
    )
    usual = in_place(Lazy(program, CODE, stage1=True))
    monkeypatch.setattr("emu.cpu.engine._leave", None)
    monkeypatch.setattr("emu.cpu.engine._flush_tlb", None)
    assert in_place(Lazy(program, CODE, stage1=True)) == usual
    assert leaving(Lazy(program, CODE, stage1=True)) == usual


@pytest.mark.parametrize("word", [a64.str_(1, 2), DC.ZVA.word(2)], ids=["str", "dc zva"])
def test_refused_access_enters_el2_once(word: int) -> None:
    bare = Bare()
    bare.set_x(x2=0x6000_0000)
    entries: list[int] = []

    def vector() -> bool:
        entries.append(int(bare.pe.read(ESR_EL2)))
        return False

    bare.pe.el2_vector = vector
    assert bare.run(word) is EL2Entry.TRAP
    assert len(entries) == 1


def test_zeroing_that_leaves_the_engine_is_repeated_as_a_whole() -> None:
    bare = Bare()
    bare.set_x(x2=0x6000_0000, x5=0)

    def vector() -> bool:
        if ESR_EL2(bare.pe.read(ESR_EL2)).EC == HVC:
            return False
        bare.map_ipa(0x6000_0000)
        bare.pe.write_x(5, bare.pe.read_x(5) + 1)  # a changed register leaves the engine
        return True

    bare.pe.el2_vector = vector
    bare.run(DC.ZVA.word(2), a64.add(6, 5, 0), a64.hvc(1))
    assert (bare.x(5), bare.x(6), bare.pe.retired) == (1, 1, 3)


class Forgetful(Lazy):
    """A machine whose EL2 takes the code away whenever it has mapped data."""

    def handle(self) -> bool:
        goes_on = super().handle()
        if self.traps[-1].esr >> 26 == int(ExceptionClass.DABT_LOW):
            self.bare.s2.unmap(CODE)
            self.bare.pe.tlbi(TLBI.IPAS2E1IS, tlbi_ipa(IPA(CODE), 3))
            self.bare.pe.tlbi(TLBI.VMALLE1IS)
        return goes_on


@pytest.mark.parametrize("way", [in_place, leaving, in_budgets_of(2)])
def test_instruction_whose_page_is_gone_is_fetched_again(way: Callable[[Lazy], Outcome]) -> None:
    program = (a64.add(1, 1, 1), a64.ldr(2, 20), a64.add(1, 1, 1))
    outcome = way(Forgetful(program, CODE, stage1=False))
    assert [(trap.esr >> 26, trap.elr - CODE) for trap in outcome.traps] == [
        (0x20, 0),
        (0x24, 4),
        (0x20, 4),
        (0x16, 16),
    ]
