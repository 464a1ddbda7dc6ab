/*
 * Rewrite the guest's own code, with the cache maintenance that the architecture asks for.
 *
 * Watch: stage 1 and the caches are turned on first: four writes to translation registers, which
 *        the hypervisor traps (EC 0x18) until the one that turns the caches on. Every round then
 *        stores one instruction, cleans the data cache to the point of unification (DC CVAU,
 *        DSB), invalidates the instruction cache (IC IVAU, DSB) and resynchronises (ISB); only
 *        now is the new code sure to run. The page is mapped with W and X from its first fetch,
 *        so that no round takes an abort; CTR_EL0, read for the line sizes, traps once a round.
 *        Without the maintenance a machine with real caches runs stale code.
 */
#include "firmware.h"

#define TABLES UNTOUCHED
#define ROUNDS 16

__asm__(".section .text.patched, \"ax\"\n" /* a page of its own */
        "        .balign 4096\n"
        "patched: mov     w0, #0\n"
        "         ret\n"
        "        .balign 4096\n"
        "        .previous");
extern uint64_t patched(void);

int main(void) {
    uint32_t *code = (uint32_t *)patched;

    mmu_on(mmu_tables((void *)TABLES));
    check_equal("code as linked", patched(), 0);
    for (unsigned n = 1; n <= ROUNDS; n++) {
        *code = 0x52800000 | n << 5; /* mov w0, #n */
        sync_instructions(code, sizeof *code);
        check_equal("code as patched", patched(), n);
    }
    print("%u rounds of new code\n", (uint64_t)ROUNDS);
    pass();
}
