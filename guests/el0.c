/*
 * Run a task at EL0 and take its system calls, aborts and bad instructions at EL1.
 *
 * Watch: no exception here reaches the hypervisor. SVC, BRK, undefined instructions and stage-1
 *        faults all go to EL1, with EC 0x24 and 0x20 instead of 0x25 and 0x21 for aborts
 *        that come from EL0. At EL2 there are only first touches of pages, the console,
 *        and the four register writes that turn stage 1 on.
 */
#include "firmware.h"

#define TABLES UNTOUCHED
#define VA_CODE 0x80000000
#define VA_STACK 0x80010000
#define VA_NOTHING 0xc0000000

__asm__(".section .text.task, \"ax\"\n" /* runs at VA_CODE, at EL0 */
        "        .balign 4096\n"
        "task:    stp     x0, x1, [sp, #-16]!\n"
        "         svc     #1\n"
        "         ldr     x1, [x0]\n"           /* x0 = VA_NOTHING: not mapped at level 1 */
        "         mov     x1, #0x40000000\n"
        "         str     x1, [x1]\n"           /* a block of EL1, at level 1 */
        "         blr     x0\n"
        "         mrs     x1, sctlr_el1\n"      /* a register of EL1 */
        "         brk     #2\n"
        "         ldp     x0, x1, [sp], #16\n"
        "         svc     #3\n"
        "        .balign 4096\n"
        "        .previous");
extern const char task[];

static const struct {
    const char *what;
    uint64_t esr;
} expected[] = {
    {"BRK at EL1", 0xf2000009},         {"UDF at EL1", 0x02000000},
    {"SVC at EL0", 0x56000001},         {"load, not mapped", 0x92000005},
    {"store, not permitted", 0x9200004d}, {"fetch, not mapped", 0x82000005},
    {"MRS of an EL1 register", 0x02000000}, {"BRK at EL0", 0xf2000002},
    {"SVC at the end", 0x56000003},
};
#define EXPECTED (sizeof expected / sizeof expected[0])

static bool trap(struct frame *frame) {
    check(caught.count < EXPECTED, "one exception too many");
    check_equal(expected[caught.count].what, frame->esr, expected[caught.count].esr);
    record_and_skip(frame);
    if (caught.count == EXPECTED)
        leave_el0(frame, frame->x[0]);
    return true;
}

int main(void) {
    uint64_t *root = mmu_tables((void *)TABLES);
    mmu_map(root, VA_CODE, (uint64_t)task, PAGE_SIZE, MAP_USER_CODE);
    mmu_map(root, VA_STACK, UNTOUCHED + 0x100000, PAGE_SIZE, MAP_USER_DATA);
    mmu_on(root);
    on_exception(SYNC, trap);

    __asm__ volatile("brk #9");
    __asm__ volatile("udf #0");
    uint64_t result = enter_el0(VA_CODE, VA_STACK + PAGE_SIZE, VA_NOTHING);

    check_equal("exceptions", caught.count, EXPECTED);
    check_equal("result of the task", result, VA_NOTHING);
    print("%u exceptions\n", caught.count);
    pass();
}
