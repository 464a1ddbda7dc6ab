/* The console: a PL011, of which only the data register is used. */
#include "firmware.h"

/* The transmit FIFO of an emulated UART is never full, so the flag register is not polled:
 * one character is one store, and one store is one stage-2 abort. */
void putc(char c) { write32(UART, (uint8_t)c); }

void puts(const char *text) {
    while (*text)
        putc(*text++);
}

static void print_unsigned(uint64_t value, unsigned base) {
    char digits[20]; /* 2^64 has 20 decimal digits */
    int n = 0;
    do {
        unsigned digit = value % base;
        digits[n++] = (char)(digit < 10 ? '0' + digit : 'a' + digit - 10);
        value /= base;
    } while (value);
    while (n)
        putc(digits[--n]);
}

void print_hex(uint64_t value) {
    puts("0x");
    print_unsigned(value, 16);
}

void print_dec(int64_t value) {
    if (value < 0)
        putc('-');
    print_unsigned(value < 0 ? -(uint64_t)value : (uint64_t)value, 10);
}

void print(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            putc(*format);
            continue;
        }
        switch (*++format) {
        case 's': puts(va_arg(arguments, const char *)); break;
        case 'c': putc((char)va_arg(arguments, uint64_t)); break;
        case 'd': print_dec(va_arg(arguments, int64_t)); break;
        case 'u': print_unsigned(va_arg(arguments, uint64_t), 10); break;
        case 'x': print_hex(va_arg(arguments, uint64_t)); break;
        case '%': putc('%'); break;
        default: fail("print: unknown format");
        }
    }
    va_end(arguments);
}
