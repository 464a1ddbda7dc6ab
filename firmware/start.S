/*
 * Reset: the first instructions of a guest. x0 holds the address of the device tree.
 *
 * `_start` is weak: a guest may bring its own and do without all of this.
 */
    .section .text.start, "ax"
    .weak   _start
    .type   _start, %function
_start:
    adrp    x9, vectors
    add     x9, x9, :lo12:vectors
    msr     vbar_el1, x9
    adrp    x9, __stack_top
    add     x9, x9, :lo12:__stack_top
    mov     sp, x9
    isb

    adrp    x9, __bss_start             // page aligned, and the size a multiple of 16
    adrp    x10, __bss_end
    add     x10, x10, :lo12:__bss_end
1:  cmp     x9, x10
    b.hs    2f
    stp     xzr, xzr, [x9], #16
    b       1b

2:  adrp    x9, device_tree
    str     x0, [x9, :lo12:device_tree]
    bl      main
    cbz     w0, pass
    b       quit

    .section .bss.device_tree, "aw", %nobits
    .global device_tree
    .balign 8
device_tree:
    .skip   8
