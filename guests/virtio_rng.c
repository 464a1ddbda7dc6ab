/*
 * Have a device write memory: entropy over virtio, with the driver's part in forty lines.
 *
 * Watch: the store to QUEUE_NOTIFY is served in the hypervisor, and when it is done, so is the
 *        request: SPI 48 is up, and pages 1, 4 and 5 of slot 1 are dirty (used ring, buffer)
 *        though no instruction ever stored there. Their only aborts are reads. Page 0, with
 *        descriptors and available ring, is the driver's. The second request finds all mapped.
 * Run:   --rng --gic 3 --slot id=1,gpa=0x50000000,size=64K,log
 */
#include "firmware.h"

enum { /* the registers of a legacy transport */
    MAGIC_VALUE = 0x000, VERSION = 0x004, DEVICE_ID = 0x008, GUEST_PAGE_SIZE = 0x028,
    QUEUE_SEL = 0x030, QUEUE_NUM_MAX = 0x034, QUEUE_NUM = 0x038, QUEUE_ALIGN = 0x03c,
    QUEUE_PFN = 0x040, QUEUE_NOTIFY = 0x050, INTERRUPT_STATUS = 0x060, INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
};
enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, USED_BUFFER = 1, ENTROPY = 4, WRITE = 2 };

#define TRANSPORTS 0x0a000000ul
#define STRIDE 0x200
#define FIRST_INTERRUPT 48
#define MAGIC 0x74726976 /* virt */

#define ENTRIES 4
#define DESCRIPTORS 0x50000000ul
#define AVAILABLE (DESCRIPTORS + 16 * ENTRIES)
#define USED (DESCRIPTORS + PAGE_SIZE)
#define BUFFER (DESCRIPTORS + 4 * PAGE_SIZE)
#define WANTED 6000 /* bytes: two pages */

static uint64_t device;
static volatile uint64_t taken;

static void acknowledge(unsigned intid) {
    check_equal("the interrupt", intid, FIRST_INTERRUPT + (device - TRANSPORTS) / STRIDE);
    check_equal("INTERRUPT_STATUS", read32(device + INTERRUPT_STATUS), USED_BUFFER);
    write32(device + INTERRUPT_ACK, USED_BUFFER);
    taken++;
}

static void find(void) {
    for (device = TRANSPORTS;; device += STRIDE) {
        check_equal("MAGIC_VALUE", read32(device + MAGIC_VALUE), MAGIC);
        if (read32(device + DEVICE_ID) == ENTROPY)
            return;
    }
}

static void set_up(void) {
    check_equal("VERSION", read32(device + VERSION), 1);
    write32(device + STATUS, 0);
    write32(device + STATUS, ACKNOWLEDGE | DRIVER);
    write32(device + GUEST_PAGE_SIZE, PAGE_SIZE);
    write32(device + QUEUE_SEL, 0);
    check(read32(device + QUEUE_NUM_MAX) >= ENTRIES, "the queue is too small");
    write32(device + QUEUE_NUM, ENTRIES);
    write32(device + QUEUE_ALIGN, PAGE_SIZE);
    write32(device + QUEUE_PFN, DESCRIPTORS / PAGE_SIZE);
    write32(device + STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);
}

static void request(unsigned number) { /* the chain of one descriptor, for the number-th time */
    write64(DESCRIPTORS, BUFFER);
    write32(DESCRIPTORS + 8, WANTED);
    write16(DESCRIPTORS + 12, WRITE);
    write16(AVAILABLE + 4 + number % ENTRIES * 2, 0);
    dsb();
    write16(AVAILABLE + 2, number + 1);
    dsb();
    write32(device + QUEUE_NOTIFY, 0);
    while (taken == number) {
        wfi();
        irq_on();
        isb();
        irq_off();
    }
    check_equal("used", read16(USED + 2), number + 1);
    check_equal("bytes written", read32(USED + 4 + number % ENTRIES * 8 + 4), WANTED);
}

int main(void) {
    find();
    gic_init();
    on_interrupt(acknowledge);
    gic_enable(FIRST_INTERRUPT + (device - TRANSPORTS) / STRIDE);
    set_up();

    request(0);
    uint64_t first = read64(BUFFER), last = read64(BUFFER + WANTED - 8);
    check(first != last && first && last, "this is not random");
    check_equal("behind the buffer", read64(BUFFER + WANTED), 0);
    request(1);
    check(read64(BUFFER) != first, "the same bytes came twice");

    print("%x ... %x\n", first, last);
    pass();
}
