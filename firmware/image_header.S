/* The 64-byte header of an arm64 `Image` (Linux, Documentation/arch/arm64/booting.rst). */
    .section .head, "ax"
    b       _start                      // code0
    .word   0                           // code1
    .quad   0                           // text_offset from a 2 MiB aligned base
    .quad   __image_size                // in memory: with .bss and the stack
    .quad   0xa                         // flags: little endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"                   // magic
    .word   0
