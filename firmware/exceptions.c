/* Exceptions taken to EL1: handlers that a guest installs, and the report of all others. */
#include "firmware.h"

enum { QUIT_EXCEPTION = 99 }; /* exit code of a guest that took an exception it did not expect */

struct caught caught;

static handler *handlers[4];

void on_exception(enum kind kind, handler *handler) { handlers[kind] = handler; }

bool record_and_skip(struct frame *frame) {
    unsigned class = exception_class(frame->esr);
    caught.count++;
    caught.esr = frame->esr;
    caught.elr = frame->elr;
    caught.far = frame->far;
    if (class == EC_IABT_CUR || class == EC_IABT_LOW)
        frame->elr = frame->x[30]; /* the target has no next instruction: back to the caller */
    else if (class != EC_SVC64)
        frame->elr += 4;           /* SVC alone already returns behind itself */
    return true;
}

/* One line with all that is needed to find the cause. */
static _Noreturn void report(const struct frame *frame) {
    static unsigned depth; /* an exception in here leads to here again, but not for ever */
    depth++;
    if (depth == 1)
        print("FAIL: exception vector=%u ESR=%x ELR=%x FAR=%x SPSR=%x LR=%x\n", frame->vector,
              frame->esr, frame->elr, frame->far, frame->spsr, frame->x[30]);
    else if (depth == 2)
        puts("FAIL: exception in the report of an exception\n");
    quit(QUIT_EXCEPTION);
}

void handle_exception(struct frame *frame) {
    handler *handler = handlers[frame->vector & 3];
    if (!handler || !handler(frame))
        report(frame);
}

void leave_el0(struct frame *frame, uint64_t result) {
    extern const char el0_left[];
    frame->elr = (uint64_t)el0_left;
    frame->spsr = 0x3c5; /* EL1h, D A I F masked */
    frame->x[0] = result;
}
