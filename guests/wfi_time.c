/*
 * Look at time: the counter, and waiting for the virtual timer.
 *
 * Watch: time is counted in instructions, so that every run shows the same numbers. The counter
 *        never runs backwards. WFI traps (EC 0x01) once: nothing else can run meanwhile, so the
 *        hypervisor lets time pass to the deadline. PSTATE.I is masked and no interrupt controller
 *        is there: no exception follows when the timer fires, the guest polls ISTATUS.
 * Run:   --gic none
 */
#include "firmware.h"

#define ENABLE 1ul
#define ISTATUS 4ul
#define WAIT 1000000ul /* ticks: longer than reading ISTATUS takes on any machine */

int main(void) {
    uint64_t frequency = counter_frequency();
    check(frequency >= 1000000, "CNTFRQ_EL0 is below 1 MHz");

    uint64_t start = counter(), last = start;
    for (unsigned n = 0; n < 1000; n++) {
        uint64_t now = counter();
        check(now >= last, "the counter ran backwards");
        last = now;
    }
    check(last > start, "the counter stands still");

    uint64_t deadline = counter() + WAIT;
    write_sysreg(cntv_cval_el0, deadline);
    write_sysreg(cntv_ctl_el0, ENABLE);
    isb();
    check(!(read_sysreg(cntv_ctl_el0) & ISTATUS), "the timer fired early");
    uint64_t waits = 0;
    while (!(read_sysreg(cntv_ctl_el0) & ISTATUS)) { /* WFI may return for any reason */
        wfi();
        waits++;
    }
    check(counter() >= deadline, "the timer condition is met before its time");
    write_sysreg(cntv_ctl_el0, 0);

    print("%u Hz, %u ticks, %u WFI\n", frequency, WAIT, waits);
    pass();
}
