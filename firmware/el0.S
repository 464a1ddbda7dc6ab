/*
 * Entering and leaving EL0.
 *
 * enter_el0 keeps the callee-saved registers on the stack of EL1. While EL0 runs, SP_EL1 stays
 * where it is, so that an exception return to el0_left finds them there.
 */
    .section .text.enter_el0, "ax"
    .global enter_el0
enter_el0:                              // x0 entry, x1 stack, x2 what EL0 gets in x0
    stp     x29, x30, [sp, #-96]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    mov     x9, #0x3c0                  // EL0t, D A I F masked
    msr     elr_el1, x0
    msr     sp_el0, x1
    msr     spsr_el1, x9
    mov     x0, x2
    eret

    .global el0_left
el0_left:                               // x0 the result, put there by leave_el0
    ldp     x27, x28, [sp, #80]
    ldp     x25, x26, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x21, x22, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #96
    ret
