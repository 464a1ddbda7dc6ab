/*
 * A virtual machine monitor for real KVM, the first and only process of its machine.
 *
 * It reads /experiment, one command a line, does what each says, and reports on the console
 * in lines that begin with '@'. Whatever it cannot do ends it with one line "@error ...".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define MAX_SLOTS 32
#define MAX_EXITS 1000000
#define PAGE 4096ul
#define TRACING "/sys/kernel/tracing"
#define CORE_REG(offset_of_64_bits) \
    (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | (offset_of_64_bits) * 2)
#define PC_INDEX 32

/* The test device: an exit code, and memory that gives back what was written. */
#define SCRATCH 0x100
#define SCRATCH_SIZE 0x100

/* The PL011: a transmitter that is always ready, and a receiver that never has anything. */
#define UART_FR 0x18
#define UART_FR_IDLE 0x90

struct slot {
    struct kvm_userspace_memory_region region;
    size_t mapped;
};

static struct slot slots[MAX_SLOTS];
static int slot_count;
static int kvm, vm, vcpu;
static struct kvm_run *run;
static uint64_t uart_base = UINT64_MAX, device_base = UINT64_MAX;

static void finish(void)
{
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("@error ");
    vprintf(format, arguments);
    printf(": %s\n", strerror(errno));
    finish();
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fail("cannot write %s", path);
    close(fd);
}

static int vm_ioctl(const char *name, int fd, unsigned long request, void *argument)
{
    int result = ioctl(fd, request, argument);
    if (result < 0)
        fail("%s", name);
    return result;
}

#define IOCTL(fd, request, argument) vm_ioctl(#request, fd, request, (void *)(argument))

static void set_register(uint64_t id, uint64_t value)
{
    struct kvm_one_reg reg = {.id = id, .addr = (uint64_t)&value};
    IOCTL(vcpu, KVM_SET_ONE_REG, &reg);
}

static struct slot *slot_at(uint64_t gpa)
{
    for (int i = 0; i < slot_count; i++) {
        struct kvm_userspace_memory_region *region = &slots[i].region;
        if (gpa - region->guest_phys_addr < region->memory_size)
            return &slots[i];
    }
    return NULL;
}

static void *memory_at(uint64_t gpa)
{
    struct slot *slot = slot_at(gpa);
    if (!slot) {
        errno = EFAULT;
        fail("no slot at 0x%lx", gpa);
    }
    return (char *)slot->region.userspace_addr + (gpa - slot->region.guest_phys_addr);
}

/* Memory that is aligned to `align`, of the kind that `backing` names. */
static void *allocate(const char *backing, size_t size)
{
    int huge = !strcmp(backing, "2M"), thp = !strcmp(backing, "thp");
    size_t align = huge || thp ? 2ul << 20 : PAGE;
    int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
    if (huge) {
        void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
        if (memory == MAP_FAILED)
            fail("mmap of %zu bytes of huge pages", size);
        return memory;
    }
    char *memory = mmap(NULL, size + align, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED)
        fail("mmap of %zu bytes", size);
    memory = (char *)(((uintptr_t)memory + align - 1) & -align);
    madvise(memory, size, thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return memory;
}

static void add_slot(int id, uint64_t gpa, uint64_t size, unsigned flags, const char *backing)
{
    if (slot_count == MAX_SLOTS) {
        errno = ENOSPC;
        fail("more than %d slots", MAX_SLOTS);
    }
    struct slot *slot = &slots[slot_count++];
    slot->mapped = size;
    slot->region = (struct kvm_userspace_memory_region){
        .slot = id,
        .flags = flags,
        .guest_phys_addr = gpa,
        .memory_size = size,
        .userspace_addr = (uint64_t)allocate(backing, size),
    };
    IOCTL(vm, KVM_SET_USER_MEMORY_REGION, &slot->region);
}

static void load(uint64_t gpa, const char *path)
{
    int fd = open(path, O_RDONLY);
    struct stat status;
    if (fd < 0 || fstat(fd, &status))
        fail("cannot open %s", path);
    char *to = memory_at(gpa);
    for (off_t done = 0; done < status.st_size;) {
        ssize_t got = read(fd, to + done, status.st_size - done);
        if (got <= 0)
            fail("cannot read %s", path);
        done += got;
    }
    close(fd);
}

static void create(int ipa_bits)
{
    kvm = open("/dev/kvm", O_RDWR);
    if (kvm < 0)
        fail("cannot open /dev/kvm");
    vm = IOCTL(kvm, KVM_CREATE_VM, KVM_VM_TYPE_ARM_IPA_SIZE(ipa_bits));
}

static void create_vcpu(void)
{
    struct kvm_vcpu_init init;
    vcpu = IOCTL(vm, KVM_CREATE_VCPU, 0);
    IOCTL(vm, KVM_ARM_PREFERRED_TARGET, &init);
    init.features[0] |= 1 << KVM_ARM_VCPU_PSCI_0_2;
    IOCTL(vcpu, KVM_ARM_VCPU_INIT, &init);
    run = mmap(NULL, IOCTL(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED,
               vcpu, 0);
    if (run == MAP_FAILED)
        fail("mmap of kvm_run");
}

static void enable_cap(uint32_t number, uint64_t argument)
{
    struct kvm_enable_cap cap = {.cap = number, .args = {argument}};
    IOCTL(vm, KVM_ENABLE_CAP, &cap);
}

/* A read of what nobody claims is zero. */
static void mmio(void)
{
    static uint8_t scratch[SCRATCH_SIZE];
    uint64_t address = run->mmio.phys_addr, value = 0;
    unsigned length = run->mmio.len;
    uint64_t offset = address - device_base - SCRATCH;
    int in_scratch = offset < SCRATCH_SIZE && offset + length <= SCRATCH_SIZE;
    if (run->mmio.is_write) {
        memcpy(in_scratch ? scratch + offset : (uint8_t *)&value, run->mmio.data, length);
        if (address == device_base)
            printf("@exit %lu\n", value);
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
static unsigned long run_guest(void)
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
static void run_timed(void)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    unsigned long exits = run_guest();
    clock_gettime(CLOCK_MONOTONIC, &end);
    printf("@ran %ld %lu\n",
           (end.tv_sec - start.tv_sec) * 1000000000l + end.tv_nsec - start.tv_nsec, exits);
}

static void report_dirty(void)
{
    for (int i = 0; i < slot_count; i++) {
        struct kvm_userspace_memory_region *region = &slots[i].region;
        if (!(region->flags & KVM_MEM_LOG_DIRTY_PAGES))
            continue;
        uint64_t pages = region->memory_size / PAGE;
        uint64_t *bitmap = calloc((pages + 63) / 64, 8);
        struct kvm_dirty_log log = {.slot = region->slot, .dirty_bitmap = bitmap};
        IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
        for (uint64_t page = 0; page < pages; page++)
            if (bitmap[page / 64] >> page % 64 & 1)
                printf("@dirty %u %lu\n", region->slot, page);
        free(bitmap);
    }
}

static void report_trace(void)
{
    char line[1024];
    FILE *trace = fopen(TRACING "/trace", "r");
    if (!trace)
        fail("cannot open the trace");
    while (fgets(line, sizeof line, trace))
        if (line[0] != '#')
            printf("@trace %s", line);
    fclose(trace);
}

static void command(char *line)
{
    char word[32], path[128];
    unsigned long a, b, c, d;
    if (sscanf(line, "%31s", word) != 1)
        return;
    if (!strcmp(word, "vm") && sscanf(line, "%*s %lu", &a) == 1)
        create(a);
    else if (!strcmp(word, "slot") &&
             sscanf(line, "%*s %lu %lx %lx %lu %127s", &a, &b, &c, &d, path) == 5)
        add_slot(a, b, c, d, path);
    else if (!strcmp(word, "load") && sscanf(line, "%*s %lx %127s", &a, path) == 2)
        load(a, path);
    else if (!strcmp(word, "vcpu"))
        create_vcpu();
    else if (!strcmp(word, "cap") && sscanf(line, "%*s %lu %lu", &a, &b) == 2)
        enable_cap(a, b);
    else if (!strcmp(word, "x") && sscanf(line, "%*s %lu %lx", &a, &b) == 2)
        set_register(CORE_REG(a), b);
    else if (!strcmp(word, "pc") && sscanf(line, "%*s %lx", &a) == 1)
        set_register(CORE_REG(PC_INDEX), a);
    else if (!strcmp(word, "hugepages") && sscanf(line, "%*s %31s", word) == 1)
        write_file("/proc/sys/vm/nr_hugepages", word);
    else if (!strcmp(word, "uart") && sscanf(line, "%*s %lx", &a) == 1)
        uart_base = a;
    else if (!strcmp(word, "device") && sscanf(line, "%*s %lx", &a) == 1)
        device_base = a;
    else if (!strcmp(word, "event") && sscanf(line, "%*s %31s", word) == 1) {
        snprintf(path, sizeof path, TRACING "/events/kvm/%s/enable", word);
        write_file(path, "1");
    } else if (!strcmp(word, "run")) {
        write_file(TRACING "/tracing_on", "1");
        run_timed();
        write_file(TRACING "/tracing_on", "0");
        report_trace();
        report_dirty();
    } else {
        errno = EINVAL;
        fail("%s", line);
    }
}

int main(void)
{
    static char line[256];
    struct utsname name;
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("tracing", TRACING, "tracefs", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    dup2(console, 0);
    dup2(console, 1);
    dup2(console, 2);
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    uname(&name);
    printf("\n@kernel %s\n", name.release);
    write_file("/proc/sys/kernel/printk", "1");
    write_file(TRACING "/buffer_size_kb", "65536");
    FILE *experiment = fopen("/experiment", "r");
    if (!experiment)
        fail("cannot open /experiment");
    while (fgets(line, sizeof line, experiment))
        command(line);
    printf("@done\n");
    finish();
}
