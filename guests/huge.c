/*
 * Touch memory whose host backing consists of 2 MiB pages.
 *
 * Watch: an abort maps a whole 2 MiB block at level 2. The first fetch maps the block that holds
 *        all of the image, stack included: no other abort there. Each of the four blocks used
 *        here takes one abort for its 16 pages, always a translation fault at level 2; there is
 *        no level 3 table. With 4 KiB backing the same guest takes 64, all but 4 at level 3.
 * Run:   --backing 2M
 */
#include "firmware.h"

#define BLOCKS 4
#define PAGES 16

static uint64_t page(unsigned block, unsigned n) {
    return UNTOUCHED + block * BLOCK_SIZE + n * (BLOCK_SIZE / PAGES);
}

int main(void) {
    for (unsigned block = 0; block < BLOCKS; block++)
        for (unsigned n = 0; n < PAGES; n++)
            write64(page(block, n), block << 8 | n);
    for (unsigned block = 0; block < BLOCKS; block++)
        for (unsigned n = 0; n < PAGES; n++)
            check_equal("page", read64(page(block, n)), block << 8 | n);
    print("%u pages in %u blocks\n", (uint64_t)BLOCKS * PAGES, (uint64_t)BLOCKS);
    pass();
}
