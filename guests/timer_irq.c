/*
 * Take the interrupts of the virtual and the physical timer.
 *
 * Watch: the virtual timer's registers are the guest's own: nothing is trapped when it is set. When
 *        it fires, the hypervisor is entered (IRQ) and moves PPI 27 to the virtual GIC, which
 *        asserts the virtual IRQ. The physical timer is emulated: each access traps (EC 0x18), and
 *        PPI 30 follows. That the guest has set IMASK is found out when it next looks at the GIC, to
 *        end the interrupt. A line that is low before it is taken leaves none to take.
 * Run:   --gic 3
 */
#include "firmware.h"

enum { ENABLE = 1, IMASK = 2, ISTATUS = 4, ROUNDS = 5, SOON = 200, LATE = 20000 };
#define ISR_I (1ul << 7)

static volatile uint64_t virtual, physical;
static void count(unsigned intid) {
    if (intid == VIRTUAL_TIMER) {
        write_sysreg(cntv_ctl_el0, ENABLE | IMASK);
        virtual++;
    } else {
        check_equal("the other interrupt", intid, PHYSICAL_TIMER);
        write_sysreg(cntp_ctl_el0, ENABLE | IMASK);
        physical++;
    }
    isb();
}

static void set_virtual(uint64_t ticks) {
    write_sysreg(cntv_cval_el0, counter() + ticks);
    write_sysreg(cntv_ctl_el0, ENABLE);
    isb();
}

static void set_physical(uint64_t ticks) {
    write_sysreg(cntp_tval_el0, ticks);
    write_sysreg(cntp_ctl_el0, ENABLE);
    isb();
}

static void let_in(void) { /* what is pending */
    irq_on();
    isb();
    irq_off();
}

static void masked(void) {
    set_virtual(SOON);
    while (!(read_sysreg(cntv_ctl_el0) & ISTATUS))
        ;
    check(read_sysreg(isr_el1) & ISR_I, "a masked interrupt is not pending");
    check_equal("interrupts while PSTATE.I is set", virtual, 0);
    let_in();
    check_equal("interrupts once PSTATE.I is clear", virtual, 1);
}

static void withdrawn(void) {
    set_virtual(0);
    set_virtual(LATE * 1000ul); /* the level drops before the interrupt is taken */
    let_in();
    check_equal("interrupts of a line that is low again", virtual, 1);
}

static void imask(void) {
    write_sysreg(cntv_ctl_el0, ENABLE | IMASK);
    write_sysreg(cntv_cval_el0, 0);
    isb();
    check(read_sysreg(cntv_ctl_el0) & ISTATUS, "IMASK hides the condition");
    let_in();
    check_equal("interrupts while IMASK is set", virtual, 1);
}

static void disabled(void) {
    gic_disable(VIRTUAL_TIMER);
    set_virtual(0);
    let_in();
    check_equal("interrupts that the GIC holds back", virtual, 1);
    gic_enable(VIRTUAL_TIMER);
    let_in();
    check_equal("interrupts once the GIC lets them through", virtual, 2);
}

static void woken(volatile uint64_t *taken, void (*set)(uint64_t)) {
    for (unsigned n = 0; n < ROUNDS; n++) {
        uint64_t before = *taken, start = counter();
        set(LATE);
        while (*taken == before) { /* WFI ends though the interrupt is masked: none is missed */
            wfi();
            let_in();
        }
        check(counter() - start >= LATE, "the interrupt came early");
    }
}

int main(void) {
    gic_init();
    on_interrupt(count);
    gic_enable(VIRTUAL_TIMER);
    gic_enable(PHYSICAL_TIMER);

    masked();
    withdrawn();
    imask();
    disabled();
    woken(&virtual, set_virtual);
    woken(&physical, set_physical);

    print("%u virtual, %u physical\n", virtual, physical);
    pass();
}
