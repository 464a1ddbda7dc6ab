/*
 * Remap a page and rewrite a function, with all of the maintenance, and look whether it worked.
 *
 * Watch: every round moves a virtual page to other memory (TLBI VAE1), and stores a new
 *        instruction (DC CVAU, DSB, IC IVAU, DSB, ISB). Then it reads the page and calls the
 *        function. Old contents end it with `STALE PAGE` and exit code 4, old code with
 *        `STALE CODE` and exit code 5. In the middle it makes a function in a page of data,
 *        which the hypervisor makes executable at the first call (instruction abort, permission).
 */
#include "firmware.h"

#define TABLES UNTOUCHED
#define PAGES (UNTOUCHED + 0x100000)
#define NEW_CODE (UNTOUCHED + 0x200000)
#define VA 0x80000000
#define ROUNDS 4

enum { STALE_PAGE = 4, STALE_CODE };

typedef uint64_t function(void);

__asm__(".section .text.patched, \"ax\"\n" /* a page of its own */
        "        .balign 4096\n"
        "patched: mov     w0, #0\n"
        "         ret\n"
        "        .balign 4096\n"
        "        .previous");
extern uint64_t patched(void);

static void expect(uint64_t got, uint64_t expected, const char *what, unsigned code) {
    if (got == expected)
        return;
    puts(what);
    quit(code);
}

static void remap(uint64_t *descriptor, uint64_t page) {
    *descriptor = 0; /* break before make */
    __asm__ volatile("dsb ishst\n"
                     "tlbi vae1, %0\n"
                     "dsb ish\n"
                     "isb" ::"r"((uint64_t)VA >> 12) : "memory");
    *descriptor = page | MAP_DATA | DESC_PAGE;
    __asm__ volatile("dsb ishst\n"
                     "isb" ::: "memory");
}

static void write_code(void *address, unsigned result) {
    uint32_t *code = address;
    code[0] = 0x52800000 | result << 5; /* mov w0, #result */
    code[1] = 0xd65f03c0;               /* ret */
    sync_instructions(code, 8);
}

int main(void) {
    for (uint64_t n = 0; n < ROUNDS; n++)
        write64(PAGES + n * PAGE_SIZE, 0x100 + n);
    uint64_t *root = mmu_tables((void *)TABLES);
    mmu_map(root, VA, PAGES, PAGE_SIZE, MAP_DATA);
    uint64_t *descriptor = mmu_descriptor(root, VA);
    mmu_on(root);
    expect(read64(VA), 0x100, "STALE PAGE\n", STALE_PAGE);
    expect(patched(), 0, "STALE CODE\n", STALE_CODE);

    for (uint64_t n = 1; n < ROUNDS; n++) {
        remap(descriptor, PAGES + n * PAGE_SIZE);
        expect(read64(VA), 0x100 + n, "STALE PAGE\n", STALE_PAGE);
        write_code((void *)patched, n);
        expect(patched(), n, "STALE CODE\n", STALE_CODE);
        if (n == ROUNDS / 2) {
            write_code((void *)NEW_CODE, 42);
            expect(((function *)NEW_CODE)(), 42, "STALE CODE\n", STALE_CODE);
        }
    }
    print("%u rounds\n", ROUNDS - 1ul);
    pass();
}
