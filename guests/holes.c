/*
 * Touch addresses behind which there is neither memory nor a device.
 *
 * Watch: a load is an MMIO exit that user space answers with 0, a store one that it drops. A fetch
 *        cannot be emulated: the guest gets an instruction abort, external (FSC 0x10), with
 *        ELR and FAR at the target. Cache maintenance by address has nothing to do there: the
 *        instruction is skipped without an exit. A stage-1 walk whose level 2 table lies in the
 *        hole becomes an external abort on a walk at level 2 (FSC 0x16), for data and fetch.
 */
#include "firmware.h"

#define TABLES UNTOUCHED
#define VA 0x80000000

static void fetch(uint64_t address) { ((void (*)(void))address)(); }

static void verify(const char *what, uint64_t esr, uint64_t far) {
    static uint64_t expected;
    check_equal(what, caught.count, ++expected);
    check_equal(what, caught.esr, esr);
    check_equal(what, caught.far, far);
}

int main(void) {
    on_exception(SYNC, record_and_skip);

    check_equal("load", read32(HOLE + 4), 0);
    write64(HOLE + 8, ~0ul);
    check_equal("load after a store", read64(HOLE + 8), 0);

    fetch(HOLE + 0x40);
    verify("fetch", 0x86000010, HOLE + 0x40);
    check_equal("ELR of the fetch", caught.elr, HOLE + 0x40);

    __asm__ volatile("dc civac, %0" ::"r"((uint64_t)HOLE) : "memory");
    __asm__ volatile("dc cvac, %0" ::"r"((uint64_t)HOLE + 0x1000) : "memory");
    __asm__ volatile("dc ivac, %0" ::"r"((uint64_t)HOLE + 0x2000) : "memory");
    check_equal("exceptions of cache maintenance", caught.count, 1);

    uint64_t *root = mmu_tables((void *)TABLES);
    root[VA >> 30] = HOLE | DESC_TABLE;
    mmu_on(root);
    read64(VA + 0x18);
    verify("load through a table in a hole", 0x96000016, VA + 0x18);
    write64(VA + 0x20, 0);
    verify("store through a table in a hole", 0x96000016, VA + 0x20);
    fetch(VA + 0x40);
    verify("fetch through a table in a hole", 0x86000016, VA + 0x40);

    print("%u external aborts\n", caught.count);
    pass();
}
