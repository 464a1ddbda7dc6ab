/*
 * Count under a spinlock, on all CPUs.
 *
 * Watch: the lock is taken by LDAXR and STXR; who finds it taken waits in WFE, which may return at
 *        any time, and does not trap here. The counter is read and written by plain loads and
 *        stores, so that it comes out exact only if the lock excludes the others. It does with any
 *        length of a turn (--quantum) and any order of turns (--seed). Nothing but the start of the
 *        CPUs and what they touch first shows in the trace: a lock is no matter of the hypervisor.
 * Run:   --smp 4
 */
#include "firmware.h"

enum { ROUNDS = 50, MAX = 8 };

static uint32_t lock;
static volatile uint64_t counter_under_lock, mine[MAX];
static uint64_t go, done;

static void count(unsigned cpu) {
    await(&go, 1);
    for (unsigned n = 0; n < ROUNDS; n++) {
        spin_lock(&lock);
        counter_under_lock++;
        spin_unlock(&lock);
        mine[cpu]++;
    }
    spin_lock(&lock);
    publish(&done, done + 1);
    spin_unlock(&lock);
}

int main(void) {
    mmu_on(mmu_tables((void *)UNTOUCHED));
    unsigned cpus = cpu_count();
    for (unsigned cpu = 1; cpu < cpus; cpu++)
        check_equal("CPU_ON", cpu_on(cpu, count), 0);
    publish(&go, 1);
    count(0);
    await(&done, cpus);

    for (unsigned cpu = 0; cpu < cpus; cpu++)
        check_equal("what a CPU has counted", mine[cpu], ROUNDS);
    check_equal("what all have counted", counter_under_lock, (uint64_t)cpus * ROUNDS);
    print("%u CPUs, %u rounds\n", cpus, counter_under_lock);
    pass();
}
