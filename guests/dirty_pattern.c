/*
 * Draw a picture into the dirty log: write the pages of `#`, read those of `.`.
 *
 * Watch: the slot has a dirty log: a read maps its page without W, and a page is dirty from the
 *        write that mapped it with W. The bitmap of slot 1, sixteen pages a line, is the picture
 *        below: 46 of 128 pages. The second pass writes pages that are dirty already and takes
 *        no abort.
 * Run:   --slot id=1,gpa=0x50000000,size=512K,log
 */
#include "firmware.h"

#define SLOT 0x50000000
#define WIDTH 16
#define HEIGHT 8

static const char picture[] =
    "..####....####.."
    ".##..##..##..##."
    ".##..........##."
    "..####......##.."
    ".....##....##..."
    ".##..##...##...."
    "..####...######."
    "................";

static uint64_t page(unsigned row, unsigned column) {
    return SLOT + (row * WIDTH + column) * PAGE_SIZE;
}

int main(void) {
    uint64_t written = 0;
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned row = 0; row < HEIGHT; row++) {
            for (unsigned column = 0; column < WIDTH; column++) {
                if (picture[row * WIDTH + column] == '#') {
                    write64(page(row, column), row + 1);
                    written++;
                } else {
                    check_equal("page only read", read64(page(row, column)), 0);
                }
            }
        }
    }
    print("%u pages written twice\n", written / 2);
    pass();
}
