/*
 * Compute a checksum of some data and print it: a result that a fault can make wrong, unnoticed.
 *
 * Watch: the sum is 0x4aea9163b6dc6370 on every machine. A bit that flips in the data, or in a
 *        register while the sum is made, gives another sum, and the guest still says PASS.
 *        checksum_twice is the same program with everything held and computed twice.
 */
#include "firmware.h"

#define TABLES UNTOUCHED
#define WORDS 64
#define DETECTED 3 /* exit code */

#ifndef COPIES
#define COPIES 1
#endif

static uint64_t data[COPIES][WORDS];

/* Fletcher's sum over words: the order counts, too. */
__attribute__((noinline)) static uint64_t checksum(const uint64_t *words) {
    uint64_t low = 1, high = 0;
    for (unsigned n = 0; n < WORDS; n++) {
        low += words[n];
        high += low;
    }
    return high << 32 ^ high >> 32 ^ low;
}

__attribute__((noinline)) static void fill(uint64_t *words) {
    uint64_t state = 0x9e3779b97f4a7c15;
    for (unsigned n = 0; n < WORDS; n++) {
        state ^= state << 13; /* Marsaglia's xorshift */
        state ^= state >> 7;
        state ^= state << 17;
        words[n] = state;
    }
}

int main(void) {
    uint64_t sum[COPIES];

    mmu_on(mmu_tables((void *)TABLES));
    for (unsigned copy = 0; copy < COPIES; copy++) {
        fill(data[copy]);
        sum[copy] = checksum(data[copy]);
        __asm__ volatile("" ::: "memory"); /* the second one is not taken from the first */
    }
    for (unsigned copy = 1; copy < COPIES; copy++) {
        if (sum[copy] != sum[0]) {
            puts("DETECTED\n");
            quit(DETECTED);
        }
    }
    print("%x\n", sum[0]);
    pass();
}
