/* Start, commands, and the trace. */
#include "vmm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PC_INDEX 32

int kvm, vm = -1;

/* The rest of the experiment is passed over: this KVM cannot do it. */
static int skipping;

void finish(void)
{
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("@error ");
    vprintf(format, arguments);
    printf(": %s\n", strerror(errno));
    finish();
}

void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        fail("cannot write %s", path);
    close(fd);
}

int checked_ioctl(const char *name, int fd, unsigned long request, void *argument)
{
    int result = ioctl(fd, request, argument);
    if (result < 0)
        fail("%s", name);
    return result;
}

static void begin(const char *name)
{
    remove_vcpus();
    if (vm >= 0)
        close(vm);
    vm = -1;
    remove_memory();
    on_line(0, 0);
    skipping = 0;
    write_file(TRACING "/trace", "");
    printf("@begin %s\n", name);
}

static void enable_cap(uint32_t number, uint64_t argument)
{
    struct kvm_enable_cap cap = {.cap = number, .args = {argument}};
    IOCTL(vm, KVM_ENABLE_CAP, &cap);
}

static void need(unsigned long cap)
{
    skipping = IOCTL(kvm, KVM_CHECK_EXTENSION, cap) == 0;
    if (skipping)
        printf("@lacks %lu\n", cap);
}

/* What a line holds before the name of its event is of no use, and the console is slow. */
static void report_trace(void)
{
    char line[1024];
    FILE *trace = fopen(TRACING "/trace", "r");
    if (!trace)
        fail("cannot open the trace");
    while (fgets(line, sizeof line, trace)) {
        const char *event = strstr(line, ": ");
        if (strstr(line, "[LOST"))
            printf("@lost %s", line);
        else if (line[0] != '#' && event)
            printf("@trace %s", event + 2);
    }
    fclose(trace);
}

static void run(void)
{
    write_file(TRACING "/tracing_on", "1");
    run_guest();
    write_file(TRACING "/tracing_on", "0");
    report_trace();
    report_dirty();
}

/* Returns whether the line is a command. */
static int command(const char *line)
{
    char word[32], path[128];
    unsigned long a, b, c, d, e;
    unsigned area;
#define IS(name, count, ...) \
    (!strcmp(word, name) && sscanf(line, "%*s " __VA_ARGS__) == (count))

    if (sscanf(line, "%31s", word) != 1)
        return 1;
    if (IS("begin", 1, "%127s", path))
        begin(path);
    else if (skipping)
        return 1;
    else if (IS("needs", 1, "%lu", &a))
        need(a);
    else if (IS("vm", 1, "%lu", &a))
        vm = IOCTL(kvm, KVM_CREATE_VM, KVM_VM_TYPE_ARM_IPA_SIZE(a));
    else if (IS("cap", 2, "%lu %lu", &a, &b))
        enable_cap(a, b);
    else if (IS("area", 4, "%u %lx %lx %127s", &area, &a, &b, path))
        add_area(area, a, b, path);
    else if (IS("slot", 6, "%lu %lx %lx %lu %u %lx", &a, &b, &c, &d, &area, &e))
        add_slot(a, b, c, d, area, e);
    else if (IS("load", 2, "%lx %127s", &a, path))
        load(a, path);
    else if (!strcmp(word, "vcpu"))
        create_vcpu();
    else if (IS("gic", 2, "%lx %lx", &a, &b))
        create_gic(a, b);
    else if (IS("x", 2, "%lu %lx", &a, &b))
        set_core_register(a, b);
    else if (IS("pc", 1, "%lx", &a))
        set_core_register(PC_INDEX, a);
    else if (IS("uart", 1, "%lx", &a))
        uart_base = a;
    else if (IS("device", 1, "%lx", &a))
        device_base = a;
    else if (IS("line", 2, "%31s %lu", word, &a))
        on_line(word[0], a);
    else if (IS("write", 2, "%127s %31s", path, word))
        write_file(path, word);
    else if (!strcmp(word, "pauses"))
        pauses = 1;
    else if (!strcmp(word, "run"))
        run();
    else
        return 0;
    return 1;
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
    kvm = open("/dev/kvm", O_RDWR);
    if (kvm < 0)
        fail("cannot open /dev/kvm");
    FILE *experiments = fopen("/experiments", "r");
    if (!experiments)
        fail("cannot open /experiments");
    while (fgets(line, sizeof line, experiments)) {
        if (!command(line)) {
            errno = EINVAL;
            fail("%s", line);
        }
    }
    printf("@done\n");
    finish();
}
