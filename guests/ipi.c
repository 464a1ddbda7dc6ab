/*
 * Turn CPUs on, have them interrupt each other, turn them off.
 *
 * Watch: PSCI CPU_ON makes a vCPU runnable, which begins at the address it is given with stage 1
 *        off. Each CPU then waits in WFI for SGI 1 from the one before it and sends it to the next
 *        one; a GICv2 is told by a store to GICD_SGIR, a GICv3 by a trapped write to ICC_SGI1R_EL1.
 *        The receiver's virtual IRQ is asserted while it does not run. After the last round each
 *        CPU is sent SGI 2 and turns itself off; one of them is then turned on a second time.
 * Run:   --smp 4
 */
#include "firmware.h"

enum { TOKEN = 1, STOP = 2, ROUNDS = 3, MAX = 8 };
enum { ON = 0, OFF = 1, ALREADY_ON = -4, INVALID_PARAMS = -2 };

static volatile uint64_t tokens[MAX], stops[MAX];
static uint64_t ready, again;
static unsigned cpus;

static void count(unsigned intid) {
    if (intid == TOKEN)
        tokens[cpu_number()]++;
    else if (intid == STOP)
        stops[cpu_number()]++;
    else
        fail("an interrupt that nobody has sent");
}

static void wait_for(volatile uint64_t *count, uint64_t value) {
    while (*count < value) {
        wfi();
        irq_on();
        isb();
        irq_off();
    }
}

static void join(unsigned cpu) {
    gic_init_cpu();
    for (unsigned n = TOKEN; n <= STOP; n++)
        gic_enable(n);
    publish(&ready, cpu);
}

static void pass_on(unsigned cpu) {
    join(cpu);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        wait_for(&tokens[cpu], round);
        gic_send((cpu + 1) % cpus, TOKEN);
    }
    wait_for(&stops[cpu], 1);
}

static void only_say(unsigned cpu) { publish(&again, cpu); }

int main(void) {
    mmu_on(mmu_tables((void *)UNTOUCHED));
    gic_init();
    on_interrupt(count);
    cpus = cpu_count();
    check(cpus > 1, "there is one CPU: use --smp 4");
    join(0);
    for (unsigned cpu = 1; cpu < cpus; cpu++) {
        check_equal("the state of a CPU before CPU_ON", cpu_state(cpu), OFF);
        check_equal("CPU_ON", cpu_on(cpu, pass_on), 0);
        await(&ready, cpu);
        check_equal("its state behind CPU_ON", cpu_state(cpu), ON);
        check_equal("CPU_ON once more", cpu_on(cpu, pass_on), ALREADY_ON);
    }
    check_equal("the state of a CPU that there is not", cpu_state(cpus), INVALID_PARAMS);

    for (unsigned round = 1; round <= ROUNDS; round++) {
        gic_send(1, TOKEN);
        wait_for(&tokens[0], round);
    }
    for (unsigned cpu = 1; cpu < cpus; cpu++) {
        gic_send(cpu, STOP);
        while (cpu_state(cpu) != OFF)
            __asm__ volatile("yield");
    }
    check_equal("CPU_ON of one that was off", cpu_on(1, only_say), 0);
    await(&again, 1);

    uint64_t sum = 0;
    for (unsigned cpu = 0; cpu < cpus; cpu++)
        sum += tokens[cpu];
    print("%u CPUs, %u tokens\n", cpus, sum);
    check_equal("tokens", sum, (uint64_t)cpus * ROUNDS);
    pass();
}
