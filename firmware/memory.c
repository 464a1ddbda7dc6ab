/* The functions that a compiler may call on its own account. */
#include "firmware.h"

void *memcpy(void *to, const void *from, size_t size) {
    char *t = to;
    const char *f = from;
    if (!(((uint64_t)to | (uint64_t)from | size) % 8))
        for (; size; size -= 8, t += 8, f += 8)
            *(uint64_t *)t = *(const uint64_t *)f;
    while (size--)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int byte, size_t size) {
    char *t = to;
    uint64_t word = 0x0101010101010101ul * (uint8_t)byte;
    if (!(((uint64_t)to | size) % 8))
        for (; size; size -= 8, t += 8)
            *(uint64_t *)t = word;
    while (size--)
        *t++ = (char)byte;
    return to;
}
