/* The vCPUs, what their exits lead to, and how long it took. */
#include "vmm.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
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
int pauses;

struct vcpu {
    int fd;
    struct kvm_run *run;
    pthread_t thread;
};

/* The first is run by the main thread, and its end is the guest's. */
static struct vcpu vcpus[MAX_VCPUS];
static int vcpu_count;
static size_t run_size;
static volatile int is_over;
static uint8_t scratch[SCRATCH_SIZE];

void create_vcpu(void)
{
    struct kvm_vcpu_init init;
    if (vcpu_count == MAX_VCPUS) {
        errno = ENOSPC;
        fail("more than %d vCPUs", MAX_VCPUS);
    }
    int vcpu = IOCTL(vm, KVM_CREATE_VCPU, (long)vcpu_count);
    IOCTL(vm, KVM_ARM_PREFERRED_TARGET, &init);
    init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    IOCTL(vcpu, KVM_ARM_VCPU_INIT, &init);
    run_size = IOCTL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    void *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (run == MAP_FAILED)
        fail("mmap of kvm_run");
    vcpus[vcpu_count++] = (struct vcpu){.fd = vcpu, .run = run};
    memset(scratch, 0, sizeof scratch);
}

void remove_vcpus(void)
{
    while (vcpu_count) {
        struct vcpu *vcpu = &vcpus[--vcpu_count];
        munmap(vcpu->run, run_size);
        close(vcpu->fd);
    }
}

/* Of the vCPU that was created last. */
void set_core_register(unsigned index, uint64_t value)
{
    struct kvm_one_reg reg = {.id = CORE_REG(index), .addr = (uint64_t)&value};
    IOCTL(vcpus[vcpu_count - 1].fd, KVM_SET_ONE_REG, &reg);
}

/* A read of what nobody claims is zero. */
static void mmio(struct kvm_run *run)
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
static void abort_access(int vcpu)
{
    struct kvm_vcpu_events events = {.exception.ext_dabt_pending = 1};
    IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &events);
}

/* Runs a vCPU to its end; the number of times that KVM_RUN returned. */
static unsigned long run_to_end(const struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    for (unsigned long exits = 1; exits <= MAX_EXITS; exits++) {
        if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
            if (is_over)
                return exits;
            if (errno == EINTR)
                continue;
            printf("@failed %d reason %u\n", errno, run->exit_reason);
            return exits;
        }
        switch (run->exit_reason) {
        case KVM_EXIT_MMIO:
            mmio(run);
            break;
        case KVM_EXIT_SYSTEM_EVENT:
            printf("@system-event %u\n", run->system_event.type);
            return exits;
        case KVM_EXIT_ARM_NISV:
            abort_access(vcpu->fd);
            break;
        default:
            printf("@reason %u\n", run->exit_reason);
            return exits;
        }
    }
    printf("@gave-up\n");
    return MAX_EXITS;
}

static void *run_another(void *vcpu)
{
    run_to_end(vcpu);
    return NULL;
}

static void ignore(int number)
{
    (void)number;
}

/* Whoever is about to enter the guest returns at once, whoever is in it is called out. */
static void end_others(void)
{
    is_over = 1;
    for (int i = 1; i < vcpu_count; i++) {
        vcpus[i].run->immediate_exit = 1;
        pthread_kill(vcpus[i].thread, SIGUSR1);
        pthread_join(vcpus[i].thread, NULL);
    }
}

/* Who watches this machine from outside looks at it now, and answers with a line. */
static void pause_if_asked(void)
{
    if (!pauses)
        return;
    printf("@pause\n");
    fflush(stdout);
    for (int c = 0; c != '\n' && c != EOF;)
        c = getchar();
}

/* The time includes the work of this VMM for each exit. */
void run_guest(void)
{
    struct timespec start, end;
    struct sigaction action = {.sa_handler = ignore};
    sigaction(SIGUSR1, &action, NULL);
    is_over = 0;
    for (int i = 1; i < vcpu_count; i++) {
        errno = pthread_create(&vcpus[i].thread, NULL, run_another, &vcpus[i]);
        if (errno)
            fail("pthread_create");
    }
    pause_if_asked();
    clock_gettime(CLOCK_MONOTONIC, &start);
    unsigned long exits = run_to_end(&vcpus[0]);
    clock_gettime(CLOCK_MONOTONIC, &end);
    pause_if_asked();
    end_others();
    printf("@ran %ld %lu\n",
           (end.tv_sec - start.tv_sec) * 1000000000l + end.tv_nsec - start.tv_nsec, exits);
}
