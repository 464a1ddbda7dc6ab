/*
 * Increment counters with LDXR and STXR on pages that are not mapped yet.
 *
 * Watch: LDXR faults as a read (translation). Because of the dirty log that maps the page without
 *        W, and STXR faults as a write (permission). Both have ISV=0, which does not matter: the
 *        hypervisor maps memory, it emulates nothing. The return from an abort may clear the
 *        exclusive monitor, so that the repeated STXR fails and the loop goes round again;
 *        software must never count on a single try.
 * Run:   --dirty-log
 */
#include "firmware.h"

#define TABLES UNTOUCHED
#define COUNTERS (UNTOUCHED + 0x100000)
#define PAGES 4
#define TIMES 10

/* Return the number of tries that it took. */
static uint64_t increment(uint64_t address) {
    uint64_t value, tries = 0;
    uint32_t failed;
    do {
        __asm__ volatile("ldxr %0, [%2]\n"
                         "add  %0, %0, #1\n"
                         "stxr %w1, %0, [%2]"
                         : "=&r"(value), "=&r"(failed)
                         : "r"(address)
                         : "memory");
        tries++;
    } while (failed);
    return tries;
}

int main(void) {
    uint64_t tries = 0;
    mmu_on(mmu_tables((void *)TABLES)); /* exclusives need Normal memory */
    for (unsigned n = 0; n < TIMES; n++)
        for (unsigned page = 0; page < PAGES; page++)
            tries += increment(COUNTERS + page * PAGE_SIZE);
    for (unsigned page = 0; page < PAGES; page++)
        check_equal("counter", read64(COUNTERS + page * PAGE_SIZE), TIMES);
    print("%u increments in %u tries\n", (uint64_t)TIMES * PAGES, tries);
    pass();
}
