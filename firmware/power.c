/* How a guest ends: exit code to the test device, then PSCI SYSTEM_OFF. */
#include "firmware.h"

#define PSCI_SYSTEM_OFF 0x84000008

uint64_t hvc(uint64_t function, uint64_t x1, uint64_t x2, uint64_t x3) {
    register uint64_t r0 __asm__("x0") = function;
    register uint64_t r1 __asm__("x1") = x1;
    register uint64_t r2 __asm__("x2") = x2;
    register uint64_t r3 __asm__("x3") = x3;
    __asm__ volatile("hvc #0" : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3)::"memory");
    return r0;
}

_Noreturn void quit(unsigned code) {
    write32(TEST_DEVICE, code);
    hvc(PSCI_SYSTEM_OFF, 0, 0, 0);
    for (;;) /* a hypervisor without PSCI */
        wfi();
}

_Noreturn void pass(void) {
    puts("PASS\n");
    quit(0);
}

_Noreturn void fail(const char *why) {
    puts("FAIL: ");
    puts(why);
    putc('\n');
    quit(1);
}

void check(bool ok, const char *why) {
    if (!ok)
        fail(why);
}

void check_equal(const char *what, uint64_t got, uint64_t expected) {
    if (got == expected)
        return;
    print("FAIL: %s: got %x, expected %x\n", what, got, expected);
    quit(1);
}
