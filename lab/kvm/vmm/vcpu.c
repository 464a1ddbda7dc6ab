/* The vCPU, what its exits lead to, and how long it took. */
#include "vmm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_EXITS 1000000
#define CORE_REG(offset_of_64_bits) \
    (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | (offset_of_64_bits) * 2)

/* The test device: an exit code, and memory that gives back what was written. */
#define SCRATCH 0x100
#define SCRATCH_SIZE 0x100

/* The PL011: a transmitter that is always ready, and a receiver that never has anything. */
#define UART_FR 0x18
#define UART_FR_IDLE 0x90

uint64_t uart_base = UINT64_MAX, device_base = UINT64_MAX;

static int vcpu = -1;
static struct kvm_run *run;
static size_t run_size;
static uint8_t scratch[SCRATCH_SIZE];

void create_vcpu(void)
{
    struct kvm_vcpu_init init;
    vcpu = IOCTL(vm, KVM_CREATE_VCPU, 0);
    IOCTL(vm, KVM_ARM_PREFERRED_TARGET, &init);
    init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    IOCTL(vcpu, KVM_ARM_VCPU_INIT, &init);
    run_size = IOCTL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED)
        fail("mmap of kvm_run");
    memset(scratch, 0, sizeof scratch);
}

void remove_vcpu(void)
{
    if (vcpu < 0)
        return;
    munmap(run, run_size);
    close(vcpu);
    vcpu = -1;
}

void set_core_register(unsigned index, uint64_t value)
{
    struct kvm_one_reg reg = {.id = CORE_REG(index), .addr = (uint64_t)&value};
    IOCTL(vcpu, KVM_SET_ONE_REG, &reg);
}

/* A read of what nobody claims is zero. */
static void mmio(void)
{
    uint64_t address = run->mmio.phys_addr, value = 0;
    unsigned length = run->mmio.len;
    uint64_t offset = address - device_base - SCRATCH;
    int in_scratch = offset < SCRATCH_SIZE && offset + length <= SCRATCH_SIZE;
    if (run->mmio.is_write) {
        memcpy(in_scratch ? scratch + offset : (uint8_t *)&value, run->mmio.data, length);
        if (address == device_base)
            printf("@exit %lu\n", value);
        if (address == uart_base && (uint8_t)value == '\n')
            at_end_of_line();
        return;
    }
    if (address == uart_base + UART_FR)
        value = UART_FR_IDLE;
    memcpy(run->mmio.data, in_scratch ? scratch + offset : (uint8_t *)&value, length);
}

/* The access that the guest stands at takes a synchronous external abort. */
static void abort_access(void)
{
    struct kvm_vcpu_events events = {.exception.ext_dabt_pending = 1};
    IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &events);
}

/* Runs the vCPU to its end; the number of times that KVM_RUN returned. */
static unsigned long run_to_end(void)
{
    for (unsigned long exits = 1; exits <= MAX_EXITS; exits++) {
        if (ioctl(vcpu, KVM_RUN, 0) < 0) {
            if (errno == EINTR)
                continue;
            printf("@failed %d reason %u\n", errno, run->exit_reason);
            return exits;
        }
        switch (run->exit_reason) {
        case KVM_EXIT_MMIO:
            mmio();
            break;
        case KVM_EXIT_SYSTEM_EVENT:
            printf("@system-event %u\n", run->system_event.type);
            return exits;
        case KVM_EXIT_ARM_NISV:
            abort_access();
            break;
        default:
            printf("@reason %u\n", run->exit_reason);
            return exits;
        }
    }
    printf("@gave-up\n");
    return MAX_EXITS;
}

/* The time includes the work of this VMM for each exit. */
void run_guest(void)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    unsigned long exits = run_to_end();
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("@ran %ld %lu\n",
           (end.tv_sec - start.tv_sec) * 1000000000l + end.tv_nsec - start.tv_nsec, exits);
}
