/*
 * Load and store across the border of two untouched pages.
 *
 * Watch: stage 1 is on, because unaligned accesses need Normal memory. Each access takes two data
 *        aborts at the same PC: the first reports the address of the access, the second the
 *        first byte of the second page, which is where the access failed.
 */
#include "firmware.h"

#define TABLES UNTOUCHED
#define BORDER(n) (UNTOUCHED + 0x100000 + 2 * (n) * PAGE_SIZE + PAGE_SIZE)

int main(void) {
    mmu_on(mmu_tables((void *)TABLES));

    check_equal("load", read64(BORDER(0) - 4), 0);
    write64(BORDER(1) - 3, 0x8877665544332211);
    write16(BORDER(2) - 1, 0xbbaa);
    uint64_t low = 0x1111, high = 0x2222;
    __asm__ volatile("stp %0, %1, [%2]" ::"r"(low), "r"(high), "r"(BORDER(3) - 8) : "memory");

    check_equal("end of the first page", read32(BORDER(1) - 4), 0x33221100);
    check_equal("start of the second page", read64(BORDER(1)), 0x8877665544);
    check_equal("halfword, first byte", read8(BORDER(2) - 1), 0xaa);
    check_equal("halfword, second byte", read8(BORDER(2)), 0xbb);
    check_equal("pair, first", read64(BORDER(3) - 8), low);
    check_equal("pair, second", read64(BORDER(3)), high);
    print("crossed\n");
    pass();
}
