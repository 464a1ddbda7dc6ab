/* Making new code visible to instruction fetches (Arm ARM B2.7.4, the sequence for one PE). */
#include "firmware.h"

void sync_instructions(const void *code, size_t size) {
    uint64_t ctr = read_sysreg(ctr_el0);
    uint64_t dline = 4ul << (ctr >> 16 & 0xf); /* DminLine: log2 of words */
    uint64_t iline = 4ul << (ctr & 0xf);       /* IminLine */
    uint64_t start = (uint64_t)code, end = start + size;

    for (uint64_t line = start & -dline; line < end; line += dline)
        __asm__ volatile("dc cvau, %0" ::"r"(line) : "memory");
    __asm__ volatile("dsb ish" ::: "memory");
    for (uint64_t line = start & -iline; line < end; line += iline)
        __asm__ volatile("ic ivau, %0" ::"r"(line) : "memory");
    __asm__ volatile("dsb ish" ::: "memory");
    isb();
}
