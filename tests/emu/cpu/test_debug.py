"""Breakpoints, watchpoints and software step, with guest code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.maintenance import DC
from emu.arch.address import PA
from emu.arch.registers.debug import (
    DBGBCR_EL1,
    DBGBVR_EL1,
    DBGPRCR_EL1,
    DBGWCR_EL1,
    DBGWVR_EL1,
    MDSCR_EL1,
    OSDLR_EL1,
    OSLAR_EL1,
    BreakpointControl,
    WatchpointControl,
)
from emu.arch.registers.exceptions import (
    ELR_EL1,
    ELR_EL2,
    ESR_EL1,
    FAR_EL1,
    HPFAR_EL2,
    SPSR_EL1,
    SPSR_EL2,
)
from emu.arch.registers.identification import CTR_EL0
from emu.arch.registers.translation import CONTEXTIDR_EL1, SCTLR_EL1, TCR_EL1
from emu.arch.registers.virtualization import MDCR_EL2
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, DATA, EL0T, EL1H, S1_RW, S1_USER, VECTORS, Bare, Taken, Trap

if TYPE_CHECKING:
    from emu.arch.fields import SystemRegister

SS: Final = 1 << 21
D: Final = 1 << 9
EL1_UNMASKED: Final = EL1H & ~D
EL1_STEP: Final = EL1_UNMASKED | SS
EL0_STEP: Final = EL0T | SS
BREAKPOINT_LOW, BREAKPOINT_CUR = 0xC200_0022, 0xC600_0022
STEP_LOW, STEP_CUR = 0xCA00_0022, 0xCE00_0022
WATCH_LOW, WATCH_CUR = 0xD200_0022, 0xD600_0022
ISV, EX, CM, WNR = 1 << 24, 1 << 6, 1 << 8, 1 << 6
HVC_7: Final = 0x5A00_0007
DAIFCLR_D: Final = 0xD503_48FF
DAIFSET_D: Final = 0xD503_48DF
LOAD, STORE = 1, 2


def breakpoint_at(
    bare: Bare, va: int, number: int = 0, value: int | None = None, **fields: int
) -> None:
    """Enable a breakpoint, of EL0 and EL1 unless told otherwise."""
    control = BreakpointControl.build(**{"E": 1, "BAS": 0xF, "PMC": 3, **fields})
    bare.pe.write(DBGBVR_EL1[number](va if value is None else value))
    bare.pe.write(DBGBCR_EL1[number](control))


def watch(bare: Bare, va: int, number: int = 0, **fields: int) -> None:
    """Enable a watchpoint of a doubleword, of EL0 and EL1 unless told otherwise."""
    control = WatchpointControl.build(**{"E": 1, "BAS": 0xFF, "PAC": 3, "LSC": 3, **fields})
    bare.pe.write(DBGWVR_EL1[number](va))
    bare.pe.write(DBGWCR_EL1[number](control))


def unlock(bare: Bare, **mdscr: int) -> None:
    """Clear the OS lock and set fields of MDSCR_EL1."""
    bare.pe.write(OSLAR_EL1(0))
    bare.pe.write(MDSCR_EL1.build(**mdscr))


class Debugged(Bare):
    """A machine with stage 1 on, two pages of data, and debug exceptions enabled."""

    def __init__(self) -> None:
        super().__init__()
        self.code(a64.NOP)
        self.data = self.map_ipa(DATA)
        self.set_x(x1=0, x6=0)
        self.map_ipa(DATA + 0x1000)
        self.stage1_on()
        for page in (DATA, DATA + 0x1000):
            self.map_va(page, page, S1_USER)
        unlock(self, MDE=1, KDE=1)

    def word(self, offset: int) -> int:
        """Return eight bytes of the data."""
        return self.memory.read_u64(PA(self.data + offset))


@pytest.fixture
def debugged() -> Debugged:
    """Return a machine to debug."""
    return Debugged()


# Breakpoints


@pytest.mark.parametrize(
    ("pstate", "esr", "offset"),
    [(EL1_UNMASKED, BREAKPOINT_CUR, 0x200), (EL0T, BREAKPOINT_LOW, 0x400)],
)
@pytest.mark.parametrize("number", [0, 5])
def test_breakpoint_comes_before_its_instruction(
    debugged: Debugged, pstate: int, esr: int, offset: int, number: int
) -> None:
    breakpoint_at(debugged, CODE + 8, number)
    debugged.pe.write(FAR_EL1(77))
    taken = debugged.taken_to_el1(a64.NOP, a64.NOP, a64.movz(1, 9), a64.hvc(7), pstate=pstate)
    assert taken == Taken(offset, esr, 77, CODE + 8, pstate)
    assert debugged.x(1) == 0
    assert debugged.pe.retired == 3, "two instructions and the vector's HVC"


def test_breakpoint_on_the_first_instruction_of_a_run(debugged: Debugged) -> None:
    breakpoint_at(debugged, CODE)
    assert debugged.taken_to_el1(a64.NOP, pstate=EL1_UNMASKED).elr == CODE


def test_breakpoint_can_be_set_in_code_that_was_translated_before(debugged: Debugged) -> None:
    program = (a64.NOP, a64.NOP, a64.hvc(7))
    assert debugged.trap(*program, pstate=EL1_UNMASKED).esr == HVC_7
    breakpoint_at(debugged, CODE + 4)
    debugged.start(CODE, EL1_UNMASKED)
    assert debugged.taken_to_el1().elr == CODE + 4
    breakpoint_at(debugged, CODE + 4, E=0)
    debugged.start(CODE, EL1_UNMASKED)
    assert debugged.trap().esr == HVC_7
    breakpoint_at(debugged, CODE + 8)
    debugged.start(CODE, EL1_UNMASKED)
    assert debugged.taken_to_el1().elr == CODE + 8


DISABLED: Final = {
    "PSTATE.D": (EL1H, {}, {}),
    "no KDE": (EL1_UNMASKED, {"KDE": 0}, {}),
    "no MDE": (EL1_UNMASKED, {"MDE": 0}, {}),
    "no MDE at EL0": (EL0T, {"MDE": 0}, {}),
    "not E": (EL0T, {}, {"E": 0}),
    "EL0 only": (EL1_UNMASKED, {}, {"PMC": 2}),
    "EL1 only": (EL0T, {}, {"PMC": 1}),
    "the second halfword": (EL0T, {}, {"BAS": 0xC}),
    "Secure state": (EL0T, {}, {"SSC": 2}),
    "a reserved type": (EL0T, {}, {"BT": 4}),
}


@pytest.mark.parametrize("case", DISABLED)
def test_breakpoint_does_not_match(debugged: Debugged, case: str) -> None:
    pstate, mdscr, fields = DISABLED[case]
    debugged.pe.write(MDSCR_EL1.build(**{"MDE": 1, "KDE": 1, **mdscr}))
    breakpoint_at(debugged, CODE, **fields)
    debugged.code(a64.svc(3))
    debugged.start(CODE, pstate)
    assert debugged.taken_to_el1().esr == 0x5600_0003


def test_el0_needs_no_kde_and_is_not_masked(debugged: Debugged) -> None:
    debugged.pe.write(MDSCR_EL1.build(MDE=1))
    breakpoint_at(debugged, CODE)
    assert debugged.taken_to_el1(a64.NOP, pstate=EL0T | D).esr == BREAKPOINT_LOW


def test_guest_arms_a_breakpoint_and_unmasks_it(debugged: Debugged) -> None:
    unlock(debugged)
    debugged.set_x(x1=CODE + 28, x2=0x1E7, x3=0xA000)
    taken = debugged.taken_to_el1(
        a64.msr(DBGBVR_EL1[2], 1),
        a64.msr(DBGBCR_EL1[2], 2),
        a64.msr(MDSCR_EL1, 3),
        a64.ISB,
        a64.mrs(4, DBGBVR_EL1[2]),
        a64.mrs(5, DBGBCR_EL1[2]),
        DAIFCLR_D,
        a64.movz(6, 1),
        a64.hvc(7),
    )
    assert (taken.esr, taken.elr) == (BREAKPOINT_CUR, CODE + 28)
    assert debugged.x(4) == CODE + 28
    assert debugged.x(5) == 0x1E7
    assert debugged.x(6) == 0
    assert debugged.pe.retired == 8


def test_handler_that_masks_debug_exceptions_goes_on(debugged: Debugged) -> None:
    """Several breakpoints in a row, each with a handler that sets SPSR_EL1.D."""
    handler = (
        a64.add(9, 9, 1),
        a64.mrs(8, SPSR_EL1),
        0xB277_0108,  # ORR X8, X8, #0x200
        a64.msr(SPSR_EL1, 8),
        a64.ERET,
    )
    debugged.code(*handler, at=VECTORS + 0x200)
    for number in range(6):
        breakpoint_at(debugged, CODE + 4 + 4 * number, number)
    debugged.set_x(x9=0)
    words = [DAIFCLR_D] * 8
    assert debugged.trap(*words, a64.hvc(7), pstate=EL1_UNMASKED).esr == HVC_7
    assert debugged.x(9) == 6
    assert debugged.pe.retired == 9 + 6 * 5


def test_breakpoint_in_a_loop_stops_each_time(debugged: Debugged) -> None:
    breakpoint_at(debugged, CODE)
    debugged.code(a64.subs(1, 1, 1), a64.cbnz(1, -4), a64.hvc(7))
    debugged.set_x(x1=3)
    for left in (3, 2, 1):
        debugged.start(CODE, EL1_UNMASKED) if left == 3 else None
        assert debugged.taken_to_el1().elr == CODE
        assert debugged.x(1) == left
        debugged.start(CODE, EL1H)
        assert debugged.run(budget=1) is EL2Entry.IRQ
        debugged.start(CODE + 4, EL1_UNMASKED)
    assert debugged.trap().esr == HVC_7


def test_fetch_that_faults_comes_before_a_breakpoint(debugged: Debugged) -> None:
    breakpoint_at(debugged, DATA + 0x1_0000)
    debugged.set_x(x1=DATA + 0x1_0000)
    assert debugged.taken_to_el1(a64.br(1), pstate=EL1_UNMASKED).esr >> 26 == 0x21


def test_breakpoint_comes_before_an_alignment_fault_of_its_instruction(bare: Bare) -> None:
    bare.map_ipa(DATA)
    bare.change_hcr(DC=0)  # Device memory: every access is watched
    unlock(bare, MDE=1, KDE=1)
    breakpoint_at(bare, CODE)
    bare.set_x(x2=DATA + 1)
    assert bare.taken_to_el1(a64.ldr(1, 2), pstate=EL1_UNMASKED).esr == BREAKPOINT_CUR
    breakpoint_at(bare, CODE, E=0)
    bare.start(CODE, EL1_UNMASKED)
    assert bare.taken_to_el1().esr >> 26 == 0x25


def test_linked_breakpoint_wants_the_context(debugged: Debugged) -> None:
    breakpoint_at(debugged, 0, 4, value=0xABCDEF, BT=3)
    breakpoint_at(debugged, CODE, BT=1, LBN=4)
    assert debugged.trap(a64.NOP, a64.hvc(7), pstate=EL1_UNMASKED).esr == HVC_7
    debugged.pe.write(CONTEXTIDR_EL1(0xABCDEF))
    debugged.start(CODE, EL1_UNMASKED)
    assert debugged.taken_to_el1().elr == CODE


def test_context_breakpoint_matches_every_instruction(debugged: Debugged) -> None:
    breakpoint_at(debugged, 0, 5, value=7, BT=2)
    debugged.set_x(x1=7)
    taken = debugged.taken_to_el1(a64.NOP, a64.msr(CONTEXTIDR_EL1, 1), a64.NOP, pstate=EL1_UNMASKED)
    assert (taken.esr, taken.elr) == (BREAKPOINT_CUR, CODE + 8)


def test_vmid_breakpoint_matches_in_its_vm_only(debugged: Debugged) -> None:
    breakpoint_at(debugged, 0, 5, value=2 << 32, BT=8)
    assert debugged.trap(a64.NOP, a64.hvc(7), pstate=EL1_UNMASKED).esr == HVC_7
    debugged.pe.write(debugged.vttbr(vmid=2))
    debugged.start(CODE, EL1_UNMASKED)
    assert debugged.taken_to_el1().elr == CODE


@pytest.mark.parametrize("lock", [OSLAR_EL1(1), OSDLR_EL1(1)])
def test_lock_keeps_debug_exceptions_away(debugged: Debugged, lock: SystemRegister) -> None:
    breakpoint_at(debugged, CODE)
    watch(debugged, DATA)
    debugged.set_x(x2=DATA)
    debugged.pe.write(lock)
    assert debugged.trap(a64.ldr(1, 2), a64.hvc(7), pstate=EL1_UNMASKED).esr == HVC_7
    debugged.pe.write(type(lock)(0))
    debugged.start(CODE, EL1_UNMASKED)
    assert debugged.taken_to_el1().esr == BREAKPOINT_CUR


def test_double_lock_needs_power_down_allowed(debugged: Debugged) -> None:
    breakpoint_at(debugged, CODE)
    debugged.pe.write(OSDLR_EL1(1))
    debugged.pe.write(DBGPRCR_EL1(1))
    assert debugged.taken_to_el1(a64.NOP, pstate=EL1_UNMASKED).esr == BREAKPOINT_CUR


def test_brk_is_taken_whatever_is_locked_or_masked(bare: Bare) -> None:
    assert bare.taken_to_el1(a64.brk(3)).esr == 0xF200_0003


# Watchpoints


@pytest.mark.parametrize(
    ("pstate", "esr", "offset"), [(EL1_UNMASKED, WATCH_CUR, 0x200), (EL0T, WATCH_LOW, 0x400)]
)
@pytest.mark.parametrize("number", [0, 3])
def test_watchpoint_comes_before_the_access(
    debugged: Debugged, pstate: int, esr: int, offset: int, number: int
) -> None:
    watch(debugged, DATA + 0x18, number)
    debugged.set_x(x1=5, x2=DATA)
    program = (a64.str_(1, 2, 0x10), a64.str_(1, 2, 0x18), a64.movz(3, 1))
    taken = debugged.taken_to_el1(*program, pstate=pstate)
    assert taken == Taken(offset, esr | WNR, DATA + 0x18, CODE + 4, pstate)
    assert debugged.pe.retired == 2
    assert debugged.word(0x10) == 5
    assert debugged.word(0x18) == 0


ACCESSES: Final = {
    "ldr": (a64.ldr(1, 2), 8, LOAD),
    "ldrb": (a64.ldr(1, 2, 0, 1), 1, LOAD),
    "str w": (a64.str_(1, 2, 0, 4), 4, STORE),
    "ldp": (a64.ldp(1, 3, 2), 16, LOAD),
    "stp": (a64.stp(1, 3, 2), 16, STORE),
    "ldr q": (a64.ldr_q(1, 2), 16, LOAD),
    "str q": (a64.str_q(1, 2), 16, STORE),
    "ldxr": (a64.ldxr(1, 2), 8, LOAD),
    "ldar": (a64.ldar(1, 2), 8, LOAD),
    "stlr": (a64.stlr(1, 2), 8, STORE),
    "ldtr": (a64.ldtr(1, 2), 8, LOAD),
    "sttr": (a64.sttr(1, 2), 8, STORE),
    "ldr post-index": (a64.ldr_post(1, 2, 8), 8, LOAD),
    "str pre-index": (a64.str_pre(1, 2, 0), 8, STORE),
    "dc zva": (DC.ZVA.word(2), 64, STORE),
}


@pytest.mark.parametrize("case", ACCESSES)
def test_each_access_is_compared_with_all_its_bytes(debugged: Debugged, case: str) -> None:
    word, size, kind = ACCESSES[case]
    at = DATA + 0x40
    esr = WATCH_CUR | (WNR if kind == STORE else 0)
    for byte in (0, size - 1):
        watch(debugged, at + byte & -8, BAS=1 << ((at + byte) % 8), LSC=kind)
        debugged.set_x(x2=at)
        taken = debugged.taken_to_el1(word, a64.hvc(7), pstate=EL1_UNMASKED)
        assert (taken.esr, taken.far) == (esr, at + byte)
    for byte, lsc in ((-1, 3), (size, 3), (0, 3 - kind)):
        watch(debugged, at + byte & -8, BAS=1 << ((at + byte) % 8), LSC=lsc)
        debugged.set_x(x2=at)
        assert debugged.trap(word, a64.hvc(7), pstate=EL1_UNMASKED).esr == HVC_7


def test_access_that_crosses_into_a_watched_page(debugged: Debugged) -> None:
    watch(debugged, DATA + 0x1000, BAS=1)
    debugged.set_x(x2=DATA + 0xFFC)
    taken = debugged.taken_to_el1(a64.str_(1, 2), a64.hvc(7), pstate=EL1_UNMASKED)
    assert (taken.esr, taken.far) == (WATCH_CUR | WNR, DATA + 0x1000)


def test_address_mask_watches_a_block(debugged: Debugged) -> None:
    watch(debugged, DATA + 0x800, MASK=11)
    debugged.set_x(x2=DATA)
    taken = debugged.taken_to_el1(
        a64.ldr(1, 2, 0x7F8), a64.ldr(1, 2, 0x1000 - 8), pstate=EL1_UNMASKED
    )
    assert (taken.elr, taken.far) == (CODE + 4, DATA + 0xFF8)


def test_other_accesses_to_the_page_and_fetches_are_made(debugged: Debugged) -> None:
    """The program and its data lie on the watched page."""
    watch(debugged, CODE + 0xF00)
    debugged.map_va(CODE, CODE, S1_RW)
    debugged.set_x(x1=3, x2=CODE, x4=0)
    words = (a64.str_(1, 2, 0x800), a64.ldr(3, 2, 0x800), a64.add(4, 4, 1))
    taken = debugged.taken_to_el1(*words * 5, a64.ldr(3, 2, 0xF00), pstate=EL1_UNMASKED)
    assert (taken.esr, taken.elr) == (WATCH_CUR, CODE + 60)
    assert (debugged.x(3), debugged.x(4)) == (3, 5)
    assert debugged.pe.retired == 16


def test_fetch_from_a_watched_page_opens_it_to_no_access(debugged: Debugged) -> None:
    watch(debugged, CODE + 0xF00)
    debugged.set_x(x2=CODE)
    taken = debugged.taken_to_el1(a64.NOP, a64.ldr(3, 2, 0xF00), pstate=EL1_UNMASKED)
    assert (taken.esr, taken.elr) == (WATCH_CUR, CODE + 4)


def test_watchpoint_is_seen_after_many_other_accesses(debugged: Debugged) -> None:
    watch(debugged, DATA + 0x10)
    debugged.set_x(x2=DATA, x3=20)
    loop = (a64.ldr(1, 2), a64.str_(1, 2, 8), a64.subs(3, 3, 1), a64.cbnz(3, -12))
    taken = debugged.taken_to_el1(*loop, a64.ldr(1, 2, 16), pstate=EL1_UNMASKED)
    assert (taken.elr, taken.far) == (CODE + 16, DATA + 16)
    assert debugged.pe.retired == 81


def test_watchpoint_of_el0_matches_unprivileged_accesses_of_el1_only(debugged: Debugged) -> None:
    watch(debugged, DATA, PAC=2)
    debugged.set_x(x2=DATA)
    taken = debugged.taken_to_el1(a64.ldr(1, 2), a64.ldtr(1, 2), pstate=EL1_UNMASKED)
    assert (taken.esr, taken.elr) == (WATCH_CUR, CODE + 4)


def test_abort_comes_before_the_watchpoint(debugged: Debugged) -> None:
    at = DATA + 0x8000
    watch(debugged, at)
    debugged.map_va(at, at, S1_USER)
    debugged.set_x(x2=at)
    trap = debugged.trap(a64.ldr(1, 2), a64.hvc(7), pstate=EL1_UNMASKED)
    assert trap.esr >> 26 == 0x24
    debugged.map_ipa(at)
    taken = debugged.taken_to_el1()
    assert (taken.esr, taken.far) == (WATCH_CUR, at)


def test_abort_that_is_resolved_in_place_is_followed_by_the_watchpoint(debugged: Debugged) -> None:
    at = DATA + 0x8000
    watch(debugged, at)
    debugged.map_va(at, at, S1_USER)
    debugged.set_x(x2=at)

    def vector() -> bool:
        resolves = debugged.pe.read(HPFAR_EL2) == at >> 8 and not debugged.pe.read(ESR_EL1)
        if resolves:
            debugged.map_ipa(at)
        return resolves

    debugged.pe.el2_vector = vector
    taken = debugged.taken_to_el1(a64.ldr(1, 2), a64.hvc(7), pstate=EL1_UNMASKED)
    assert (taken.esr, taken.far) == (WATCH_CUR, at)


def test_prefetch_and_a_store_exclusive_that_fails_are_no_accesses(debugged: Debugged) -> None:
    watch(debugged, DATA)
    debugged.set_x(x2=DATA, x3=0)
    words = (a64.prfm(2), a64.CLREX, a64.stxr(3, 1, 2), a64.hvc(7))
    assert debugged.trap(*words, pstate=EL1_UNMASKED).esr == HVC_7
    assert debugged.x(3) == 1


def test_exclusive_pair_beside_a_watchpoint_succeeds(debugged: Debugged) -> None:
    watch(debugged, DATA + 8)
    debugged.set_x(x1=6, x2=DATA, x3=9)
    words = (a64.ldxr(4, 2), a64.stxr(3, 1, 2), a64.hvc(7))
    assert debugged.trap(*words, pstate=EL1_UNMASKED).esr == HVC_7
    assert debugged.x(3) == 0


def test_store_exclusive_to_a_watched_address_is_compared(debugged: Debugged) -> None:
    watch(debugged, DATA, LSC=STORE)
    debugged.set_x(x2=DATA)
    taken = debugged.taken_to_el1(a64.ldxr(4, 2), a64.stxr(3, 1, 2), pstate=EL1_UNMASKED)
    assert (taken.esr, taken.elr) == (WATCH_CUR | WNR, CODE + 4)


def test_discarding_a_line_is_a_store_to_it(debugged: Debugged) -> None:
    watch(debugged, DATA + 0x38, LSC=STORE)
    debugged.set_x(x2=DATA + 4)
    words = (DC.CVAC.word(2), DC.IVAC.word(2), a64.hvc(7))
    taken = debugged.taken_to_el1(*words, pstate=EL1_UNMASKED)
    assert taken == Taken(0x200, WATCH_CUR | CM | WNR, DATA + 0x38, CODE + 4, EL1_UNMASKED)


def test_tag_of_an_address_is_not_compared_and_stays_in_far(debugged: Debugged) -> None:
    debugged.pe.write(debugged.pe.read(TCR_EL1).replace(TBI0=1))
    watch(debugged, DATA)
    debugged.set_x(x2=0x5A << 56 | DATA)
    assert debugged.taken_to_el1(a64.ldr(1, 2), pstate=EL1_UNMASKED).far == 0x5A << 56 | DATA


def test_linked_watchpoint_wants_the_context(debugged: Debugged) -> None:
    breakpoint_at(debugged, 0, 4, value=77, BT=3)
    watch(debugged, DATA, WT=1, LBN=4)
    debugged.set_x(x2=DATA)
    assert debugged.trap(a64.ldr(1, 2), a64.hvc(7), pstate=EL1_UNMASKED).esr == HVC_7
    debugged.pe.write(CONTEXTIDR_EL1(77))
    debugged.start(CODE, EL1_UNMASKED)
    assert debugged.taken_to_el1().esr == WATCH_CUR


def test_watchpoint_that_goes_gives_the_page_back(debugged: Debugged) -> None:
    watch(debugged, DATA)
    debugged.set_x(x2=DATA)
    assert debugged.taken_to_el1(a64.ldr(1, 2), a64.hvc(7), pstate=EL1_UNMASKED).far == DATA
    watch(debugged, DATA, E=0)
    debugged.start(CODE, EL1_UNMASKED)
    assert debugged.trap().esr == HVC_7


# Software step


def test_step_of_el0_executes_one_instruction(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    debugged.code(a64.movz(1, 1), a64.movz(1, 2))
    debugged.start(CODE, EL0_STEP)
    taken = debugged.taken_to_el1()
    assert taken == Taken(0x400, STEP_LOW | ISV, 0, CODE + 4, EL0T)
    assert debugged.x(1) == 1


def test_step_is_pending_at_once_without_pstate_ss(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    debugged.code(a64.movz(1, 1))
    debugged.start(CODE, EL0T)
    assert debugged.taken_to_el1() == Taken(0x400, STEP_LOW, 0, CODE, EL0T)
    assert debugged.x(1) == 0


def test_step_of_el1_needs_kde_and_unmasked_d(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    assert debugged.trap(a64.NOP, a64.hvc(7), pstate=EL1_STEP).esr == HVC_7
    unlock(debugged, SS=1, KDE=1)
    debugged.start(CODE, EL1H | SS)
    assert debugged.trap() == Trap(HVC_7, 0, 0, CODE + 8, EL1H)
    debugged.start(CODE, EL1_STEP)
    assert debugged.taken_to_el1() == Taken(0x200, STEP_CUR | ISV, 0, CODE + 4, EL1_UNMASKED)


def test_guest_steps_itself_until_it_masks_debug_exceptions(debugged: Debugged) -> None:
    """As kernels do: the handler sets SPSR_EL1.SS and returns."""
    handler = (
        a64.str_post(30, 10, 8),
        a64.mrs(8, ELR_EL1),
        a64.str_post(8, 10, 8),
        a64.mrs(8, SPSR_EL1),
        0xB26B_0108,  # ORR X8, X8, #1 << 21
        a64.msr(SPSR_EL1, 8),
        a64.ERET,
    )
    debugged.code(*handler, at=VECTORS + 0x200)
    debugged.set_x(x1=0x2001, x10=DATA)
    words = (
        a64.msr(MDSCR_EL1, 1),
        a64.ISB,
        DAIFCLR_D,
        a64.mrs(2, ESR_EL1),
        a64.add(2, 2, 1),
        DAIFSET_D,
        a64.hvc(7),
    )
    assert debugged.trap(*words).esr == HVC_7
    stepped = [debugged.word(16 * n + 8) for n in range(4)]
    assert stepped == [CODE + 12, CODE + 16, CODE + 20, 0]
    assert debugged.x(2) == STEP_CUR + 1, "MRS ESR_EL1 came after the first exception"
    assert debugged.pe.retired == 7 + 3 * 7


def test_eret_sets_ss_where_debug_exceptions_become_enabled(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    debugged.pe.write(SPSR_EL1(EL0_STEP))
    debugged.pe.write(ELR_EL1(CODE + 0x100))
    debugged.code(a64.movz(1, 1), a64.movz(1, 2), at=CODE + 0x100)
    taken = debugged.taken_to_el1(a64.NOP, a64.ERET)
    assert taken == Taken(0x400, STEP_LOW | ISV, 0, CODE + 0x104, EL0T)


def test_eret_with_debug_exceptions_enabled_clears_ss(debugged: Debugged) -> None:
    unlock(debugged, SS=1, KDE=1)
    debugged.pe.write(SPSR_EL1(EL0_STEP))
    debugged.pe.write(ELR_EL1(CODE + 0x100))
    debugged.code(a64.ERET)
    debugged.start(CODE, EL1_STEP)
    taken = debugged.taken_to_el1()
    assert taken == Taken(0x400, STEP_LOW | ISV, 0, CODE + 0x100, EL0T)


def test_step_over_svc_is_pending_on_return(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    debugged.code(a64.svc(5))
    debugged.start(CODE, EL0_STEP)
    assert debugged.taken_to_el1() == Taken(0x400, 0x5600_0005, 0, CODE + 4, EL0T)
    debugged.start(CODE + 4, EL0T)
    assert debugged.taken_to_el1() == Taken(0x400, STEP_LOW, 0, CODE + 4, EL0T)


@pytest.mark.parametrize(("word", "esr"), [(a64.brk(1), 0xF200_0001), (a64.UDF, 0x0200_0000)])
def test_exception_that_returns_to_its_instruction_keeps_ss(
    debugged: Debugged, word: int, esr: int
) -> None:
    unlock(debugged, SS=1)
    debugged.code(word)
    debugged.start(CODE, EL0_STEP)
    assert debugged.taken_to_el1() == Taken(0x400, esr, 0, CODE, EL0_STEP)


def test_trap_to_el2_keeps_ss_and_a_skipped_instruction_is_stepped(
    debugged: Debugged,
) -> None:
    unlock(debugged, SS=1)
    at = DATA + 0x8000
    debugged.map_va(at, at, S1_USER)
    debugged.set_x(x2=at)
    debugged.code(a64.ldr(1, 2), a64.movz(1, 2))
    debugged.start(CODE, EL0_STEP)
    trap = debugged.trap()
    assert (trap.esr >> 26, trap.spsr) == (0x24, EL0_STEP)
    debugged.start(CODE + 4, EL0T)
    assert debugged.taken_to_el1() == Taken(0x400, STEP_LOW, 0, CODE + 4, EL0T)


def test_step_over_a_load_exclusive_says_so(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    debugged.set_x(x2=DATA)
    debugged.code(a64.ldxr(1, 2))
    debugged.start(CODE, EL0_STEP)
    assert debugged.taken_to_el1().esr == STEP_LOW | ISV | EX


def test_step_over_branches_and_trapped_and_emulated_instructions(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    program = {0: a64.b(0x40), 0x40: a64.mrs(1, CTR_EL0), 0x44: a64.cbnz(1, 0x3C)}
    for offset, word in program.items():
        debugged.code(word, at=CODE + offset)
    debugged.pe.write(debugged.pe.read(SCTLR_EL1).replace(UCT=1))
    pcs = []
    pc = CODE
    for _ in range(3):
        debugged.start(pc, EL0_STEP)
        pc = debugged.taken_to_el1().elr
        pcs.append(pc)
    assert pcs == [CODE + 0x40, CODE + 0x44, CODE + 0x80]


def test_step_exception_comes_before_the_fetch_of_the_next_instruction(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    nowhere = DATA + 0x10_0000
    debugged.set_x(x1=nowhere)
    debugged.code(a64.br(1))
    debugged.start(CODE, EL0_STEP)
    assert debugged.taken_to_el1() == Taken(0x400, STEP_LOW | ISV, 0, nowhere, EL0T)


def test_breakpoint_and_watchpoint_of_a_stepped_instruction_keep_ss(debugged: Debugged) -> None:
    unlock(debugged, SS=1, MDE=1)
    breakpoint_at(debugged, CODE)
    watch(debugged, DATA)
    debugged.set_x(x2=DATA)
    debugged.code(a64.ldr(1, 2))
    debugged.start(CODE, EL0_STEP)
    assert debugged.taken_to_el1() == Taken(0x400, BREAKPOINT_LOW, 0, CODE, EL0_STEP)
    breakpoint_at(debugged, CODE, E=0)
    debugged.start(CODE, EL0_STEP)
    assert debugged.taken_to_el1() == Taken(0x400, WATCH_LOW, DATA, CODE, EL0_STEP)
    watch(debugged, DATA + 8)
    debugged.start(CODE, EL0_STEP)
    assert debugged.taken_to_el1() == Taken(0x400, STEP_LOW | ISV, DATA, CODE + 4, EL0T)


def test_virtual_interrupt_before_the_stepped_instruction_keeps_ss(debugged: Debugged) -> None:
    unlock(debugged, SS=1)
    debugged.change_hcr(IMO=1, VI=1)
    debugged.code(a64.NOP)
    unmasked = EL0T & ~0x80
    debugged.start(CODE, unmasked | SS)
    taken = debugged.taken_to_el1()
    assert (taken.vector, taken.elr, taken.spsr) == (0x480, CODE, unmasked | SS)


def test_run_that_ends_between_steps_keeps_the_state(debugged: Debugged) -> None:
    unlock(debugged, SS=1, KDE=1)
    debugged.code(a64.NOP, a64.NOP)
    debugged.start(CODE, EL1_STEP)
    assert debugged.run(budget=1) is EL2Entry.IRQ
    assert (debugged.pe.read(ELR_EL2), debugged.pe.read(SPSR_EL2)) == (CODE + 4, EL1_UNMASKED)
    assert debugged.taken_to_el1() == Taken(0x200, STEP_CUR | ISV, 0, CODE + 4, EL1_UNMASKED)


def test_nothing_steps_while_the_os_lock_is_set(debugged: Debugged) -> None:
    unlock(debugged, SS=1, KDE=1)
    debugged.pe.write(OSLAR_EL1(1))
    assert debugged.trap(a64.NOP, a64.hvc(7), pstate=EL1_STEP).spsr == EL1_UNMASKED


# Debug exceptions that EL2 takes


@pytest.mark.parametrize("control", [MDCR_EL2.build(TDE=1)])
@pytest.mark.parametrize("pstate", [EL0T, EL1H])
def test_el2_takes_debug_exceptions_with_tde(
    debugged: Debugged, control: SystemRegister, pstate: int
) -> None:
    debugged.pe.write(MDSCR_EL1.build(SS=1, MDE=1))
    debugged.pe.write(control)
    debugged.code(a64.NOP, a64.ldr(1, 2))
    debugged.set_x(x2=DATA)
    watch(debugged, DATA)
    breakpoint_at(debugged, CODE + 4)
    debugged.start(CODE, pstate | SS)
    assert debugged.trap() == Trap(STEP_LOW | ISV, 0, 0, CODE + 4, pstate)
    debugged.pe.write(SPSR_EL2(pstate | SS))
    assert debugged.trap() == Trap(BREAKPOINT_LOW, 0, 0, CODE + 4, pstate | SS)
    breakpoint_at(debugged, CODE + 4, E=0)
    assert debugged.trap() == Trap(WATCH_LOW, DATA, 0, CODE + 4, pstate | SS)


def test_step_by_el2_follows_the_guest_into_its_handler(debugged: Debugged) -> None:
    debugged.pe.write(MDSCR_EL1.build(SS=1))
    debugged.pe.write(MDCR_EL2.build(TDE=1))
    debugged.code(a64.svc(1))
    debugged.start(CODE, EL0_STEP)
    trap = debugged.trap()
    assert (trap.esr & ~ISV, trap.elr) == (STEP_LOW, VECTORS + 0x400)


# All of it costs nothing


def test_nothing_is_hooked_or_withheld_unless_armed(debugged: Debugged) -> None:
    debug = debugged.pe.debug
    assert debugged.trap(a64.NOP, a64.hvc(7)).esr == HVC_7
    assert not any((debug.stale, debug.single, debug.addresses, debug.pages))
