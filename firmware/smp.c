/* Further CPUs: PSCI turns them on and off, each has a stack, and stage 1 as who started it. */
#include "firmware.h"

enum { MAX_CPUS = 8, STACK_SIZE = 4096 };
enum { CPU_OFF = 0x84000002 };
#define CPU_ON 0xc4000003
#define AFFINITY_INFO 0xc4000004
#define SCTLR_M 1ul

static char stacks[MAX_CPUS][STACK_SIZE] __attribute__((aligned(16)));

struct start start[MAX_CPUS];

static int64_t psci(uint64_t function, uint64_t x1, uint64_t x2, uint64_t x3) {
    return (int32_t)hvc(function, x1, x2, x3);
}

int64_t cpu_state(unsigned cpu) { return psci(AFFINITY_INFO, cpu, 0, 0); }

unsigned cpu_count(void) {
    unsigned count = 1;
    while (count < MAX_CPUS && cpu_state(count) >= 0)
        count++;
    return count;
}

int64_t cpu_on(unsigned cpu, void (*entry)(unsigned cpu)) {
    extern const char secondary[];
    struct start *mine = &start[cpu];
    bool mmu = read_sysreg(sctlr_el1) & SCTLR_M;
    mine->stack = (uint64_t)stacks[cpu + 1];
    mine->root = mmu ? (uint64_t *)read_sysreg(ttbr0_el1) : NULL;
    mine->entry = entry;
    __asm__ volatile("dc civac, %0" ::"r"(mine) : "memory"); /* it reads with caches off */
    dsb();
    return psci(CPU_ON, cpu, (uint64_t)secondary, (uint64_t)mine);
}

_Noreturn void cpu_off(void) {
    hvc(CPU_OFF, 0, 0, 0);
    fail("CPU_OFF has returned");
}

_Noreturn void start_secondary(const struct start *mine) {
    if (mine->root)
        mmu_on(mine->root);
    mine->entry(cpu_number());
    cpu_off();
}

void spin_lock(uint32_t *lock) {
    uint32_t value, failed;
    __asm__ volatile("   sevl\n"
                     "1: wfe\n" /* until who has the lock stores to it */
                     "2: ldaxr %w0, [%2]\n"
                     "   cbnz  %w0, 1b\n"
                     "   stxr  %w1, %w3, [%2]\n"
                     "   cbnz  %w1, 2b"
                     : "=&r"(value), "=&r"(failed)
                     : "r"(lock), "r"(1)
                     : "memory");
}

void spin_unlock(uint32_t *lock) { __asm__ volatile("stlr wzr, [%0]" ::"r"(lock) : "memory"); }

void publish(uint64_t *where, uint64_t value) {
    __asm__ volatile("stlr %1, [%0]\n"
                     "dsb ish\n"
                     "sev" ::"r"(where), "r"(value) : "memory");
}

static uint64_t load_acquire(const uint64_t *where) {
    uint64_t value;
    __asm__ volatile("ldar %0, [%1]" : "=r"(value) : "r"(where) : "memory");
    return value;
}

void await(const uint64_t *where, uint64_t value) {
    while (load_acquire(where) != value)
        __asm__ volatile("wfe" ::: "memory");
}
