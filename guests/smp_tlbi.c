/*
 * Change mappings and code that another CPU uses.
 *
 * Watch: CPU 1 has a page in its TLB and a function in its instruction cache. CPU 0 breaks the
 *        mapping, broadcasts TLBI VAE1IS, and makes another one; CPU 1 then reads the other page
 *        without any maintenance of its own. After new code, DC CVAU and IC IVAU, which are
 *        broadcast as well, CPU 1 executes an ISB and runs the new code. No stage-2 abort happens
 *        in any round: stage 2 has not changed.
 * Run:   --smp 2
 */
#include "firmware.h"

enum { ROUNDS = 8 };
#define TABLES UNTOUCHED
#define PAGES (UNTOUCHED + 0x200000ul) /* two pages that take turns behind one VA */
#define WINDOW (PAGES + 0x400000)    /* the VA; not mapped by a block, so that it can be remapped */

__asm__(".section .text.patched, \"ax\"\n" /* a page of its own */
        "        .balign 4096\n"
        "patched: mov     w0, #0\n"
        "         ret\n"
        "        .balign 4096\n"
        "        .previous");
extern uint64_t patched(void);

static uint64_t *root;
static uint64_t asked, answered, seen, result;

static void look(unsigned cpu) {
    (void)cpu;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        await(&asked, round);
        isb();
        seen = read64(WINDOW);
        result = patched();
        publish(&answered, round);
    }
}

static void remap(uint64_t page) {
    uint64_t *descriptor = mmu_descriptor(root, WINDOW);
    *descriptor = 0; /* break before make */
    __asm__ volatile("dsb ishst\n"
                     "tlbi vae1is, %0\n"
                     "dsb ish" ::"r"(WINDOW >> 12) : "memory");
    *descriptor = page | MAP_DATA | DESC_PAGE;
    __asm__ volatile("dsb ishst\n"
                     "isb" ::: "memory");
}

int main(void) {
    root = mmu_tables((void *)TABLES);
    root[1] = 0; /* the second GiB by pages and small blocks, but for the window */
    mmu_map(root, RAM, RAM, WINDOW - RAM, MAP_ALL);
    mmu_map(root, WINDOW, PAGES, PAGE_SIZE, MAP_DATA);
    for (unsigned n = 0; n < 2; n++)
        write64(PAGES + n * PAGE_SIZE, n);
    mmu_on(root);
    check_equal("CPU_ON", cpu_on(1, look), 0);

    for (uint64_t round = 1; round <= ROUNDS; round++) {
        remap(PAGES + round % 2 * PAGE_SIZE);
        *(uint32_t *)patched = 0x52800000 | (uint32_t)round << 5; /* mov w0, #round */
        sync_instructions((const void *)patched, 4);
        publish(&asked, round);
        await(&answered, round);
        check_equal("the page behind the window", seen, round % 2);
        check_equal("the code", result, round);
    }
    print("%u rounds\n", (uint64_t)ROUNDS);
    pass();
}
