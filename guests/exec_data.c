/*
 * Run code from pages of data: a page becomes executable at the first fetch, not before.
 *
 * Watch: the first page is written (data abort, translation: mapped without X), then fetched
 *        from (instruction abort, permission): the hypervisor makes the instruction cache
 *        coherent and adds X. Writing it again and running the new code takes no further abort,
 *        W and X are both there. The second page is fetched from before anything else: a single
 *        instruction abort (translation) maps it with X; it holds zeros, so that EL1 takes an
 *        undefined instruction exception, which the hypervisor never sees.
 */
#include "firmware.h"

#define CODE UNTOUCHED
#define ZEROS (UNTOUCHED + 0x10000)

typedef uint64_t function(void);

static void write_code(uint64_t address, unsigned result) {
    write32(address, 0x52800000 | result << 5); /* mov w0, #result */
    write32(address + 4, 0xd65f03c0);           /* ret */
    sync_instructions((void *)address, 8);
}

static bool undefined(struct frame *frame) {
    check_equal("exception class", exception_class(frame->esr), EC_UNKNOWN);
    check_equal("ELR", frame->elr, ZEROS);
    frame->x[0] = 99;
    frame->elr = frame->x[30]; /* return in its stead */
    return true;
}

int main(void) {
    function *code = (function *)CODE, *zeros = (function *)ZEROS;

    write_code(CODE, 42);
    check_equal("code from a data page", code(), 42);
    write_code(CODE, 43);
    check_equal("code written again", code(), 43);

    on_exception(SYNC, undefined);
    check_equal("fetch from a page of zeros", zeros(), 99);
    print("data pages run\n");
    pass();
}
