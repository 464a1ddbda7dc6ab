/*
 * Access a hole with instructions whose abort carries no syndrome (ISV=0).
 *
 * Watch: writeback, pairs, exclusives and SIMD registers: the hypervisor knows the address, but
 *        not which registers to serve. Without --nisv the first of them ends the run as KVM_RUN
 *        does, with ENOSYS. With it each is a KVM_EXIT_ARM_NISV that user space answers by
 *        injecting a synchronous external abort. The guest takes it at EL1: EC 0x25, FSC 0x10,
 *        ELR at the instruction, FAR the address; the base register is as before.
 * Run:   --nisv
 */
#include "firmware.h"

#define SEA_ESR 0x96000010 /* EC 0x25, IL=1, ISS: only the fault status */

static uint64_t tried;

static void verify(const char *instruction, uint64_t at, uint64_t address) {
    tried++;
    check_equal(instruction, caught.count, tried);
    check_equal(instruction, caught.esr, SEA_ESR);
    check_equal(instruction, caught.elr, at);
    check_equal(instruction, caught.far, address);
}

/* x1 = HOLE + 0x100; `offset` is the distance from there to the address that faults. */
#define ABORTS(instruction, offset)                                                    \
    do {                                                                               \
        register uint64_t base __asm__("x1") = HOLE + 0x100;                           \
        uint64_t at;                                                                   \
        __asm__ volatile(".arch_extension simd\n"                                      \
                         "adr %0, 1f\n"                                                \
                         "1: " instruction                                             \
                         : "=&r"(at), "+r"(base)::"x2", "x3", "x4", "memory");         \
        verify(instruction, at, HOLE + 0x100 + (offset));                              \
        check_equal("base register of " instruction, base, HOLE + 0x100);              \
    } while (0)

int main(void) {
    on_exception(SYNC, record_and_skip);
    write_sysreg(cpacr_el1, 3ul << 20); /* FPEN: SIMD is not trapped */
    isb();

    ABORTS("ldr x2, [x1], #8", 0);
    ABORTS("str x2, [x1], #8", 0);
    ABORTS("ldr w2, [x1, #16]!", 16);
    ABORTS("strb w2, [x1, #-1]!", -1);
    ABORTS("ldrsh x2, [x1], #2", 0);
    ABORTS("ldp x2, x3, [x1]", 0);
    ABORTS("stp w2, w3, [x1, #-8]", -8);
    ABORTS("ldpsw x2, x3, [x1], #8", 0);
    ABORTS("ldr q0, [x1, #32]", 32);
    ABORTS("str d0, [x1]", 0);
    ABORTS("ldp q0, q1, [x1]", 0);
    ABORTS("ldxr x2, [x1]", 0);
    ABORTS("ld1 {v0.16b}, [x1]", 0);

    print("%u external aborts\n", caught.count);
    pass();
}
