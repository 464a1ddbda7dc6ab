"""The firmware, through small guests that are built and run on the spot."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from guests.catalogue import GUESTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.guests.conftest import Run

pytestmark = pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed")
UNTOUCHED = 0x4100_0000


@pytest.fixture
def run_source(boot: Callable[..., Run], tmp_path: Path) -> Callable[..., Run]:
    """Build and run a source text."""

    def run(text: str, status: int = 0) -> Run:
        source = tmp_path / "mine.c"
        source.write_text(text)
        return boot(str(source), status=status)

    return run


def guest(body: str, before: str = "") -> str:
    return f'#include "firmware.h"\n{before}\nint main(void) {{ {body} }}\n'


def test_the_example_of_the_page_about_guests_does_what_it_says(
    run_source: Callable[..., Run],
) -> None:
    text = (GUESTS.parent / "docs" / "guests.md").read_text()
    run = run_source(text.partition("```c\n")[2].partition("```")[0])
    assert run.console == "PASS\n"
    assert run.aborts(UNTOUCHED, 0x1000) == [f"write translation L2 {UNTOUCHED:#x}"]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ('"%s %c%%", "a", (uint64_t)\'b\'', "a b%"),
        ('"%d %d", 0x8000000000000000ul, -7l', "-9223372036854775808 -7"),
        ('"%u %u", 0ul, ~0ul', "0 18446744073709551615"),
        ('"%x %x", 0ul, ~0ul', "0x0 0xffffffffffffffff"),
    ],
)
def test_print_knows_its_formats(
    run_source: Callable[..., Run], arguments: str, printed: str
) -> None:
    assert run_source(guest(f"print({arguments}); quit(0);")).console == printed


def test_an_unknown_format_fails_the_guest(run_source: Callable[..., Run]) -> None:
    run = run_source(guest('print("%f", 1ul); pass();'), status=1)
    assert run.console == "FAIL: print: unknown format\n"


def test_fail_prints_why_and_exits_with_1(run_source: Callable[..., Run]) -> None:
    assert run_source(guest('fail("why");'), status=1).console == "FAIL: why\n"


def test_a_comparison_that_fails_prints_both_values(run_source: Callable[..., Run]) -> None:
    run = run_source(guest('check_equal("x", 1, 1); check_equal("y", 16, 2); pass();'), status=1)
    assert run.console == "FAIL: y: got 0x10, expected 0x2\n"


def test_returning_0_from_main_is_a_pass(run_source: Callable[..., Run]) -> None:
    assert run_source(guest("return 0;")).console == "PASS\n"


def test_returning_anything_else_is_the_exit_code(run_source: Callable[..., Run]) -> None:
    assert run_source(guest("return 5;"), status=5).console == ""


def test_an_exception_without_handler_is_reported_in_one_line(
    run_source: Callable[..., Run],
) -> None:
    run = run_source(guest('__asm__ volatile("brk #0x123"); pass();'), status=99)
    line, end, rest = run.console.partition("\n")
    assert (end, rest) == ("\n", "")
    assert line.startswith("FAIL: exception vector=4 ESR=0xf2000123 ELR=0x4008")


def test_an_exception_in_the_report_itself_ends_the_guest(run_source: Callable[..., Run]) -> None:
    # The frame's first part, with x30, lies on a page that is not mapped.
    body = """
        uint64_t *root = mmu_tables((void *)UNTOUCHED), va = 0x80000000;
        mmu_map(root, va + PAGE_SIZE, UNTOUCHED + BLOCK_SIZE, PAGE_SIZE, MAP_DATA);
        mmu_on(root);
        handle_exception((struct frame *)(va + PAGE_SIZE - 0x100));"""
    run = run_source(guest(body, "void handle_exception(struct frame *);"), status=99)
    assert run.console == "FAIL: exception in the report of an exception\n"


def test_a_handler_may_change_registers_and_where_to_continue(
    run_source: Callable[..., Run],
) -> None:
    handler = "static bool h(struct frame *f) { f->x[7] = 42; f->elr += 8; return true; }"
    body = """
        on_exception(SYNC, h);
        register uint64_t x7 __asm__("x7") = 1;
        __asm__ volatile("udf #0\\n mov x7, #2" : "+r"(x7));
        check_equal("x7", x7, 42); pass();"""
    assert run_source(guest(body, handler)).console == "PASS\n"


def test_all_registers_survive_an_exception(run_source: Callable[..., Run]) -> None:
    numbers = [*range(18), *range(19, 29)]
    fill = "\\n".join(f"mov x{n}, #{n + 100}" for n in numbers)
    add = "\\n".join(f"sub x{n}, x{n}, #{n + 100}\\n orr x30, x30, x{n}" for n in numbers)
    clobbers = ", ".join(f'"x{n}"' for n in numbers)
    body = f"""
        on_exception(SYNC, record_and_skip);
        uint64_t different;
        __asm__ volatile("{fill}\\n msr nzcv, x0\\n udf #0\\n mov x30, xzr\\n {add}\\n mov %0, x30"
                         : "=r"(different) : : {clobbers}, "x30", "cc", "memory");
        check_equal("difference", different, 0);
        check_equal("exceptions", caught.count, 1); pass();"""
    assert run_source(guest(body)).console == "PASS\n"


def test_mmu_map_uses_blocks_where_it_can_and_pages_elsewhere(
    run_source: Callable[..., Run],
) -> None:
    body = """
        uint64_t *root = mmu_tables((void *)UNTOUCHED);
        uint64_t va = 0x80000000, pa = UNTOUCHED + BLOCK_SIZE;
        mmu_map(root, va - PAGE_SIZE + BLOCK_SIZE, pa - PAGE_SIZE, BLOCK_SIZE + 2 * PAGE_SIZE,
                MAP_DATA);
        uint64_t *level2 = (uint64_t *)(root[2] & ~0xffful);
        check_equal("page before", level2[0] & 3, DESC_TABLE);
        check_equal("block", level2[1], pa | MAP_DATA | DESC_BLOCK);
        check_equal("page behind", *mmu_descriptor(root, va + 2 * BLOCK_SIZE),
                    (pa + BLOCK_SIZE) | MAP_DATA | DESC_PAGE);
        mmu_on(root);
        write64(va + 2 * BLOCK_SIZE - 8, 7);
        mmu_off();
        check_equal("memory", read64(pa + BLOCK_SIZE - 8), 7);
        pass();"""
    assert run_source(guest(body)).console == "PASS\n"


def test_code_and_data_attributes_are_enforced_by_stage_1(run_source: Callable[..., Run]) -> None:
    body = """
        uint64_t *root = mmu_tables((void *)UNTOUCHED), va = 0x80000000;
        mmu_map(root, va, UNTOUCHED + BLOCK_SIZE, PAGE_SIZE, MAP_CODE);
        mmu_map(root, va + PAGE_SIZE, UNTOUCHED + BLOCK_SIZE, PAGE_SIZE, MAP_DATA);
        mmu_on(root);
        on_exception(SYNC, record_and_skip);
        write64(va, 1);
        check_equal("write to code", fault_status(caught.esr), FSC_PERMISSION + 3);
        ((void (*)(void))(va + PAGE_SIZE))();
        check_equal("fetch from data", fault_status(caught.esr), FSC_PERMISSION + 3);
        check_equal("its class", exception_class(caught.esr), EC_IABT_CUR);
        check_equal("faults", caught.count, 2);
        pass();"""
    assert run_source(guest(body)).console == "PASS\n"


def test_leaving_el0_restores_what_the_caller_keeps(run_source: Callable[..., Run]) -> None:
    before = """
        __asm__(".section .text.task, \\"ax\\"\\n task: mov x19, #0\\n mov x29, #0\\n svc #0\\n"
                ".previous");
        extern const char task[];
        static bool h(struct frame *f) { leave_el0(f, f->spsr); return true; }"""
    body = """
        on_exception(SYNC, h);
        uint64_t kept, spsr;
        __asm__ volatile("mov x19, #77\\n mov x0, %2\\n mov x1, xzr\\n mov x2, xzr\\n"
                         "bl enter_el0\\n mov %0, x19\\n mov %1, x0"
                         : "=&r"(kept), "=&r"(spsr) : "r"(task)
                         : "x0", "x1", "x2", "x9", "x19", "x30", "memory");
        check_equal("x19", kept, 77);
        check_equal("mode of the task", spsr & 0xf, 0);
        pass();"""
    assert run_source(guest(body, before)).console == "PASS\n"


def test_memory_functions_copy_and_set_any_alignment_and_size(
    run_source: Callable[..., Run],
) -> None:
    body = """
        char *a = (char *)UNTOUCHED, *b = (char *)UNTOUCHED + 0x1000;
        for (unsigned n = 0; n < 64; n++) a[n] = (char)(n + 1);
        memcpy(b + 3, a + 1, 21);
        for (unsigned n = 0; n < 64; n++)
            check_equal("copied", (uint8_t)b[n], n >= 3 && n < 24 ? n - 1 : 0);
        memset(b + 8, 0x5a, 16); memset(b + 25, 0xff, 3);
        for (unsigned n = 0; n < 64; n++)
            check_equal("set", (uint8_t)b[n],
                        n >= 8 && n < 24 ? 0x5a : n >= 25 && n < 28 ? 0xff
                        : n >= 3 && n < 8 ? n - 1 : 0);
        pass();"""
    assert run_source(guest(body)).console == "PASS\n"


ALARM = """
#define RTC 0x09010000
enum { DR = 0x00, MR = 0x04, IMSC = 0x10, ICR = 0x1c, ALARM = 34 };
static volatile uint64_t rings;
static void ring(unsigned intid) {
    check_equal("interrupt", intid, ALARM);
    write32(RTC + ICR, 1);
    rings++;
}
"""


def test_the_alarm_of_the_clock_wakes_a_guest_that_waits_for_nothing_else(
    run_source: Callable[..., Run],
) -> None:
    run = run_source(
        guest(
            """
            gic_init();
            on_interrupt(ring);
            gic_enable(ALARM);
            uint32_t start = read32(RTC + DR);
            uint64_t ticks = counter();
            write32(RTC + IMSC, 1);
            write32(RTC + MR, start + 5);
            while (!rings) {
                wfi();
                irq_on();
                isb();
                irq_off();
            }
            check(counter() - ticks >= 4 * counter_frequency(), "the counter is behind");
            print("%u s\\n", (uint64_t)(read32(RTC + DR) - start));
            quit(0);
            """,
            ALARM,
        )
    )
    assert run.console == "5 s\n"
