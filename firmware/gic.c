/* The interrupt controller: a GICv3 if the CPU has its system registers, else a GICv2. */
#include "firmware.h"

#define GICD 0x08000000u /* as on QEMU's virt machine */
#define GICC 0x08010000u
#define GICR 0x080a0000u
#define GICR_STRIDE 0x20000u
#define GICR_SGI 0x10000u /* the frame of SGIs and PPIs, laid out as GICD */

enum { CTLR = 0x000, ISENABLER = 0x100, ICENABLER = 0x180, ITARGETSR = 0x800, SGIR = 0xf00 };
enum { IROUTER = 0x6000, WAKER = 0x14 };
enum { GICC_CTLR = 0x00, GICC_PMR = 0x04, GICC_IAR = 0x0c, GICC_EOIR = 0x10 };

#define ENABLE_GROUP1 (1u << 1)
#define ARE (1u << 4)
#define PROCESSOR_SLEEP (1u << 1)
#define CHILDREN_ASLEEP (1u << 2)
#define LOWEST_PRIORITY 0xf8 /* of 32 levels; the mask lets through what is higher */
#define FIRST_SPECIAL 1020

static bool is_v3;
static interrupt_handler *taken_by;

void gic_init(void) {
    is_v3 = read_sysreg(id_aa64pfr0_el1) >> 24 & 0xf;
    write32(GICD + CTLR, is_v3 ? ARE | ENABLE_GROUP1 : 1);
    gic_init_cpu();
}

void gic_init_cpu(void) {
    if (!is_v3) {
        write32(GICC + GICC_PMR, LOWEST_PRIORITY);
        write32(GICC + GICC_CTLR, 1);
        return;
    }
    uint64_t waker = GICR + cpu_number() * GICR_STRIDE + WAKER;
    write32(waker, read32(waker) & ~PROCESSOR_SLEEP);
    while (read32(waker) & CHILDREN_ASLEEP)
        ;
    write_sysreg(icc_sre_el1, 7);
    isb();
    write_sysreg(icc_pmr_el1, LOWEST_PRIORITY);
    write_sysreg(icc_igrpen1_el1, 1);
    isb();
}

static uint64_t frame_of(unsigned intid) {
    return is_v3 && intid < 32 ? GICR + cpu_number() * GICR_STRIDE + GICR_SGI : GICD;
}

void gic_enable(unsigned intid) {
    if (intid >= 32 && is_v3)
        write64(GICD + IROUTER + 8 * intid, cpu_number());
    else if (intid >= 32)
        write8(GICD + ITARGETSR + intid, (uint8_t)(1u << cpu_number()));
    write32(frame_of(intid) + ISENABLER + intid / 32 * 4, 1u << intid % 32);
}

void gic_disable(unsigned intid) {
    write32(frame_of(intid) + ICENABLER + intid / 32 * 4, 1u << intid % 32);
}

void gic_send(unsigned cpu, unsigned intid) {
    dsb(); /* what was written before is seen by who takes it */
    if (is_v3) {
        write_sysreg(icc_sgi1r_el1, (uint64_t)intid << 24 | 1ul << cpu);
        isb();
    } else {
        write32(GICD + SGIR, 1u << (16 + cpu) | intid);
    }
}

static bool take(struct frame *frame) {
    (void)frame;
    uint32_t iar = is_v3 ? (uint32_t)read_sysreg(icc_iar1_el1) : read32(GICC + GICC_IAR);
    unsigned intid = is_v3 ? iar : iar & 0x3ff; /* the rest of GICC_IAR: who sent an SGI */
    if (intid >= FIRST_SPECIAL)
        return true;
    taken_by(intid);
    dsb(); /* the device has been quieted before the interrupt ends */
    if (is_v3) {
        write_sysreg(icc_eoir1_el1, iar);
        isb();
    } else {
        write32(GICC + GICC_EOIR, iar);
    }
    return true;
}

void on_interrupt(interrupt_handler *handler) {
    taken_by = handler;
    on_exception(IRQ, take);
}
