/*
 * Move a virtual page to other memory, with the break-before-make that the architecture asks for.
 *
 * Watch: the descriptor goes from valid to invalid, TLBI VAE1, then to valid with another address.
 *        In between the page is gone: the access takes a translation fault at EL1 (level 3).
 *        The hypervisor sees nothing but first touches of pages. A TLB that keeps entries until
 *        they are invalidated shows a missing TLBI as old contents.
 */
#include "firmware.h"

#define TABLES UNTOUCHED
#define PAGES (UNTOUCHED + 0x100000)
#define VA 0x80000000
#define ROUNDS 4

static void flush_page(uint64_t va) {
    dsb();
    __asm__ volatile("tlbi vae1, %0" ::"r"(va >> 12) : "memory");
    dsb();
    isb();
}

int main(void) {
    for (uint64_t n = 0; n < ROUNDS; n++)
        write64(PAGES + n * PAGE_SIZE, 0x100 + n);

    uint64_t *root = mmu_tables((void *)TABLES);
    mmu_on(root);
    on_exception(SYNC, record_and_skip);
    for (uint64_t n = 0; n < ROUNDS; n++) {
        mmu_map(root, VA, PAGES + n * PAGE_SIZE, PAGE_SIZE, MAP_DATA);
        isb();
        check_equal("page", read64(VA), 0x100 + n);

        *mmu_descriptor(root, VA) = 0;
        flush_page(VA);
        read64(VA);
        check_equal("faults", caught.count, n + 1);
        check_equal("fault status", fault_status(caught.esr), FSC_TRANSLATION + 3);
    }
    print("%u mappings\n", (uint64_t)ROUNDS);
    pass();
}
