/* Stage 1: tables for the 4 KiB granule and 39-bit addresses (levels 1 to 3), on and off. */
#include "firmware.h"

#define ENTRIES 512
#define ADDRESS 0x0000fffffffff000ul /* the output or next-table address of a descriptor */

#define SCTLR_M (1ul << 0)
#define SCTLR_C (1ul << 2)
#define SCTLR_I (1ul << 12)

#define MAIR (0xff00ul) /* index 0 Device-nGnRnE, index 1 Normal write-back */
#define TCR                                                                   \
    (25ul          /* T0SZ: 39-bit addresses, so that walks start at level 1 */ \
     | 1ul << 8    /* IRGN0 write-back */                                     \
     | 1ul << 10   /* ORGN0 write-back */                                     \
     | 3ul << 12   /* SH0 inner shareable */                                  \
     | 1ul << 23   /* EPD1: no walks through TTBR1 */                         \
     | 2ul << 32)  /* IPS 40 bits */

static char *pool_next;

static uint64_t *take_table(void) {
    char *table = pool_next;
    pool_next += PAGE_SIZE;
    return memset(table, 0, PAGE_SIZE);
}

uint64_t *mmu_tables(void *pool) {
    pool_next = pool;
    uint64_t *root = take_table();
    root[0] = 0x00000000ul | MAP_DEVICE | DESC_BLOCK;
    root[1] = 0x40000000ul | MAP_ALL | DESC_BLOCK;
    return root;
}

static uint64_t *next_table(uint64_t *entry) {
    if (!(*entry & 1))
        *entry = (uint64_t)take_table() | DESC_TABLE;
    check(*entry & 2, "mmu_map: a block is in the way");
    return (uint64_t *)(*entry & ADDRESS);
}

uint64_t *mmu_descriptor(uint64_t *root, uint64_t va) {
    uint64_t *level3 = next_table(next_table(&root[va >> 30]) + (va >> 21) % ENTRIES);
    return level3 + (va >> 12) % ENTRIES;
}

/* Blocks of 2 MiB where both addresses and the rest of the size allow it, pages elsewhere. */
void mmu_map(uint64_t *root, uint64_t va, uint64_t pa, uint64_t size, uint64_t attributes) {
    while (size) {
        uint64_t step = PAGE_SIZE;
        if (!((va | pa) % BLOCK_SIZE) && size >= BLOCK_SIZE) {
            step = BLOCK_SIZE;
            next_table(&root[va >> 30])[(va >> 21) % ENTRIES] = pa | attributes | DESC_BLOCK;
        } else {
            *mmu_descriptor(root, va) = pa | attributes | DESC_PAGE;
        }
        va += step, pa += step, size -= step;
    }
    dsb();
}

void mmu_flush(void) {
    dsb();
    __asm__ volatile("tlbi vmalle1" ::: "memory");
    dsb();
    isb();
}

void mmu_on(uint64_t *root) {
    write_sysreg(mair_el1, MAIR);
    write_sysreg(tcr_el1, TCR);
    write_sysreg(ttbr0_el1, root);
    mmu_flush();
    write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) | SCTLR_M | SCTLR_C | SCTLR_I);
    isb();
}

void mmu_off(void) {
    write_sysreg(sctlr_el1, read_sysreg(sctlr_el1) & ~(SCTLR_M | SCTLR_C));
    isb();
    mmu_flush();
}
