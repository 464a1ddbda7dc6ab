/*
 * Touch memory by pages and by blocks, then use all of it again: what a wrong descriptor would hit.
 *
 * Watch: the first pass takes every abort that there is: three pages of data and one of code, a
 *        block of data and one of code. Then comes one TLBI VMALLE1, by which the second pass is
 *        found: it takes no abort, whatever TLBs have forgotten. It reads what the first pass
 *        wrote, writes something else, reads that, and calls both functions. One page is only
 *        written and read again: who redirects it elsewhere is not noticed by the guest.
 * Run:   --slot id=1,gpa=0x50000000,size=4M,backing=2M
 */
#include "firmware.h"

#define READ_ONLY UNTOUCHED
#define DATA (UNTOUCHED + 1 * PAGE_SIZE)
#define SCRAP (UNTOUCHED + 2 * PAGE_SIZE) /* what it holds does not matter from pass to pass */
#define CODE (UNTOUCHED + 3 * PAGE_SIZE)
#define BLOCK 0x50000000ul
#define BLOCK_FAR (BLOCK + 0x155000)
#define BLOCK_CODE (BLOCK + BLOCK_SIZE)

typedef uint64_t function(void);

static void write_code(uint64_t address, unsigned result) {
    write32(address, 0x52800000 | result << 5); /* mov w0, #result */
    write32(address + 4, 0xd65f03c0);           /* ret */
    sync_instructions((void *)address, 8);
}

__attribute__((noinline)) static void use(uint64_t pass) {
    check_equal("page that is only read", read64(READ_ONLY), 0);
    check_equal("page", read64(DATA), pass);
    check_equal("block", read64(BLOCK), pass);
    check_equal("block, far in", read64(BLOCK_FAR), ~pass);
    write64(DATA, pass + 1);
    write64(SCRAP, pass + 1);
    write64(BLOCK, pass + 1);
    write64(BLOCK_FAR, ~(pass + 1));
    check_equal("page written", read64(DATA), pass + 1);
    check_equal("scrap page written", read64(SCRAP), pass + 1);
    check_equal("block written", read64(BLOCK), pass + 1);
    check_equal("code in a page", ((function *)CODE)(), 42);
    check_equal("code in a block", ((function *)BLOCK_CODE)(), 43);
}

int main(void) {
    write64(BLOCK_FAR, ~0ul);
    write_code(CODE, 42);
    write_code(BLOCK_CODE, 43);
    use(0);
    __asm__ volatile("dsb ish\n tlbi vmalle1\n dsb ish\n isb" ::: "memory");
    use(1);
    puts("two passes\n");
    pass();
}
