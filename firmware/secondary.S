/* The first instructions of a CPU that cpu_on has started. x0 holds its struct start. */
    .section .text.secondary, "ax"
    .global secondary
    .type   secondary, %function
secondary:
    adrp    x9, vectors
    add     x9, x9, :lo12:vectors
    msr     vbar_el1, x9
    ldr     x9, [x0]                    // start.stack
    mov     sp, x9
    isb
    b       start_secondary
