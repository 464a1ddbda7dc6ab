/*
 * Start from an arm64 Image, the format of Linux, and check what the boot protocol promises.
 *
 * Watch: the loader reads the header ("ARM\x64" at offset 56): the image goes to a 2 MiB aligned
 *        base plus text_offset, the device tree outside the memory that image_size reserves.
 *        The first instruction executed is the header's first word, a branch.
 * Format: Image
 */
#include "firmware.h"

extern const char __image_start[], __stack_top[];

static uint32_t big_endian(uint32_t word) { return __builtin_bswap32(word); }

int main(uint64_t tree, uint64_t x1, uint64_t x2, uint64_t x3) {
    uint64_t start = (uint64_t)__image_start, end = (uint64_t)__stack_top;

    check_equal("x1", x1, 0);
    check_equal("x2", x2, 0);
    check_equal("x3", x3, 0);
    check_equal("CurrentEL", read_sysreg(CurrentEL), 1 << 2);
    check_equal("interrupt masks", read_sysreg(daif), 0x3c0);
    check_equal("SCTLR_EL1.M and C", read_sysreg(sctlr_el1) & 5, 0);
    check_equal("load address modulo 2 MiB", start % BLOCK_SIZE, 0);
    check_equal("magic of the header", read32(start + 56), 0x644d5241);

    check_equal("device tree modulo 8", tree % 8, 0);
    check_equal("magic of the device tree", big_endian(read32(tree)), 0xd00dfeed);
    uint64_t tree_end = tree + big_endian(read32(tree + 4));
    check(tree_end <= start || tree >= end, "the device tree overlaps the image");
    check(tree / BLOCK_SIZE == (tree_end - 1) / BLOCK_SIZE, "the device tree crosses 2 MiB");

    print("image at %x, device tree at %x\n", start, tree);
    pass();
}
