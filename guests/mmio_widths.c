/*
 * Access a device in every width and register form that has a valid syndrome.
 *
 * Watch: each access is one data abort with ISV=1 and one KVM_EXIT_MMIO. The hypervisor never
 *        looks at the instruction: SAS gives the width, SSE sign extension, SF the width of the
 *        register, SRT its number (31 is the zero register: it stores 0, and a load into it is
 *        dropped), AR acquire or release.
 */
#include "firmware.h"

#define PATTERN 0xf1e2d3c4b5a69788ul /* the top bit of every byte is set */

/* x1 = the scratch device, x2 = 1, x3 = -1; x0 all ones before, compared after. */
#define LOAD(instruction, expected)                                                         \
    do {                                                                                    \
        register uint64_t x0 __asm__("x0") = ~0ul;                                          \
        register uint64_t x1 __asm__("x1") = SCRATCH;                                       \
        register uint64_t x2 __asm__("x2") = 1;                                             \
        register uint64_t x3 __asm__("x3") = -1;                                            \
        __asm__ volatile(instruction : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3) : "cc", "memory"); \
        check_equal(instruction, x0, expected);                                             \
    } while (0)

/* The 8 bytes at the device hold PATTERN before; x0 is 0x1122334455667788. */
#define STORE(instruction, expected)                                                        \
    do {                                                                                    \
        write64(SCRATCH, PATTERN);                                                          \
        register uint64_t x0 __asm__("x0") = 0x1122334455667788ul;                          \
        register uint64_t x1 __asm__("x1") = SCRATCH;                                       \
        register uint64_t x2 __asm__("x2") = 1;                                             \
        __asm__ volatile(instruction ::"r"(x0), "r"(x1), "r"(x2) : "memory");               \
        check_equal(instruction, read64(SCRATCH), expected);                                \
    } while (0)

int main(void) {
    write64(SCRATCH, PATTERN);
    write64(SCRATCH + 8, ~PATTERN);

    LOAD("ldrb w0, [x1]", 0x88);
    LOAD("ldrb w0, [x1, #3]", 0xb5);
    LOAD("ldrh w0, [x1, #6]", 0xf1e2);
    LOAD("ldr w0, [x1]", 0xb5a69788);
    LOAD("ldr x0, [x1]", PATTERN);
    LOAD("ldrsb w0, [x1]", 0xffffff88);
    LOAD("ldrsb x0, [x1]", 0xffffffffffffff88);
    LOAD("ldrsh w0, [x1]", 0xffff9788);
    LOAD("ldrsh x0, [x1]", 0xffffffffffff9788);
    LOAD("ldrsw x0, [x1]", 0xffffffffb5a69788);
    LOAD("ldur w0, [x1, #4]", 0xf1e2d3c4);
    LOAD("ldursh x0, [x1, #2]", 0xffffffffffffb5a6);
    LOAD("ldr x0, [x1, x2, lsl #3]", ~PATTERN);
    LOAD("add x1, x1, #8\n ldr w0, [x1, w3, sxtw #2]\n sub x1, x1, #8", 0xf1e2d3c4);
    LOAD("ldar w0, [x1]", 0xb5a69788);
    LOAD("ldarb w0, [x1]", 0x88);
    LOAD("ldtrsw x0, [x1]", 0xffffffffb5a69788);
    LOAD("ldr xzr, [x1]", ~0ul);
    LOAD("mov x0, sp\n ldr wzr, [x1]\n cmp sp, x0\n cset x0, ne", 0); /* 31 is not SP here */

    STORE("strb w0, [x1]", 0xf1e2d3c4b5a69788);
    STORE("strb w0, [x1, #7]", 0x88e2d3c4b5a69788);
    STORE("strh w0, [x1, #2]", 0xf1e2d3c477889788);
    STORE("str w0, [x1, #4]", 0x55667788b5a69788);
    STORE("str x0, [x1]", 0x1122334455667788);
    STORE("sturb w0, [x1, #5]", 0xf1e288c4b5a69788);
    STORE("strh w0, [x1, x2, lsl #1]", 0xf1e2d3c477889788);
    STORE("stlr w0, [x1]", 0xf1e2d3c455667788);
    STORE("sttr x0, [x1]", 0x1122334455667788);
    STORE("str wzr, [x1, #4]", 0x00000000b5a69788);
    STORE("str xzr, [x1]", 0);

    print("all widths and registers\n");
    pass();
}
