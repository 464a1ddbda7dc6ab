/*
 * Print by interrupts: the UART asks for the next character.
 *
 * Watch: SPI 33 goes to this CPU, and the UART raises it behind each character (TX), as long as
 *        IMSC lets it: the store to the data register comes back with the virtual IRQ asserted.
 *        The handler clears TX (ICR) before it sends, as the line would stay high; after the last
 *        character it clears IMSC. WFI returns at once each time, since the interrupt is pending.
 * Run:   --gic 3
 */
#include "firmware.h"

enum { DR = 0x000, IMSC = 0x038, MIS = 0x040, ICR = 0x044, TX = 1 << 5 };

static const char text[] = "sent by interrupts\n";
static volatile uint64_t next, taken;

static void send(unsigned intid) {
    check_equal("the interrupt", intid, UART_INTERRUPT);
    check_equal("MIS", read32(UART + MIS), TX);
    taken++;
    write32(UART + ICR, TX);
    if (text[next])
        write32(UART + DR, (uint8_t)text[next++]);
    else
        write32(UART + IMSC, 0);
}

int main(void) {
    gic_init();
    on_interrupt(send);
    gic_enable(UART_INTERRUPT);
    write32(UART + ICR, TX);
    write32(UART + IMSC, TX);
    putc(text[next++]); /* behind this the UART is ready for another one */
    while (read32(UART + IMSC)) {
        wfi();
        irq_on();
        isb();
        irq_off();
    }
    check_equal("interrupts", taken, sizeof text - 1);
    print("%u interrupts\n", taken);
    pass();
}
