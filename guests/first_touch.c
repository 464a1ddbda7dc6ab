/*
 * Read and write pages of RAM that nobody touched before.
 *
 * Watch: stage 2 starts empty. Each of the 8 pages that are only written takes one data abort
 *        (translation, level 3, WnR=1). Each of the 8 pages that are only read takes one with
 *        WnR=0. The third 8 are read first and written later: the read maps the shared zero
 *        page without W, so the write takes a permission fault, which gives the page memory of
 *        its own. The last pass over all 24 pages takes no abort at all.
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
        check_equal("page before its first write", read64(both(n)), 0);
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
