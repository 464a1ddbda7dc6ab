/*
 * Start from a flat binary and print the command line found in the device tree.
 *
 * Watch: the file has no header; its first byte is the entry, at RAM base + 0x80000. The code runs
 *        wherever it is put. Walking the device tree takes one read abort for each page of it.
 * Format: flat
 */
#include "firmware.h"

enum { BEGIN_NODE = 1, END_NODE, PROP, NOP, END };

static uint32_t word(uint64_t address) { return __builtin_bswap32(read32(address)); }

static bool same(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static uint64_t after_text(uint64_t at) { /* behind the text, aligned to 4 */
    while (*(const char *)at++)
        ;
    return (at + 3) & -4ul;
}

/* Return the address of the property's value in /chosen, or 0. */
static uint64_t chosen(uint64_t tree, const char *property) {
    uint64_t at = tree + word(tree + 8), strings = tree + word(tree + 12);
    unsigned depth = 0;
    bool inside = false;
    for (;;) {
        uint32_t token = word(at);
        at += 4;
        if (token == BEGIN_NODE) {
            inside = ++depth == 2 && same((const char *)at, "chosen");
            at = after_text(at);
        } else if (token == END_NODE) {
            depth--;
            inside = false; /* properties come before the nodes below */
        } else if (token == PROP) {
            uint32_t size = word(at), name = word(at + 4);
            if (inside && same((const char *)(strings + name), property))
                return at + 8;
            at += 8 + ((size + 3) & ~3u);
        } else if (token != NOP) {
            return 0;
        }
    }
}

int main(void) {
    check(device_tree != 0, "x0 does not point to a device tree");
    check_equal("magic of the device tree", word(device_tree), 0xd00dfeed);
    uint32_t size = word(device_tree + 4);
    check(size >= 48 && size <= 2 << 20, "the size of the device tree is not believable");

    uint64_t bootargs = chosen(device_tree, "bootargs");
    print("device tree of %u bytes at %x\nbootargs: %s\n", (uint64_t)size, device_tree,
          bootargs ? (const char *)bootargs : "(none)");
    pass();
}
