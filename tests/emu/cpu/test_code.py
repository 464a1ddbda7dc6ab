"""Code that changes: maintenance makes it seen, on every PE that it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from emu.arch.a64.maintenance import DC, IC
from emu.arch.a64.tlbi import TLBI
from emu.arch.address import PA
from emu.arch.registers.exceptions import ELR_EL2, SPSR_EL2
from emu.arch.registers.timer import CNTP_CTL_EL0, CNTP_CVAL_EL0
from emu.arch.registers.translation import TCR_EL1
from emu.cpu.pe import EL2Entry
from tests.emu.cpu import a64
from tests.emu.cpu.bare import CODE, DATA, EL1H, Bare

if TYPE_CHECKING:
    from emu.cpu.pe import ProcessingElement

FUNCTION: Final = DATA
RETURN: Final = 0xD65F_03C0
CALL: Final = 0xD63F_0040
"""BLR X2."""


def patch(bare: Bare, *words: int, at: int = FUNCTION) -> None:
    """Write code as another agent would: without telling the PE."""
    bare.code(*words, at=at)


def call(bare: Bare) -> int:
    """Run the function once; it leaves its answer in X5."""
    bare.set_x(x2=FUNCTION)
    bare.start()
    bare.trap()
    return bare.x(5)


@pytest.fixture
def patched(bare: Bare) -> Bare:
    """Return a machine whose function was called when it answered 1, and now answers 2."""
    bare.code(CALL, a64.hvc(0))
    patch(bare, a64.movz(5, 1), RETURN)
    assert call(bare) == 1
    patch(bare, a64.movz(5, 2), RETURN)
    return bare


def test_new_code_may_be_missed_without_maintenance(patched: Bare) -> None:
    assert call(patched) == 1


@pytest.mark.parametrize("operation", [IC.IALLU, IC.IALLUIS])
def test_el2_invalidates_all(patched: Bare, operation: IC) -> None:
    patched.pe.ic(operation)
    assert call(patched) == 2


def test_el2_invalidates_by_address(patched: Bare) -> None:
    pa = patched._code_pages[FUNCTION]
    patched.pe.ic(IC.IVAU, pa, 0x1000)
    assert call(patched) == 2
    assert patched.pe.maintenance["IVAU"] == 64


def test_el2_invalidates_another_address(patched: Bare) -> None:
    patched.pe.ic(IC.IVAU, PA(patched.memory.base + 0x8_0000), 0x1000)
    assert call(patched) == 1


def test_data_maintenance_is_not_enough(patched: Bare) -> None:
    patched.pe.dc(DC.CVAU, patched._code_pages[FUNCTION], 0x1000)
    assert call(patched) == 1


@pytest.mark.parametrize(
    ("pa_offset", "size", "lines"), [(0, 1, 1), (0, 64, 1), (0x3C, 8, 2), (0xFC0, 0x80, 2)]
)
def test_lines_are_counted_by_the_size_in_ctr(
    bare: Bare, pa_offset: int, size: int, lines: int
) -> None:
    bare.pe.dc(DC.CIVAC, PA(bare.memory.base + pa_offset), size)
    assert bare.pe.maintenance["CIVAC"] == lines


@pytest.mark.parametrize("operation", [IC.IALLU, IC.IALLUIS, IC.IVAU])
def test_guest_that_writes_code_and_invalidates_runs_it(bare: Bare, operation: IC) -> None:
    patch(bare, a64.movz(5, 1), RETURN)
    program = (
        CALL,
        a64.add(6, 5, 0),
        a64.str_(1, 2, 0, 4),
        DC.CVAU.word(2),
        operation.word(2),
        a64.ISB,
        CALL,
        a64.hvc(0),
    )
    bare.set_x(x1=a64.movz(5, 2), x2=FUNCTION)
    bare.trap(*program)
    assert (bare.x(6), bare.x(5)) == (1, 2)
    assert bare.pe.retired == 8 + 4
    assert bare.pe.maintenance == {"CVAU": 1, operation.name: 1}


def test_new_system_instruction_is_intercepted(bare: Bare) -> None:
    patch(bare, a64.NOP, RETURN)
    bare.code(CALL, a64.hvc(0))
    call(bare)
    patch(bare, a64.mrs(5, TCR_EL1), RETURN)
    bare.pe.ic(IC.IALLUIS)
    bare.change_hcr(TRVM=1)
    bare.set_x(x2=FUNCTION)
    bare.start()
    assert bare.trap().esr >> 26 == 0x18


def test_vanished_system_instruction_is_no_longer_intercepted(bare: Bare) -> None:
    bare.change_hcr(TRVM=1)
    patch(bare, a64.mrs(5, TCR_EL1), RETURN)
    bare.code(CALL, a64.hvc(0))
    bare.set_x(x2=FUNCTION)
    bare.start()
    assert bare.trap().esr >> 26 == 0x18
    patch(bare, a64.movz(5, 4), RETURN)
    bare.pe.ic(IC.IALLUIS)
    assert call(bare) == 4


def test_one_page_at_two_addresses_is_intercepted_at_both(bare: Bare) -> None:
    bare.change_hcr(TRVM=1)
    patch(bare, a64.mrs(5, TCR_EL1), RETURN)
    bare.map_ipa(FUNCTION + 0x1000, bare._code_pages[FUNCTION])
    bare.code(CALL, a64.hvc(0))
    for address in (FUNCTION, FUNCTION + 0x1000, FUNCTION):
        bare.set_x(x2=address)
        bare.start()
        trap = bare.trap()
        assert (trap.esr >> 26, trap.elr) == (0x18, address)


def test_other_page_at_an_address_is_scanned(bare: Bare) -> None:
    bare.change_hcr(TRVM=1)
    patch(bare, a64.movz(5, 3), RETURN)
    patch(bare, a64.mrs(5, TCR_EL1), RETURN, at=FUNCTION + 0x1000)
    bare.code(CALL, a64.hvc(0))
    assert call(bare) == 3
    bare.map_ipa(FUNCTION, bare._code_pages[FUNCTION + 0x1000])
    bare.pe.tlbi(TLBI.ALLE1IS)
    bare.start()
    assert bare.trap().esr >> 26 == 0x18


def test_code_of_another_context_at_the_same_address(bare: Bare) -> None:
    """Switching back and forth between two pages at one address runs each page's own code."""
    bare.change_hcr(TRVM=1)
    bare.code(CALL, a64.hvc(0))
    patch(bare, a64.movz(5, 3), RETURN)
    patch(bare, a64.mrs(5, TCR_EL1), RETURN, at=FUNCTION + 0x1000)
    pages = [bare._code_pages[FUNCTION + 0x1000 * i] for i in range(2)]
    for page, ec in ((0, 0x16), (1, 0x18), (0, 0x16), (1, 0x18)):
        bare.map_ipa(FUNCTION, pages[page])
        bare.pe.tlbi(TLBI.ALLE1IS)
        bare.set_x(x2=FUNCTION)
        bare.start()
        assert bare.trap().esr >> 26 == ec


# Other PEs


def run_on(pe: ProcessingElement, x2: int) -> int:
    """Call the function on a PE and return its answer."""
    pe.write_x(2, x2)
    pe.write(ELR_EL2(CODE))
    pe.write(SPSR_EL2(EL1H))
    pe.run(100)
    return pe.read_x(5)


@pytest.mark.parametrize(("operation", "seen"), [(IC.IALLU, 1), (IC.IALLUIS, 2), (IC.IVAU, 2)])
def test_shareable_operations_reach_the_other_pes(operation: IC, seen: int) -> None:
    bare = Bare(pe_count=2)
    bare.code(CALL, a64.hvc(0))
    patch(bare, a64.movz(5, 1), RETURN)
    first, second = bare.machine.pes
    assert [run_on(pe, FUNCTION) for pe in (first, second)] == [1, 1]
    patch(bare, a64.movz(5, 2), RETURN)
    pa = bare._code_pages[FUNCTION] if operation.by_va else None
    first.ic(operation, pa)
    assert [run_on(first, FUNCTION), run_on(second, FUNCTION)] == [2, seen]


@pytest.mark.parametrize(("operation", "seen"), [(IC.IALLU, 1), (IC.IALLUIS, 2), (IC.IVAU, 2)])
def test_operations_of_the_guest_reach_the_other_pes(operation: IC, seen: int) -> None:
    bare = Bare(pe_count=2)
    bare.code(CALL, a64.hvc(0))
    patch(bare, a64.movz(5, 1), RETURN)
    _, second = bare.machine.pes
    assert run_on(second, FUNCTION) == 1
    bare.set_x(x1=a64.movz(5, 2), x2=FUNCTION)
    bare.code(a64.str_(1, 2, 0, 4), operation.word(2), a64.hvc(0), at=DATA + 0x2000)
    bare.start(DATA + 0x2000)
    bare.trap()
    assert run_on(second, FUNCTION) == seen


def test_pes_share_memory_and_keep_registers_apart() -> None:
    bare = Bare(pe_count=2)
    first, second = bare.machine.pes
    page = bare.map_ipa(DATA)
    bare.code(a64.str_(1, 2), a64.hvc(0))
    bare.code(a64.ldr(5, 2), a64.hvc(0), at=DATA + 0x1000)
    first.write_x(1, 0x1234)
    run_on(first, DATA)
    assert bare.memory.read_u64(page) == 0x1234
    second.write_x(2, DATA)
    second.write(ELR_EL2(DATA + 0x1000))
    second.write(SPSR_EL2(EL1H))
    second.run(10)
    assert second.read_x(5) == 0x1234
    assert first.read_x(5) != 0x1234
    assert (first.retired, second.retired) == (2, 2)


def test_exclusive_pair_fails_when_another_pe_stored_in_between() -> None:
    bare = Bare(pe_count=2)
    first, second = bare.machine.pes
    page = bare.map_ipa(DATA)
    bare.code(a64.ldxr(1, 2), a64.add(1, 1, 1), a64.stxr(3, 1, 2), a64.hvc(0))
    for pe in (first, second):
        pe.write_x(2, DATA)
        pe.write(ELR_EL2(CODE))
        pe.write(SPSR_EL2(EL1H))
    first.run(2)
    second.run(100)
    first.run(100)
    assert bare.memory.read_u64(page) == 1
    assert (first.read_x(3), second.read_x(3)) == (1, 0)


def test_exclusive_pair_fails_across_an_entry_to_el2(bare: Bare) -> None:
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    bare.trap(a64.ldxr(1, 2), a64.hvc(0), a64.stxr(3, 1, 2), a64.hvc(1))
    bare.trap()
    assert bare.x(3) == 1


PAIR = (a64.ldxr(1, 2), a64.add(1, 1, 1), a64.stxr(3, 1, 2), a64.hvc(1))


@pytest.mark.parametrize("turn", [1, 2])
def test_exclusive_pair_succeeds_in_turns_between_which_nothing_happens(
    bare: Bare, turn: int
) -> None:
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    bare.code(*PAIR)
    bare.start()
    while bare.pe.run(turn) is EL2Entry.IRQ:
        pass
    assert bare.x(3) == 0


def test_exclusive_pair_fails_if_el2_changes_a_register_between_two_turns(bare: Bare) -> None:
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    bare.code(*PAIR)
    bare.start()
    bare.pe.run(2)
    bare.pe.write_x(20, 1)  # as it does to run another guest meanwhile
    bare.pe.run(10)
    assert bare.x(3) == 1


def test_exclusive_pair_fails_if_a_timer_interrupts(bare: Bare) -> None:
    bare.map_ipa(DATA)
    bare.set_x(x2=DATA)
    bare.code(a64.ldxr(1, 2), *[a64.NOP] * 20, a64.stxr(3, 1, 2), a64.hvc(1))
    bare.start()
    bare.pe.write(CNTP_CVAL_EL0(1))
    bare.pe.write(CNTP_CTL_EL0(1))
    bare.pe.interrupt_on_timers(virtual=False, physical=True)
    assert bare.pe.run(100) is EL2Entry.IRQ
    assert bare.pe.retired == 16
    bare.pe.interrupt_on_timers(virtual=False, physical=False)
    bare.pe.run(100)
    assert bare.x(3) == 1
