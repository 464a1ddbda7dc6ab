/*
 * Read and write pages of RAM that nobody touched before.
 *
 * Watch: each page takes exactly one data abort, a translation fault: at level 2 for the first,
 *        which makes the table for its 2 MiB, at level 3 for the others. WnR=1 for the 8 pages
 *        that are written first, 0 for the 16 that are read first. Eight of those are written
 *        later, without an abort: the host's page is writable, so the read mapped it with W.
 *        The last pass over all pages takes no abort at all.
 */
#include "firmware.h"

#define PAGES 8

static uint64_t written(unsigned n) { return UNTOUCHED + n * PAGE_SIZE; }
static uint64_t read(unsigned n) { return UNTOUCHED + (16 + n) * PAGE_SIZE; }
static uint64_t both(unsigned n) { return UNTOUCHED + (32 + n) * PAGE_SIZE; }

int main(void) {
    for (unsigned n = 0; n < PAGES; n++)
        write64(written(n), n + 1);
    for (unsigned n = 0; n < PAGES; n++)
        check_equal("untouched page", read64(read(n)), 0);
    for (unsigned n = 0; n < PAGES; n++)
        check_equal("page before its write", read64(both(n)), 0);
    for (unsigned n = 0; n < PAGES; n++)
        write64(both(n), ~n);

    for (unsigned n = 0; n < PAGES; n++) {
        check_equal("written page", read64(written(n)), n + 1);
        check_equal("read page", read64(read(n)), 0);
        check_equal("page read, then written", read64(both(n)), ~n);
    }
    print("%u pages touched\n", 3ul * PAGES);
    pass();
}
